"""Operators that continue a failed trace, whose tokens are read and not sampled."""

import numpy as np

from fr.diagnosis.junction import junction
from fr.interventions.intervention import (
    Failure,
    Intervention,
    OperatorContext,
)
from fr.interventions.operator_registry import register
from fr.interventions.operators import steer
from fr.interventions.restarts import whole_steps
from fr.sampling import steering
from fr.tasks.formats import Codec, CompletionText, encode_text
from fr.tasks.steps import format_number


def _continue_after(
    context: OperatorContext, failure: Failure, length: int, pushed: str = ""
) -> Intervention | None:
    """Continue after the first characters of a failed trace and a pushed text.

    None if the tokenizer cannot write it.
    """
    assert context.codec is not None
    found = cut_and_push(failure.written, context.codec, length, pushed)
    if found is None:
        return None
    kept, forced = found
    return _from_cut(failure, kept, {"forced": forced})


def _from_cut(failure: Failure, cut: int, params: dict) -> Intervention:
    """Go on after the first tokens of a failed trace."""
    tokens = tuple(failure.written.tokens)
    return Intervention(params, kept=tokens[:cut], rest=tokens[cut:])


def cut_and_push(
    written: CompletionText, codec: Codec, length: int, pushed: str
) -> tuple[int, tuple[int, ...]] | None:
    """Cut a trace after its first characters and write a text there.

    Args:
        written: The trace.
        codec: The tokenizer.
        length: Characters that stay.
        pushed: Text that follows them.

    Returns:
        (tokens of the trace that stay, token ids that follow them); None if the
        tokenizer cannot write the text.
    """
    kept, rest = written.within(length)
    # Together: a tokenizer may join what is left of the trace with what follows it.
    joint = encode_text(codec, rest + pushed)
    forced = encode_text(codec, pushed) if joint is None else joint
    return None if forced is None else (kept, forced)


def unanswered_length(written: CompletionText) -> int:
    """Characters of a trace without its answer and without the claim before it.

    Args:
        written: The trace.

    Returns:
        The length; of a trace that came to no answer, up to the end of its last step.
    """
    if not written.concluded:
        return written.ends[-1]
    return len(written.reasoning.removesuffix(written.form.claim))


@register("prefix_restart", reads_failures=True)
def prefix_restart(context: OperatorContext) -> Intervention:
    """Keep whole steps of a failed trace, up to its junction or a share, and go on."""
    written, share = context.failure.written, context.config.intervention.restart_share
    limit = (
        share * len(written.reasoning)
        if share
        else written.length(junction(context.failure.trace))
    )
    length = whole_steps(written, limit)
    return _continue_after(context, context.failure, length) or Intervention()


@register("wait", reads_failures=True, words=lambda form: (form.again,))
def wait(context: OperatorContext) -> Intervention:
    """Budget forcing (arXiv 2501.19393): remove a trace's answer and make it go on.

    A trace that ran to its limit goes on after its last whole step; one without a step
    is a fresh sample.
    """
    length, again = unanswered_length(context.failure.written), context.format.again
    if not length:
        return Intervention()
    return _continue_after(context, context.failure, length, again) or Intervention()


@register("repair", reads_failures=True, uses_oracle=True)
def repair(context: OperatorContext) -> Intervention:
    """Cut a failed trace at its first false step, write the true result, and go on.

    Attempts rotate the traces with a false step; without one it is a fresh sample. A
    step whose true result the tokenizer cannot write (in Countdown, a negative one) is
    removed whole.
    """
    false = [(f, step) for f in context.failures if (step := f.false_step)]
    if not false:
        return Intervention()
    failure, step = false[context.attempt % len(false)]
    if result := format_number(step.value):
        text = step.gap + result
        if repaired := _continue_after(context, failure, step.equals, text):
            return repaired
    before = failure.written.text[: step.start].rstrip()
    return _continue_after(context, failure, len(before)) or Intervention()


@register("fork_restart", reads_failures=True)
def fork_restart(context: OperatorContext) -> Intervention:
    """Go back to a failed trace's token of largest entropy and draw another there."""
    failure = context.failure
    entropy = np.where(failure.trace.sampled, failure.trace.scores["entropy"], -np.inf)
    at = int(np.argmax(entropy))
    tokens = failure.written.tokens
    return _from_cut(failure, at, {"avoid": (tokens[at],)})


def _at_offset(offset: int):
    """One token of steering at an offset from the detector's fire on a failed trace."""

    def fill(context: OperatorContext) -> Intervention:
        known = zip(context.failures, context.calibration.fires)
        fired = [(failure, at) for failure, at in known if at >= 0]
        if not fired:
            return Intervention()
        failure, at = fired[context.attempt % len(fired)]
        cut = min(max(at + offset, 0), len(failure.written.tokens) - 1)
        own = {**steer(context, steering.CHOSEN), "fire_position": 0}
        return _from_cut(failure, cut, own)

    side = "before" if offset < 0 else "after"
    where = f"{abs(offset)} tokens {side}" if offset else "the token of"
    fill.__doc__ = (
        f"Replay a failed trace on which the detector fires up to {where} the fire, "
        "and steer there; a fresh sample if it fires on no failed trace."
    )
    return fill


# A new attempt cannot act before its own fire, since only a recorded trace tells its
# position. So all five replay one, and differ by the offset alone. Positions outside of
# the trace are moved to its ends.
OFFSETS = {
    "steer_before_10": -10,
    "steer_before_5": -5,
    "steer_at_fire": 0,
    "steer_after_5": 5,
    "steer_after_10": 10,
}
for _name in OFFSETS:
    register(_name, needs_ancestor=True, reads_failures=True)(
        _at_offset(OFFSETS[_name])
    )
