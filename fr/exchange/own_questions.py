"""The questions and references that a tool's files hold, as a file of questions."""

import itertools
from collections.abc import Sequence

from fr.errors import UserError
from fr.exchange.reading import completions
from fr.exchange.record_files import write_line
from fr.exchange.tool_formats import format_of
from fr.tasks.records import check_id, text_fields
from fr.workdir import PathLike, replacing


def write_questions(files: Sequence[str], name: str, path: PathLike) -> int:
    """Write each question of some files once, for the task `questions`.

    Args:
        files: Files of an engine.
        name: Name of their format.
        path: File to write (.jsonl): id, question and answer per line.

    Returns:
        Number of questions.

    Raises:
        UserError: A file cannot be read, a question has two references, the task would
            not read one, or no record has both.
    """
    if not str(path).endswith(".jsonl"):
        raise UserError(f"{path}: questions are written as .jsonl")
    found: dict[str, tuple[str, str]] = {}
    ids: set[str] = set()
    for file in files:
        for sampled in completions(name, format_of(name, tuple(files)), file):
            question, reference = sampled.question.strip(), sampled.reference.strip()
            if not question or not reference:
                continue
            other = found.get(question, ("", reference))[1]
            if other != reference:
                raise UserError(
                    f"{sampled.where}: its question has the reference "
                    f"{reference[:40]!r} here and {other[:40]!r} before"
                )
            if question not in found:
                pair: dict[str, object] = {"question": question, "answer": reference}
                text_fields(sampled.where, pair, tuple(pair))
                new = next((i for i in sampled.ids if i not in ids and _fits(i)), "")
                counted = (f"question-{n}" for n in itertools.count(len(found) + 1))
                new = new or next(i for i in counted if i not in ids)
                ids.add(new)
                found[question] = (new, reference)
    if not found:
        raise UserError(
            f"{', '.join(files)}: no record has a question and its reference; name a "
            "task or a file of questions in --config"
        )
    with replacing(path) as out:
        for question, (new, reference) in found.items():
            write_line(out, {"id": new, "question": question, "answer": reference})
    return len(found)


def _fits(name: str) -> bool:
    """True if the task reads an id; else the question is counted."""
    try:
        return bool(check_id("", name.strip()))
    except UserError:
        return False
