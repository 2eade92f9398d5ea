"""Curves along a failed trace, over the tokens that were drawn: how sure the model is, how far from its ancestor."""

import numpy as np
from jaxtyping import Float

from fr.config import Config
from fr.diagnosis.signals.base import curve, mean_signal

_PARTS = 5  # of a trace, between which a fall is looked for
_END = 0.1  # share of a trace that is its end


def slope(values: Float[np.ndarray, "T"] | None) -> float:
    """Least-squares change of a curve from its first token to its last; NaN of fewer than three."""
    if values is None or len(values) < 3:
        return np.nan
    at = np.linspace(-0.5, 0.5, len(values))
    return float(at @ values / (at @ at))


def end(values: Float[np.ndarray, "T"] | None) -> float:
    """Mean over the last tenth of a curve, one token or more."""
    return level(
        values if values is None else values[-max(1, round(_END * len(values))) :]
    )


def drop(values: Float[np.ndarray, "T"] | None) -> float:
    """Largest fall of a curve's mean from one fifth to the next, below 0 where it only rises; NaN of < 5 tokens."""
    if values is None or len(values) < _PARTS:
        return np.nan
    means = np.array([part.mean() for part in np.array_split(values, _PARTS)])
    return float((means[:-1] - means[1:]).max())


def share_within(
    values: Float[np.ndarray, "T"] | None, first: float, last: float
) -> float:
    """Share of a curve's sum that lies between two shares of its length; NaN where the sum is 0."""
    if values is None or not values.sum() > 0:
        return np.nan
    at = (np.arange(len(values)) + 0.5) / len(values)
    return float(values[(at >= first) & (at < last)].sum() / values.sum())


def level(values: Float[np.ndarray, "T"] | None) -> float:
    """Mean of a curve; NaN of none."""
    return np.nan if values is None or not len(values) else float(values.mean())


@mean_signal("entropy_mean", "entropy")
def entropy_mean(attempt, config: Config) -> float:
    """Level of the entropy, in nats, temperature 1."""
    return level(curve(attempt, "entropy"))


@mean_signal("entropy_slope", "entropy")
def entropy_slope(attempt, config: Config) -> float:
    """Its change over the trace, along a straight line."""
    return slope(curve(attempt, "entropy"))


@mean_signal("entropy_end", "entropy")
def entropy_end(attempt, config: Config) -> float:
    """Its level in the last tenth of the trace."""
    return end(curve(attempt, "entropy"))


@mean_signal("entropy_drop", "entropy")
def entropy_drop(attempt, config: Config) -> float:
    """Its largest fall from one fifth of the trace to the next: where the model makes up its mind."""
    return drop(curve(attempt, "entropy"))


@mean_signal("margin_mean", "margin")
def margin_mean(attempt, config: Config) -> float:
    """Level of p of the likeliest token less p of the second."""
    return level(curve(attempt, "margin"))


@mean_signal("margin_slope", "margin")
def margin_slope(attempt, config: Config) -> float:
    """Its change over the trace, along a straight line."""
    return slope(curve(attempt, "margin"))


@mean_signal("margin_end", "margin")
def margin_end(attempt, config: Config) -> float:
    """Its level in the last tenth of the trace."""
    return end(curve(attempt, "margin"))


@mean_signal("junction_at", "demotion")
def junction_at(attempt, config: Config) -> float:
    """Where J is largest, as a share of the trace's length: 0 its first token, 1 its last."""
    values = curve(attempt, "demotion")
    return (
        np.nan
        if values is None or len(values) < 2
        else float(np.argmax(values) / (len(values) - 1))
    )


@mean_signal("demotion_mean", "demotion")
def demotion_mean(attempt, config: Config) -> float:
    """Level of J: how far the specialist goes from its ancestor (arXiv 2606.05145)."""
    return level(curve(attempt, "demotion"))


@mean_signal("demotion_early", "demotion")
def demotion_early(attempt, config: Config) -> float:
    """Share of J in the first third of the trace."""
    return share_within(curve(attempt, "demotion"), 0, 1 / 3)


@mean_signal("demotion_late", "demotion")
def demotion_late(attempt, config: Config) -> float:
    """Share of J in the last third of the trace."""
    return share_within(curve(attempt, "demotion"), 2 / 3, 1)


@mean_signal("kl_mean", "demotion")
def kl_mean(attempt, config: Config) -> float:
    """Level of KL(specialist ‖ ancestor), in nats, at the diagnosis temperature."""
    return level(curve(attempt, "kl"))
