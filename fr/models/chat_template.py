"""Chat templates: messages to ids, and which special tokens make up a turn."""

import re
from collections.abc import Mapping

from fr import foreign
from fr.errors import UserError, first_line
from fr.models.tokenizer import reads

# Special tokens of a file's structure and of other inputs than text: no answer is written with them.
_STRUCTURE = re.compile(
    "endoftext|(begin|end|start)_of_(text|turn|sentence|image|audio)|im_(start|end|sep)|eo[tm]_id|header_id"
    "|^[<|\\[]*(/?s|bos|eos|eot|pad|unk|mask|cls|sep|system|user|assistant|multimodal)[>|\\]]*$|unused|reserved"
    "|fim|repo|file|gh_stars|issue_|jupyter|empty_output|commit_|image|vision|audio|video|object_ref|box_"
    "|quad_|python_tag|placeholder|control_|pad",
    re.IGNORECASE,
)
# What a template may write at the start of a reply and a reply is read by.
_CONTENT = re.compile("think|thought|reason|answer|solution|response", re.IGNORECASE)
_ASKED, _SAID = "QUESTION", "REPLY"


def encode_chat(
    tokenizer, messages: list[dict], settings: Mapping, name: str
) -> list[int]:
    """Ids of messages in the tokenizer's template, up to where the model is to speak.

    `settings` are variables of the template, as `enable_thinking`. Raises UserError for one that the template
    does not read, and where the template refuses the messages.
    """
    for key in settings:
        if not re.search(rf"\b{re.escape(key)}\b", str(tokenizer.chat_template)):
            raise UserError(
                f"{name}: its chat template reads no variable {key!r} (config.task.template_kwargs)"
            )
    text = _apply(tokenizer, messages, name, add_generation_prompt=True, **settings)
    with reads(f"{name}: its tokenizer fails"):
        return tokenizer(text, add_special_tokens=False)["input_ids"]


def end_of_turn(tokenizer) -> int | None:
    """The special token that the chat template writes after a reply; None if there is none."""
    text = _conversation(tokenizer)
    behind = text.rpartition(_SAID)[2].lstrip() if text and _SAID in text else ""
    first = [t for t in special_tokens(tokenizer).values() if behind.startswith(t)]
    return tokenizer.convert_tokens_to_ids(max(first, key=len)) if first else None


def hidden_ids(tokenizer, stop_tokens: tuple[int, ...]) -> frozenset[int]:
    """Special tokens that no reader of a text wants: ends, pads, turns; not those that mark what is said."""
    named = {i for i in tokenizer.all_special_ids if i is not None}
    asked = (_conversation(tokenizer) or "").partition(_ASKED)[0]
    turn = lambda token: token in asked and not _CONTENT.search(token)
    special = special_tokens(tokenizer)
    own = {i for i, t in special.items() if i in named and not _CONTENT.search(t)}
    found = {i for i, t in special.items() if turn(t) or _STRUCTURE.search(t)}
    return frozenset(own | found | set(stop_tokens))


def special_tokens(tokenizer) -> dict[int, str]:
    """Text of the tokens that are flagged as special, by id."""
    return {
        i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special
    }


def _conversation(tokenizer) -> str | None:
    """A question and a reply in the template; None without one, or where it refuses them."""
    if not tokenizer.chat_template:
        return None
    messages = [
        {"role": "user", "content": _ASKED},
        {"role": "assistant", "content": _SAID},
    ]
    try:
        return _apply(tokenizer, messages, str(tokenizer.name_or_path or "the model"))
    except foreign.Endless:
        raise
    except UserError:
        return None


def _apply(tokenizer, messages: list[dict], name: str, **variables) -> str:
    # A template is a program of others: it may raise anything, and need not end.
    where = f"{name}: its chat template fails"
    try:
        template, special = tokenizer.get_chat_template(), tokenizer.special_tokens_map
    except ValueError as error:  # of several templates none is the default
        raise UserError(f"{where}: {first_line(error)}") from error
    return foreign.render(
        template,
        messages,
        {"add_generation_prompt": False} | special | variables,
        where,
    )
