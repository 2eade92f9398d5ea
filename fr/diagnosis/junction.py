"""Where a trace departs: its junction, and a detector's calibration on a problem's failures (arXiv 2606.05145)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from fr.config import DiagnosisConfig

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
        return np.where(self.sampled, self.scores["demotion" if self.has_ancestor else "logit_var"], -np.inf)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What an online detector needs to know of one problem, from its failed rollouts alone."""

    threshold: float  # quantile of the windowed detector score, pooled over the failures
    warmup: int  # tokens
    cov_mean: float  # background of g_cov over the failures' sampled tokens; 0 without an ancestor
    cov_sd: float
    lengths: tuple[int, ...]  # of the failures, in tokens


def junction(trace: Trace) -> int:
    """Index of the largest signal; the first one wins."""
    return int(np.argmax(trace.signal()))


def tokens_of(setting: float, lengths: Sequence[int]) -> int:
    """A constant in tokens; below 1 it is a share of the median length, for chains much shorter than the source's."""
    return int(round(setting if setting >= 1 else setting * float(np.median(lengths))))


def detector_scores(trace: Trace, detector: str, mean: float, sd: float) -> Float[np.ndarray, "T"]:
    """The detector's score of each token: J, max(Z_path, Z_cov), or V without an ancestor; 0 where forced."""
    return np.where(trace.sampled, _scores(trace.scores, detector, mean, sd), 0.0)


def _scores(s: Scores, detector: str, mean: float, sd: float) -> Float[np.ndarray, "T"]:
    if "demotion" not in s:
        return s["logit_var"]
    if detector == "demotion":
        return s["demotion"]
    z_cov = np.maximum((s["g_cov"] - mean) / sd, 0) if sd > 0 else np.zeros_like(s["g_cov"])
    return np.maximum(s["z_path"], z_cov)


def windowed(scores: Float[np.ndarray, "T"], width: int) -> Float[np.ndarray, "T"]:
    """Sum over the last `width` tokens, fewer at the start: what the loop's ring holds."""
    total = np.cumsum(scores, dtype=np.float64)
    return total - np.concatenate([np.zeros(min(width, len(total))), total[:-width]])


def calibrate(traces: Sequence[Trace], config: DiagnosisConfig) -> Calibration:
    """Threshold, warm-up and background of one problem; raises ValueError without a failed rollout."""
    if not traces:
        raise ValueError("a problem without failed rollouts has no calibration")
    lengths = tuple(len(t.sampled) for t in traces)
    mean = sd = 0.0
    if traces[0].has_ancestor:
        background = np.concatenate([t.scores["g_cov"][t.sampled] for t in traces])
        mean, sd = float(background.mean()), float(background.std())
    pooled = np.concatenate(
        [windowed(detector_scores(t, config.detector, mean, sd), config.width)[t.sampled] for t in traces]
    )
    quantile = config.quantile if traces[0].has_ancestor else config.quantile_without_ancestor
    return Calibration(
        threshold=float(np.quantile(pooled, quantile)),
        warmup=tokens_of(config.warmup, lengths) if config.warmup else 0,
        cov_mean=mean,
        cov_sd=sd,
        lengths=lengths,
    )
