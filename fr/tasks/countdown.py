"""Countdown: reach a target from a few numbers, each used exactly once.

The problems are all pairs of a multiset of `operands` numbers from 1 to `largest` and a
target from 1 to `target` that some order of steps reaches with positive integers
throughout: 2,915 of them for 3 numbers up to 10 and targets up to 100. A hash of the
problem splits them 80/10/10, so no problem ever changes its split.
"""

import functools
import itertools
import math
import random
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks import vocabulary
from fr.tasks.countdown_families import held_out
from fr.tasks.countdown_rules import extract_expression, grade_expression
from fr.tasks.countdown_solver import problem_id, reachable, solutions
from fr.tasks.countdown_traces import LARGEST, TRACES
from fr.tasks.extract import ANSWER
from fr.tasks.task import SPLITS, TASKS, split_of, stable_hash
from fr.types import GRADER_ERROR, UNPARSED, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAX_MULTISETS = 50_000  # enumerated up front: about a minute of solving


@TASKS.register("countdown")
class Countdown:
    """The game as a task.

    A prompt is `3 7 10 -> 49 :`, and a completion ends with `answer ( 10 - 3 ) * 7`.
    """

    traces = TRACES

    def __init__(self, config: TaskConfig):
        count = math.comb(config.largest + config.operands - 1, config.operands)
        if count > MAX_MULTISETS:
            raise UserError(
                f"config.task.largest = {config.largest} with operands = "
                f"{config.operands} makes {count} sets of numbers; {MAX_MULTISETS} is "
                "the most: lower one of them"
            )
        self.config = config
        self._held_out = held_out(config.hold_out)

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of a split in the order of their hashes; no training problem is in
        a cell of `config.hold_out`.

        Args:
            split: One of `task.SPLITS`.
            count: Number of problems, from the first; None: all of them.

        Returns:
            At most `count` problems.

        Raises:
            UserError: The split is not known.
        """
        c = self.config
        table = _splits(c.operands, c.largest, c.target, c.solutions)
        if split not in table:
            raise UserError(
                f"config.task.split = {split!r} is not known; there are: "
                f"{', '.join(table)}"
            )
        found = table[split]
        if split == "train" and c.hold_out:
            found = [row for row in found if not self._held_out(*row)]
        return [self._problem(*row) for row in found[:count]]

    def _problem(self, numbers: tuple[int, ...], target: int) -> Problem:
        more = {}
        if self.config.hold_out:
            more["held_out"] = "yes" if self._held_out(numbers, target) else "no"
        return _problem(numbers, target, more)

    def prompt(self, problem: Problem) -> str:
        """Prompt of a problem: `config.shots` worked training problems, then it.

        Args:
            problem: A problem of this task.

        Returns:
            One line per worked problem, and the question on the last line.
        """
        lines = [f"{shot.question} {trace}" for shot, trace in _shots(self.config)]
        return "\n".join([*lines, problem.question])

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The vocabulary of a model made from scratch."""
        return countdown_tokenizer()

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Grade the expression after the last `answer` by exact arithmetic.

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt.

        Returns:
            One of `fr.types.GRADES`.
        """
        try:
            expression = extract_expression(completion)
            if expression is None:
                return UNPARSED
            meta = problem.meta
            return grade_expression(expression, meta["numbers"], meta["target"])
        except Exception:  # a failed grader must not count as a wrong answer
            return GRADER_ERROR


def _problem(numbers: tuple[int, ...], target: int, more: dict) -> Problem:
    return Problem(
        id=problem_id(numbers, target),
        question=f"{' '.join(map(str, numbers))} -> {target} :",
        answer=solutions(numbers, target)[0],
        task="countdown",
        meta={"numbers": list(numbers), "target": target, **more},
    )


@functools.lru_cache(maxsize=8)
def _splits(
    operands: int, largest: int, limit: int, most: int
) -> dict[str, list[tuple[tuple[int, ...], int]]]:
    """(numbers, target) by split, sorted by hash: a prefix is a fixed random sample."""
    table: dict[str, list] = {split: [] for split in SPLITS}
    for numbers in itertools.combinations_with_replacement(
        range(1, largest + 1), operands
    ):
        for target in reachable(numbers[::-1]):
            if target <= limit and (
                not most or len(solutions(numbers, target)) <= most
            ):
                name = problem_id(numbers, target)
                table[split_of(name)].append((stable_hash(name), numbers, target))
    return {split: [row[1:] for row in sorted(rows)] for split, rows in table.items()}


@functools.lru_cache(maxsize=8)
def _shots(config: TaskConfig) -> list[tuple[Problem, str]]:
    """Worked examples from the training split, each with a short correct trace."""
    if not config.shots:
        return []
    shots = Countdown(config).problems("train", config.shots)
    return [(shot, TRACES["correct"](random.Random(shot.id), shot)) for shot in shots]


VOCABULARY = 128  # a power of two
_SIGNS = ("+", "-", "*", "/", "=", "(", ")", "->", ":", ",", "no", "up", "yes", ANSWER)


def word_level() -> Tokenizer:
    """Tokenizer of the signs, the marks of traces, and the numbers up to `LARGEST`."""
    return vocabulary.word_level([*_SIGNS, *map(str, range(LARGEST + 1))], VOCABULARY)


def countdown_tokenizer() -> "PreTrainedTokenizerFast":
    """The tokenizer `word_level` in the form that `fr.models` holds and saves."""
    return vocabulary.as_transformers(word_level())
