"""The three problem-level features of failed rollouts (arXiv 2606.05145)."""

from collections.abc import Sequence

import numpy as np

from fr.config import DiagnosisConfig
from fr.diagnosis.junction import Trace, junction, tokens_of

_FLOOR = 1e-8
# J > 0 is numerically fragile: beside the source's tolerance of 0, how much of the spread outlives these.
SPREADS = {"spread_1e-4": 1e-4, "spread_1e-2": 1e-2}


def spread(trace: Trace, tolerance: float = 0.0) -> float:
    """Share of sampled tokens with J above the tolerance."""
    return float(np.mean(trace.scores["demotion"][trace.sampled] > tolerance))


def concentration(trace: Trace) -> float:
    """log10 of the largest over the mean J, both floored at 1e-8; at most log10 of the length."""
    j = trace.scores["demotion"][trace.sampled].astype(np.float64)
    return float(np.log10(max(j.max(), _FLOOR) / max(j.mean(), _FLOOR)))


def junction_variance(trace: Trace, half_width: int) -> float:
    """Mean of V over the sampled tokens within `half_width` of the junction, floored at 1e-8."""
    at = junction(trace)
    near = slice(max(0, at - half_width), at + half_width + 1)
    v = trace.scores["logit_var"][near][trace.sampled[near]].astype(np.float64)
    return max(float(v.mean()), _FLOOR)


def logit_dispersion(traces: Sequence[Trace], config: DiagnosisConfig) -> float:
    """The third feature of a problem; a router may mix its two forms never.

    showcase: mean over rollouts of log10 of V's mean over the junction window. released: log10 of the mean over
    rollouts of V at the junction itself (inferred from the released numbers).
    """
    if config.form == "released":
        return float(np.log10(np.mean([junction_variance(t, 0) for t in traces])))
    half = tokens_of(config.window, [len(t.sampled) for t in traces])
    return float(np.mean([np.log10(junction_variance(t, half)) for t in traces]))


def problem_features(
    traces: Sequence[Trace], config: DiagnosisConfig
) -> dict[str, float]:
    """The features of one problem by name, means over its failed rollouts; NaN for those that need an ancestor.

    `spread_1e-4` and `spread_1e-2` show how much of the spread is numerical noise.
    """
    features = {"spread": np.nan, "concentration": np.nan}
    if traces[0].has_ancestor:
        features["spread"] = float(np.mean([spread(t) for t in traces]))
        features["concentration"] = float(np.mean([concentration(t) for t in traces]))
    features["logit_dispersion"] = logit_dispersion(traces, config)
    for name, tolerance in SPREADS.items() if traces[0].has_ancestor else ():
        features[name] = float(np.mean([spread(t, tolerance) for t in traces]))
    return features
