"""Localisers: published ways to say where in a trace it failed, one score per token.

A localiser is one function that is registered under its name:

    register_localiser(name)   score(attempt, written, config) -> [T] or None

The token with the largest score is the place of the failure. None stands for a score
that the trace does not have (no ancestor, no probe, no checker).
"""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from fr.config import Config
from fr.registry import Registry
from fr.store import Attempt
from fr.tasks import countdown_visits
from fr.tasks.formats import CompletionText
from fr.tasks.steps import find_steps

Scores = Float[np.ndarray, "T"]
Score = Callable[[Attempt, CompletionText, Config], Scores | None]


@dataclasses.dataclass(frozen=True)
class Localiser:
    """A registered score of the tokens of a failed trace."""

    score: Score
    outside: bool  # truth from a checker of the task: a bound, not a method


LOCALISERS = Registry("localiser")


def register_localiser(name: str, outside: bool = False) -> Callable[[Score], Score]:
    """Register a score of the tokens of a failed trace.

    Args:
        name: Row of the table.
        outside: It uses truth that no model gave.

    Returns:
        A decorator that returns the function unchanged.
    """

    def add(score: Score) -> Score:
        LOCALISERS.register(name)(Localiser(score, outside))
        return score

    return add


def _statistic(attempt: Attempt, name: str) -> Scores | None:
    """A statistic of every token; forced tokens have the lowest."""
    if name not in attempt.stats:
        return None
    values = np.asarray(attempt.stats[name], np.float64)
    return np.where(attempt.forced, -np.inf, values)


@register_localiser("demotion")
def demotion(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """J_t, in nats: the departure from the ancestor (arXiv 2606.05145)."""
    return _statistic(attempt, "demotion")


@register_localiser("kl")
def kl(attempt: Attempt, written: CompletionText, config: Config) -> Scores | None:
    """KL(p_S || p_A) on the specialist's 100 most likely tokens, in nats."""
    return _statistic(attempt, "kl")


@register_localiser("logit_variance")
def logit_variance(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """V_t, the variance of the logits under p_S (arXiv 2606.05145)."""
    return _statistic(attempt, "logit_var")


@register_localiser("entropy")
def entropy(attempt: Attempt, written: CompletionText, config: Config) -> Scores | None:
    """H_t, in nats: the most open choice (forking tokens, arXiv 2506.01939)."""
    return _statistic(attempt, "entropy")


@register_localiser("varentropy")
def varentropy(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """Var_p(-log p), in nats^2."""
    return _statistic(attempt, "varentropy")


@register_localiser("surprisal")
def surprisal(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """-log p(x_t), in nats: the least likely token that was drawn."""
    found = _statistic(attempt, "logp")
    return None if found is None else np.where(attempt.forced, -np.inf, -found)


@register_localiser("deepconf")
def deepconf(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """-C_g of the window of `rewards.window` tokens that ends at t (2508.15260)."""
    found = attempt.stats.get("top20_confidence")
    if found is None:
        return None
    width = min(config.rewards.window, len(found))
    total = np.concatenate([[0.0], np.cumsum(np.asarray(found, np.float64))])
    means = (total[width:] - total[:-width]) / width
    return np.concatenate([np.full(width - 1, -np.inf), -means])


@register_localiser("commitment")
def commitment(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """Rise of the own answer's probability from one cut to the next.

    c_k - c_{k-1} at the first token after cut k - 1: where the trace commits itself to
    its answer (see arXiv 2605.24396). Needs rollouts with `sampling.probe_cuts`.
    """
    known = attempt.confidence.get("own_probability")
    if known is None:
        return None
    scores = np.full(len(attempt.tokens), -np.inf)
    cuts = np.asarray(attempt.confidence["cuts"])
    for cut, rise in zip(cuts[:-1], np.diff(known)):
        if cut < len(scores):
            scores[cut] = max(scores[cut], rise)
    return scores


@register_localiser("state_probe")
def state_probe(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """p_{t-1} - p_t: fall of P(right) by a linear probe of the mean state [ours].

    The mean is over the tokens so far. The probe has learned from whole rollouts of
    other problems (`fr.diagnosis.linear_probe`). Needs a run with `diagnosis.states`.
    """
    known = attempt.stats.get("state_probe")
    if known is None or not len(known):
        return None
    return np.concatenate([[-np.inf], -np.diff(np.asarray(known, np.float64))])


@register_localiser("first_false_step", outside=True)
def first_false_step(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """1 at the first token of the first step with a false result, else 0."""
    steps = find_steps(written.reasoning)
    if not steps:
        return None
    false = next((step.start for step in steps if not step.true), None)
    return _at(written, false)


@register_localiser("first_defect", outside=True)
def first_defect(
    attempt: Attempt, written: CompletionText, config: Config
) -> Scores | None:
    """1 where the replayed search of Countdown first does what loses it, else 0.

    A false result, a state one move from the target that is left without that move, or
    the end of a search without the target (`fr.tasks.countdown_visits.first_defect`).
    """
    if attempt.task != "countdown":
        return None
    meta = json.loads(attempt.meta)
    board = meta["numbers"], meta["target"]
    trace = countdown_visits.visit_trace(written.reasoning, *board, attempt.truncated)
    return _at(written, countdown_visits.first_defect(trace, meta["target"]))


def _at(written: CompletionText, place: int | None) -> Scores:
    """1 at the token that writes a character, 0 at the others and without one."""
    scores = np.zeros(len(written.tokens))
    if place is not None:
        scores[min(written.within(place)[0], len(scores) - 1)] = 1.0
    return scores
