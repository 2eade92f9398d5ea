"""Features of failed rollouts, of their texts and of questions.

`problem_features` gives the three features of a problem that the rule reads
(arXiv 2606.05145); signals and reward terms share the rest. T is a number of tokens.
"""

import re
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fr.config import DiagnosisConfig
from fr.diagnosis.junction import Trace, junction, tokens_of

_FLOOR = 1e-8
# J > 0 depends on rounding: these show how much of the spread remains above a
# tolerance.
SPREADS = {"spread_1e-4": 1e-4, "spread_1e-2": 1e-2}
_BUCKETS = 16  # of hashed words
QUESTION_COLUMNS = (
    "question_length",
    "question_words",
    "question_digits",
    *(f"question_bag_{i}" for i in range(_BUCKETS)),
)
_BOTTOM = 0.1  # share of windows that the bottom-10 % confidence averages


# -------------------------------------------------- the three features of a problem
def spread(trace: Trace, tolerance: float = 0.0) -> float:
    """Share of drawn tokens with J_t > tolerance.

    Args:
        trace: A failure that was scored under an ancestor.
        tolerance: In nats.

    Returns:
        The share, in [0, 1].
    """
    return float(np.mean(trace.scores["demotion"][trace.sampled] > tolerance))


def concentration(trace: Trace) -> float:
    """log10(max_t J_t / mean_t J_t), both floored at 1e-8; at most log10 T.

    Args:
        trace: A failure that was scored under an ancestor.

    Returns:
        The logarithm; 0 where J is the same at every token.
    """
    j = trace.scores["demotion"][trace.sampled].astype(np.float64)
    return float(np.log10(max(j.max(), _FLOOR) / max(j.mean(), _FLOOR)))


def junction_variance(trace: Trace, half_width: int) -> float:
    """Mean logit variance V of the drawn tokens around the junction.

    Args:
        trace: A scored failure.
        half_width: Tokens on each side of the junction.

    Returns:
        The mean, floored at 1e-8.
    """
    at = junction(trace)
    near = slice(max(0, at - half_width), at + half_width + 1)
    v = trace.scores["logit_var"][near][trace.sampled[near]].astype(np.float64)
    return max(float(v.mean()), _FLOOR)


def logit_dispersion(traces: Sequence[Trace], config: DiagnosisConfig) -> float:
    """The third feature of a problem, in one of two forms that must not be mixed.

    showcase: mean over rollouts of log10(mean of V over the junction window).
    released: log10(mean over rollouts of V at the junction), inferred from the
    released numbers.

    Args:
        traces: The problem's scored failures.
        config: `form` and `window` are read.

    Returns:
        log10 of a logit variance.
    """
    if config.form == "released":
        return float(np.log10(np.mean([junction_variance(t, 0) for t in traces])))
    half = tokens_of(config.window, [len(t.sampled) for t in traces])
    return float(np.mean([np.log10(junction_variance(t, half)) for t in traces]))


def problem_features(
    traces: Sequence[Trace], config: DiagnosisConfig
) -> dict[str, float]:
    """Compute the features of one problem, means over its failed rollouts.

    Args:
        traces: The problem's scored failures, at least one.
        config: Settings of the third feature.

    Returns:
        `spread`, `concentration` (NaN without an ancestor) and `logit_dispersion`. With
        an ancestor also `spread_1e-4` and `spread_1e-2`: the part of the spread that is
        above numerical noise.
    """
    features = {"spread": np.nan, "concentration": np.nan}
    if traces[0].has_ancestor:
        features["spread"] = float(np.mean([spread(t) for t in traces]))
        features["concentration"] = float(np.mean([concentration(t) for t in traces]))
    features["logit_dispersion"] = logit_dispersion(traces, config)
    for name, tolerance in SPREADS.items() if traces[0].has_ancestor else ():
        features[name] = float(np.mean([spread(t, tolerance) for t in traces]))
    return features


# ------------------------------------------------------------------- the question
def question_features(prompt: str | list[dict]) -> dict[str, float]:
    """Numbers of a prompt, for a baseline that reads no failure.

    Args:
        prompt: Text, or chat messages, whose contents are read.

    Returns:
        By QUESTION_COLUMNS: log(1 + characters), log(1 + words), share of characters
        that are digits, and per hashed bucket the share of the words that fall into it
        (feature hashing, arXiv 0902.2206).
    """
    text = (
        prompt
        if isinstance(prompt, str)
        else "\n".join(str(m.get("content", "")) for m in prompt)
    )
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    bucket = np.array([zlib.crc32(word.encode()) % _BUCKETS for word in words], int)
    shares = np.bincount(bucket, minlength=_BUCKETS) / max(len(words), 1)
    digits = sum(letter.isdigit() for letter in text) / max(len(text), 1)
    values = (np.log1p(len(text)), np.log1p(len(words)), digits, *shares)
    return dict(zip(QUESTION_COLUMNS, map(float, values)))


