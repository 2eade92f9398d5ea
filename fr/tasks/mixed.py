"""Several tasks as one, in equal shares."""

import dataclasses
import itertools

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks import make
from fr.tasks.task import TASKS
from fr.types import Problem, Prompt


@TASKS.register("mixed")
class Mixed:
    """The tasks in `config.parts` in equal shares; each keeps its prompts and grader.

    `Problem.task` names the task of a problem. The other settings are the same for all
    parts.
    """

    def __init__(self, config: TaskConfig):
        parts = config.parts
        if len(parts) < 2 or len(set(parts)) < len(parts) or "mixed" in parts:
            raise UserError(
                f"config.task.parts = {parts!r} must be two other tasks or more, "
                "each once"
            )
        self._tasks = {
            part: make(dataclasses.replace(config, name=part)) for part in parts
        }

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of the parts in turn, until one part has no more.

        Args:
            split: One of `SPLITS`.
            count: Number of problems; None: as many as there are.

        Returns:
            The first problem of every part, then the second of every part, ...
        """
        each = None if count is None else -(-count // len(self._tasks))
        rounds = zip(*(task.problems(split, each) for task in self._tasks.values()))
        return list(itertools.islice(itertools.chain.from_iterable(rounds), count))

    def prompt(self, problem: Problem) -> Prompt:
        """Prompt of the problem's own task.

        Args:
            problem: A problem of one of the parts.

        Returns:
            Text or messages.
        """
        return self._tasks[problem.task].prompt(problem)

    def grade(self, problem: Problem, completion: str) -> str:
        """Grade by the problem's own task.

        Args:
            problem: A problem of one of the parts.
            completion: New text of the attempt.

        Returns:
            One of `fr.types.GRADES`.
        """
        return self._tasks[problem.task].grade(problem, completion)
