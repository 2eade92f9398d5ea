"""The tokenizer that a GGUF file describes, built with `tokenizers` alone.

transformers can also do this, but needs torch, and splits the digits of SmolLM's
vocabulary otherwise than its training did.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

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
from fr.models.tokenizer import one_line_errors, quiet_transformers

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type
_LONGEST = 1024  # characters of a token: all its cuts are tried as merges
_MOST_COPIES = 1000  # each costs a step in every decoding


@dataclasses.dataclass(frozen=True)
class _Split:
    """Division of a text before the merges of a byte-level vocabulary.

    Attributes:
        pattern: Regular expression of the pieces.
        digits: Every digit is a piece.
        whole_words: A piece that is in the vocabulary is taken without merging.
        bos: Texts begin with the bos token unless the file declares otherwise.
        nfc: Texts are normalised to NFC.
    """

    pattern: str
    digits: bool = False
    whole_words: bool = False
    bos: bool = False
    nfc: bool = False


# Values of tokenizer.ggml.pre; the patterns are in llama.cpp's src/llama-vocab.cpp.
_DIGITS = _Split(_GPT2, digits=True)
_LLAMA = _Split(_LLAMA3, whole_words=True, bos=True)
_QWEN = _Split(_LLAMA3.replace("{1,3}", ""), nfc=True)
SPLITS = {
    "gpt-2": _Split(_GPT2),
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "llama-bpe": _LLAMA,
    "llama3": _LLAMA,
    "llama-v3": _LLAMA,
    "qwen2": _QWEN,
    "deepseek-r1-qwen": _QWEN,
}


def gguf_tokenizer(file: GGUFFile) -> Any:
    """The transformers tokenizer of a GGUF file, with its chat template.

    Args:
        file: The open file.

    Returns:
        The tokenizer.

    Raises:
        UserError: The kind of tokenizer is unknown, or its data is broken.
    """
    foreign.warm()
    quiet_transformers()
    with one_line_errors(f"{file.where}: its tokenizer cannot be built"):
        return _built(file)


def _built(file: GGUFFile):
    from transformers import PreTrainedTokenizerFast

    _check_types(file)
    kind = file.get("tokenizer.ggml.model")
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders:
        raise UserError(
            f"{file.where}: tokenizer {shown(kind)} is not supported; there are: "
            f"{', '.join(builders)}"
        )
    tokens = _tokens(file)
    unique, copies = _set_apart(tokens, file.where)
    tokenizer, bos = builders[kind](file, unique)
    # Decoding writes a copy as the token that it copies.
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
        # An end token is never added, even if the file asks for it: prompts are
        # continued.
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
    """Raise UserError for a value that has another type than its key."""
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
                f"{file.where}: {key} = {shown(value)} is of another type than the key "
                "has"
            )


def special_id(file: GGUFFile, name: str) -> int | None:
    """The id of a special token that a file names.

    Args:
        file: The open file.
        name: bos, eos, eot, ...

    Returns:
        The id; None if the file names none.

    Raises:
        UserError: The id is outside the vocabulary.
    """
    key = f"tokenizer.ggml.{name}_token_id"
    count = len(file.get("tokenizer.ggml.tokens", ()))
    found = file.get(key)
    if found in (None, -1, 2**32 - 1):  # the latter two mean none
        return None
    if not isinstance(found, int) or not 0 <= found < count:
        raise UserError(
            f"{file.where}: {key} = {found!r} is outside the vocabulary of {count} "
            "tokens"
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
            f"{file.where}: a token of {longest} characters; at most {_LONGEST} are "
            "read"
        )
    if len(tokens) > file.config.vocab:
        raise UserError(
            f"{file.where}: {len(tokens)} tokens, and an embedding of "
            f"{file.config.vocab} rows"
        )
    for key in ("token_type", "scores"):
        values = file.get(f"tokenizer.ggml.{key}")
        if values is not None and len(values) != len(tokens):
            raise UserError(
                f"{file.where}: {len(values)} tokenizer.ggml.{key} for {len(tokens)} "
                "tokens"
            )
    if file.architecture.startswith("gemma"):
        # Runs of spaces are spelled with real spaces in these files.
        tokens = ["\u2581" * len(t) if t and not t.strip(" ") else t for t in tokens]
    return tokens


def _set_apart(tokens: list[str], where: str) -> tuple[list[str], dict[str, str]]:
    """Tokens with a unique name for all but the last of equal ones, and the meaning of
    names.

    The last one is used to encode texts, as in llama.cpp and transformers.
    """
    last = {token: i for i, token in enumerate(tokens)}
    copies = {i: f"\0copy {i}\0" for i, token in enumerate(tokens) if last[token] != i}
    if len(copies) > _MOST_COPIES:
        raise UserError(f"{where}: {len(copies)} tokens have the text of another")
    return [copies.get(i, t) for i, t in enumerate(tokens)], {
        n: tokens[i] for i, n in copies.items()
    }


def _byte_level(file: GGUFFile, tokens: list[str]) -> tuple[Tokenizer, bool]:
    pre, known = file.get("tokenizer.ggml.pre"), ", ".join(SPLITS)
    if pre is None:
        raise UserError(
            f"{file.where} does not say how its text is split (tokenizer.ggml.pre); "
            f"add one of {known} with gguf-new-metadata --pre-tokenizer NAME OLD.gguf "
            "NEW.gguf"
        )
    if pre not in SPLITS:
        raise UserError(
            f"{file.where}: tokenizer.ggml.pre {pre!r} is not supported; there are: "
            f"{known}"
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
    # Gemma's merges follow the order of the vocabulary, not the scores.
    rank: Mapping[str, float] = vocab
    if not gemma:
        rank = {token: -score for token, score in zip(tokens, scores)}
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
    # As in llama.cpp, a space goes before the text and after every control token.
    spelling = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence(
        [*spelling, normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        steps + ([decoders.Strip(" ", 1, 0)] if prefix else [])
    )
    return tokenizer, True


def _merges(vocab: dict[str, int], rank: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs that sentencepiece would join, best first: all cuts into two tokens."""
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
    """Add the tokens that are found before a text is split; each must keep its id."""
    kinds = file.get("tokenizer.ggml.token_type", [])
    pick = lambda kind: [t for t, k in zip(tokens, kinds) if k == kind and t]
    # A run of respelled spaces never occurs in a raw text; the merges find it.
    runs = [t for t in pick(_USER_DEFINED) if t.strip("\u2581")]
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in pick(_CONTROL)]
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in runs])
    if tokenizer.get_vocab_size(with_added_tokens=True) != len(tokens):
        raise UserError(
            f"{file.where}: its tokenizer would give ids outside its {len(tokens)} "
            "tokens"
        )
