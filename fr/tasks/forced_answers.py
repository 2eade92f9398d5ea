"""What to ask of a finished attempt: where its reasoning may be cut, the cue, and the answers that count."""

import itertools
from collections.abc import Sequence

import numpy as np

from fr.tasks.formats import Codec, Format, Written, format_of
from fr.types import Probe, Problem

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
