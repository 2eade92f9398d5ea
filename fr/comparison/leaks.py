"""Signs that a table's columns or routes know the attempts that they are judged on."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr, stdtr

from fr.profiles.profile import Profiles
from fr.stats.bootstrap import rounded

_LEVEL = 0.002  # of all columns and measures of a cell together, in each test
_FEWEST = 20  # problems of a test
_GROUPS = 10  # that a column of many values is cut into, at most
_MEMBERS = 15  # problems of a group, at least
_SIDE = 5  # problems on each side of a line


def leaking_columns(
    profiles: Profiles, columns: dict[str, Float[np.ndarray, "N"]]
) -> list[dict]:
    """Find columns that explain a part of the noise of the attempts.

    What is known before the attempts says something of the true rates, and nothing of
    the attempts' binomial noise: what a column leaves unexplained of the seen rates
    varies at least as much as that noise. Measured on each operator's rate, on the mean
    over the operators, and on the differences from that mean, each and all together.
    The explanation is a mean per value of the column, or per part of equal size where
    there are many. The unexplained variance and the noise, k (n - k) / (n^2 (n - 1))
    for k of n attempts, are compared by the logarithm of their ratio, one-sided, by
    Student's t over problems. Real differences beyond the column hide a leak. Operators
    that are deterministic or were tried once are left out. Where attempts of an index
    share a random key, noise is taken from the attempts themselves. A measure that
    varies less than the noise with no column at all has no binomial noise: then the
    noise is what the measure varies. Without the table's own counts nothing is tested,
    for a count guessed from a rate in lowest terms is too small, and its noise large.

    A label whose values lie on two sides of a line through a measure, without an
    exception, is found although real differences are left within the sides: noise
    takes a problem near the line to its other side. With distance d from the line and
    noise of sd s, p is the product of Phi(d / s) over the problems.

    Args:
        profiles: the cell.
        columns: values by name; NaN where unknown.

    Returns:
        {"cell", "column", "measure", "left", "noise", "p"} of each such column at its
        clearest measure: unexplained and binomial variance in points squared, and
        Bonferroni's p over the columns and measures.
    """
    attempts = profiles.attempts
    if attempts is None:
        return []
    kept = ~profiles.repeats_itself & (attempts.min(axis=0) > 1)
    if kept.sum() < 2 or len(profiles) < _FEWEST:
        return []
    names = [name for name, one in zip(profiles.operators, kept) if one]
    measures = _measures(profiles, kept, names)
    lines = _lines(profiles, kept, names)
    records = []
    for name, values in columns.items():
        known = ~np.isnan(values)
        if known.sum() < _FEWEST or np.ptp(values[known]) == 0:
            continue
        groups = _grouped(values[known])
        found = []
        for measure, (seen, expected) in measures.items():
            left, p = _unexplained(seen[known], expected[known], groups)
            p = min(1.0, p * len(columns) * len(measures))
            found.append((p, measure, left, float(expected[known].mean())))
        found += _labels(values[known], lines, known, len(columns))
        p, measure, left, expected_mean = min(found)
        if p <= _LEVEL:
            records.append(
                {
                    "cell": profiles.cell,
                    "column": name,
                    "measure": measure,
                    "left": rounded(1e4 * left),
                    "noise": rounded(1e4 * expected_mean),
                    "p": rounded(p),
                }
            )
    return records


def _measures(
    profiles: Profiles, kept: Bool[np.ndarray, "O"], names: list[str]
) -> dict[str, tuple[Float[np.ndarray, "N M"], Float[np.ndarray, "N"]]]:
    """Seen values of each measure, and the noise of their squares by problem."""
    rates, n = profiles.rates[:, kept], profiles.tried[:, kept]
    noise, count = rates * (1 - rates) / (n - 1), rates.shape[1]
    mean = rates.mean(axis=1, keepdims=True)
    found = {
        f"the rate of {name}": (rates[:, [o]], noise[:, o])
        for o, name in enumerate(names)
    }
    total = noise.sum(axis=1)
    # E (e_o - mean e)^2 = (1 - 2 / O) var e_o + sum var e / O^2
    apart = (1 - 2 / count) * noise + total[:, None] / count**2
    of_mean = total / count**2
    if (own := profiles.paired) is not None:
        # Attempts of an index share a key: the noise of their differences is smaller.
        made, right = own.made[:, kept], own.right[:, kept]
        if (made != made[:, :1]).any():
            return found
        at = right - right.mean(axis=1, keepdims=True)
        apart = _noise(at, made)
        of_mean = _noise(right.mean(axis=1, keepdims=True), made[:, :1])[:, 0]
    found["differences between operators"] = rates - mean, apart.sum(axis=1)
    found["the mean of the operators"] = mean, of_mean
    for o, name in enumerate(names):
        found[f"{name} less the mean"] = rates[:, [o]] - mean, apart[:, o]
    return found


def _lines(
    profiles: Profiles, kept: Bool[np.ndarray, "O"], names: list[str]
) -> dict[str, tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]]:
    """Measures that a label may be made of, and the sd of their noise by problem."""
    rates, n = profiles.rates[:, kept], profiles.tried[:, kept]
    smooth = (rates * n + 1) / (n + 2)  # a rate of 0 or 1 has noise, too
    noise = smooth * (1 - smooth) / n
    apart = noise[:, :, None] + noise[:, None]
    if (own := profiles.paired) is not None:
        right, made = own.right[:, kept], own.made[:, kept]
        both = made[:, :, None] & made[:, None]
        differ = ((right[:, :, None] != right[:, None]) & both).sum(axis=3)
        apart = (differ + 1) / np.maximum(both.sum(axis=3), 1) ** 2
    every, first = np.arange(len(rates)), rates.argmax(axis=1)
    found = {"the best rate": (rates.max(axis=1), noise[every, first])}
    mean = rates.mean(axis=1), noise.sum(axis=1) / len(names) ** 2
    found["the mean of the operators"] = mean
    for o, name in enumerate(names):
        found[f"the rate of {name}"] = rates[:, o], noise[:, o]
        others = np.where(np.arange(len(names)) == o, -1.0, rates)
        best = others.max(axis=1) - rates[:, o]
        spread = apart[every, o, others.argmax(axis=1)]
        found[f"the best other less {name}"] = best, spread
        for q, second in enumerate(names[:o]):
            found[f"{name} less {second}"] = rates[:, o] - rates[:, q], apart[:, o, q]
    return {name: (seen, np.sqrt(spread)) for name, (seen, spread) in found.items()}


def _labels(
    values: Float[np.ndarray, "M"],
    lines: dict[str, tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]],
    known: Bool[np.ndarray, "N"],
    columns: int,
) -> list[tuple[float, str, float, float]]:
    """Lines through a measure that the values keep to, with p and the noise."""
    distinct = np.unique(values)
    if len(distinct) > _GROUPS:
        return []
    tests, found = columns * 2 * len(lines) * (len(distinct) - 1), []
    for cut in distinct[1:]:
        upper = values >= cut
        if min(upper.sum(), (~upper).sum()) < _SIDE:
            continue
        for name, (seen, spread) in lines.items():
            seen, spread = seen[known], spread[known]
            for sign, word in ((1, "above"), (-1, "below")):
                low, high = (sign * seen[~upper]).max(), (sign * seen[upper]).min()
                if low < high:
                    line = sign * (low + high) / 2
                    kept = ndtr(np.abs(seen - line) / spread)
                    p = min(1.0, float(np.exp(np.log(kept).sum())) * tests)
                    noise = float((kept * (1 - kept)).mean())
                    found.append((p, f"{name} {word} {100 * line:.3g} %", 0.0, noise))
    return found


def _noise(
    values: Float[np.ndarray, "N O A"], made: Bool[np.ndarray, "N O A"]
) -> Float[np.ndarray, "N O"]:
    """Variance of a mean over attempts, from the attempts."""
    count = made.sum(axis=2)
    mean = (values * made).sum(axis=2) / count
    squares = ((values - mean[..., None]) ** 2 * made).sum(axis=2)
    return squares / (count * (count - 1))


def _grouped(values: Float[np.ndarray, "M"]) -> np.ndarray:
    """Group of each value: the value itself where there are few, else its part."""
    distinct, member = np.unique(values, return_inverse=True)
    count = int(np.clip(len(values) // _MEMBERS, 2, _GROUPS))
    if len(distinct) <= count:
        return member
    ends = np.quantile(values, np.arange(1, count) / count)
    return np.unique(np.searchsorted(ends, values), return_inverse=True)[1]


def _unexplained(
    seen: Float[np.ndarray, "M D"], noise: Float[np.ndarray, "M"], groups: np.ndarray
) -> tuple[float, float]:
    """Variance within groups, and p that it is less than the noise by chance."""
    whole, drawn = float(seen.var(axis=0, ddof=1).sum()), float(noise.mean())
    if whole <= 1e-12 * drawn:  # nothing to explain
        return whole, 1.0
    noise = noise * min(1.0, whole / drawn)
    counts = np.bincount(groups)
    sums = np.stack([np.bincount(groups, column) for column in seen.T], axis=1)
    means = sums / counts[:, None]
    # A group of one explains itself: it says nothing of the rest.
    some = counts[groups] > 1
    if some.sum() < _FEWEST:
        return float(noise.mean()), 1.0
    scale = (counts / np.maximum(counts - 1, 1))[groups]
    left = (((seen - means[groups]) ** 2).sum(axis=1) * scale)[some]
    total, expected = float(left.mean()), float(noise[some].mean())
    if expected == 0:
        return total, 1.0
    if total <= 1e-12 * expected:  # a copy
        return total, 0.0
    # The logarithm: the ratio itself has a long right tail.
    apart = (left / total - noise[some] / expected) * np.sqrt(scale[some])
    error = apart.std(ddof=1) / np.sqrt(len(apart))
    return total, float(stdtr(len(apart) - 1, np.log(total / expected) / error))
