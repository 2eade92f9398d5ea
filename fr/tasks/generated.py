"""Tasks over a space of problems that are generated: items, splits and prompts."""

import abc
import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from fr.config import TaskConfig
from fr.tasks.grading import grade_answer
from fr.tasks.task import SPLITS, build_prompt, check_split, split_of, stable_hash
from fr.types import Problem, Prompt

MAX_PROBLEMS = 20_000  # of a space; a larger one is sampled, always the same way


class Item(NamedTuple):
    """One problem of a generated task."""

    id: str  # of the problem
    group: str  # items of a group are near copies of each other and share a split
    question: str  # as the prompt asks it
    chain: str  # a short correct derivation
    answer: str  # the right one
    more: dict = {}  # other values of the problem's meta


class GeneratedTask(abc.ABC):
    """A task over a space of `Item`s; subclasses define `name`, `size` and `item`."""

    name: str

    def __init__(self, config: TaskConfig):
        self.config = config

    @abc.abstractmethod
    def size(self) -> int:
        """Number of items of the space."""

    @abc.abstractmethod
    def item(self, index: int) -> Item:
        """One item of the space, which depends on the index and the config only.

        Args:
            index: From 0 to `size()` - 1.

        Returns:
            The item.
        """

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of a split in the order of their hashes.

        Args:
            split: One of `task.SPLITS`.
            count: Number of problems, from the first; None: all of them.

        Returns:
            At most `count` problems.

        Raises:
            UserError: The split is not known.
        """
        check_split(split)
        return self._splits[split][:count]

    def prompt(self, problem: Problem) -> Prompt:
        """Prompt of a problem: `config.shots` worked training problems, then it.

        Args:
            problem: A problem of this task.

        Returns:
            Text or messages.
        """
        return build_prompt(
            self.config,
            problem.question,
            ((p.question, p.meta["chain"], p.answer) for p in self.shots(problem)),
        )

    def shots(self, problem: Problem) -> Iterator[Problem]:
        """Worked examples of a prompt: the first training problems of other groups.

        Args:
            problem: The problem that is asked; a group of its own would give its answer
                away.

        Returns:
            `config.shots` problems.
        """
        others = (
            p for p in self._splits["train"] if p.meta["group"] != problem.meta["group"]
        )
        return itertools.islice(others, self.config.shots)

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Grade the final answer by value.

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt.

        Returns:
            One of `fr.types.GRADES`.
        """
        return grade_answer(completion, problem.answer)

    @functools.cached_property
    def _splits(self) -> dict[str, list[Problem]]:
        return self.build()

    def build(self) -> dict[str, list[Problem]]:
        """Problems of the space by split, each split in the order of hashes."""
        table: dict[str, list[Problem]] = {split: [] for split in SPLITS}
        items = {item.id: item for item in map(self.item, self._indices())}
        for item in sorted(items.values(), key=lambda item: stable_hash(item.id)):
            meta = {"group": item.group, "chain": item.chain, **item.more}
            problem = Problem(
                item.id, item.question, item.answer, task=self.name, meta=meta
            )
            table[split_of(item.group)].append(problem)
        return table

    def _indices(self) -> Iterator[int] | range:
        size = self.size()
        if size <= MAX_PROBLEMS:
            return range(size)
        return (
            int.from_bytes(stable_hash(f"{self.name} {i}"), "big") % size
            for i in range(MAX_PROBLEMS)
        )


def mixed_radix(index: int, *sizes: int) -> list[int]:
    """Write an index in a mixed radix: one choice from each of several lists.

    Args:
        index: A number from 0.
        *sizes: Number of choices of each list.

    Returns:
        The choices, least significant first.
    """
    choices = []
    for size in sizes:
        index, choice = divmod(index, size)
        choices.append(choice)
    return choices
