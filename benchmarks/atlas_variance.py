"""Variance shares and shared random keys against planted truth."""

import numpy as np
from jaxtyping import Float

from benchmarks.atlas_traces import CUTS, SHARING, TRACES
from fr.stats.paired_noise import paired_noise
from fr.stats.variance_shares import AT_LEAST, LESS, PARTS, UNDECIDED, variance_shares

OPERATORS = 6
RESAMPLES = 499
_VARIANCE = 0.01  # of V; small enough that no chance leaves [0, 1]
# Percent of the variance; operator x position has what is left of the rest's part.
_PLANTED = dict(zip(PARTS, (8.0, 20.0, 0.0, 45.0, 7.0, 10.0, 10.0)))
INTERACTIONS = (0.0, 2.0, 6.0)
_GAPS = (0.02, 0.05, 0.2)  # V_o - V_reference


def shares(traces: int, branches: int, rng: np.random.Generator) -> dict:
    """Estimate planted shares in many atlases.

    Args:
        traces: number of simulated traces of each case.
        branches: of each cell.
        rng: random stream.

    Returns:
        By planted share of operator x position: for each part its planted share, the
        mean estimate, its standard error and how often the interval covers the planted
        share, in percent. Also how often each verdict was given.
    """
    found = {}
    for planted in INTERACTIONS:
        truth = _PLANTED | {
            "operator x position": planted,
            "rest": _PLANTED["rest"] - planted,
        }
        rows = []
        for _ in range(max(2, traces // TRACES)):
            chance = _planted(truth, rng)
            one, two = rng.binomial(branches // 2, chance, (2, *chance.shape))
            halves = [counts / (branches // 2) for counts in (one, two)]
            problem = np.arange(TRACES) // SHARING
            seed = int(rng.integers(1 << 31))
            rows.append(variance_shares(*halves, problem, RESAMPLES, seed))
        parts = {}
        for name in PARTS:
            own = [row["shares"][name] for row in rows]
            values = np.array([each["value"] for each in own], float)
            covered = [each["low"] <= truth[name] <= each["high"] for each in own]
            parts[name] = {
                "planted": truth[name],
                "mean": round(float(values.mean()), 2),
                "error": round(float(values.std(ddof=1) / len(rows) ** 0.5), 2),
                "covered": round(100 * float(np.mean(covered)), 1),
            }
        given = [row["verdict"] for row in rows]
        found[f"{planted:g}"] = {
            "atlases": len(rows),
            "parts": parts,
            "verdicts": {
                kind: round(100 * given.count(kind) / len(rows), 1)
                for kind in (AT_LEAST, LESS, UNDECIDED)
            },
        }
    return found


def _planted(truth: dict[str, float], rng) -> Float[np.ndarray, "N K O"]:
    """V with the planted parts; operators and positions are the same in all atlases."""
    given = np.random.default_rng(0)
    draw = lambda *shape: rng.uniform(-1, 1, shape)
    of_problem = np.repeat(draw(TRACES // SHARING, 1, 1), SHARING, axis=0)
    effects = {
        "operator": given.normal(size=(1, 1, OPERATORS)),
        "position": given.normal(size=(1, CUTS, 1)),
        "operator x position": given.normal(size=(1, CUTS, OPERATORS)),
        "trace": (of_problem + draw(TRACES, 1, 1)) / 2**0.5,
        "trace x operator": draw(TRACES, 1, OPERATORS),
        "trace x position": draw(TRACES, CUTS, 1),
        "rest": draw(TRACES, CUTS, OPERATORS),
    }
    chance = np.full((TRACES, CUTS, OPERATORS), 0.5)
    for name, effect in effects.items():
        variance = 1 / 3  # of a uniform effect
        for axis in (1, 2):
            if effect.shape[axis] > 1:
                effect = effect - effect.mean(axis=axis, keepdims=True)
                variance *= 1 - 1 / effect.shape[axis]
        if effect.shape[0] == 1:
            variance = (effect**2).mean()
        chance = chance + effect * (truth[name] / 100 * _VARIANCE / variance) ** 0.5
    return np.clip(chance, 0, 1)


def keys(traces: int, branches: int, rng: np.random.Generator) -> dict:
    """Estimate what shared keys save, where both operators succeed on a common draw.

    With one uniform number per index, outcomes of two operators differ with chance
    d = V_o - V_r, and the ratio is the mean of V_o (1 - V_o) + V_r (1 - V_r) over
    traces, over d (1 - d).

    Args:
        traces: number of simulated traces.
        branches: of each cell.
        rng: random stream.

    Returns:
        By difference: the true ratio, the median estimate and how often its interval
        covers the truth.
    """
    low, high = 0.1, 0.7  # range of V_r
    rows = []
    for _ in range(max(2, traces // TRACES)):
        plain = rng.uniform(low, high, (TRACES, 1, 1, 1))
        chance = plain + np.array([0.0, *_GAPS])[:, None]
        drawn = rng.random((TRACES, CUTS, 1, branches))
        seed = int(rng.integers(1 << 31))
        rows.append(paired_noise((drawn < chance) * 1.0, 0, None, RESAMPLES, seed))
    grid = np.linspace(low, high, 10_001)
    found = {}
    for o, gap in enumerate(_GAPS, 1):
        both = grid * (1 - grid) + (grid + gap) * (1 - grid - gap)
        truth = float(both.mean() / (gap * (1 - gap)))
        own = [row["operators"][o]["ratio"] for row in rows]
        covered = [each["low"] <= truth <= each["high"] for each in own]
        found[f"{gap:g}"] = {
            "atlases": len(rows),
            "truth": round(truth, 2),
            "median": round(float(np.median([each["value"] for each in own])), 2),
            "covered": round(100 * float(np.mean(covered)), 1),
        }
    return found
