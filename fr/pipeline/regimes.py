"""Regimes of the failures of each cell, and what rescues the failures of each, as plain records."""

import zlib
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import adjusted_rand_score

from fr.config import Config
from fr.diagnosis.regimes import ALGORITHMS, NULLS, Regimes, find_regimes
from fr.routing.profiles import FEATURES, Profiles
from fr.routing.rule import ZStatistics
from fr.stats.bootstrap import Interval, estimate, holm, resample_weights, rounded

_CLAIM = 0.05  # Holm's p, over cells, below which a null is called beaten


def describe_regimes(cells: Sequence[Profiles], config: Config) -> list[dict]:
    """One record a cell: clusters by each algorithm, their stability against each null, what rescues them.

    `beaten` names the nulls that the stability beats with Holm's p, over the cells and both algorithms, of at most
    0.05. Rescue rates are exploratory: regimes were found on the failures that they are rates of. A cell that cannot
    be clustered has a plain word in `why`.
    """
    records = [_record(profiles, config) for profiles in cells]
    found = [
        record[algorithm]
        for record in records
        if record["why"] is None
        for algorithm in ALGORITHMS
    ]
    for name in NULLS:
        nulls = [one["nulls"][name] for one in found]
        for null, p in zip(nulls, holm([null["p"] for null in nulls])):
            null["p_holm"] = round(p, 6)
    for one in found:
        one["beaten"] = [
            name for name in NULLS if one["nulls"][name]["p_holm"] <= _CLAIM
        ]
    return records


def _record(profiles: Profiles, config: Config) -> dict:
    z = ZStatistics.fit(profiles.features).z(profiles.features)
    known = [
        f for f in range(len(FEATURES)) if z[:, f].any() and not np.isnan(z[:, f]).any()
    ]
    record = {
        "cell": profiles.cell,
        "n": len(profiles),
        "features": [FEATURES[f] for f in known],
    }
    if len(known) < 2:
        return record | {
            "why": "needs two features that vary: a single one has nothing to be shuffled against"
        }
    if len(profiles) < 5 * config.clusters.largest:
        needed = 5 * config.clusters.largest
        return record | {
            "why": f"needs {needed} failed problems for up to {config.clusters.largest} regimes"
        }
    z, found = z[:, known], {}
    for algorithm in ALGORITHMS:
        rng = _generator(profiles.cell, config, algorithm)
        found[algorithm] = find_regimes(z, algorithm, config.clusters, rng)
    agreement = adjusted_rand_score(*(regimes.labels for regimes in found.values()))
    described = {
        name: _describe(profiles, z, found[name], record["features"], config)
        for name in found
    }
    return record | {"why": None, "agreement": round(float(agreement), 6), **described}


def _describe(
    profiles: Profiles,
    z: np.ndarray,
    regimes: Regimes,
    features: list[str],
    config: Config,
) -> dict:
    nulls = {
        name: {
            "stability": _interval(null.mean, null.low, null.high),
            "p": rounded(null.p),
            "drawn": null.drawn,
        }
        for name, null in regimes.nulls.items()
    }
    members = [
        np.flatnonzero(regimes.labels == i) for i in range(regimes.labels.max() + 1)
    ]
    return {
        "k": len(members),
        "silhouettes": {
            str(k): round(value, 6) for k, value in regimes.silhouettes.items()
        },
        "stability": _interval(regimes.stability, regimes.low, regimes.high),
        "seeds": rounded(regimes.seeds),
        "nulls": nulls,
        "regimes": [
            {
                "n": len(rows),
                "centre": {
                    name: round(float(v), 6)
                    for name, v in zip(features, z[rows].mean(axis=0))
                },
                "rescue": _rescue(profiles, rows, config),
            }
            for rows in members
        ],
        "labels": regimes.labels.tolist(),
    }


def _rescue(profiles: Profiles, rows: np.ndarray, config: Config) -> dict:
    """Percent, with a 95 % bootstrap interval over the problems of the regime, of every operator."""
    rng = _generator(profiles.cell, config, f"rescue {rows[0]}")
    weights = resample_weights(len(rows), config.routing.bootstrap, rng)
    means = weights @ profiles.rates[rows] / len(rows)
    return {
        name: estimate(values, len(rows)).percent().as_dict()
        for name, values in zip(profiles.operators, means.T)
    }


def _interval(value: float, low: float, high: float) -> dict:
    return Interval(*map(rounded, (value, low, high))).as_dict()


def _generator(cell: str, config: Config, purpose: str) -> np.random.Generator:
    # A stream of its own for each cell and purpose: no cell's regimes depend on the other cells.
    return np.random.default_rng(
        [config.seed, zlib.crc32(cell.encode()), zlib.crc32(purpose.encode())]
    )
