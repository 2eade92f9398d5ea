"""Junction of a trace, and a detector's calibration on failures (arXiv 2606.05145).

The junction is the token at which a failed rollout departs most from the ancestor. The
calibration of a problem lets an online detector find such tokens in new attempts.
T is the number of tokens of a rollout.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from fr.config import DiagnosisConfig
from fr.errors import UserError

_SHUFFLED = 1000  # traces in random order that a Page-Hinkley threshold is read from
_BLOCK = 1 << 20  # tokens of them that are in memory at one time

# Statistics of one rollout's tokens, by field of TokenStats and LineageStats.
Scores = Mapping[str, Float[np.ndarray, "T"]]


@dataclasses.dataclass(frozen=True)
class Trace:
    """One failed rollout with the statistics of its tokens."""

    scores: Scores  # [T] each, in nats unless docs/signals.md gives another unit
    sampled: Bool[np.ndarray, "T"]  # False: the token was forced upon the model

    @property
    def has_ancestor(self) -> bool:
        """True if the rollout was scored under an ancestor too."""
        return "demotion" in self.scores

    def departure(self) -> Float[np.ndarray, "T"]:
        """J_t in nats, or V_t without an ancestor; -inf at forced tokens."""
        return np.where(
            self.sampled,
            self.scores["demotion" if self.has_ancestor else "logit_var"],
            -np.inf,
        )


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Settings of an online detector for one problem, from its failures alone."""

    threshold: float  # the detector fires above it, in units of its curve
    warmup: int  # tokens at the start of an attempt at which it does not fire
    cov_mean: float  # of g_cov over the failures' drawn tokens; 0 without an ancestor
    cov_sd: float  # of g_cov over the same tokens
    lengths: tuple[int, ...]  # of the failures, in tokens
    # Token at which the detector would have fired on each failure; -1: at none.
    fires: tuple[int, ...]


# For an attempt without earlier failures: the detector never fires.
NO_FAILURES = Calibration(float("inf"), 0, 0.0, 0.0, (), ())


def junction(trace: Trace) -> int:
    """argmax_t J_t (V_t without an ancestor), the first of equals.

    Args:
        trace: A scored failure.

    Returns:
        Index of a drawn token, in [0, T).
    """
    return int(np.argmax(trace.departure()))


def tokens_of(setting: float, lengths: Sequence[int]) -> int:
    """Number of tokens that a setting stands for.

    Args:
        setting: Tokens if at least 1; below 1 a share of the median length, for chains
            much shorter than the ones of the source.
        lengths: Lengths of the problem's failures, in tokens.

    Returns:
        Tokens, rounded.

    Raises:
        UserError: The setting is a share, and there are no failures.
    """
    if setting < 1 and not len(lengths):
        raise UserError(
            f"a length of {setting} is a share of the failures' median length, and "
            "there are no failures here; give it in tokens"
        )
    return int(round(setting if setting >= 1 else setting * float(np.median(lengths))))


def detector_scores(
    trace: Trace, score: str, mean: float, sd: float
) -> Float[np.ndarray, "T"]:
    """The detector's score of each token: J, max(Z_path, Z_cov), or V.

    Args:
        trace: A scored failure.
        score: `diagnosis.score`: "demotion" for J, else max(Z_path, Z_cov). A trace
            without an ancestor has V.
        mean: Mean of g_cov over the problem's failures.
        sd: Standard deviation of g_cov over the problem's failures; 0: Z_cov is 0.

    Returns:
        Scores, [T]; 0 at forced tokens.
    """
    return np.where(trace.sampled, _scores(trace.scores, score, mean, sd), 0.0)


def _scores(s: Scores, score: str, mean: float, sd: float) -> Float[np.ndarray, "T"]:
    if "demotion" not in s:
        return s["logit_var"]
    if score == "demotion":
        return s["demotion"]
    z_cov = (
        np.maximum((s["g_cov"] - mean) / sd, 0) if sd > 0 else np.zeros_like(s["g_cov"])
    )
    return np.maximum(s["z_path"], z_cov)


def windowed(scores: Float[np.ndarray, "T"], width: int) -> Float[np.ndarray, "T"]:
    """W_t = sum of the last `width` scores, as the ring of the decode loop holds it.

    Args:
        scores: Score of each token, [T].
        width: In tokens; at the start of a row there are fewer.

    Returns:
        W_t, [T].
    """
    total = np.cumsum(scores, dtype=np.float64)
    return total - np.concatenate([np.zeros(min(width, len(total))), total[:-width]])


