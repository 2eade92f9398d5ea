"""Safe deviation from the fixed choice: calibrated rates, and departures by gain."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

MIN_GAINS = (0.0, 0.02, 0.05)  # of calibrated rescue, over the fixed choice
_RIDGE = 1e-2  # so that an operator that never rescues has a finite logit
_STEPS = 15  # of Newton


@dataclasses.dataclass(frozen=True)
class SafeDeviation:
    """Conversion of scores to a choice that does not lose to the fixed choice.

    Attributes:
        calibration: [O+2] logits of the operators, then slopes of the row's mean score
            and of an operator's deviation from it.
        min_gain: expected gain over the fixed choice above which a row departs; inf:
            no row departs.
        penalty: index into the penalties of training.
    """

    calibration: Float[np.ndarray, "P"]
    min_gain: float = np.inf
    penalty: int = 0

    def rates(
        self, scores: Float[np.ndarray, "N O"], available: Bool[np.ndarray, "N O"]
    ) -> Float[np.ndarray, "N O"]:
        """Calibrate scores.

        Args:
            scores: of the operators.
            available: whether the row's cell has the operator.

        Returns:
            Rescue rates, as shares.
        """
        level, own = _parts(scores, available)
        logits = self.calibration[:-2] + self.calibration[-2] * level
        logits = logits + self.calibration[-1] * own
        return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))

    def choose(
        self, gains: Float[np.ndarray, "N O"], fixed: Int[np.ndarray, "N"]
    ) -> Int[np.ndarray, "N"]:
        """Choose the largest gain where it exceeds the fixed choice's by `min_gain`.

        Args:
            gains: calibrated rates less prices; −inf where an operator is absent.
            fixed: the fixed choice of each row.

        Returns:
            Index of the operator; O stands for stop, which gains 0.
        """
        offered = np.pad(gains, ((0, 0), (0, 1)))
        own = np.take_along_axis(offered, fixed[:, None], axis=1)[:, 0]
        departs = offered.max(axis=1) - own > self.min_gain
        return np.where(departs, offered.argmax(axis=1), fixed)

    def to_dict(self) -> dict:
        """Plain JSON values."""
        gain = None if np.isinf(self.min_gain) else self.min_gain
        values = self.calibration.tolist()
        return {"calibration": values, "min_gain": gain, "penalty": self.penalty}

    @classmethod
    def from_dict(cls, stored: dict) -> "SafeDeviation":
        """Read what `to_dict` gave.

        Args:
            stored: the plain values.

        Returns:
            The same.
        """
        gain = np.inf if stored["min_gain"] is None else stored["min_gain"]
        return cls(np.array(stored["calibration"]), gain, stored["penalty"])


def calibrate(
    scores: Float[np.ndarray, "N O"],
    rates: Float[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    mass: Float[np.ndarray, "N"],
) -> Float[np.ndarray, "P"]:
    """Fit a logistic calibration of held-out scores.

    The slope of a score's deviation from the row's mean score is what reading the
    failure tells about differences between operators: near 0 where that is noise, and
    then all rows get the same order. Slopes are at least 0.

    Args:
        scores: of held-out rows.
        rates: their rescue rates.
        attempts: of each rate; 0 where an operator is absent.
        mass: weight of each row.

    Returns:
        `SafeDeviation.calibration`.
    """
    count = scores.shape[1]
    level, own = _parts(scores, attempts > 0)
    design = np.concatenate(
        [
            np.broadcast_to(np.eye(count), (len(scores), count, count)),
            np.broadcast_to(level, scores.shape)[..., None],
            own[..., None],
        ],
        axis=-1,
    ).reshape(-1, count + 2)
    weight = (mass[:, None] * attempts).ravel()
    found, kept = np.zeros(count + 2), np.arange(count + 2)
    # Fitted again without slopes below 0: the operators' own logits made room for them.
    # The level's is where it is noise, for a router that was kept from the easier
    # failures expects less of them.
    while True:
        fitted = _logistic(design[:, kept], rates.ravel(), weight)
        wrong = (kept >= count) & (fitted < 0)
        if not wrong.any():
            found[kept] = fitted
            return found
        kept = kept[~wrong]


def choose_deviation(
    scores: Float[np.ndarray, "L N O"],
    rates: Float[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    prices: Float[np.ndarray, "O"],
    mass: Float[np.ndarray, "N"],
    fixed: Int[np.ndarray, "N"],
    errors: float,
) -> SafeDeviation:
    """Choose penalty and minimal gain by their held-out gain over the fixed choice.

    The largest mean gain less `errors` standard errors wins.

    Args:
        scores: out of fold, per penalty.
        rates: rescue rates.
        attempts: of each rate; 0 where an operator is absent.
        prices: rescues that an attempt must be worth.
        mass: weight of each row.
        fixed: the fixed choice of each row, out of fold.
        errors: standard errors that a gain must exceed.

    Returns:
        The deviation; without a gain above 0 the fixed choice stays, with the penalty
        whose rates are likeliest.
    """
    available = attempts > 0
    gains = np.pad(np.where(available, rates - prices, 0.0), ((0, 0), (0, 1)))
    take = lambda choice: np.take_along_axis(gains, choice[:, None], axis=1)[:, 0]
    best, chosen = 0.0, None
    likeliest, unmoved = -np.inf, SafeDeviation(np.zeros(rates.shape[1] + 2))
    for penalty, score in enumerate(scores):
        candidate = SafeDeviation(
            calibrate(score, rates, attempts, mass), penalty=penalty
        )
        expected = candidate.rates(score, available)
        offered = np.where(available, expected - prices, -np.inf)
        each = rates * np.log(expected) + (1 - rates) * np.log1p(-expected)
        likelihood = (mass[:, None] * attempts * each).sum()
        if likelihood > likeliest:
            likeliest, unmoved = likelihood, candidate
        for gain in MIN_GAINS:
            candidate = dataclasses.replace(candidate, min_gain=gain)
            lift = take(candidate.choose(offered, fixed)) - take(fixed)
            mean = (mass * lift).sum() / mass.sum()
            error = np.sqrt((mass**2 * (lift - mean) ** 2).sum()) / mass.sum()
            if mean - errors * error > best:
                best, chosen = mean - errors * error, candidate
    return chosen or unmoved


def _logistic(
    design: Float[np.ndarray, "M P"],
    target: Float[np.ndarray, "M"],
    weight: Float[np.ndarray, "M"],
) -> Float[np.ndarray, "P"]:
    """Weighted logistic regression of rates, by Newton's method."""
    found = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
        slope = design.T @ (weight * (target - p)) - _RIDGE * found
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design
        curvature = curvature + _RIDGE * np.eye(len(found))
        # A shorter long step, since Newton overshoots where a rate is near 0 or 1.
        step = np.linalg.solve(curvature, slope)
        found = found + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-9))
    return found


def _parts(
    scores: np.ndarray, available: np.ndarray
) -> tuple[Float[np.ndarray, "N 1"], Float[np.ndarray, "N O"]]:
    """The mean score of each row, and the deviations from it."""
    count = available.sum(axis=1, keepdims=True)
    level = (scores * available).sum(axis=1, keepdims=True) / count
    return level, np.where(available, scores - level, 0.0)
