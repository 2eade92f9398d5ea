"""How sure the model was of its own tokens, in statistics of the loop: no probe, no ancestor, no gold."""

import numpy as np

from fr.config import Config
from fr.diagnosis.features import bottom, groups
from fr.diagnosis.signals.base import curve, mean_signal
from fr.diagnosis.signals.curves import end, level, slope


def _groups(attempt, config: Config) -> np.ndarray | None:
    """DeepConf windows of `rewards.window` tokens; None without the statistic or a token."""
    values = curve(attempt, "top20_confidence")
    return (
        groups(values, config.rewards.window)
        if values is not None and len(values)
        else None
    )


@mean_signal("deepconf_mean", "deepconf")
def deepconf_mean(attempt, config: Config) -> float:
    """mean_t C_t, C_t = −mean of the 20 largest log-probs, in nats (arXiv 2508.15260)."""
    return level(curve(attempt, "top20_confidence"))


@mean_signal("deepconf_lowest", "deepconf")
def deepconf_lowest(attempt, config: Config) -> float:
    """min_g C_g, C_g the mean C of `rewards.window` tokens, in nats (arXiv 2508.15260)."""
    windows = _groups(attempt, config)
    return np.nan if windows is None else float(windows.min())


@mean_signal("deepconf_bottom", "deepconf")
def deepconf_bottom(attempt, config: Config) -> float:
    """Mean C_g of the least sure 10 % of windows, in nats (arXiv 2508.15260)."""
    windows = _groups(attempt, config)
    return np.nan if windows is None else bottom(windows)


@mean_signal("deepconf_tail", "deepconf")
def deepconf_tail(attempt, config: Config) -> float:
    """C_g of the last window, in nats (arXiv 2508.15260)."""
    windows = _groups(attempt, config)
    return np.nan if windows is None else float(windows[-1])


@mean_signal("self_certainty_mean", "self_certainty")
def self_certainty_mean(attempt, config: Config) -> float:
    """mean_t [KL(uniform ‖ p_t) + log V], in nats (arXiv 2505.19590)."""
    return level(curve(attempt, "self_certainty"))


@mean_signal("self_certainty_end", "self_certainty")
def self_certainty_end(attempt, config: Config) -> float:
    """Its level in the last tenth of the trace."""
    return end(curve(attempt, "self_certainty"))


@mean_signal("varentropy_mean", "varentropy")
def varentropy_mean(attempt, config: Config) -> float:
    """mean_t Var_p(−log p), in nats²: large where few likely tokens stand against many unlikely ones."""
    return level(curve(attempt, "varentropy"))


@mean_signal("varentropy_end", "varentropy")
def varentropy_end(attempt, config: Config) -> float:
    """Its level in the last tenth of the trace."""
    return end(curve(attempt, "varentropy"))


@mean_signal("logp_mean", "logp")
def logp_mean(attempt, config: Config) -> float:
    """mean_t log p(x_t), in nats a token, temperature 1: minus the log of the trace's perplexity."""
    return level(curve(attempt, "logp"))


@mean_signal("logp_slope", "logp")
def logp_slope(attempt, config: Config) -> float:
    """Its change over the trace, along a straight line."""
    return slope(curve(attempt, "logp"))


@mean_signal("logp_end", "logp")
def logp_end(attempt, config: Config) -> float:
    """Its level in the last tenth of the trace."""
    return end(curve(attempt, "logp"))


@mean_signal("fork_entropy", "fork")
def fork_entropy(attempt, config: Config) -> float:
    """max_t H_t, in nats: how open the most open place of the trace was (forking tokens, arXiv 2506.01939)."""
    values = curve(attempt, "entropy")
    return np.nan if values is None or not len(values) else float(values.max())


@mean_signal("fork_at", "fork")
def fork_at(attempt, config: Config) -> float:
    """argmax_t H_t as a share of the trace: 0 its first token, 1 its last."""
    return _place(curve(attempt, "entropy"))


@mean_signal("fork_margin", "fork")
def fork_margin(attempt, config: Config) -> float:
    """min_t (p of the likeliest token − p of the second): how near to a tie the trace came."""
    values = curve(attempt, "margin")
    return np.nan if values is None or not len(values) else float(values.min())


@mean_signal("fork_margin_at", "fork")
def fork_margin_at(attempt, config: Config) -> float:
    """argmin_t of that margin as a share of the trace."""
    values = curve(attempt, "margin")
    return _place(None if values is None else -values)


def _place(values: np.ndarray | None) -> float:
    """Where a curve is largest, the first of equals; NaN of fewer than two tokens."""
    return (
        np.nan
        if values is None or len(values) < 2
        else float(np.argmax(values) / (len(values) - 1))
    )