def page_hinkley(
    scores: Float[np.ndarray, "*rows T"], drift: float
) -> Float[np.ndarray, "*rows T"]:
    """PH_t = max(0, PH_{t-1} + x_t - mean(x_1..x_t) - drift), one-sided for a rise.

    It is the sum of what exceeds the mean and the drift, minus its least value so far.

    Args:
        scores: x_t, [..., T].
        drift: Rise per token that is let pass, in units of the score.

    Returns:
        PH_t, [..., T].
    """
    scores = np.asarray(scores, np.float64)
    mean = np.cumsum(scores, axis=-1) / np.arange(1, scores.shape[-1] + 1)
    total = np.cumsum(scores - mean - drift, axis=-1)
    return total - np.minimum(np.minimum.accumulate(total, axis=-1), 0)


def detector_curve(
    trace: Trace, config: DiagnosisConfig, mean: float, sd: float
) -> Float[np.ndarray, "T"]:
    """The number that the loop compares with the threshold at each token.

    Args:
        trace: A scored failure.
        config: Detector, score, width and drift.
        mean: Mean of g_cov over the problem's failures.
        sd: Standard deviation of g_cov over the problem's failures.

    Returns:
        `windowed` or `page_hinkley` of the scores, [T]; a forced token adds nothing.
    """
    scores = detector_scores(trace, config.score, mean, sd)
    if config.detector == "window":
        return windowed(scores, config.width)
    curve = np.zeros(len(scores))
    curve[trace.sampled] = page_hinkley(scores[trace.sampled], config.drift)
    return curve


def fire_of(
    curve: Float[np.ndarray, "T"],
    sampled: Bool[np.ndarray, "T"],
    warmup: int,
    threshold: float,
) -> int:
    """First drawn token after the warm-up whose value exceeds the threshold.

    Args:
        curve: The detector's curve, [T].
        sampled: False at forced tokens, [T].
        warmup: In tokens.
        threshold: In units of the curve.

    Returns:
        Index of the token; -1 if there is none.
    """
    above = np.flatnonzero(
        (curve > threshold) & sampled & (np.arange(len(curve)) >= warmup)
    )
    return int(above[0]) if len(above) else -1


def calibrate(traces: Sequence[Trace], config: DiagnosisConfig) -> Calibration:
    """Calibrate the detector of one problem on its failures.

    window: the threshold is a quantile of the curve, pooled over the failures' drawn
    tokens. page_hinkley: the least threshold that at most `false_alarms` of traces
    without a change exceed anywhere [ours].

    Args:
        traces: The problem's scored failures.
        config: Settings of the detector.

    Returns:
        Threshold, warm-up and background.

    Raises:
        ValueError: There is no failure.
    """
    if not traces:
        raise ValueError("a problem without failed rollouts has no calibration")
    lengths = tuple(len(t.sampled) for t in traces)
    mean = sd = 0.0
    if traces[0].has_ancestor:
        background = np.concatenate([t.scores["g_cov"][t.sampled] for t in traces])
        mean, sd = float(background.mean()), float(background.std())
    warmup = tokens_of(config.warmup, lengths) if config.warmup else 0
    curves = [detector_curve(t, config, mean, sd) for t in traces]
    if config.detector == "window":
        quantile = (
            config.quantile
            if traces[0].has_ancestor
            else config.quantile_without_ancestor
        )
        drawn = np.concatenate([c[t.sampled] for c, t in zip(curves, traces)])
        threshold = float(np.quantile(drawn, quantile))
    else:
        scores = [detector_scores(t, config.score, mean, sd)[t.sampled] for t in traces]
        threshold = _alarm_threshold(scores, config, warmup)
    fires = tuple(
        fire_of(c, t.sampled, warmup, threshold) for c, t in zip(curves, traces)
    )
    return Calibration(threshold, warmup, mean, sd, lengths, fires)


def _alarm_threshold(
    scores: Sequence[Float[np.ndarray, "_"]], config: DiagnosisConfig, warmup: int
) -> float:
    """Quantile of the largest PH_t of the failures with their scores in random order.

    A shuffled failure has the same scores and no place at which they rise. The seed is
    fixed, so that the same failures give the same threshold.
    """
    rng, each = np.random.default_rng(0), -(-_SHUFFLED // len(scores))
    largest = []
    for row in scores:
        step = max(1, _BLOCK // max(len(row), 1))
        for count in np.diff([*range(0, each, step), each]):
            shuffled = rng.permuted(np.broadcast_to(row, (count, len(row))), axis=1)
            curves = page_hinkley(shuffled, config.drift)[:, warmup:]
            largest.append(curves.max(axis=1, initial=0.0))
    return float(
        np.quantile(np.concatenate(largest), 1 - config.false_alarms, method="higher")
    )
