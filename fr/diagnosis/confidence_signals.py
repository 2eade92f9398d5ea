"""Signals of confidence: token statistics of the loop, and probes of the own answer.

Probes (arXiv 2605.24396) are read where `sampling.probe_cuts` asked for them. They cost
forward tokens, which the diagnosis of the rollout is charged. A rollout without an
answer of its own has no probe.
"""

import numpy as np
from jaxtyping import Bool, Float

from fr.config import Config
from fr.diagnosis.curve_signals import end, level, place_of_largest, slope
from fr.diagnosis.features import bottom_confidence, group_confidence
from fr.diagnosis.signals import (
    Failures,
    curve,
    mean,
    register_mean_signal,
    register_signal,
)
from fr.stats.calibration import premature
from fr.store import Attempt


# -------------------------------------------------------------------- DeepConf
def _windows(attempt: Attempt, config: Config) -> Float[np.ndarray, "W"] | None:
    """C_g of windows of `rewards.window` tokens; None without a token or statistic."""
    values = curve(attempt, "top20_confidence")
    if values is None or not len(values):
        return None
    return group_confidence(values, config.rewards.window)


@register_mean_signal("deepconf_mean", "deepconf")
def deepconf_mean(attempt: Attempt, config: Config) -> float:
    """mean_t C_t, C_t = -mean of the 20 largest log-probs, in nats (2508.15260)."""
    return level(curve(attempt, "top20_confidence"))


@register_mean_signal("deepconf_lowest", "deepconf")
def deepconf_lowest(attempt: Attempt, config: Config) -> float:
    """min_g C_g, C_g = mean C_t of `rewards.window` tokens, in nats (2508.15260)."""
    windows = _windows(attempt, config)
    return np.nan if windows is None else float(windows.min())


@register_mean_signal("deepconf_bottom", "deepconf")
def deepconf_bottom(attempt: Attempt, config: Config) -> float:
    """Mean C_g of the 10 % of windows with the lowest C_g, in nats (2508.15260)."""
    windows = _windows(attempt, config)
    return np.nan if windows is None else bottom_confidence(windows)


@register_mean_signal("deepconf_tail", "deepconf")
def deepconf_tail(attempt: Attempt, config: Config) -> float:
    """C_g of the last window, in nats (arXiv 2508.15260)."""
    windows = _windows(attempt, config)
    return np.nan if windows is None else float(windows[-1])


# ------------------------------------------------------ statistics of the token
@register_mean_signal("self_certainty_mean", "self_certainty")
def self_certainty_mean(attempt: Attempt, config: Config) -> float:
    """mean_t [KL(uniform || p_t) + log V], in nats (arXiv 2505.19590)."""
    return level(curve(attempt, "self_certainty"))


@register_mean_signal("self_certainty_end", "self_certainty")
def self_certainty_end(attempt: Attempt, config: Config) -> float:
    """Mean self-certainty of the last tenth of the trace, in nats (2505.19590)."""
    return end(curve(attempt, "self_certainty"))


@register_mean_signal("varentropy_mean", "varentropy")
def varentropy_mean(attempt: Attempt, config: Config) -> float:
    """mean_t Var_p(-log p), in nats^2: a few likely tokens among many unlikely."""
    return level(curve(attempt, "varentropy"))


@register_mean_signal("varentropy_end", "varentropy")
def varentropy_end(attempt: Attempt, config: Config) -> float:
    """Mean Var_p(-log p) of the last tenth of the trace, in nats^2."""
    return end(curve(attempt, "varentropy"))


@register_mean_signal("logp_mean", "logp")
def logp_mean(attempt: Attempt, config: Config) -> float:
    """mean_t log p(x_t), in nats per token, temperature 1: minus log perplexity."""
    return level(curve(attempt, "logp"))


@register_mean_signal("logp_slope", "logp")
def logp_slope(attempt: Attempt, config: Config) -> float:
    """Change of log p(x_t) over the trace along a straight line, in nats."""
    return slope(curve(attempt, "logp"))


@register_mean_signal("logp_end", "logp")
def logp_end(attempt: Attempt, config: Config) -> float:
    """Mean log p(x_t) of the last tenth of the trace, in nats."""
    return end(curve(attempt, "logp"))


# ------------------------------------------------------------------ forking tokens
@register_mean_signal("fork_entropy", "fork")
def fork_entropy(attempt: Attempt, config: Config) -> float:
    """max_t H_t, in nats: the most open choice of the trace (arXiv 2506.01939)."""
    values = curve(attempt, "entropy")
    return np.nan if values is None or not len(values) else float(values.max())


@register_mean_signal("fork_at", "fork")
def fork_at(attempt: Attempt, config: Config) -> float:
    """argmax_t H_t / (T - 1): 0 at the first token, 1 at the last (2506.01939)."""
    return place_of_largest(curve(attempt, "entropy"))


@register_mean_signal("fork_margin", "fork")
def fork_margin(attempt: Attempt, config: Config) -> float:
    """min_t m_t, m_t = p of the most likely token minus p of the second."""
    values = curve(attempt, "margin")
    return np.nan if values is None or not len(values) else float(values.min())


@register_mean_signal("fork_margin_at", "fork")
def fork_margin_at(attempt: Attempt, config: Config) -> float:
    """argmin_t m_t / (T - 1): 0 at the first token, 1 at the last."""
    values = curve(attempt, "margin")
    return place_of_largest(None if values is None else -values)


# --------------------------------------- probability of the own answer at the cuts
def _at_cut(attempt: Attempt, cut: int) -> float:
    known = attempt.confidence.get("own_probability")
    return np.nan if known is None else float(known[cut])


def _trends(
    failures: Failures,
) -> tuple[Float[np.ndarray, "N"], Bool[np.ndarray, "N"]]:
    """Rank correlation with the cut, and flatness, of the probed rollouts."""
    known = [a.confidence.get("own_probability") for a in failures.attempts]
    known = [values for values in known if values is not None]
    return premature(np.array(known)) if known else (np.zeros(0), np.zeros(0, bool))


@register_mean_signal("confidence_first", "confidence")
def confidence_first(attempt: Attempt, config: Config) -> float:
    """Probability of the own answer before any reasoning (arXiv 2605.24396)."""
    return _at_cut(attempt, 0)


@register_mean_signal("confidence_last", "confidence")
def confidence_last(attempt: Attempt, config: Config) -> float:
    """Probability of the own answer after all of the reasoning (2605.24396)."""
    return _at_cut(attempt, -1)


@register_signal("confidence_rho", "confidence")
def confidence_rho(failures: Failures, config: Config) -> float:
    """Mean Spearman rho of confidence and cut, over rollouts that are not flat."""
    return mean(_trends(failures)[0].tolist())


@register_signal("premature_share", "confidence")
def premature_share(failures: Failures, config: Config) -> float:
    """Share of rollouts that are not flat and have rho < `evaluation.premature`."""
    rho, flat = _trends(failures)
    return mean((~flat & (rho < config.evaluation.premature)).tolist())


@register_signal("flat_share", "confidence")
def flat_share(failures: Failures, config: Config) -> float:
    """Share of rollouts whose confidence is the same at every cut."""
    return mean(_trends(failures)[1].tolist())


@register_signal("probe_correct", "states")
def probe_correct(failures: Failures, config: Config) -> float:
    """Mean of sigma(w h + b), h a failure's mean state after the last layer.

    A probability. w and b are a logistic regression's on graded rollouts of other
    problems (`fr.diagnosis.linear_probe`); NaN unless `diagnosis.states` is set.
    """
    return mean(failures.probed or ())
