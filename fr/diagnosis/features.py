"""The three problem-level features of failed rollouts (arXiv 2606.05145)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

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


def repeated(tokens: Sequence[int], n: int) -> float:
    """Share of the n-grams of a row that are not new, in [0, 1)."""
    total = len(tokens) - n + 1
    return (
        1 - len(set(zip(*(tokens[i:] for i in range(n))))) / total if total > 0 else 0.0
    )


def repeated_end(tokens: Sequence[int], n: int, share: float = 0.25) -> float:
    """Share of the n-grams that end in the last `share` of a row and that the row has had before, in [0, 1)."""
    grams = list(zip(*(tokens[i:] for i in range(n))))
    first = (
        len(tokens) - max(1, round(share * len(tokens))) - n + 1
    )  # those before it end before the last part
    seen, again = set(grams[: max(first, 0)]), 0
    for gram in grams[max(first, 0) :]:
        again += gram in seen
        seen.add(gram)
    return again / max(len(grams) - max(first, 0), 1)


def loop_length(tokens: Sequence[int], longest: int = 256) -> int:
    """Tokens of the end of a row that repeat a block of at most `longest` tokens, two whole blocks or more; else 0.

    The largest number k for which some period p has x_i = x_{i-p} for the last k - p tokens, with k >= 2p.
    """
    row, best = np.asarray(tokens)[::-1], 0
    for period in range(1, min(longest, len(row) // 2) + 1):
        differs = row[:-period] != row[period:]
        same = int(np.argmax(differs)) if differs.any() else len(differs)
        if same >= period:
            best = max(best, same + period)
    return best


def thoughts(text: str, switch_words: Sequence[str]) -> list[int]:
    """Words of each thought, the last one the one that is not left; several switch words in a row are one switch.

    A text that ends with a switch word has a last thought of 0 words.
    """
    switches = {word.casefold() for word in switch_words}
    ages = [0]
    for word in text.casefold().split():
        if word.strip(".,:;!?") not in switches:
            ages[-1] += 1
        elif ages[-1]:
            ages.append(0)
    return ages


def left_early(text: str, switch_words: Sequence[str], words: int) -> float:
    """Share of the thoughts of a text that a switch word ends before they have so many words."""
    ages = thoughts(text, switch_words)
    return sum(age < words for age in ages[:-1]) / max(sum(age > 0 for age in ages), 1)


_BOTTOM = 0.1  # share of windows, of the bottom-10 % form


def groups(confidence: Float[np.ndarray, "T"], window: int) -> Float[np.ndarray, "_"]:
    """Mean C of every full window of `window` tokens, in order; of all tokens where there are fewer; 0 of none."""
    row = np.asarray(confidence, np.float64)
    if not len(row):
        return np.zeros(1)
    return np.lib.stride_tricks.sliding_window_view(row, min(window, len(row))).mean(
        axis=1
    )


def bottom(windows: Float[np.ndarray, "_"]) -> float:
    """Mean of the least sure 10 % of windows, at least one."""
    return float(np.sort(windows)[: max(1, int(_BOTTOM * len(windows)))].mean())


def running(confidence: Float[np.ndarray, "T"], window: int) -> Float[np.ndarray, "T"]:
    """c_t = c_{t-1} + (C_t - c_{t-1}) / min(t, window): the mean that the loop keeps of a row [ours]."""
    means, mean = np.zeros(len(confidence)), 0.0
    for t, value in enumerate(np.asarray(confidence, np.float64).tolist()):
        mean += (value - mean) / min(t + 1, window)
        means[t] = mean
    return means
