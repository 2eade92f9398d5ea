"""The training-free rule: the most unusual feature names the operator (2606.05145)."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from fr.errors import UserError
from fr.profiles.profile import FEATURES

# Features of failures -> index of the operator to try, one per failure.
Chooser = Callable[[Float[np.ndarray, "N F"]], Int[np.ndarray, "N"]]

RULE = {
    "spread": "dense_steer",
    "concentration": "sparse_steer",
    "logit_dispersion": "local_temp",
}
FALLBACK = "sparse_steer_random"


@dataclasses.dataclass(frozen=True)
class ZStatistics:
    """Mean and population sd of each feature over a calibration set of failures.

    Attributes:
        mean: of each of FEATURES; None if the set lacks it.
        sd: of each of FEATURES; None if the set lacks it.
        problems: size of the set.
    """

    mean: tuple[float | None, ...]
    sd: tuple[float | None, ...]
    problems: int

    @classmethod
    def fit(cls, features: Float[np.ndarray, "N F"]) -> "ZStatistics":
        """Compute the statistics.

        Args:
            features: FEATURES of the failures; one that is NaN throughout is absent.

        Returns:
            The statistics.
        """
        if not len(features):
            zeros = (0.0,) * features.shape[1]
            return cls(zeros, zeros, 0)
        absent = np.isnan(features).all(axis=0)
        # The rounded mean of equal numbers can differ from them, and their sd from 0.
        constant = features.min(axis=0) == features.max(axis=0)
        mean, sd = (
            tuple(None if gone else float(v) for v, gone in zip(values, absent))
            for values in (
                features.mean(axis=0),
                np.where(constant, 0.0, features.std(axis=0)),
            )
        )
        return cls(mean, sd, len(features))

    def z(self, features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N F"]:
        """Compute standard scores.

        Args:
            features: FEATURES of failures.

        Returns:
            Scores; 0 if the calibration set did not vary, NaN if it lacks the feature.
        """
        mean, sd = (
            np.array([np.nan if v is None else v for v in values])
            for values in (self.mean, self.sd)
        )
        return np.where(sd == 0, 0.0, (features - mean) / np.where(sd == 0, 1.0, sd))

    def to_dict(self) -> dict:
        """Plain JSON values, feature by feature."""
        pairs = zip(FEATURES, self.mean, self.sd)
        by_name = {name: {"mean": mean, "sd": sd} for name, mean, sd in pairs}
        return {"features": by_name, "problems": self.problems}

    @classmethod
    def from_dict(cls, stored: dict) -> "ZStatistics":
        """Read what `to_dict` gave.

        Args:
            stored: the plain values.

        Returns:
            The statistics.
        """
        rows = [stored["features"][name] for name in FEATURES]
        mean, sd = (tuple(row[key] for row in rows) for key in ("mean", "sd"))
        return cls(mean, sd, stored["problems"])


def make_rule(
    operators: tuple[str, ...], statistics: ZStatistics, fallback: bool = True
) -> Chooser:
    """Make the rule: argmax of the z-scores, the first one on ties.

    A feature or operator that is absent takes its line of the rule with it.

    Args:
        operators: names of the operators to choose among.
        statistics: of the calibration set.
        fallback: send a failure without a positive z to sparse_steer_random, as in the
            released default, or to retry without that operator [ours].

    Returns:
        The rule, with indices into `operators`.

    Raises:
        UserError: if no line of the rule is left.
    """
    lines = rule_lines(operators, statistics)
    if not lines:
        names = ", ".join(operators)
        raise UserError(f"the rule has no line for these operators: {names}")
    features = [FEATURES.index(f) for f in lines]
    targets = np.array([operators.index(RULE[f]) for f in lines])
    spare = operators.index(FALLBACK if FALLBACK in operators else "retry")

    def choose(given: Float[np.ndarray, "N F"]) -> Int[np.ndarray, "N"]:
        z = statistics.z(given)[:, features]
        routes = targets[z.argmax(axis=1)]
        return np.where((z <= 0).all(axis=1), spare, routes) if fallback else routes

    return choose


def rule_or_retry(
    operators: tuple[str, ...],
    statistics: ZStatistics,
    features: Float[np.ndarray, "N F"],
    fallback: bool = True,
) -> Int[np.ndarray, "N"]:
    """Choose by the rule, or retry if no line of it is left.

    Args:
        operators: names of the operators to choose among.
        statistics: of the calibration set.
        features: FEATURES of the failures.
        fallback: as in `make_rule`.

    Returns:
        Index of each failure's operator.
    """
    if not rule_lines(operators, statistics):
        return np.full(len(features), operators.index("retry"))
    return make_rule(operators, statistics, fallback)(features)


def rule_lines(operators: tuple[str, ...], statistics: ZStatistics) -> list[str]:
    """List the features that the rule can use.

    Args:
        operators: names of the operators to choose among.
        statistics: of the calibration set.

    Returns:
        Features that the statistics know and whose operator is there.
    """
    known = zip(FEATURES, statistics.mean)
    return [f for f, mean in known if mean is not None and RULE[f] in operators]
