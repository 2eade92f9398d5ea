"""Formats of completions: their steps, their answer, and its tokens for probes."""

import bisect
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from fr.tasks.countdown_solver import solutions
from fr.tasks.extract import ANSWER, CUE, THINK, find_answer, kind_of
from fr.tasks.markers import EXPRESSION, MATH
from fr.tasks.thoughts import thought_ends
from fr.types import Probe, Problem


@runtime_checkable
class Codec(Protocol):
    """The part of a model that texts need: its tokenizer and its stop tokens."""

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids that end a completion."""

    @property
    def opens_thought(self) -> bool:
        """The chat template begins a thought, which the completion continues."""

    @property
    def vocab(self) -> int:
        """Number of token ids."""

    def encode(self, prompt: str) -> tuple[int, ...]:
        """Tokenize a text.

        Args:
            prompt: The text.

        Returns:
            Token ids.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Write token ids as text.

        Args:
            ids: Token ids.

        Returns:
            The text.
        """


@dataclasses.dataclass(frozen=True)
class Format:
    """The form in which completions of a task state their steps and their answer."""

    cue: str  # forcing it asks for an answer at once
    kind: str  # of its answers (`extract.find_answer`)
    step: re.Pattern  # a match ends at the end of a step
    answers: Callable[[Problem], Sequence[str]]  # right ones in the task's own form
    again: str  # forcing it in place of the answer makes the reasoning go on ...
    claim: str  # ... after this is cut off from the end of the reasoning
    switches: tuple[str, ...]  # words that leave a thought for another


# The marks of a Countdown step; all `up`s after it belong to it.
_MARK = re.compile(r"(?<=\s)(?:,|no|yes|up)(?=\s(?!up\b)|$)")
FORMATS = {
    "countdown": Format(
        cue=f" {ANSWER}",
        kind=EXPRESSION,
        step=_MARK,
        answers=lambda problem: solutions(
            tuple(problem.meta["numbers"]), problem.meta["target"]
        ),
        again=" up",  # back a level: the vocabulary has no other word to go on
        claim=" yes",
        switches=("up",),  # `no` is a verdict: the same numbers are tried on
    ),
    "maze": Format(
        cue=f" {ANSWER}",
        kind=EXPRESSION,
        step=re.compile(r"(?:create \S+ \d+ \d+|close \S+)(?=\s|$)"),
        answers=lambda problem: (problem.answer,),  # a shortest plan; others may exist
        again=" create",
        claim="",
        switches=(),
    ),
}
# A reference is one of several ways to write a right answer, so its probability is a
# lower bound of the share of right answers.
CHAT = Format(
    cue=f"\n{CUE}",
    kind=MATH,
    step=re.compile(r"(?<=[.!?])(?=\s)|(?<=\S)(?=\n)"),
    answers=lambda problem: (problem.answer,) if problem.answer else (),
    again="\nWait",
    claim="",
    switches=tuple(
        "alternatively Alternatively however However wait Wait but But".split()
    ),
)


def format_of(task: str) -> Format:
    """Format of a task's completions.

    Args:
        task: Registered name of the task.

    Returns:
        The task's own format, or `CHAT` with the kind of its answers.
    """
    return FORMATS.get(task) or dataclasses.replace(CHAT, kind=kind_of(task))


def encode_text(codec: Codec, text: str) -> tuple[int, ...] | None:
    """Tokenize a piece of text.

    Args:
        codec: The tokenizer.
        text: A piece of a completion.

    Returns:
        Token ids, or None if the tokenizer cannot write the text.
    """
    begin = len(codec.encode(""))  # some tokenizers put a token before every text
    ids = codec.encode(text)[begin:]
    return ids if codec.decode(ids).split() == text.split() else None


class CompletionText:
    """A completion as text, with the map from its characters to its tokens.

    Attributes:
        form: The task's format.
        tokens: Token ids.
        length: (n) -> characters that the first n tokens write.
        ended: The last token is a stop token.
        text: The text without the stop token.
        marker: The marked answer, or None.
        answer: Tokens before the own answer; 0 without one.
        answer_end: Tokens up to the end of the own answer; 0 without one.
    """

    def __init__(self, form: Format, tokens: Sequence[int] | np.ndarray, codec: Codec):
        self.form, self.tokens = form, [int(t) for t in tokens]
        # kept, because searches read the same beginnings
        self.length = functools.cache(lambda n: len(codec.decode(self.tokens[:n])))
        self.ended = bool(self.tokens) and self.tokens[-1] in codec.stop_tokens
        self.text = codec.decode(self.tokens[:-1] if self.ended else self.tokens)
        thought = THINK * (codec.opens_thought and form.cue == CHAT.cue)
        found = find_answer(thought + self.text, form.kind)
        if found and thought:
            found = found._replace(
                start=found.start - len(thought),
                begin=found.begin - len(thought),
                end=found.end - len(thought),
            )
        self.marker = found if found and found.how != "bare" else None
        self.answer, self.answer_end = self._span() if self.ended else (0, 0)

    def _span(self) -> tuple[int, int]:
        """The tokens of the own answer; (0, 0) without one."""
        if not self.marker:
            return 0, 0
        length = len(self.text[: self.marker.begin].rstrip(" "))
        begin = self.count(length)
        # one token may write the marker's end and the answer
        begin -= self.length(begin) > length
        last = len(self.tokens) - 1
        more = self.text[self.marker.end :].strip()
        end = self.count(self.marker.end) if more else last
        # a lone stop token does not count
        return (begin, end) if 0 < begin < min(end, last) + (end == last) else (0, 0)

    @property
    def reasoning(self) -> str:
        """Text before the own answer's marker, or before a marker at the very end."""
        if self.marker:
            return self.text[: self.marker.start].rstrip()
        return self.text.rstrip().removesuffix(self.form.cue.strip()).rstrip()

    @property
    def concluded(self) -> bool:
        """True if the reasoning has come to an answer, or at least to its marker."""
        return bool(self.marker) or self.text.rstrip().endswith(self.form.cue.strip())

    @property
    def own_answer(self) -> str:
        """Text of the own answer; "" without a marked one."""
        marker = self.marker
        return self.text[marker.begin : marker.end].strip() if marker else ""

    @property
    def ends(self) -> list[int]:
        """Characters of the reasoning up to the end of each step, in order, 0 first."""
        reasoning = self.reasoning
        return sorted(
            {0, *(match.end() for match in self.form.step.finditer(reasoning))}
        )

    def count(self, length: int) -> int:
        """Count the tokens that write the first characters.

        Args:
            length: Number of characters.

        Returns:
            The fewest tokens that write at least `length` characters.
        """
        return bisect.bisect_left(range(len(self.tokens)), length, key=self.length)

    def within(self, length: int) -> tuple[int, str]:
        """Count the tokens that write no more than the first characters.

        Args:
            length: Number of characters.

        Returns:
            (number of tokens, text of the first `length` characters after them).
        """
        places = range(len(self.tokens) + 1)
        most = bisect.bisect_right(places, length, key=self.length) - 1
        # A stop token writes nothing and does not count.
        kept = bisect.bisect_left(places, self.length(most), key=self.length)
        return kept, self.text[self.length(kept) : length]


