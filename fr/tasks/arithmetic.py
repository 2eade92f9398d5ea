"""Tasks that a small chat model sometimes solves: sums, common divisors, letters."""

import dataclasses
import functools
import itertools
import math

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks.generated import GeneratedTask, Item, mixed_radix
from fr.tasks.task import SPLITS, TASKS
from fr.types import Problem, Prompt

# Digits of all terms together: an index of the space must fit the sampling hash.
MAX_DIGITS = 40


@TASKS.register("sums")
class Sums(GeneratedTask):
    """Sums of `config.terms` terms of `config.digits` digits each.

    Sums of the same terms in another order share a split. With `config.term_counts` the
    sums of each number of terms stand in turn, as long as there are some; their meta
    has `terms`, and their worked examples have as many terms.
    """

    name = "sums"

    def __init__(self, config: TaskConfig):
        self._parts = {
            n: Sums(dataclasses.replace(config, terms=n, term_counts=()))
            for n in config.term_counts
        }
        if config.terms * config.digits > MAX_DIGITS:
            raise UserError(
                f"config.task.terms = {config.terms} of digits = {config.digits} are "
                f"too long; {MAX_DIGITS} digits in all are the most"
            )
        super().__init__(config)
        self._least = 10 ** (config.digits - 1) if config.digits > 1 else 0
        self._count = 10**config.digits - self._least

    def prompt(self, problem: Problem) -> Prompt:
        """Prompt of a problem, after worked sums of as many terms.

        Args:
            problem: A problem of this task.

        Returns:
            Text or messages.
        """
        part = self._parts.get(problem.meta.get("terms", 0))
        return part.prompt(problem) if part else super().prompt(problem)

    @functools.cached_property
    def _splits(self) -> dict[str, list[Problem]]:
        if not self._parts:
            return self.build()
        table = {}
        for split in SPLITS:
            parts = (part.problems(split) for part in self._parts.values())
            rows = itertools.zip_longest(*parts)
            table[split] = [
                dataclasses.replace(problem, meta={**problem.meta, "terms": terms})
                for row in rows
                for terms, problem in zip(self._parts, row)
                if problem is not None
            ]
        return table

    def size(self) -> int:
        """Number of ordered tuples of terms."""
        return self._count**self.config.terms

    def item(self, index: int) -> Item:
        """The tuple of terms at an index, and its running totals.

        Args:
            index: Below `size()`.

        Returns:
            The item.
        """
        terms = [
            self._least + i
            for i in mixed_radix(index, *[self._count] * self.config.terms)
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
    """Greatest common divisors of two numbers up to 99.

    There are no coprime pairs, since most pairs are coprime and `1` would be right.
    """

    name = "gcd"

    def size(self) -> int:
        """Number of unordered pairs of different numbers that share a divisor."""
        return len(_pairs())

    def item(self, index: int) -> Item:
        """The pair at an index, larger number first, and its Euclidean steps.

        Args:
            index: Below `size()`.

        Returns:
            The item.
        """
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
    """Counts of a letter in a word.

    All repeated letters of a word are asked for, one that occurs once and one that does
    not occur.
    """

    name = "letters"

    def size(self) -> int:
        """Number of pairs of a word and a letter."""
        return len(_words_and_letters())

    def item(self, index: int) -> Item:
        """The pair of a word and a letter at an index; a word has one split.

        Args:
            index: Below `size()`.

        Returns:
            The item.
        """
        word, letter = _words_and_letters()[index]
        count = word.count(letter)
        places = ", ".join(
            str(i + 1) for i, other in enumerate(word) if other == letter
        )
        where = f"{letter} is at {places}" if count else f"{letter} is not there"
        return Item(
            id=f"letters-{word}-{letter}",
            group=f"letters-{word}",
            question=f'How many times does the letter "{letter}" occur in the word '
            f'"{word}"?',
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
        # One letter each for the answers 1 and 0, which would be too frequent.
        pairs += [(word, letter) for letter in [*repeated, *once[:1], *absent[:1]]]
    return pairs


WORDS = tuple(
    """
    accordion address almond ambulance analysis apple apricot arithmetic armchair
    artichoke astronaut attic avocado balloon banana barrel basket battery bicycle
    biscuit blackberry blueberry bookkeeper bottle broccoli bubble butterfly cabbage
    calendar camera candle caravan carpet carrot castle caterpillar cathedral cello
    cherry chocolate cinnamon classroom coconut coffee committee compass cucumber
    curtain daffodil desert dessert diamond dictionary dinosaur dolphin eggplant
    elephant elevator engine envelope feather festival flamingo football forest
    fountain garden ginger giraffe gooseberry grammar grapefruit grasshopper guitar
    hammer harbor helicopter hippo honey horizon hospital igloo island jacket
    jellyfish journey kangaroo kettle kitchen ladder lantern lemon letter library
    lighthouse lobster magnet mammal marble meadow melon mirror mississippi molecule
    monkey mosquito mountain mushroom muffin necklace needle noodle notebook nutmeg
    occurrence octopus olive onion orange orchard oregano oyster paddle pancake
    paprika parallel parrot parsley peach pencil pepper piano pineapple planet
    pocket possession potato puppet puzzle pyramid rabbit raccoon radish railroad
    raspberry ribbon river rocket saddle salmon sandwich satellite scissors seashell
    settlement silver skeleton spaghetti spinach squirrel staircase strawberry
    success sugar sunflower telephone tennis theater thunder tomato traffic tunnel
    turnip umbrella vanilla village violin volcano waffle walnut waterfall whistle
    willow window winter yellow zebra zucchini
    """.split()
)
