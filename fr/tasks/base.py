"""What a task is: problems, prompts and a grader."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from fr.config import TaskConfig
from fr.prompts import plain_text
from fr.registry import Registry
from fr.tasks.extract import CUE
from fr.types import Problem, Prompt

TASKS = Registry("task")


@runtime_checkable
class Task(Protocol):
    """A set of problems with a grader. Registered as a class that is built from a TaskConfig."""

    def __init__(self, config: TaskConfig): ...

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """The first `count` problems of a split, always in the same order; all of them if None."""

    def prompt(self, problem: Problem) -> Prompt:
        """What the model reads: plain text, or chat messages for its own template."""

    def grade(self, problem: Problem, completion: str) -> str:
        """One of `fr.types.GRADES` for the new text of one attempt; pure, bounded, raises nothing by design.

        A static method can grade stored attempts again without the task's settings and files
        (scripts/grade.py).
        """


SPLITS = ("train", "validation", "test")
_TENTHS = (
    "test",
    "validation",
)  # the hash's first two tenths; the other eight are for training


def digest(text: str) -> bytes:
    """A hash that is the same on every machine and version; sorting by it gives a fixed, shuffled order."""
    return hashlib.sha256(text.encode()).digest()


def split_of(text: str) -> str:
    """The split of whatever `text` identifies: 10 % test, 10 % validation, 80 % train."""
    tenth = int.from_bytes(digest(text)[:8], "big") % 10
    return _TENTHS[tenth] if tenth < len(_TENTHS) else "train"


def split_by(text: str, shares: Sequence[float]) -> str:
    """The split of `text` where `shares` of all texts, in the order of SPLITS, belong to each; they sum to 1."""
    place = int.from_bytes(digest(text)[:8], "big") / 2**64
    train, validation, _ = shares
    return (
        "train"
        if place < train
        else "validation"
        if place < train + validation
        else "test"
    )


def ask(
    config: TaskConfig, question: str, shots: Iterable[tuple[str, str, str]]
) -> Prompt:
    """The prompt of a question under `config.system`, `config.template` and `config.instruction`.

    Args:
      config: with `chat` = plain the result is text (`plain_text`), else messages for the model's own template.
      question: what is asked.
      shots: (question, solution or "", answer) of each worked example.
    """
    messages = [{"role": "system", "content": config.system}] if config.system else []
    for asked, solution, answer in shots:
        messages += [
            {"role": "user", "content": _turn(config, asked)},
            {"role": "assistant", "content": worked(solution, answer)},
        ]
    messages.append({"role": "user", "content": _turn(config, question)})
    return plain_text(messages) if config.chat == "plain" else messages


def worked(solution: str, answer: str) -> str:
    """How a right completion reads: a solution, or "", and a last line with the answer."""
    return f"{solution}\n{CUE} {answer}".lstrip()


def _turn(config: TaskConfig, question: str) -> str:
    # In one pass: a question may itself hold the name of a place.
    values = {"{question}": question, "{instruction}": config.instruction}
    return re.sub(
        r"\{question\}|\{instruction\}", lambda m: values[m[0]], config.template
    ).strip()
