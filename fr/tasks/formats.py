"""How completions of a task state their steps and their answer, and the way from their characters to their tokens."""

import bisect
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from fr.tasks import extract
from fr.tasks.countdown_rules import ANSWER
from fr.tasks.countdown_solver import solutions
from fr.types import Probe, Problem


@runtime_checkable
class Codec(Protocol):
    """What is needed of a model: its tokenizer and what ends a text."""

    stop_tokens: tuple[int, ...]
    opens_thought: (
        bool  # its chat template begins a thought that the completion goes on with
    )

    def encode(self, prompt: str) -> tuple[int, ...]:
        """Ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""


@dataclasses.dataclass(frozen=True)
class Format:
    """How completions of a task state their steps and their answer."""

    cue: str  # forcing it asks for an answer at once
    kind: str  # of its answers, as `extract.find` looks for them
    step: re.Pattern  # a match ends where a step does
    answers: Callable[
        [Problem], Sequence[str]
    ]  # right ones as the task would write them
    again: str  # forcing it in place of the answer has the reasoning go on ...
    claim: str  # ... for which this, where the reasoning ends with it, must go
    switches: tuple[str, ...]  # words that leave a thought for another


# The marks of a Countdown step; the `up`s behind it belong to it.
_MARK = re.compile(r"(?<=\s)(?:,|no|yes|up)(?=\s(?!up\b)|$)")
FORMATS = {
    "countdown": Format(
        cue=f" {ANSWER}",
        kind=extract.EXPRESSION,
        step=_MARK,
        answers=lambda problem: solutions(
            tuple(problem.meta["numbers"]), problem.meta["target"]
        ),
        again=" up",  # its vocabulary has no other word for it: back a level, and on
        claim=" yes",
        switches=("no", "up"),
    )
}
# A reference is one way among others to write a right answer: its probability is a lower bound, not the share.
CHAT = Format(
    cue=f"\n{extract.CUE}",
    kind=extract.MATH,
    step=re.compile(r"(?<=[.!?])(?=\s)|(?<=\S)(?=\n)"),
    answers=lambda problem: (problem.answer,) if problem.answer else (),
    again="\nWait",
    claim="",
    switches=(
        "alternatively",
        "Alternatively",
        "however",
        "However",
        "wait",
        "Wait",
        "but",
        "But",
    ),
)


def format_of(task: str) -> Format:
    """The format of a task's completions."""
    return FORMATS.get(task) or dataclasses.replace(CHAT, kind=extract.kind_of(task))


def spell(codec: Codec, text: str) -> tuple[int, ...] | None:
    """Ids of a piece of text; None where the tokenizer has no way to write it."""
    begin = len(codec.encode(""))  # some tokenizers put a token before every text
    ids = codec.encode(text)[begin:]
    return ids if codec.decode(ids).split() == text.split() else None


class Written:
    """A completion as text, with the way from its characters to its tokens."""

    def __init__(self, form: Format, tokens: Sequence[int], codec: Codec):
        self.form, self.tokens = form, [int(t) for t in tokens]
        # Characters that the first n tokens write; kept, because searches read the same beginnings.
        self.length = functools.cache(lambda n: len(codec.decode(self.tokens[:n])))
        self.ended = bool(self.tokens) and self.tokens[-1] in codec.stop_tokens
        self.text = codec.decode(self.tokens[:-1] if self.ended else self.tokens)
        thought = extract.THINK * (codec.opens_thought and form.cue == CHAT.cue)
        found = extract.find(thought + self.text, form.kind)
        if found and thought:
            found = found._replace(
                start=found.start - len(thought),
                begin=found.begin - len(thought),
                end=found.end - len(thought),
            )
        self.marker = found if found and found.how != "bare" else None
        # Tokens before the own answer, and those up to its end; 0: there is none. A lone stop token is no answer.
        self.answer, self.answer_end = (
            self._span() if self.ended and self.marker else (0, 0)
        )

    def _span(self) -> tuple[int, int]:
        """The tokens of the own answer."""
        length = len(self.text[: self.marker.begin].rstrip(" "))
        begin = self.count(length)
        begin -= (
            self.length(begin) > length
        )  # a token that writes the marker's end and the answer
        last = len(self.tokens) - 1
        end = (
            self.count(self.marker.end)
            if self.text[self.marker.end :].strip()
            else last
        )
        return (begin, end) if 0 < begin < min(end, last) + (end == last) else (0, 0)

    @property
    def reasoning(self) -> str:
        """The text before the own answer's marker, or before a marker that nothing follows."""
        if self.marker:
            return self.text[: self.marker.start].rstrip()
        return self.text.rstrip().removesuffix(self.form.cue.strip()).rstrip()

    @property
    def concluded(self) -> bool:
        """Whether the reasoning has come to an answer, if only to its marker."""
        return bool(self.marker) or self.text.rstrip().endswith(self.form.cue.strip())

    @property
    def own_answer(self) -> str:
        """The text of the own answer; "" where there is none behind a marker."""
        return (
            self.text[self.marker.begin : self.marker.end].strip()
            if self.marker
            else ""
        )

    @property
    def ends(self) -> list[int]:
        """Characters of the reasoning up to the end of each step, in order; 0 is the first."""
        reasoning = self.reasoning
        return sorted(
            {0, *(match.end() for match in self.form.step.finditer(reasoning))}
        )

    def count(self, length: int) -> int:
        """How many tokens it takes to write the first `length` characters."""
        return bisect.bisect_left(range(len(self.tokens)), length, key=self.length)

    def within(self, length: int) -> tuple[int, str]:
        """How many tokens write no more than the first `length` characters, and what of these is left to write."""
        places = range(len(self.tokens) + 1)
        most = bisect.bisect_right(places, length, key=self.length) - 1
        # A stop token writes nothing, and is not wanted.
        kept = bisect.bisect_left(places, self.length(most), key=self.length)
        return kept, self.text[self.length(kept) : length]