# --------------------------------------------------------------------- repetition
def repeated(tokens: Sequence[int], n: int) -> float:
    """1 - distinct n-grams / n-grams.

    Args:
        tokens: A row of token ids.
        n: Tokens per n-gram.

    Returns:
        The share of n-grams that occurred before, in [0, 1); 0 of fewer than n tokens.
    """
    total = len(tokens) - n + 1
    return (
        1 - len(set(zip(*(tokens[i:] for i in range(n))))) / total if total > 0 else 0.0
    )


def repeated_end(tokens: Sequence[int], n: int, share: float = 0.25) -> float:
    """Share of the n-grams that end in the last part of a row and occurred before.

    Args:
        tokens: A row of token ids.
        n: Tokens per n-gram.
        share: The last part, as a share of the row.

    Returns:
        The share of its n-grams, in [0, 1).
    """
    grams = list(zip(*(tokens[i:] for i in range(n))))
    # n-grams before `first` end before the last part.
    first = max(len(tokens) - max(1, round(share * len(tokens))) - n + 1, 0)
    seen, again = set(grams[:first]), 0
    for gram in grams[first:]:
        again += gram in seen
        seen.add(gram)
    return again / max(len(grams) - first, 1)


def loop_length(tokens: Sequence[int], longest: int = 256) -> int:
    """Length of the loop that a row ends in.

    max k such that some period p <= longest has x_i = x_{i-p} for the last k - p
    tokens, with k >= 2p: two whole blocks or more.

    Args:
        tokens: A row of token ids.
        longest: Largest period, in tokens.

    Returns:
        k, in tokens; 0 without a loop.
    """
    row, best = np.asarray(tokens)[::-1], 0
    for period in range(1, min(longest, len(row) // 2) + 1):
        differs = row[:-period] != row[period:]
        same = int(np.argmax(differs)) if differs.any() else len(differs)
        if same >= period:
            best = max(best, same + period)
    return best


# ------------------------------------------------------------------------ thoughts
def thoughts(text: str, switch_words: Sequence[str]) -> list[int]:
    """Split a text into thoughts at switch words and count their words.

    Args:
        text: A completion.
        switch_words: Words that end a thought; several in a row are one switch.

    Returns:
        Words per thought. The last thought is not left; it has 0 words where the text
        ends with a switch word.
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
    """Share of thoughts that a switch word ends early (after arXiv 2501.18585).

    Args:
        text: A completion.
        switch_words: Words that end a thought.
        words: A thought of fewer words is left early.

    Returns:
        Thoughts left early over thoughts, in [0, 1].
    """
    ages = thoughts(text, switch_words)
    return sum(age < words for age in ages[:-1]) / max(sum(age > 0 for age in ages), 1)


# ------------------------------------- DeepConf confidence of windows (2508.15260)
def group_confidence(
    confidence: Float[np.ndarray, "T"], window: int
) -> Float[np.ndarray, "_"]:
    """Group confidence C_g: the mean C_t of every full window, in order.

    Args:
        confidence: C_t, [T], in nats.
        window: Tokens per window; a row of fewer tokens is one window.

    Returns:
        C_g, [max(1, T - window + 1)]; one 0 where there is no token.
    """
    row = np.asarray(confidence, np.float64)
    if not len(row):
        return np.zeros(1)
    return np.lib.stride_tricks.sliding_window_view(row, min(window, len(row))).mean(
        axis=1
    )


def bottom_confidence(windows: Float[np.ndarray, "_"]) -> float:
    """Mean of the lowest 10 % of group confidences, at least one.

    Args:
        windows: C_g of a row's windows, in nats.

    Returns:
        The mean, in nats.
    """
    return float(np.sort(windows)[: max(1, int(_BOTTOM * len(windows)))].mean())


def running_confidence(
    confidence: Float[np.ndarray, "T"], window: int
) -> Float[np.ndarray, "T"]:
    """c_t = c_{t-1} + (C_t - c_{t-1}) / min(t, window): the mean that the loop keeps.

    Args:
        confidence: C_t, [T], in nats.
        window: Tokens of the average once a row has that many.

    Returns:
        c_t, [T], in nats.
    """
    means, mean = np.zeros(len(confidence)), 0.0
    for t, value in enumerate(np.asarray(confidence, np.float64).tolist()):
        mean += (value - mean) / min(t + 1, window)
        means[t] = mean
    return means
