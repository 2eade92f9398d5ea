"""The work of `fr.foreign`'s bounded process; imported only there."""

import os
from collections.abc import Callable

from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from fr.errors import UserError
from fr.files import read_json
from fr.foreign import panics_are_errors

# There is one text at a time; threads would reserve address space for every core.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

_LARGEST_TOKENIZER = 1 << 27  # bytes of a tokenizer.json: Gemma's has 33 MB
_MOST_TOKENS = 1 << 24
_MOST_TEXT = 1 << 24  # characters that a template may write
# Spaces, line ends, digits, scripts and control characters, on which broken tokenizers
# fail.
NASTY = (
    "  two spaces\t\tTabs\r\n\n\n   x = 1234567.89 naïve 日本語 😀👩‍👩‍👧 "
    "<|end|></s> \u202e\0 don't"
)


def serve(kind: str, *args):
    """Answer one call.

    Args:
      kind: `template` or `tokenizer`.
      *args: of the call.

    Returns:
      The template's text, or the number of the tokenizer's tokens.
    """
    calls: dict[str, Callable] = {"template": _render, "tokenizer": _try_tokenizer}
    return calls[kind](*args)


def _render(template: str, messages: list[dict], variables: dict) -> str:
    texts, _ = render_jinja_template([messages], chat_template=template, **variables)
    if len(texts[0]) > _MOST_TEXT:
        raise ValueError(
            f"it writes {len(texts[0])} characters, more than {_MOST_TEXT}"
        )
    return texts[0]


def _try_tokenizer(path: str) -> int:
    ids = _ids(read_json(path, _LARGEST_TOKENIZER), path)
    with panics_are_errors():
        tokenizer = Tokenizer.from_file(path)
        # Where an added token's id is taken, the library silently gives it another one.
        for token, i in ids.items():
            if tokenizer.token_to_id(token) != i:
                got = tokenizer.token_to_id(token)
                raise UserError(
                    f"{path}: token {token[:60]!r} should have id {i} and gets {got}"
                )
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.decode(tokenizer.encode(NASTY).ids, skip_special_tokens=False)
        return max(ids.values(), default=-1) + 1


def _ids(found, path: str) -> dict[str, int]:
    """Ids by token of a parsed `tokenizer.json`; they must be 0 to n - 1, each once."""
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict):
        raise UserError(f"{path}: has no model")
    vocab = model.get("vocab")
    if isinstance(vocab, list):  # Unigram has token and score, by id
        if not all(
            isinstance(v, list) and len(v) == 2 and isinstance(v[0], str) for v in vocab
        ):
            raise UserError(f"{path}: its vocab must hold pairs of token and score")
        pairs = [(token, i) for i, (token, _) in enumerate(vocab)]
    elif isinstance(vocab, dict):
        pairs = list(vocab.items())
    else:
        raise UserError(f"{path}: its model has no vocab")
    added = found.get("added_tokens") or []
    if not isinstance(added, list) or not all(
        isinstance(token, dict) for token in added
    ):
        raise UserError(f"{path}: added_tokens must be a list of objects")
    pairs += [(token.get("content"), token.get("id")) for token in added]
    ids: dict[str, int] = {}
    owner: dict[int, str] = {}
    for token, i in pairs:
        if (
            not isinstance(token, str)
            or type(i) is not int
            or not 0 <= i < _MOST_TOKENS
        ):
            raise UserError(
                f"{path}: token {str(token)[:60]!r} has id {str(i)[:60]}, not a valid "
                "id"
            )
        if ids.setdefault(token, i) != i:
            raise UserError(
                f"{path}: token {token[:60]!r} has ids {ids[token]} and {i}"
            )
        if owner.setdefault(i, token) != token:
            raise UserError(
                f"{path}: tokens {owner[i][:60]!r} and {token[:60]!r} have the same id "
                f"{i}"
            )
    last = max(owner, default=-1)
    if len(owner) != last + 1:
        missing = next(i for i in range(last) if i not in owner)
        raise UserError(
            f"{path}: no token has id {missing}, and there are ids up to {last}"
        )
    return ids