CUTS = 6  # 0, 20, ... 100 % of the reasoning (arXiv 2605.24396)
SETS = ("own", "gold")  # of answers that a probe may ask for
MAX_ANSWERS = (
    256  # a problem with more right answers than this is asked for its own one only
)


def probe(
    problem: Problem,
    tokens: Sequence[int],
    codec: Codec,
    cuts: int = CUTS,
    sets: Sequence[str] = SETS,
) -> Probe | None:
    """The probe of an attempt's tokens, with those of `sets` that exist; None if none does.

    Cuts lie at the ends of steps, nearest to equal shares of the reasoning (a short one has some of them twice).
    The own answer is the one that `extract.find` sees, if the attempt came to its end; a gold one is
    tokenised after the cue. Both end with a stop token.
    """
    form = format_of(problem.task)
    attempt = Written(form, tokens, codec)
    reasoning = attempt.reasoning
    places = sorted({*attempt.ends, len(reasoning)})
    nearest = lambda share: min(
        places, key=lambda place: abs(place - share * len(reasoning))
    )
    cue, gold = _gold(form, form.answers(problem) if "gold" in sets else (), codec)
    found = {"own": _own(attempt, codec), "gold": gold}
    answers = {name: found[name] for name in sets if found[name]}
    chosen = tuple(attempt.count(nearest(share)) for share in np.linspace(0, 1, cuts))
    return Probe(chosen, cue, answers) if answers else None


def answer_span(
    problem: Problem, tokens: Sequence[int], codec: Codec
) -> tuple[int, int]:
    """Where an attempt's own answer begins and ends among its tokens; (0, 0) without one."""
    attempt = Written(format_of(problem.task), tokens, codec)
    return attempt.answer, attempt.answer_end


def _own(attempt: Written, codec: Codec) -> tuple[tuple[int, ...], ...]:
    """The own answer and its stop token: as it was generated after the cue, or written as if it had been."""
    if not attempt.answer:
        return ()
    form, marker, stop = attempt.form, attempt.marker, attempt.tokens[-1]
    if attempt.text[marker.start : marker.begin].strip() == form.cue.strip():
        return ((*attempt.tokens[attempt.answer : attempt.answer_end], stop),)
    _, written = _gold(form, (marker.text,), codec)
    return tuple(ids for ids in written if ids[-1] == stop)


def reasoning_tokens(problem: Problem, tokens: Sequence[int], codec: Codec) -> int:
    """How many of an attempt's tokens come before the sentence that states its answer; all, without one."""
    attempt = Written(format_of(problem.task), tokens, codec)
    return (
        attempt.count(len(attempt.reasoning)) if attempt.answer else len(attempt.tokens)
    )


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
    ends = itertools.product(
        dict.fromkeys(ids[shared:] for ids in texts), codec.stop_tokens
    )
    return cue[:shared], tuple((*ids, stop) for ids, stop in ends)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with together."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other)) if a != b),
        min(len(one), len(other)),
    )
