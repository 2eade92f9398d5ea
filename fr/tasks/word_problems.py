"""Two-step word problems from templates."""

from collections.abc import Callable
from typing import NamedTuple

from fr.tasks.generated import GeneratedTask, Item, mixed_radix
from fr.tasks.task import TASKS

NAMES = (
    "Ada",
    "Ben",
    "Carla",
    "David",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kim",
    "Lena",
)
THINGS = (
    "apples",
    "books",
    "cards",
    "coins",
    "cookies",
    "flowers",
    "marbles",
    "pencils",
    "shells",
    "stamps",
)


class Template(NamedTuple):
    """A story with the numbers a, b and c."""

    name: str  # part of the ids of its problems
    text: str  # with {name}, {friend}, {things}, {a}, {b}, {c} or {ab} to fill in
    a: range  # values of the first number
    b: range  # values of the second number
    c: range  # values of the third number
    # (a, b, c) -> both equations and the answer
    steps: Callable[[int, int, int], tuple[str, str, int]]


def _add_add(a: int, b: int, c: int) -> tuple[str, str, int]:
    return f"{a} + {b} = {a + b}", f"{a + b} + {c} = {a + b + c}", a + b + c


def _add_take(a: int, b: int, c: int) -> tuple[str, str, int]:
    return f"{a} + {b} = {a + b}", f"{a + b} - {c} = {a + b - c}", a + b - c


def _times_add(a: int, b: int, c: int) -> tuple[str, str, int]:
    return f"{a} * {b} = {a * b}", f"{a * b} + {c} = {a * b + c}", a * b + c


def _times_take(a: int, b: int, c: int) -> tuple[str, str, int]:
    return f"{a} * {b} = {a * b}", f"{a * b} - {c} = {a * b - c}", a * b - c


def _take_times(a: int, b: int, c: int) -> tuple[str, str, int]:
    return f"{a} - {b} = {a - b}", f"{a - b} * {c} = {(a - b) * c}", (a - b) * c


def _twice_and_all(a: int, b: int, c: int) -> tuple[str, str, int]:
    return f"{a} * {b} = {a * b}", f"{a} + {a * b} = {a + a * b}", a + a * b


def _share_add(a: int, b: int, c: int) -> tuple[str, str, int]:
    return f"{a * b} / {a} = {b}", f"{b} + {c} = {b + c}", b + c


# The ranges keep every result positive and every difference from being 0.
TEMPLATES = (
    Template(
        "gift",
        "{name} has {a} {things}. {name} gets {b} more and then gives {c} to {friend}. "
        "How many {things} does {name} have now?",
        range(6, 30),
        range(2, 20),
        range(2, 8),
        _add_take,
    ),
    Template(
        "boxes",
        "{name} buys {a} boxes with {b} {things} in each box and already had {c} "
        "{things}. "
        "How many {things} does {name} have in all?",
        range(2, 10),
        range(2, 13),
        range(2, 20),
        _times_add,
    ),
    Template(
        "bags",
        "There are {a} bags with {b} {things} in each bag. {name} takes {c} {things} "
        "out. "
        "How many {things} are left?",
        range(3, 10),
        range(4, 13),
        range(2, 12),
        _times_take,
    ),
    Template(
        "together",
        "{name} has {a} {things}. {friend} has {b} times as many. "
        "How many {things} do they have together?",
        range(2, 20),
        range(2, 7),
        range(1),
        _twice_and_all,
    ),
    Template(
        "share",
        "{name} shares {ab} {things} equally among {a} children. {friend} then gives "
        "each child {c} more. "
        "How many {things} does each child have?",
        range(2, 10),
        range(2, 13),
        range(2, 10),
        _share_add,
    ),
    Template(
        "price",
        "{name} gets {a} dollars every week and spends {b} of them. "
        "How many dollars are left over after {c} weeks?",
        range(20, 50),
        range(2, 19),
        range(2, 7),
        _take_times,
    ),
    Template(
        "age",
        "{name} is {a} years old. {friend} is {b} years older than {name}. "
        "How old will {friend} be in {c} years?",
        range(4, 40),
        range(2, 15),
        range(2, 15),
        _add_add,
    ),
)
_STORIES = len(TEMPLATES) * len(NAMES) * (len(NAMES) - 1) * len(THINGS)
# More than any template has combinations; an index is reduced to the template's own.
_NUMBERS = 1 << 20


@TASKS.register("word_problems")
class WordProblems(GeneratedTask):
    """Two-step stories; names and things vary the story, but not its split.

    Stories with the same template and numbers share a split.
    """

    name = "word_problems"

    def size(self) -> int:
        """Number of stories times numbers; they are sampled, not enumerated."""
        return _STORIES * _NUMBERS

    def item(self, index: int) -> Item:
        """The story and numbers at an index.

        Args:
            index: Below `size()`.

        Returns:
            The item.
        """
        which, who, other, what, numbers = mixed_radix(
            index, len(TEMPLATES), len(NAMES), len(NAMES) - 1, len(THINGS), _NUMBERS
        )
        template, things = TEMPLATES[which], THINGS[what]
        friend = NAMES[(who + 1 + other) % len(NAMES)]
        ranges = (template.a, template.b, template.c)
        a, b, c = (
            r[i] for r, i in zip(ranges, mixed_radix(numbers, *map(len, ranges)))
        )
        first, second, answer = template.steps(a, b, c)
        group = f"word_problems-{template.name}-{a}-{b}-{c}"
        text = template.text.format(
            name=NAMES[who], friend=friend, things=things, a=a, b=b, c=c, ab=a * b
        )
        return Item(
            f"{group}-{NAMES[who]}-{friend}-{things}",
            group,
            text,
            f"{first}. {second}.",
            str(answer),
        )
