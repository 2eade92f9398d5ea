"""Where a trace departs: its junction, and a detector's calibration on a problem's failures (arXiv 2606.05145)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from fr.config import DiagnosisConfig

_SHUFFLED, _BLOCK = (
    1000,
    1 << 20,
)  # traces in random order behind a threshold; their tokens at one time

Scores = Mapping[
    str, Float[np.ndarray, "T"]
]  # per-token statistics of one rollout, by field of TokenStats and LineageStats


@dataclasses.dataclass(frozen=True)
class Trace:
    """One failed rollout, scored: statistics and which of its tokens were sampled (forced ones say nothing of S)."""

    scores: Scores
    sampled: Bool[np.ndarray, "T"]

    @property
    def has_ancestor(self) -> bool:
        """Whether it was scored under an ancestor too."""
        return "demotion" in self.scores

    def signal(self) -> Float[np.ndarray, "T"]:
        """What the junction maximises: J, or V where there is no ancestor; -inf at forced tokens."""
        return np.where(
            self.sampled,
            self.scores["demotion" if self.has_ancestor else "logit_var"],
            -np.inf,
        )


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What an online detector needs to know of one problem, from its failed rollouts alone."""

    threshold: float  # the detector fires above it
    warmup: int  # tokens
    cov_mean: float  # background of g_cov over the failures' sampled tokens; 0 without an ancestor
    cov_sd: float
    lengths: tuple[int, ...]  # of the failures, in tokens
    fires: tuple[
        int, ...
    ]  # where the detector would have fired on each of them; -1: nowhere


def junction(trace: Trace) -> int:
    """Index of the largest signal; the first one wins."""
    return int(np.argmax(trace.signal()))


def tokens_of(setting: float, lengths: Sequence[int]) -> int:
    """A constant in tokens; below 1 it is a share of the median length, for chains much shorter than the source's."""
    return int(round(setting if setting >= 1 else setting * float(np.median(lengths))))


def detector_scores(
    trace: Trace, score: str, mean: float, sd: float
) -> Float[np.ndarray, "T"]:
    """The detector's score of each token: J, max(Z_path, Z_cov), or V without an ancestor; 0 where forced."""
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
    """Sum over the last `width` tokens, fewer at the start: what the loop's ring holds."""
    total = np.cumsum(scores, dtype=np.float64)
    return total - np.concatenate([np.zeros(min(width, len(total))), total[:-width]])


def page_hinkley(
    scores: Float[np.ndarray, "... T"], drift: float
) -> Float[np.ndarray, "... T"]:
    """PH_t = max(0, PH_{t-1} + x_t − mean(x_1..x_t) − drift): how far scores have risen over their own mean.

    One-sided, for a rise, in the units of the score; the sum of what exceeds the mean, less its least value so far.
    """
    scores = np.asarray(scores, np.float64)
    mean = np.cumsum(scores, axis=-1) / np.arange(1, scores.shape[-1] + 1)
    total = np.cumsum(scores - mean - drift, axis=-1)
    return total - np.minimum(np.minimum.accumulate(total, axis=-1), 0)


def detector_curve(
    trace: Trace, config: DiagnosisConfig, mean: float, sd: float
) -> Float[np.ndarray, "T"]:
    """What is held against the threshold at each token, as in the loop; a forced token adds nothing."""
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
    """The first sampled token behind the warm-up whose value exceeds the threshold; -1: there is none."""
    above = np.flatnonzero(
        (curve > threshold) & sampled & (np.arange(len(curve)) >= warmup)
    )
    return int(above[0]) if len(above) else -1


def calibrate(traces: Sequence[Trace], config: DiagnosisConfig) -> Calibration:
    """Threshold, warm-up and background of one problem; raises ValueError without a failed rollout.

    window: the threshold is a quantile of the windowed score, pooled over the failures. page_hinkley: see
    `_alarm_threshold`.
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
        threshold = float(
            np.quantile(
                np.concatenate([c[t.sampled] for c, t in zip(curves, traces)]), quantile
            )
        )
    else:
        drawn = [detector_scores(t, config.score, mean, sd)[t.sampled] for t in traces]
        threshold = _alarm_threshold(drawn, config, warmup)
    fires = tuple(
        fire_of(c, t.sampled, warmup, threshold) for c, t in zip(curves, traces)
    )
    return Calibration(threshold, warmup, mean, sd, lengths, fires)


def _alarm_threshold(
    scores: Sequence[Float[np.ndarray, "T"]], config: DiagnosisConfig, warmup: int
) -> float:
    """The least threshold that at most `false_alarms` of the traces without a change exceed anywhere [ours].

    Those are the problem's failures with their scores in random order, which have the same scores and no place
    at which they rise. The order is drawn from a fixed seed: the same failures give the same threshold.
    """
    rng, each = np.random.default_rng(0), -(-_SHUFFLED // len(scores))
    largest = []
    for row in scores:
        for count in np.diff(
            [*range(0, each, max(1, _BLOCK // max(len(row), 1))), each]
        ):
            shuffled = rng.permuted(np.broadcast_to(row, (count, len(row))), axis=1)
            largest.append(
                page_hinkley(shuffled, config.drift)[:, warmup:].max(
                    axis=1, initial=0.0
                )
            )
    return float(
        np.quantile(np.concatenate(largest), 1 - config.false_alarms, method="higher")
    )
