"""The training-free router: the most unusual feature of a failure names the operator (arXiv 2606.05145)."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from fr.errors import UserError
from fr.routing.profiles import FEATURES

# What any router is, the learned head too: features of the failures -> index of the operator to try.
Policy = Callable[[Float[np.ndarray, "N F"]], Int[np.ndarray, "N"]]

RULE = {
    "spread": "dense_steer",
    "concentration": "sparse_steer",
    "logit_dispersion": "local_temp",
}
FALLBACK = "sparse_steer_random"


@dataclasses.dataclass(frozen=True)
class ZStatistics:
    """Mean and population standard deviation of each feature over a calibration set of failed problems."""

    mean: tuple[float | None, ...]  # None: the set lacks the feature
    sd: tuple[float | None, ...]
    problems: int

    @classmethod
    def fit(cls, features: Float[np.ndarray, "N F"]) -> "ZStatistics":
        """Statistics of the given failures; a feature that is NaN throughout is absent."""
        if not len(features):
            return cls((0.0,) * features.shape[1], (0.0,) * features.shape[1], 0)
        absent = np.isnan(features).all(axis=0)
        # The rounded mean of equal numbers can differ from them, and their sd from 0.
        constant = features.min(axis=0) == features.max(axis=0)
        mean, sd = features.mean(axis=0), np.where(constant, 0.0, features.std(axis=0))
        mean, sd = (
            tuple(None if gone else float(v) for v, gone in zip(vs, absent))
            for vs in (mean, sd)
        )
        return cls(mean, sd, len(features))

    def z(self, features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N F"]:
        """Standard scores; 0 where the calibration set did not vary, NaN where it lacks the feature."""
        mean, sd = (
            np.array([np.nan if v is None else v for v in values])
            for values in (self.mean, self.sd)
        )
        return np.where(sd == 0, 0.0, (features - mean) / np.where(sd == 0, 1.0, sd))

    def to_dict(self) -> dict:
        """Plain JSON values, feature by feature."""
        by_name = {
            name: {"mean": m, "sd": s}
            for name, m, s in zip(FEATURES, self.mean, self.sd)
        }
        return {"features": by_name, "problems": self.problems}

    @classmethod
    def from_dict(cls, stored: dict) -> "ZStatistics":
        """What `to_dict` stored."""
        rows = [stored["features"][name] for name in FEATURES]
        return cls(
            tuple(r["mean"] for r in rows),
            tuple(r["sd"] for r in rows),
            stored["problems"],
        )


def rule_policy(
    operators: tuple[str, ...], statistics: ZStatistics, fallback: bool = True
) -> Policy:
    """The rule as a Policy over `operators`: argmax of the z-scores, the first one on ties.

    With `fallback`, a failure without a positive z goes to sparse_steer_random, as in the released default,
    or to retry where that operator is absent [ours]. A feature or operator that is absent takes its line of
    the rule with it; raises UserError if none is left.
    """
    lines = _lines(operators, statistics)
    if not lines:
        raise UserError(
            f"the rule has no line for these operators: {', '.join(operators)}"
        )
    features = [f for f, _ in lines]
    targets = np.array([operators.index(o) for _, o in lines])
    spare = operators.index(FALLBACK if FALLBACK in operators else "retry")

    def policy(given: Float[np.ndarray, "N F"]) -> Int[np.ndarray, "N"]:
        z = statistics.z(given)[:, features]
        routes = targets[z.argmax(axis=1)]
        return np.where((z <= 0).all(axis=1), spare, routes) if fallback else routes

    return policy


def rule_or_retry(
    operators: tuple[str, ...],
    statistics: ZStatistics,
    features: Float[np.ndarray, "N F"],
    fallback: bool = True,
) -> Int[np.ndarray, "N"]:
    """The rule's operator for every failure; retry for all where it has no line."""
    if not _lines(operators, statistics):
        return np.full(len(features), operators.index("retry"))
    return rule_policy(operators, statistics, fallback)(features)


def _lines(
    operators: tuple[str, ...], statistics: ZStatistics
) -> list[tuple[int, str]]:
    """(feature, operator) of what the rule can read and do here."""
    lines = [
        (f, RULE[name])
        for f, name in enumerate(FEATURES)
        if statistics.mean[f] is not None
    ]
    return [(f, operator) for f, operator in lines if operator in operators]
