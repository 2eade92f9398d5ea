"""What a task is: problems, prompts and a grader."""

from typing import Protocol, runtime_checkable

from fr.config import TaskConfig
from fr.registry import Registry
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
