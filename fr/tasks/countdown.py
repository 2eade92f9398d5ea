"""Countdown: reach a target from a few numbers, each used exactly once.

The problems are all pairs of a multiset of `operands` numbers from 1 to `largest` and a target from 1 to
`target` that some order of steps reaches with positive integers throughout: 2,915 of them for 3 numbers up to
10 and targets up to 100. They are split 80/10/10 by a hash of the problem, so that none ever changes
sides.
"""

import functools
import itertools
import math
import random

from tokenizers import Tokenizer, models, pre_tokenizers

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks.base import SPLITS, TASKS, digest, split_of
from fr.tasks.countdown_rules import ANSWER, check, extract
from fr.tasks.countdown_solver import reachable, solutions
from fr.tasks.countdown_traces import LARGEST, TRACES
from fr.types import GRADER_ERROR, UNPARSED, Problem

MAX_MULTISETS = 50_000  # enumerated up front: about a minute of solving


@TASKS.register("countdown")
class Countdown:
    """The game as a task: prompts like `3 7 10 -> 49 :`, completions with `answer ( 10 - 3 ) * 7` in them."""

    def __init__(self, config: TaskConfig):
        count = math.comb(config.largest + config.operands - 1, config.operands)
        if count > MAX_MULTISETS:
            raise UserError(
                f"config.task.largest = {config.largest} with operands = {config.operands} makes {count} "
                f"sets of numbers; {MAX_MULTISETS} is the most: lower one of them"
            )
        self.config = config

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """The first `count` problems of a split in the order of their hashes; all of them if None."""
        c = self.config
        table = _splits(c.operands, c.largest, c.target, c.solutions)
        if split not in table:
            raise UserError(
                f"config.task.split = {split!r} is not known; there are: {', '.join(table)}"
            )
        return [_problem(numbers, target) for numbers, target in table[split][:count]]

    def prompt(self, problem: Problem) -> str:
        """The question, after `config.shots` worked training problems, a line each."""
        lines = [f"{shot.question} {trace}" for shot, trace in _shots(self.config)]
        return "\n".join([*lines, problem.question])

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Grade the expression after the last `answer` by exact arithmetic (`fr.types.GRADES`)."""
        try:
            expression = extract(completion)
            if expression is None:
                return UNPARSED
            return check(expression, problem.meta["numbers"], problem.meta["target"])
        except (
            Exception
        ):  # a grader that dies says so and is counted apart from wrong answers
            return GRADER_ERROR


def identity(numbers: tuple[int, ...], target: int) -> str:
    """The canonical name of a problem: `countdown-3-7-10-to-49`."""
    return f"countdown-{'-'.join(map(str, sorted(numbers)))}-to-{target}"


def _problem(numbers: tuple[int, ...], target: int) -> Problem:
    return Problem(
        id=identity(numbers, target),
        question=f"{' '.join(map(str, numbers))} -> {target} :",
        answer=solutions(numbers, target)[0],
        task="countdown",
        meta={"numbers": list(numbers), "target": target},
    )


@functools.lru_cache(maxsize=8)
def _splits(
    operands: int, largest: int, limit: int, most: int
) -> dict[str, list[tuple[tuple[int, ...], int]]]:
    """Split name -> (numbers, target), in the order of the hashes: a prefix is a fixed random sample."""
    table = {split: [] for split in SPLITS}
    for numbers in itertools.combinations_with_replacement(
        range(1, largest + 1), operands
    ):
        for target in reachable(numbers[::-1]):
            if target <= limit and (
                not most or len(solutions(numbers, target)) <= most
            ):
                name = identity(numbers, target)
                table[split_of(name)].append((digest(name), numbers, target))
    return {split: [row[1:] for row in sorted(rows)] for split, rows in table.items()}


@functools.lru_cache(maxsize=8)
def _shots(config: TaskConfig) -> list[tuple[Problem, str]]:
    """Worked examples from the training split, each with a short correct trace."""
    if not config.shots:
        return []
    shots = Countdown(config).problems("train", config.shots)
    return [(shot, TRACES["correct"](random.Random(shot.id), shot)) for shot in shots]


VOCABULARY = 128
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
_SIGNS = ("+", "-", "*", "/", "=", "(", ")", "->", ":", ",", "no", "up", "yes", ANSWER)


def word_level() -> Tokenizer:
    """The tokenizer itself: words are separated by white space; ids 0, 1, 2 are pad, eos and unknown."""
    words = [PAD, EOS, UNKNOWN, *_SIGNS, *map(str, range(LARGEST + 1))]
    # A power of two rows for the embedding; the spare words are never produced.
    words += [f"<spare_{i}>" for i in range(VOCABULARY - len(words))]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([PAD, EOS, UNKNOWN])
    return tokenizer


def countdown_tokenizer() -> "transformers.PreTrainedTokenizerFast":  # noqa: F821
    """The same in the form that `fr.models` holds and saves."""
    # Imported where it is used: it takes a second or more.
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=word_level(),
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
