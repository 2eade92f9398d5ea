"""What keeps a learned router from losing to the fixed choice: calibration, and departures that were earned."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

MARGINS = (
    0.0,
    0.02,
    0.05,
)  # of calibrated rescue, by which a departure must promise more than the fixed choice
_RIDGE = 1e-2  # of the calibration, so that a never rescued operator has a finite logit
_STEPS = 15  # of Newton


@dataclasses.dataclass(frozen=True)
class Shrinkage:
    """How scores become a choice: the calibration, and the margin of a departure; infinite: none is made."""

    calibration: Float[
        np.ndarray, "O+2"
    ]  # logits of the operators, slopes of their mean score and deviations
    margin: float = np.inf
    penalty: int = 0  # index into the penalties

    def rates(
        self, scores: Float[np.ndarray, "N O"], available: Bool[np.ndarray, "N O"]
    ) -> np.ndarray:
        """Calibrated rescue rates, [N, O]."""
        level, own = _parts(scores, available)
        logits = (
            self.calibration[:-2]
            + self.calibration[-2] * level
            + self.calibration[-1] * own
        )
        return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))

    def choose(
        self, gains: Float[np.ndarray, "N O"], fixed: Int[np.ndarray, "N"]
    ) -> Int[np.ndarray, "N"]:
        """The choice of the largest gain where it beats the fixed choice by the margin; O stands for stop.

        `gains` are calibrated rates less prices, −inf where an operator is absent.
        """
        offered = np.pad(gains, ((0, 0), (0, 1)))  # stop gains nothing
        promised = (
            offered.max(axis=1)
            - np.take_along_axis(offered, fixed[:, None], axis=1)[:, 0]
        )
        return np.where(promised > self.margin, offered.argmax(axis=1), fixed)


def calibrate(
    scores: Float[np.ndarray, "N O"],
    rates: Float[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    mass: Float[np.ndarray, "N"],
) -> Float[np.ndarray, "O+2"]:
    """Logistic calibration of scores of held-out rows: a logit for each operator and two slopes.

    The slope of a score's deviation from the row's mean score is what reading the failure tells about the
    operators' differences: near 0 where that is noise, and then every row gets the same order. Both at least 0.
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
    # Anew without what points the wrong way: the operators' own logits had made room for it. The level does where
    # it is noise, for a head that has been kept from the easier failures expects less of them.
    while True:
        fitted = _logistic(design[:, kept], rates.ravel(), weight)
        wrong = (kept >= count) & (fitted < 0)
        if not wrong.any():
            found[kept] = fitted
            return found
        kept = kept[~wrong]


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
        curvature = (
            design * (weight * p * (1 - p))[:, None]
        ).T @ design + _RIDGE * np.eye(len(found))
        # Half of a long step, since Newton overshoots where a rate is near 0 or 1.
        step = np.linalg.solve(curvature, slope)
        found = found + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-9))
    return found


def earned(
    scores: Float[np.ndarray, "L N O"],
    rates: Float[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    prices: Float[np.ndarray, "O"],
    mass: Float[np.ndarray, "N"],
    fixed: Int[np.ndarray, "N"],
    caution: float,
) -> Shrinkage:
    """The penalty and margin whose gain over the fixed choice, less `caution` standard errors, is largest.

    `scores` and `fixed` are out of fold; without a candidate above 0 the fixed choice stays, and the penalty is the
    one whose rates are likeliest.
    """
    available = attempts > 0
    gains = np.pad(np.where(available, rates - prices, 0.0), ((0, 0), (0, 1)))
    take = lambda choice: np.take_along_axis(gains, choice[:, None], axis=1)[:, 0]
    best, chosen = 0.0, None
    likeliest, unmoved = -np.inf, None
    for penalty, score in enumerate(scores):
        candidate = Shrinkage(calibrate(score, rates, attempts, mass), penalty=penalty)
        expected = candidate.rates(score, available)
        offered = np.where(available, expected - prices, -np.inf)
        each = rates * np.log(expected) + (1 - rates) * np.log1p(-expected)
        if (likelihood := (mass[:, None] * attempts * each).sum()) > likeliest:
            likeliest, unmoved = likelihood, candidate
        for margin in MARGINS:
            candidate = dataclasses.replace(candidate, margin=margin)
            lift = take(candidate.choose(offered, fixed)) - take(fixed)
            mean = (mass * lift).sum() / mass.sum()
            error = np.sqrt((mass**2 * (lift - mean) ** 2).sum()) / mass.sum()
            if mean - caution * error > best:
                best, chosen = mean - caution * error, candidate
    return chosen or unmoved


def _parts(scores: np.ndarray, available: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    level = (scores * available).sum(axis=1, keepdims=True) / available.sum(
        axis=1, keepdims=True
    )
    return level, np.where(available, scores - level, 0.0)
