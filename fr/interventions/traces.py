"""Operators that go on from a failed trace: its tokens are read again, none is sampled anew."""

import numpy as np

from fr.diagnosis.junction import junction
from fr.interventions.intervention import Change, Failure, Setting, register
from fr.interventions.operators import steer
from fr.sampling import steering
from fr.tasks.formats import encode_text
from fr.tasks.steps import format_number


def _behind(
    setting: Setting, failure: Failure, length: int, pushed: str = ""
) -> Change | None:
    """Go on behind the first characters of a failed trace and a pushed text; None if that cannot be written."""
    kept, rest = failure.written.within(length)
    # Together: a tokenizer may join what is left of the trace with what follows it.
    joint = encode_text(setting.codec, rest + pushed)
    forced = encode_text(setting.codec, pushed) if joint is None else joint
    return (
        None
        if forced is None
        else Change({"forced": forced}, kept=tuple(failure.written.tokens[:kept]))
    )


@register("prefix_restart")
def prefix_restart(setting: Setting) -> Change:
    """Keep whole steps of a failed trace, up to its junction or to a share of its reasoning, and go on."""
    written, share = setting.failure.written, setting.config.intervention.restart_share
    limit = (
        share * len(written.reasoning)
        if share
        else written.length(junction(setting.failure.trace))
    )
    return _behind(
        setting, setting.failure, max(end for end in written.ends if end <= limit)
    )


@register("wait", words=lambda form: (form.again,))
def wait(setting: Setting) -> Change:
    """Budget forcing (arXiv 2501.19393): the answer of a failed trace is removed, and it is made to go on.

    One that ran to its limit goes on behind its last whole step; one without a step is sampled anew.
    """
    trace, form = setting.failure.written, setting.format
    reasoning = trace.reasoning.removesuffix(form.claim)
    length = len(reasoning) if trace.concluded else trace.ends[-1]
    return _behind(setting, setting.failure, length, form.again) if length else Change()


@register("repair", outside=True)
def repair(setting: Setting) -> Change:
    """Cut a failed trace at its first false step, write the true result, and go on.

    Attempts take turns through the traces that have a false step; a problem without one is sampled anew. A
    step whose true result the tokenizer cannot write (in Countdown, what is negative) goes as a whole.
    """
    false = [failure for failure in setting.failures if failure.false_step]
    if not false:
        return Change()
    failure = false[setting.attempt % len(false)]
    step, result = failure.false_step, format_number(failure.false_step.value)
    repaired = result and _behind(setting, failure, step.equals, step.gap + result)
    before = failure.written.text[: step.start].rstrip()
    return repaired or _behind(setting, failure, len(before))


@register("fork_restart")
def fork_restart(setting: Setting) -> Change:
    """Go back to the largest fork of a failed trace, where its entropy is largest, and draw another token there."""
    failure = setting.failure
    entropy = np.where(failure.trace.sampled, failure.trace.scores["entropy"], -np.inf)
    at = int(np.argmax(entropy))
    tokens = failure.written.tokens
    return Change({"avoid": (tokens[at],)}, kept=tuple(tokens[:at]))


def _at_offset(offset: int):
    """`sparse_steer`'s one token of steering at an offset from where the detector fires on a failed trace."""

    def fill(setting: Setting) -> Change:
        known = zip(setting.failures, setting.calibration.fires)
        fired = [(failure, at) for failure, at in known if at >= 0]
        if not fired:
            return Change()
        failure, at = fired[setting.attempt % len(fired)]
        tokens = failure.written.tokens
        kept = tokens[: min(max(at + offset, 0), len(tokens) - 1)]
        return Change(
            {**steer(setting, steering.CHOSEN), "fire_position": 0}, kept=tuple(kept)
        )

    fill.__doc__ = (
        "Replay a failed trace on which the detector fires up to "
        f"{f'{abs(offset)} tokens ' + ('before' if offset < 0 else 'behind') if offset else 'the token of'} "
        "the fire, and steer there; sampled anew where it fires on none."
    )
    return fill


# A new attempt cannot act before its own fire: only one that goes along a recorded trace knows where that is. So
# all five replay one, and differ by the offset alone. What lies outside of the trace is moved to its ends.
OFFSETS = {
    "steer_before_10": -10,
    "steer_before_5": -5,
    "steer_at_fire": 0,
    "steer_after_5": 5,
    "steer_after_10": 10,
}
for _name in OFFSETS:
    register(_name, needs_ancestor=True)(_at_offset(OFFSETS[_name]))
