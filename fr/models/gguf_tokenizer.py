"""The tokenizer that a GGUF file describes in its metadata, built with `tokenizers` alone.

transformers can do this too, but wants torch for it, and splits the digits of SmolLM's vocabulary otherwise
than its training did.
"""

import dataclasses
import math

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from fr import foreign
from fr.errors import UserError
from fr.models.bounds import shown
from fr.models.gguf import GGUFFile
from fr.models.tokenizer import quiet_transformers, reads

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type
_LONGEST = 1024  # characters of a token: all of its cuts are tried as merges
_MOST_COPIES = 1000  # each of them costs a step of every decoding


@dataclasses.dataclass(frozen=True)
class Split:
    """How the text of a byte-level vocabulary was cut before its merges were learned."""

    pattern: str
    digits: bool = False  # every digit is cut off first
    whole_words: bool = (
        False  # a piece that is in the vocabulary is taken without merging
    )
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
    foreign.warm()
    quiet_transformers()
    with reads(f"{file.where}: its tokenizer cannot be built"):
        return _built(file)


def _built(file: GGUFFile):
    from transformers import PreTrainedTokenizerFast

    _check_types(file)
    kind = file.get("tokenizer.ggml.model")
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders:
        raise UserError(
            f"{file.where}: tokenizer {shown(kind)} is not supported; there are: {', '.join(builders)}"
        )
    tokens = _tokens(file)
    unique, copies = _set_apart(tokens, file.where)
    tokenizer, bos = builders[kind](file, unique)
    # Copies are written as what they are copies of.
    steps = [decoders.Replace(name, text) for name, text in copies.items()]
    tokenizer.decoder = (
        decoders.Sequence([*steps, tokenizer.decoder]) if steps else tokenizer.decoder
    )
    _add_special(tokenizer, file, unique)
    names = {
        "bos_token": "bos",
        "eos_token": "eos",
        "unk_token": "unknown",
        "pad_token": "padding",
    }
    for key in file.keys():
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            special_id(
                file, key.removeprefix("tokenizer.ggml.").removesuffix("_token_id")
            )
    ids = {name: special_id(file, key) for name, key in names.items()}
    special = {name: unique[i] for name, i in ids.items() if i is not None}
    if file.get("tokenizer.ggml.add_bos_token", bos) and "bos_token" in special:
        token = special["bos_token"]
        # An end token is never added, whatever the file says: a prompt is there to be continued.
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[token, "$A"],
            pair=[token, "$A", token, "$B:1"],
            special_tokens=[(token, ids["bos_token"])],
        )
    template = file.get("tokenizer.chat_template")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=template, **special
    )


def _check_types(file: GGUFFile) -> None:
    """Raise UserError for a value of another type than its key has."""
    of = lambda kind: lambda value: isinstance(value, kind)
    lists = lambda *kinds: (
        lambda value: isinstance(value, list) and all(type(v) in kinds for v in value)
    )
    finite = lambda value: lists(int, float)(value) and all(map(math.isfinite, value))
    whole, text, flag = lists(int), of(str), of(bool)
    kinds = {
        "model": text,
        "pre": text,
        "token_type": whole,
        "scores": finite,
        "merges": lists(str),
    }
    kinds |= {
        key: flag for key in ("add_bos_token", "add_eos_token", "add_space_prefix")
    }
    kinds = {f"tokenizer.ggml.{name}": fits for name, fits in kinds.items()}
    for key, fits in (kinds | {"tokenizer.chat_template": text}).items():
        value = file.get(key)
        if value is not None and not fits(value):
            raise UserError(
                f"{file.where}: {key} = {shown(value)} is of another type than that key has"
            )


def special_id(file: GGUFFile, name: str) -> int | None:
    """The id of a special token (bos, eos, eot, ...) that a file names; None if it names none.

    Raises UserError for one that is outside the vocabulary.
    """
    key, count = (
        f"tokenizer.ggml.{name}_token_id",
        len(file.get("tokenizer.ggml.tokens", ())),
    )
    found = file.get(key)
    if found in (None, -1, 2**32 - 1):  # the latter two say "none"
        return None
    if not isinstance(found, int) or not 0 <= found < count:
        raise UserError(
            f"{file.where}: {key} = {found!r} is outside the vocabulary of {count} tokens"
        )
    return found


