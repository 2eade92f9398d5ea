"""What tasks share whose problems are made by rule: the space, its split, and worked examples in a chat."""

import abc
import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks.chat import ask
from fr.tasks.grading import grade_answer
from fr.tasks.splits import SPLITS, digest, split_of
from fr.types import Problem, Prompt

MAX_PROBLEMS = 20_000  # of a space; a larger one is sampled, always the same way


class Item(NamedTuple):
    """One problem of a space: items of a `group` are near copies of each other and share a split."""

    id: str
    group: str
    question: str
    chain: str  # a short correct derivation
    answer: str


class GeneratedTask(abc.ABC):
    """A task over a fixed space of `Item`s: subclasses set `name` and write `size` and `item`."""

    name: str

    def __init__(self, config: TaskConfig):
        self.config = config

    @abc.abstractmethod
    def size(self) -> int:
        """How many items the space has."""

    @abc.abstractmethod
    def item(self, index: int) -> Item:
        """Item `index` of the space, a function of the index and the config only."""

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """The first `count` problems of a split in the order of their hashes; all of them if None."""
        if split not in SPLITS:
            raise UserError(
                f"config.task.split = {split!r} is not known{suggest(split, SPLITS)}"
            )
        return self._splits[split][:count]

    def prompt(self, problem: Problem) -> Prompt:
        """`config.shots` worked training problems, then the question."""
        # A group of the question's own would give its answer away.
        shots = (
            p for p in self._splits["train"] if p.meta["group"] != problem.meta["group"]
        )
        few = itertools.islice(shots, self.config.shots)
        return ask(
            self.config,
            problem.question,
            ((p.question, p.meta["chain"], p.answer) for p in few),
        )

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Compare the final answer with the reference by value (`fr.types.GRADES`)."""
        return grade_answer(completion, problem.answer)

    @functools.cached_property
    def _splits(self) -> dict[str, list[Problem]]:
        table = {split: [] for split in SPLITS}
        items = {item.id: item for item in map(self.item, self._indices())}
        for item in sorted(items.values(), key=lambda item: digest(item.id)):
            meta = {"group": item.group, "chain": item.chain}
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
            int.from_bytes(digest(f"{self.name} {i}"), "big") % size
            for i in range(MAX_PROBLEMS)
        )


def digits_of(index: int, *sizes: int) -> list[int]:
    """`index` in the mixed radix `sizes`, least significant first: one choice from each of several lists."""
    choices = []
    for size in sizes:
        index, choice = divmod(index, size)
        choices.append(choice)
    return choices
