"""The interface of a task: problems, prompts and a grader; splits by hash."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from fr.config import TaskConfig
from fr.errors import UserError
from fr.prompts import plain_text
from fr.registry import Registry, suggest
from fr.tasks.extract import CUE
from fr.types import Problem, Prompt


def _packaged() -> None:
    """Import the modules of tasks, which register themselves."""
    from fr.tasks import (  # noqa: F401
        alphabet,
        arithmetic,
        countdown,
        datasets,
        hanoi,
        maze,
        mixed,
        questions,
        reasoning_gym,
        word_problems,
    )


TASKS = Registry("task", _packaged)


@runtime_checkable
class Task(Protocol):
    """A set of problems with a grader, registered as a class built from a TaskConfig.

    Tasks implement the three methods below with these arguments and results.
    """

    def __init__(self, config: TaskConfig): ...

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of a split, in the same order at every call.

        Args:
            split: One of `SPLITS`.
            count: Number of problems, from the first; None: all of them.

        Returns:
            At most `count` problems. An unknown or empty split raises UserError.
        """

    def prompt(self, problem: Problem) -> Prompt:
        """Prompt of a problem.

        Args:
            problem: A problem of this task.

        Returns:
            Plain text, or chat messages for the model's own template.
        """

    def grade(self, problem: Problem, completion: str) -> str:
        """Grade one attempt: pure, in bounded time, without raising.

        As a static method it can also grade stored attempts again, without the task's
        settings and files (scripts/grade.py).

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt, without the prompt.

        Returns:
            One of `fr.types.GRADES`.
        """


SPLITS = ("train", "validation", "test")
# the hash's first two tenths; the other eight are for training
_TENTHS = ("test", "validation")


def check_split(split: str) -> None:
    """Refuse a split that no task has.

    Args:
        split: One of `SPLITS`.

    Raises:
        UserError: The split is not known.
    """
    if split not in SPLITS:
        raise UserError(
            f"config.task.split = {split!r} is not known{suggest(split, SPLITS)}"
        )


def stable_hash(text: str) -> bytes:
    """SHA-256 of a text: sorting by it gives a fixed, shuffled order on every machine.

    Args:
        text: Any text.

    Returns:
        32 bytes.
    """
    return hashlib.sha256(text.encode()).digest()


def split_of(text: str) -> str:
    """Split by hash: 10 % test, 10 % validation, 80 % train.

    Args:
        text: Identifies a problem or a group of problems.

    Returns:
        One of `SPLITS`.
    """
    tenth = int.from_bytes(stable_hash(text)[:8], "big") % 10
    return _TENTHS[tenth] if tenth < len(_TENTHS) else "train"


def split_by(text: str, shares: Sequence[float]) -> str:
    """Split by hash with given shares.

    Args:
        text: Identifies a problem.
        shares: Share of each of `SPLITS`, in that order; they sum to 1.

    Returns:
        One of `SPLITS`.
    """
    place = int.from_bytes(stable_hash(text)[:8], "big") / 2**64
    train, validation, _ = shares
    if place < train:
        return "train"
    return "validation" if place < train + validation else "test"


def build_prompt(
    config: TaskConfig, question: str, shots: Iterable[tuple[str, str, str]]
) -> Prompt:
    """Prompt of a question after worked examples.

    Args:
        config: Gives `system`, `template` and `instruction`.
        question: The question.
        shots: (question, solution or "", answer) of each worked example.

    Returns:
        Text (`plain_text`) if `config.chat` is plain, else messages for the model's
        own template.
    """
    messages = [{"role": "system", "content": config.system}] if config.system else []
    for asked, solution, answer in shots:
        messages += [
            {"role": "user", "content": _turn(config, asked)},
            {"role": "assistant", "content": worked_completion(solution, answer)},
        ]
    messages.append({"role": "user", "content": _turn(config, question)})
    return plain_text(messages) if config.chat == "plain" else messages


def worked_completion(solution: str, answer: str) -> str:
    """Text of a right completion: the solution and a last line with the answer.

    Args:
        solution: Steps that lead to the answer, or "".
        answer: The right answer.

    Returns:
        The completion.
    """
    return f"{solution}\n{CUE} {answer}".lstrip()


def _turn(config: TaskConfig, question: str) -> str:
    # In one pass: a question may itself hold the name of a place.
    values = {"{question}": question, "{instruction}": config.instruction}
    return re.sub(
        r"\{question\}|\{instruction\}", lambda m: values[m[0]], config.template
    ).strip()