def _tokens(file: GGUFFile) -> list[str]:
    tokens = file.get("tokenizer.ggml.tokens")
    if (
        not isinstance(tokens, list)
        or not all(isinstance(token, str) for token in tokens)
        or not tokens
    ):
        raise UserError(
            f"{file.where}: tokenizer.ggml.tokens is missing or holds no texts"
        )
    if (longest := max(map(len, tokens))) > _LONGEST:
        raise UserError(
            f"{file.where}: a token of {longest} characters; at most {_LONGEST} are read"
        )
    if len(tokens) > file.config.vocab:
        raise UserError(
            f"{file.where}: {len(tokens)} tokens, and an embedding of {file.config.vocab} rows"
        )
    for key in ("token_type", "scores"):
        values = file.get(f"tokenizer.ggml.{key}")
        if values is not None and len(values) != len(tokens):
            raise UserError(
                f"{file.where}: {len(values)} tokenizer.ggml.{key} for {len(tokens)} tokens"
            )
    if file.architecture.startswith("gemma"):
        # Runs of spaces are spelled with real spaces in these files.
        tokens = ["\u2581" * len(t) if t and not t.strip(" ") else t for t in tokens]
    return tokens


def _set_apart(tokens: list[str], where: str) -> tuple[list[str], dict[str, str]]:
    """Tokens with a name of its own for each but the last of equal ones, and what those names stand for.

    The last one is what a text is encoded with, as in llama.cpp and transformers.
    """
    last = {token: i for i, token in enumerate(tokens)}
    copies = {i: f"\0copy {i}\0" for i, token in enumerate(tokens) if last[token] != i}
    if len(copies) > _MOST_COPIES:
        raise UserError(f"{where}: {len(copies)} tokens are spelled as others are")
    return [copies.get(i, t) for i, t in enumerate(tokens)], {
        n: tokens[i] for i, n in copies.items()
    }


def _byte_level(file: GGUFFile, tokens: list[str]) -> tuple[Tokenizer, bool]:
    pre, known = file.get("tokenizer.ggml.pre"), ", ".join(SPLITS)
    if pre is None:
        raise UserError(
            f"{file.where} does not say how its text is split (tokenizer.ggml.pre); add one of {known} with "
            "gguf-new-metadata --pre-tokenizer NAME OLD.gguf NEW.gguf"
        )
    if pre not in SPLITS:
        raise UserError(
            f"{file.where}: tokenizer.ggml.pre {pre!r} is not supported; there are: {known}"
        )
    split, vocab = SPLITS[pre], {token: i for i, token in enumerate(tokens)}
    merges = [
        tuple(merge.split(" ")) for merge in file.get("tokenizer.ggml.merges", [])
    ]
    for pair in merges:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            raise UserError(
                f"{file.where}: the merge {' '.join(pair)!r} is not of its tokens"
            )
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=split.whole_words))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if split.digits else []
    words = pre_tokenizers.Split(Regex(split.pattern), behavior="isolated")
    spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, words, spelling])
    tokenizer.decoder = decoders.ByteLevel()
    if split.nfc:
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer, split.bos


def _sentencepiece(file: GGUFFile, tokens: list[str]) -> tuple[Tokenizer, bool]:
    gemma = file.architecture.startswith("gemma")
    vocab = {token: i for i, token in enumerate(tokens)}
    scores = file.get("tokenizer.ggml.scores")
    if scores is None:
        raise UserError(f"{file.where}: tokenizer.ggml.scores is missing")
    # The order of Gemma's merges is that of the vocabulary, not of the scores.
    rank = vocab if gemma else {token: -score for token, score in zip(tokens, scores)}
    unknown = special_id(file, "unknown") or 0
    model = models.BPE(
        vocab,
        _merges(vocab, rank),
        unk_token=tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    prefix = file.get("tokenizer.ggml.add_space_prefix", not gemma)
    # As llama.cpp does: a space goes before the text and before what follows a control token.
    spelling = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence(
        [*spelling, normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        steps + ([decoders.Strip(" ", 1, 0)] if prefix else [])
    )
    return tokenizer, True


def _merges(vocab: dict[str, int], rank: dict[str, float]) -> list[tuple[str, str]]:
    """The pairs that sentencepiece would join, best first: every cut of a token into two tokens."""
    found = []
    for token in vocab:
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        found += [
            (rank[token], cut) for cut in cuts if cut[0] in vocab and cut[1] in vocab
        ]
    return [
        cut
        for _, cut in sorted(
            found, key=lambda f: (f[0], vocab[f[1][0]], vocab[f[1][1]])
        )
    ]


def _add_special(tokenizer: Tokenizer, file: GGUFFile, tokens: list[str]) -> None:
    """Tokens that are found in a text before it is split; each must keep the id that it has in the file."""
    kinds = file.get("tokenizer.ggml.token_type", [])
    pick = lambda kind: [t for t, k in zip(tokens, kinds) if k == kind and t]
    # Where spaces are spelled otherwise, a run of them is found by the merges: in a raw text it never occurs.
    runs = [t for t in pick(_USER_DEFINED) if t.strip("\u2581")]
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in pick(_CONTROL)]
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in runs])
    if tokenizer.get_vocab_size(with_added_tokens=True) != len(tokens):
        raise UserError(
            f"{file.where}: its tokenizer would give ids outside its {len(tokens)} tokens"
        )
