"""Signals of counts and of curves along a failed trace, over tokens that were drawn.

Counts (how often and how long a problem fails) are nuisances. Curves are the entropy,
the margin of the two most likely tokens and the demotion J under the ancestor.
"""

import numpy as np
from jaxtyping import Float

from fr.config import Config
from fr.diagnosis.signals import (
    Failures,
    curve,
    mean,
    register_mean_signal,
    register_signal,
)
from fr.store import Attempt

_PARTS = 5  # parts of a trace between which the fall of a curve is measured
_END = 0.1  # share of a trace that counts as its end


# ------------------------------------------------------- numbers of one curve
def level(values: Float[np.ndarray, "T"] | None) -> float:
    """Mean of a curve.

    Args:
        values: The curve, [T], or None.

    Returns:
        The mean; NaN of no tokens or no curve.
    """
    return np.nan if values is None or not len(values) else float(values.mean())


def slope(values: Float[np.ndarray, "T"] | None) -> float:
    """Least-squares change of a curve from its first token to its last.

    Args:
        values: The curve, [T], or None.

    Returns:
        The change in the curve's unit; NaN of fewer than three tokens.
    """
    if values is None or len(values) < 3:
        return np.nan
    at = np.linspace(-0.5, 0.5, len(values))
    return float(at @ values / (at @ at))


def end(values: Float[np.ndarray, "T"] | None) -> float:
    """Mean over the last tenth of a curve, at least one token.

    Args:
        values: The curve, [T], or None.

    Returns:
        The mean; NaN of no tokens or no curve.
    """
    return level(
        values if values is None else values[-max(1, round(_END * len(values))) :]
    )


def place_of_largest(values: Float[np.ndarray, "T"] | None) -> float:
    """argmax_t / (T - 1): 0 at the first token, 1 at the last; the first of equals.

    Args:
        values: The curve, [T], or None.

    Returns:
        The place as a share of the trace; NaN of fewer than two tokens.
    """
    if values is None or len(values) < 2:
        return np.nan
    return float(np.argmax(values) / (len(values) - 1))


def _drop(values: Float[np.ndarray, "T"] | None) -> float:
    """Largest fall of the mean from one fifth of a curve to the next."""
    if values is None or len(values) < _PARTS:
        return np.nan
    means = np.array([part.mean() for part in np.array_split(values, _PARTS)])
    return float((means[:-1] - means[1:]).max())


def _share_within(
    values: Float[np.ndarray, "T"] | None, first: float, last: float
) -> float:
    """Share of a curve's sum between two shares of its length; NaN: the sum is 0."""
    if values is None or not values.sum() > 0:
        return np.nan
    at = (np.arange(len(values)) + 0.5) / len(values)
    return float(values[(at >= first) & (at < last)].sum() / values.sum())


# ------------------------------------------------------------------ nuisances
@register_mean_signal("mean_length", "length", "nuisance")
def mean_length(attempt: Attempt, config: Config) -> float:
    """T in tokens, the stop token included."""
    return len(attempt.tokens)


@register_mean_signal("truncated_share", "length", "nuisance")
def truncated_share(attempt: Attempt, config: Config) -> float:
    """Share of the failed rollouts that spent their token budget."""
    return attempt.truncated


@register_signal("failed_share", "failures", "nuisance")
def failed_share(failures: Failures, config: Config) -> float:
    """Failed rollouts over all rollouts of the problem."""
    return len(failures.attempts) / failures.rollouts


@register_signal("length_sd", "length", "nuisance")
def length_sd(failures: Failures, config: Config) -> float:
    """sqrt(mean (T - mean T)^2) over the failed rollouts, in tokens; NaN of one."""
    lengths = [len(attempt.tokens) for attempt in failures.attempts]
    if len(lengths) < 2:
        return np.nan
    centre = mean(lengths)
    return np.sqrt(mean([(length - centre) ** 2 for length in lengths]))


# -------------------------------------------------------- entropy and margin
@register_mean_signal("entropy_mean", "entropy")
def entropy_mean(attempt: Attempt, config: Config) -> float:
    """mean_t H_t, in nats, temperature 1."""
    return level(curve(attempt, "entropy"))


@register_mean_signal("entropy_slope", "entropy")
def entropy_slope(attempt: Attempt, config: Config) -> float:
    """Change of H_t over the trace along a straight line, in nats."""
    return slope(curve(attempt, "entropy"))


@register_mean_signal("entropy_end", "entropy")
def entropy_end(attempt: Attempt, config: Config) -> float:
    """Mean H_t of the last tenth of the trace, in nats."""
    return end(curve(attempt, "entropy"))


@register_mean_signal("entropy_drop", "entropy")
def entropy_drop(attempt: Attempt, config: Config) -> float:
    """Largest fall of mean H_t from one fifth of the trace to the next, in nats.

    It is below 0 where the entropy only rises, and NaN of fewer than five tokens.
    """
    return _drop(curve(attempt, "entropy"))


@register_mean_signal("margin_mean", "margin")
def margin_mean(attempt: Attempt, config: Config) -> float:
    """mean_t m_t, m_t = p of the most likely token minus p of the second."""
    return level(curve(attempt, "margin"))


@register_mean_signal("margin_slope", "margin")
def margin_slope(attempt: Attempt, config: Config) -> float:
    """Change of m_t over the trace along a straight line."""
    return slope(curve(attempt, "margin"))


@register_mean_signal("margin_end", "margin")
def margin_end(attempt: Attempt, config: Config) -> float:
    """Mean m_t of the last tenth of the trace."""
    return end(curve(attempt, "margin"))


# ------------------------------------- demotion under the ancestor (2606.05145)
@register_mean_signal("junction_at", "demotion")
def junction_at(attempt: Attempt, config: Config) -> float:
    """argmax_t J_t / (T - 1): 0 at the first token, 1 at the last (2606.05145)."""
    return place_of_largest(curve(attempt, "demotion"))


@register_mean_signal("demotion_mean", "demotion")
def demotion_mean(attempt: Attempt, config: Config) -> float:
    """mean_t J_t, in nats: distance of the model from its ancestor (2606.05145)."""
    return level(curve(attempt, "demotion"))


@register_mean_signal("demotion_early", "demotion")
def demotion_early(attempt: Attempt, config: Config) -> float:
    """Share of the sum of J_t in the first third of the trace."""
    return _share_within(curve(attempt, "demotion"), 0, 1 / 3)


@register_mean_signal("demotion_late", "demotion")
def demotion_late(attempt: Attempt, config: Config) -> float:
    """Share of the sum of J_t in the last third of the trace."""
    return _share_within(curve(attempt, "demotion"), 2 / 3, 1)


@register_mean_signal("kl_mean", "demotion")
def kl_mean(attempt: Attempt, config: Config) -> float:
    """mean_t KL(specialist || ancestor), in nats, at the diagnosis temperature."""
    return level(curve(attempt, "kl"))
