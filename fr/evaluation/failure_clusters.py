"""Clusters of each cell's failures, and the rescue rates within them, as records.

The records are `clusters` of routing.json: stability and rates are described at
`describe_clusters`.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_rand_score

from fr.config import Config
from fr.diagnosis.clustering import ALGORITHMS
from fr.diagnosis.clusters import NULLS, Clusters, find_clusters
from fr.profiles import FEATURES, Profiles
from fr.routing.rule import ZStatistics
from fr.stats.bootstrap import Interval, estimate, holm, resample_weights, rounded

_CLAIM = 0.05  # Holm's p, over cells, at which a null counts as beaten


def describe_clusters(cells: Sequence[Profiles], config: Config) -> list[dict]:
    """Cluster the failures of each cell and compare with tables without clusters.

    Rescue rates by cluster are exploratory: the clusters were found on the failures
    whose rates they are.

    Args:
        cells: Profiles of the failed problems, one table per cell.
        config: `clusters` and `routing.bootstrap` are read.

    Returns:
        One record per cell: `cell`, `n` problems, `features`, `why` (null, or the
        reason that the cell cannot be clustered), `agreement` of the algorithms
        (adjusted Rand index), and per algorithm `k`, `silhouettes`, `stability` with
        its interval, `nulls` with p and Holm's p over cells and algorithms, `beaten`
        (nulls with Holm's p <= 0.05), and `clusters`: `n`, `centre` in standard scores
        and `rescue` rates in percent of each cluster.
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
    features = [FEATURES[f] for f in known]
    record = {"cell": profiles.cell, "n": len(profiles), "features": features}
    if len(known) < 2:
        return record | {
            "why": "needs two features that vary: "
            "a single one has nothing to be shuffled against"
        }
    if len(profiles) < 5 * config.clusters.largest:
        needed = 5 * config.clusters.largest
        return record | {
            "why": f"needs {needed} failed problems "
            f"for up to {config.clusters.largest} clusters"
        }
    z, found = z[:, known], {}
    for algorithm in ALGORITHMS:
        rng = _generator(profiles.cell, config, algorithm)
        found[algorithm] = find_clusters(z, algorithm, config.clusters, rng)
    agreement = adjusted_rand_score(*(clusters.labels for clusters in found.values()))
    described = {
        name: _describe(profiles, z, found[name], features, config) for name in found
    }
    return record | {"why": None, "agreement": round(float(agreement), 6), **described}


def _describe(
    profiles: Profiles,
    z: Float[np.ndarray, "N F"],
    clusters: Clusters,
    features: list[str],
    config: Config,
) -> dict:
    nulls = {
        name: {
            "stability": _interval(null.mean, null.low, null.high),
            "p": rounded(null.p),
            "drawn": null.drawn,
        }
        for name, null in clusters.nulls.items()
    }
    members = [
        np.flatnonzero(clusters.labels == i) for i in range(clusters.labels.max() + 1)
    ]
    return {
        "k": len(members),
        "silhouettes": {
            str(k): round(value, 6) for k, value in clusters.silhouettes.items()
        },
        "stability": _interval(clusters.stability, clusters.low, clusters.high),
        "seeds": rounded(clusters.seeds),
        "nulls": nulls,
        "clusters": [
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
        "labels": clusters.labels.tolist(),
    }


def _rescue(profiles: Profiles, rows: Int[np.ndarray, "_"], config: Config) -> dict:
    """Rescue rate of each operator, in percent, with a bootstrap over the problems."""
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
    # One stream per cell and purpose: clusters of a cell do not depend on other cells.
    return np.random.default_rng(
        [config.seed, zlib.crc32(cell.encode()), zlib.crc32(purpose.encode())]
    )
