"""Examples of a user's file: a prompt and its completion on every line."""

from collections.abc import Iterator
from typing import NamedTuple

from fr.errors import UserError
from fr.tasks.records import Record, read_records, text_fields
from fr.types import Prompt

FIELDS = ("prompt", "completion")
ROLES = ("system", "user", "assistant")


class FileExample(NamedTuple):
    """One line of a file of examples."""

    where: str  # file:line, for messages
    prompt: Prompt  # a text, which the model reads as it is, or chat messages
    completion: str  # the text that is learnt, as it is


def read_examples(path: str, setting: str) -> Iterator[FileExample]:
    """Read a file of examples.

    Args:
        path: A file that ends in .jsonl, .parquet or .csv.
        setting: Name of the setting that holds the path, for messages.

    Yields:
        The examples in the order of the file, with the spaces of their texts.

    Raises:
        UserError: The file cannot be read or is empty, or a line has no prompt or no
            completion; the line is named.
    """
    for where, _, record in read_records(path, FIELDS, setting):
        prompt = record.get("prompt")
        if isinstance(prompt, list):
            text_fields(where, record, ("completion",))
            yield FileExample(
                where, _messages(where, prompt), str(record["completion"])
            )
        else:
            text_fields(where, record, FIELDS)
            yield FileExample(where, *(str(record[name]) for name in FIELDS))


def _messages(where: str, given: list) -> list[dict[str, str]]:
    """Chat messages of a prompt, whose last one the model is to answer."""
    found: list[dict[str, str]] = []
    for message in given:
        record: Record = message if isinstance(message, dict) else {}
        if record.get("role") not in ROLES:
            raise UserError(
                f"{where}: field 'prompt' is a list, and an entry of it is not "
                '{"role": ..., "content": ...} with one of the roles '
                f"{', '.join(ROLES)}"
            )
        text_fields(where, record, ("content",))
        found.append({"role": str(record["role"]), "content": str(record["content"])})
    if not found or found[-1]["role"] != "user":
        raise UserError(
            f"{where}: the messages of field 'prompt' must end with one of the role "
            "'user', which the completion answers"
        )
    return found
