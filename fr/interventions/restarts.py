"""An operator from a place of a failed trace: the trace's first tokens are kept."""

import dataclasses
from collections.abc import Callable

import numpy as np

from fr.errors import UserError
from fr.interventions.intervention import Intervention, Operator, OperatorContext
from fr.sampling.sources import PauseAction
from fr.tasks.formats import CompletionText


def cut_at(written: CompletionText, share: float) -> int:
    """Tokens of a trace up to the end of a step.

    Args:
        written: The trace.
        share: Share of the characters of its reasoning.

    Returns:
        Tokens that write the whole steps within that share; 0 if there is none.
    """
    return written.count(whole_steps(written, share * len(written.reasoning)))


def whole_steps(written: CompletionText, limit: float) -> int:
    """Characters of a trace's whole steps within its first ones.

    Args:
        written: The trace.
        limit: Number of characters.

    Returns:
        The largest end of a step up to there.
    """
    return max(end for end in written.ends if end <= limit)


def restart(operator: Operator, context: OperatorContext, cut: int) -> Intervention:
    """Let an operator go on from a place of the context's failure.

    Warm-up, fire position and budget count from the beginning of the whole trace, as in
    an attempt that drew the kept tokens itself.
    Running statistics of a detector begin at the cut.

    Args:
        operator: The operator.
        context: The problem, its failures and the attempt's number.
        cut: First tokens of `context.failure` that are kept; 0: a fresh attempt.

    Returns:
        The intervention.

    Raises:
        UserError: The operator begins with a prompt or kept tokens of its own.
    """
    failure = context.failure
    change = operator.change(dataclasses.replace(context, failures=(failure,), cut=cut))
    if change.prompt is not None or change.kept:
        raise UserError(
            f"operator {operator.name!r} begins with its own prompt or kept tokens, so "
            "it cannot go on from a cut; leave it out"
        )
    if not cut:
        return change
    tokens, params = tuple(failure.written.tokens), dict(change.params)
    limit = params.get("budget", context.config.sampling.max_new_tokens)
    params["budget"] = max(1, limit - cut)
    if "warmup" in params:
        params["warmup"] = max(0, params["warmup"] - cut)
    if (fire := params.get("fire_position", -1)) >= 0:
        # A fire before the cut is past: the row never fires.
        params |= (
            {"fire_position": fire - cut}
            if fire >= cut
            else {"fire_position": -1, "threshold": np.inf}
        )
    on_pause = change.on_pause and _of_whole(change.on_pause, tokens[:cut])
    return Intervention(params, None, tokens[:cut], tokens[cut:], on_pause)


def _of_whole(
    on_pause: Callable[[np.ndarray], PauseAction], kept: tuple[int, ...]
) -> Callable[[np.ndarray], PauseAction]:
    """A pause function that reads the kept tokens too, and cannot cut them."""

    def act(tokens: np.ndarray) -> PauseAction:
        action = on_pause(np.concatenate([np.array(kept, np.int32), tokens]))
        if action.cut is None:
            return action
        if action.cut < len(kept):
            return PauseAction()
        return dataclasses.replace(action, cut=action.cut - len(kept))

    return act
