"""The tokenizer that a GGUF file describes in its metadata, built with `tokenizers` alone.

transformers can do this too, but wants torch for it, and splits the digits of SmolLM's vocabulary otherwise
than its training did.
"""

import dataclasses

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from fr.errors import UserError
from fr.models.gguf_io import GGUFFile
from fr.models.tokenizer import quiet_transformers

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type


@dataclasses.dataclass(frozen=True)
class Split:
    """How the text of a byte-level vocabulary was cut before its merges were learned."""

    pattern: str
    digits: bool = False  # every digit is cut off first
    whole_words: bool = False  # a piece that is in the vocabulary is taken without merging
    bos: bool = False  # texts begin with the bos token unless the file says otherwise
    nfc: bool = False


# The values of tokenizer.ggml.pre, whose patterns are in llama.cpp's src/llama-vocab.cpp.
_DIGITS = Split(_GPT2, digits=True)
_LLAMA = Split(_LLAMA3, whole_words=True, bos=True)
_QWEN = Split(_LLAMA3.replace("{1,3}", ""), nfc=True)
SPLITS = {
    "gpt-2": Split(_GPT2),
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "llama-bpe": _LLAMA,
    "llama3": _LLAMA,
    "llama-v3": _LLAMA,
    "qwen2": _QWEN,
    "deepseek-r1-qwen": _QWEN,
}


def gguf_tokenizer(file: GGUFFile):
    """The transformers tokenizer of a GGUF file, chat template too; raises UserError for an unknown kind."""
    quiet_transformers()
    from transformers import PreTrainedTokenizerFast

    kind, tokens = file.get("tokenizer.ggml.model"), file.get("tokenizer.ggml.tokens")
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders:
        raise UserError(
            f"{file.where}: tokenizer {kind!r} is not supported; there are: {', '.join(builders)}"
        )
    tokenizer, bos = builders[kind](file, {token: i for i, token in enumerate(tokens)})
    _add_special(tokenizer, file, tokens)
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: file.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    special = {name: tokens[i] for name, i in ids.items() if i is not None and i < len(tokens)}
    if file.get("tokenizer.ggml.add_bos_token", bos) and "bos_token" in special:
        token = special["bos_token"]
        # An end token is never added, whatever the file says: a prompt is there to be continued.
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[token, "$A"],
            pair=[token, "$A", token, "$B:1"],
            special_tokens=[(token, ids["bos_token"])],
        )
    template = file.get("tokenizer.chat_template")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **special)


def _byte_level(file: GGUFFile, vocab: dict[str, int]) -> tuple[Tokenizer, bool]:
    pre = file.get("tokenizer.ggml.pre")
    if pre not in SPLITS:
        known = ", ".join(SPLITS)
        raise UserError(f"{file.where}: tokenizer.ggml.pre {pre!r} is not supported; there are: {known}")
    split = SPLITS[pre]
    merges = [tuple(merge.split(" ")) for merge in file.get("tokenizer.ggml.merges", [])]
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=split.whole_words))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if split.digits else []
    words = pre_tokenizers.Split(Regex(split.pattern), behavior="isolated")
    spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, words, spelling])
    tokenizer.decoder = decoders.ByteLevel()
    if split.nfc:
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer, split.bos


def _sentencepiece(file: GGUFFile, vocab: dict[str, int]) -> tuple[Tokenizer, bool]:
    gemma = file.architecture.startswith("gemma")
    if gemma:
        # Runs of spaces are spelled with real spaces in these files, and the order of Gemma's merges is
        # that of the vocabulary, not of the scores.
        vocab = {"▁" * len(t) if t and not t.strip(" ") else t: i for t, i in vocab.items()}
        rank = {token: i for token, i in vocab.items()}
    else:
        rank = {token: -score for token, score in zip(vocab, file.get("tokenizer.ggml.scores"), strict=True)}
    unknown = list(vocab)[file.get("tokenizer.ggml.unknown_token_id", 0)]
    model = models.BPE(vocab, _merges(vocab, rank), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    prefix = file.get("tokenizer.ggml.add_space_prefix", not gemma)
    # As llama.cpp does: a space goes before the text and before what follows a control token.
    spelling = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*spelling, normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    return tokenizer, True


def _merges(vocab: dict[str, int], rank: dict[str, float]) -> list[tuple[str, str]]:
    """The pairs that sentencepiece would join, best first: every cut of a token into two tokens."""
    found = []
    for token in vocab:
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        found += [(rank[token], cut) for cut in cuts if cut[0] in vocab and cut[1] in vocab]
    return [cut for _, cut in sorted(found, key=lambda f: (f[0], vocab[f[1][0]], vocab[f[1][1]]))]


def _add_special(tokenizer: Tokenizer, file: GGUFFile, tokens: list[str]) -> None:
    kinds = file.get("tokenizer.ggml.token_type", [])
    pick = lambda kind: [t for t, k in zip(tokens, kinds) if k == kind and t]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in pick(_CONTROL)])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in pick(_USER_DEFINED)])
