"""Several tasks as one: equally many problems of each, every one asked and graded by the task that it is of."""

import dataclasses
import itertools

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks import make
from fr.tasks.base import TASKS
from fr.types import Problem, Prompt


@TASKS.register("mixed")
class Mixed:
    """The tasks that `config.parts` names, with the other settings as they are; `Problem.task` says which it is."""

    def __init__(self, config: TaskConfig):
        parts = config.parts
        if len(parts) < 2 or len(set(parts)) < len(parts) or "mixed" in parts:
            raise UserError(
                f"config.task.parts = {parts!r} must be two other tasks or more, each once"
            )
        self._tasks = {
            part: make(dataclasses.replace(config, name=part)) for part in parts
        }

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """The first of every part, then the second of every part, until one has no more or there are `count`."""
        each = None if count is None else -(-count // len(self._tasks))
        rounds = zip(*(task.problems(split, each) for task in self._tasks.values()))
        return list(itertools.islice(itertools.chain.from_iterable(rounds), count))

    def prompt(self, problem: Problem) -> Prompt:
        """What the problem's own task makes of it."""
        return self._tasks[problem.task].prompt(problem)

    def grade(self, problem: Problem, completion: str) -> str:
        """The grade that the problem's own task gives."""
        return self._tasks[problem.task].grade(problem, completion)
