"""What `fr.foreign` runs in its bounded process; only ever imported there."""

import os

from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

# One text at a time; its threads would reserve address space for every core.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

_MOST_TEXT = 1 << 24  # characters that a template may write
# Spaces, line ends, digits, scripts and control characters: what a broken tokenizer fails at.
NASTY = "  two spaces\t\tTabs\r\n\n\n   x = 1234567.89 naïve 日本語 😀👩‍👩‍👧 <|end|></s> \u202e\0 don't"


def serve(kind: str, *args):
    """What the bounded process does: `template` gives a text, `tokenizer` a number of tokens."""
    return {"template": _render, "tokenizer": _try_tokenizer}[kind](*args)


def _render(template: str, messages: list[dict], variables: dict) -> str:
    texts, _ = render_jinja_template([messages], chat_template=template, **variables)
    if len(texts[0]) > _MOST_TEXT:
        raise ValueError(f"it writes {len(texts[0])} characters, more than {_MOST_TEXT}")
    return texts[0]


def _try_tokenizer(path: str) -> int:
    try:
        tokenizer = Tokenizer.from_file(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.decode(tokenizer.encode(NASTY).ids, skip_special_tokens=False)
        return tokenizer.get_vocab_size()
    except (KeyboardInterrupt, SystemExit):
        raise
    # The library's panics are BaseExceptions.
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the tokenizers library panics: {error}") from error
