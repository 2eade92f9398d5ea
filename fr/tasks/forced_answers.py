"""What to ask of a finished attempt: where its reasoning may be cut, the cue, and the answers that count."""

import bisect
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from fr.tasks import extract
from fr.tasks.countdown_checker import ANSWER
from fr.tasks.countdown_solver import solutions
from fr.types import Probe, Problem

CUTS = 6  # 0, 20, ... 100 % of the reasoning (arXiv 2605.24396)
SETS = ("own", "gold")  # of answers that a probe may ask for
MAX_ANSWERS = 256  # a problem with more right answers than this is asked for its own one only


class Codec(Protocol):
    """What is needed of a model: its tokenizer and what ends a text."""

    stop_tokens: tuple[int, ...]

    def encode(self, prompt: str) -> tuple[int, ...]:
        """Ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""


@dataclasses.dataclass(frozen=True)
class Format:
    """How completions of a task state their steps and their answer."""

    cue: str  # forcing it asks for an answer at once
    marker: re.Pattern  # what stands before the own answer; the last one counts
    step: re.Pattern  # a match ends where a step does
    answers: Callable[[Problem], Sequence[str]]  # right ones as the task would write them


# The marks of a Countdown step; the `up`s behind it belong to it.
_MARK = re.compile(r"(?<=\s)(?:,|no|yes|up)(?=\s(?!up\b)|$)")
FORMATS = {
    "countdown": Format(
        cue=f" {ANSWER}",
        marker=re.compile(rf"(?<!/)\b{ANSWER}\b"),
        step=_MARK,
        answers=lambda problem: solutions(tuple(problem.meta["numbers"]), problem.meta["target"]),
    )
}
# A reference is one way among others to write a right answer: its probability is a lower bound, not the share.
CHAT = Format(
    cue=f"\n{extract.CUE}",
    marker=re.compile(re.escape(extract.CUE)),
    step=re.compile(r"(?<=[.!?])(?=\s)|(?<=\S)(?=\n)"),
    answers=lambda problem: (problem.answer,),
)


def probe(
    problem: Problem, tokens: Sequence[int], codec: Codec, cuts: int = CUTS, sets: Sequence[str] = SETS
) -> Probe | None:
    """The probe of an attempt's tokens, with those of `sets` that exist; None if none does.

    Cuts lie at the ends of steps, nearest to equal shares of the reasoning (a short one has some of them twice).
    The own answer is what was generated behind the last marker, if the attempt came to its end; a gold one is
    tokenised behind the cue. Both end with a stop token.
    """
    form = FORMATS.get(problem.task, CHAT)
    attempt = _Attempt(form, tokens, codec)
    reasoning = attempt.text[: attempt.marker.start() if attempt.marker else None].rstrip()
    places = sorted({0, *(match.end() for match in form.step.finditer(reasoning)), len(reasoning)})
    nearest = lambda share: min(places, key=lambda place: abs(place - share * len(reasoning)))
    cue, gold = _gold(form, form.answers(problem) if "gold" in sets else (), codec)
    found = {"own": (tuple(attempt.tokens[attempt.answer :]),) if attempt.answer else (), "gold": gold}
    answers = {name: found[name] for name in sets if found[name]}
    chosen = tuple(attempt.count(nearest(share)) for share in np.linspace(0, 1, cuts))
    return Probe(chosen, cue, answers) if answers else None


def answer_span(problem: Problem, tokens: Sequence[int], codec: Codec) -> tuple[int, int]:
    """Where an attempt's own answer begins and ends among its tokens, its stop token left out; (0, 0) without one."""
    attempt = _Attempt(FORMATS.get(problem.task, CHAT), tokens, codec)
    return (attempt.answer, len(attempt.tokens) - 1) if attempt.answer else (0, 0)


class _Attempt:
    """An attempt as text, with the way from its characters to its tokens."""

    def __init__(self, form: Format, tokens: Sequence[int], codec: Codec):
        self.tokens = [int(t) for t in tokens]
        # Searches for several places read the same beginnings.
        self._written = functools.cache(lambda n: len(codec.decode(self.tokens[:n])))
        ended = bool(self.tokens) and self.tokens[-1] in codec.stop_tokens
        self.text = codec.decode(self.tokens[:-1] if ended else self.tokens)
        markers = list(form.marker.finditer(self.text))
        self.marker = markers[-1] if markers else None
        begin = self.count(self.marker.end()) if ended and self.marker else 0
        # Tokens before the own answer; 0: there is none. A lone stop token is no answer.
        self.answer = begin if begin < len(self.tokens) - 1 else 0

    def count(self, length: int) -> int:
        """How many tokens it takes to write the first `length` characters."""
        return bisect.bisect_left(range(len(self.tokens)), length, key=self._written)


def _gold(
    form: Format, right: Sequence[str], codec: Codec
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Ids of the cue, and of each of the right answers behind it with every stop token."""
    begin = len(codec.encode(""))  # some tokenizers put a token before every text
    cue = codec.encode(form.cue)[begin:]
    if len(right) > MAX_ANSWERS:
        return cue, ()
    texts = [codec.encode(f"{form.cue} {answer}")[begin:] for answer in right]
    # Together: a tokenizer may join the end of the cue with what follows it.
    shared = min([_common(cue, ids) for ids in texts], default=len(cue))
    ends = itertools.product(dict.fromkeys(ids[shared:] for ids in texts), codec.stop_tokens)
    return cue[:shared], tuple((*ids, stop) for ids, stop in ends)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with together."""
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
