"""Small tasks that a small chat model solves sometimes: sums, greatest common divisors, letters of a word."""

import abc
import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks.base import SPLITS, TASKS, ask, digest, split_of
from fr.tasks.grading import grade_answer
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


MAX_DIGITS = 40  # of a sum's terms together: a number of the space must fit the hash that samples it


@TASKS.register("sums")
class Sums(GeneratedTask):
    """Sums of `config.terms` terms of `config.digits` digits; orders of the same terms share a split."""

    name = "sums"

    def __init__(self, config: TaskConfig):
        if config.terms * config.digits > MAX_DIGITS:
            raise UserError(
                f"config.task.terms = {config.terms} of digits = {config.digits} are too long; "
                f"{MAX_DIGITS} digits in all are the most"
            )
        super().__init__(config)
        self._least = 10 ** (config.digits - 1) if config.digits > 1 else 0
        self._count = 10**config.digits - self._least

    def size(self) -> int:
        """Ordered tuples of terms."""
        return self._count**self.config.terms

    def item(self, index: int) -> Item:
        """The tuple that `index` spells, and its running totals."""
        terms = [
            self._least + i
            for i in digits_of(index, *[self._count] * self.config.terms)
        ]
        totals = [sum(terms[: i + 1]) for i in range(len(terms))]
        chain = [
            f"{total} + {term} = {total + term}."
            for total, term in zip(totals, terms[1:])
        ]
        return Item(
            id=f"sums-{'-'.join(map(str, terms))}",
            group=f"sums-{'-'.join(map(str, sorted(terms)))}",
            question=f"What is {' + '.join(map(str, terms))}?",
            chain=" ".join(chain) or f"It is {terms[0]}.",
            answer=str(totals[-1]),
        )


@TASKS.register("gcd")
class Gcd(GeneratedTask):
    """Greatest common divisors of two numbers up to 99; no coprime pairs: `1` would be right most times."""

    name = "gcd"

    def size(self) -> int:
        """Unordered pairs of different numbers that share a divisor."""
        return len(_pairs())

    def item(self, index: int) -> Item:
        """The pair, larger number first, and its Euclidean steps."""
        large, small = _pairs()[index]
        chain, a, b = [], large, small
        while b:
            chain.append(f"{a} = {a // b} * {b} + {a % b}.")
            a, b = b, a % b
        name = f"gcd-{large}-{small}"
        question = f"What is the greatest common divisor of {large} and {small}?"
        return Item(
            id=name, group=name, question=question, chain=" ".join(chain), answer=str(a)
        )


@functools.cache
def _pairs() -> list[tuple[int, int]]:
    return [(a, b) for a in range(2, 100) for b in range(2, a) if math.gcd(a, b) > 1]


@TASKS.register("letters")
class Letters(GeneratedTask):
    """How often a letter occurs in a word: its repeated letters, one that occurs once, one that does not."""

    name = "letters"

    def size(self) -> int:
        """Pairs of a word and a letter."""
        return len(_words_and_letters())

    def item(self, index: int) -> Item:
        """The pair; all letters of a word share its split."""
        word, letter = _words_and_letters()[index]
        count = word.count(letter)
        places = ", ".join(
            str(i + 1) for i, other in enumerate(word) if other == letter
        )
        where = f"{letter} is at {places}" if count else f"{letter} is not there"
        return Item(
            id=f"letters-{word}-{letter}",
            group=f"letters-{word}",
            question=f'How many times does the letter "{letter}" occur in the word "{word}"?',
            chain=f"The word is spelled {' '.join(word)}; {where}.",
            answer=str(count),
        )


@functools.cache
def _words_and_letters() -> list[tuple[str, str]]:
    pairs = []
    for word in WORDS:
        repeated = sorted(letter for letter in set(word) if word.count(letter) > 1)
        once = sorted(letter for letter in set(word) if word.count(letter) == 1)
        absent = [letter for letter in "aeioutnrsl" if letter not in word]
        # one letter each of the frequent answers 1 and 0, so that neither is right most times
        pairs += [(word, letter) for letter in [*repeated, *once[:1], *absent[:1]]]
    return pairs


WORDS = tuple(
    """
    accordion address almond ambulance analysis apple apricot arithmetic armchair artichoke astronaut attic
    avocado balloon banana barrel basket battery bicycle biscuit blackberry blueberry bookkeeper bottle
    broccoli bubble butterfly cabbage calendar camera candle caravan carpet carrot castle caterpillar
    cathedral cello cherry chocolate cinnamon classroom coconut coffee committee compass cucumber curtain
    daffodil desert dessert diamond dictionary dinosaur dolphin eggplant elephant elevator engine envelope
    feather festival flamingo football forest fountain garden ginger giraffe gooseberry grammar grapefruit
    grasshopper guitar hammer harbor helicopter hippo honey horizon hospital igloo island jacket jellyfish
    journey kangaroo kettle kitchen ladder lantern lemon letter library lighthouse lobster magnet mammal
    marble meadow melon mirror mississippi molecule monkey mosquito mountain mushroom muffin necklace needle
    noodle notebook nutmeg occurrence octopus olive onion orange orchard oregano oyster paddle pancake paprika
    parallel parrot parsley peach pencil pepper piano pineapple planet pocket possession potato puppet puzzle
    pyramid rabbit raccoon radish railroad raspberry ribbon river rocket saddle salmon sandwich satellite
    scissors seashell settlement silver skeleton spaghetti spinach squirrel staircase strawberry success sugar
    sunflower telephone tennis theater thunder tomato traffic tunnel turnip umbrella vanilla village violin
    volcano waffle walnut waterfall whistle willow window winter yellow zebra zucchini
    """.split()
)
