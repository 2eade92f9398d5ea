"""Chat templates: messages to token ids, and the special tokens of a turn."""

import re
from collections.abc import Mapping

from fr import foreign
from fr.errors import UserError, first_line
from fr.models.tokenizer import one_line_errors

# Special tokens of a file's structure and of inputs other than text: no answer contains
# them.
_STRUCTURE = re.compile(
    "endoftext|(begin|end|start)_of_(text|turn|sentence|image|audio)"
    "|im_(start|end|sep)|eo[tm]_id|header_id"
    "|^[<|\\[]*(/?s|bos|eos|eot|pad|unk|mask|cls|sep|system|user|assistant|multimodal)"
    "[>|\\]]*$|unused|reserved|fim|repo|file|gh_stars|issue_|jupyter|empty_output"
    "|commit_|image|vision|audio|video|object_ref|box_|quad_|python_tag|placeholder"
    "|control_|pad",
    re.IGNORECASE,
)
# Marks of thoughts and answers, by which a reply is read; a template may write them.
_CONTENT = re.compile("think|thought|reason|answer|solution|response", re.IGNORECASE)
_ASKED, _SAID = "QUESTION", "REPLY"


def encode_chat(
    tokenizer, messages: list[dict], settings: Mapping, name: str
) -> list[int]:
    """Ids of messages in the tokenizer's template, up to where the model replies.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        messages: Objects with role and content.
        settings: Variables of the template, for example `enable_thinking`.
        name: The model, for errors.

    Returns:
        Token ids.

    Raises:
        UserError: The template lacks a variable, or refuses the messages.
    """
    for key in settings:
        if not re.search(rf"\b{re.escape(key)}\b", str(tokenizer.chat_template)):
            raise UserError(
                f"{name}: its chat template reads no variable {key!r} "
                "(config.task.template_kwargs)"
            )
    text = _apply(tokenizer, messages, name, add_generation_prompt=True, **settings)
    with one_line_errors(f"{name}: its tokenizer fails"):
        return tokenizer(text, add_special_tokens=False)["input_ids"]


def end_of_turn(tokenizer) -> int | None:
    """The special token that the chat template writes after a reply.

    Args:
        tokenizer: A transformers tokenizer.

    Returns:
        Its id; None if there is none.
    """
    text = _conversation(tokenizer)
    after = text.rpartition(_SAID)[2].lstrip() if text and _SAID in text else ""
    first = [t for t in special_tokens(tokenizer).values() if after.startswith(t)]
    return tokenizer.convert_tokens_to_ids(max(first, key=len)) if first else None


def hidden_ids(tokenizer, stop_tokens: tuple[int, ...]) -> frozenset[int]:
    """Special tokens to leave out of a text: ends, pads and turns.

    Tokens that mark thoughts or answers are kept.

    Args:
        tokenizer: A transformers tokenizer.
        stop_tokens: Ids that end a text.

    Returns:
        Token ids.
    """
    named = {i for i in tokenizer.all_special_ids if i is not None}
    asked = (_conversation(tokenizer) or "").partition(_ASKED)[0]
    turn = lambda token: token in asked and not _CONTENT.search(token)
    special = special_tokens(tokenizer)
    own = {i for i, t in special.items() if i in named and not _CONTENT.search(t)}
    found = {i for i, t in special.items() if turn(t) or _STRUCTURE.search(t)}
    return frozenset(own | found | set(stop_tokens))


def special_tokens(tokenizer) -> dict[int, str]:
    """Text of the tokens that are flagged as special.

    Args:
        tokenizer: A transformers tokenizer.

    Returns:
        Texts by id.
    """
    return {
        i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special
    }


def _conversation(tokenizer) -> str | None:
    """A question and a reply in the template; None without a template, or if it
    refuses.
    """
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
    # A template is foreign code: it may raise any error, and may not end.
    where = f"{name}: its chat template fails"
    try:
        template, special = tokenizer.get_chat_template(), tokenizer.special_tokens_map
    except ValueError as error:  # several templates, and no default
        raise UserError(f"{where}: {first_line(error)}") from error
    return foreign.render(
        template,
        messages,
        {"add_generation_prompt": False} | special | variables,
        where,
    )