CUTS = 6  # 0, 20, ... 100 % of the reasoning (arXiv 2605.24396)
ANSWER_SETS = ("own", "gold")  # of answers that a probe may ask for
MAX_ANSWERS = 256  # right answers; with more, the probe asks for its own answer only


def build_probe(
    problem: Problem,
    tokens: Sequence[int] | np.ndarray,
    codec: Codec,
    cuts: int = CUTS,
    sets: Sequence[str] = ANSWER_SETS,
    cuts_at: str = "shares",
) -> Probe | None:
    """Build the probe of an attempt: cuts of its reasoning and answers to score.

    Cuts are at the ends of steps, nearest to equal shares of the reasoning; a short one
    has some of them twice. Or they are at the ends of its thoughts, the last one at the
    end of the reasoning. The own answer is the one that `extract.find_answer` sees in
    an attempt that came to its end. A gold answer is tokenized after the cue. Both end
    with a stop token.

    Args:
        problem: The problem that was attempted.
        tokens: Token ids of the attempt.
        codec: The tokenizer and stop tokens.
        cuts: Number of cuts, from 0 to 100 % of the reasoning.
        sets: Sets of answers to ask for, of `ANSWER_SETS`.
        cuts_at: shares or thoughts, which are as many as they are.

    Returns:
        The probe with the sets that exist; None if none does.
    """
    form = format_of(problem.task)
    attempt = CompletionText(form, tokens, codec)
    reasoning = attempt.reasoning
    cue, gold = _gold(form, form.answers(problem) if "gold" in sets else (), codec)
    found = {"own": _own(attempt, codec), "gold": gold}
    answers = {name: found[name] for name in sets if found[name]}
    if not answers:
        return None
    if cuts_at == "thoughts":
        ends = (*thought_ends(reasoning, form.switches), len(reasoning))
        return Probe(tuple(dict.fromkeys(map(attempt.count, ends))), cue, answers)
    places = sorted({*attempt.ends, len(reasoning)})
    wanted = np.linspace(0, 1, cuts) * len(reasoning)
    nearest = (min(places, key=lambda place: abs(place - at)) for at in wanted)
    return Probe(tuple(map(attempt.count, nearest)), cue, answers)


def answer_span(
    problem: Problem, tokens: Sequence[int], codec: Codec
) -> tuple[int, int]:
    """Tokens of an attempt's own answer.

    Args:
        problem: The problem that was attempted.
        tokens: Token ids of the attempt.
        codec: The tokenizer and stop tokens.

    Returns:
        (tokens before the answer, tokens up to its end); (0, 0) without one.
    """
    attempt = CompletionText(format_of(problem.task), tokens, codec)
    return attempt.answer, attempt.answer_end


def _own(attempt: CompletionText, codec: Codec) -> tuple[tuple[int, ...], ...]:
    """The own answer and its stop token, as generated or as written after the cue."""
    if not attempt.answer or not attempt.marker:
        return ()
    form, marker, stop = attempt.form, attempt.marker, attempt.tokens[-1]
    if attempt.text[marker.start : marker.begin].strip() == form.cue.strip():
        return ((*attempt.tokens[attempt.answer : attempt.answer_end], stop),)
    _, written = _gold(form, (marker.text,), codec)
    return tuple(ids for ids in written if ids[-1] == stop)


def reasoning_tokens(problem: Problem, tokens: Sequence[int], codec: Codec) -> int:
    """Count the tokens before the sentence that states the own answer.

    Args:
        problem: The problem that was attempted.
        tokens: Token ids of the attempt.
        codec: The tokenizer and stop tokens.

    Returns:
        The number of tokens; all of them without an answer.
    """
    attempt = CompletionText(format_of(problem.task), tokens, codec)
    return (
        attempt.count(len(attempt.reasoning)) if attempt.answer else len(attempt.tokens)
    )


def _gold(
    form: Format, right: Sequence[str], codec: Codec
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Ids of the cue, and of each right answer after it with every stop token."""
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
    """Number of ids that two sequences have in common at their beginning."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other)) if a != b),
        min(len(one), len(other)),
    )
