"""Failed problems whose truth is known: a planted best policy, planted noise, and the attempts that hide both."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from fr.routing.profiles import FEATURES, OPERATORS, Profiles
from fr.routing.rule import RULE

_ROLLOUTS = 16  # of a problem; the share that failed follows from retry's true rate


@dataclasses.dataclass(frozen=True)
class Landscape:
    """How a table of failed problems comes about; effects are in logits of the rescue rate.

    The planted policy takes the operator that RULE names for the largest feature; that operator, and no other,
    is better by `effect` on the problem. `blur` is the sd of what is added to a feature before it is seen.
    """

    problems: int = 200
    attempts: int = 10
    effect: float = 0.0
    blur: float = 0.0
    operators: tuple[float, ...] = (-1.0,) * len(
        OPERATORS
    )  # mean logit of each of OPERATORS
    problem_sd: float = 1.5
    pair_sd: float = 0.0  # of problem x operator: differences that no feature tells


@dataclasses.dataclass(frozen=True)
class _Simulated:
    """A table as a laboratory would see it, and what it cannot see."""

    profiles: Profiles
    rates: Float[np.ndarray, "N O"]  # true
    best: Int[np.ndarray, "N"]  # the planted policy's choice

    def lift(self, choice: Int[np.ndarray, "N"]) -> float:
        """True rescue of a policy on these problems less that of the best fixed operator."""
        taken = np.take_along_axis(self.rates, choice[:, None], axis=1)
        return float(taken.mean() - self.rates.mean(axis=0).max())


def simulate(
    landscape: Landscape, rng: np.random.Generator, cell: str = "model|task"
) -> _Simulated:
    """Draw problems, their true rates and their attempts; every problem failed at least once."""
    shape = landscape.problems, len(OPERATORS)
    clear = rng.normal(size=(landscape.problems, len(FEATURES)))
    targets = np.array([OPERATORS.index(RULE[name]) for name in FEATURES])
    best = targets[clear.argmax(axis=1)]
    problem = landscape.problem_sd * rng.normal(size=(landscape.problems, 1))
    logits = (
        np.array(landscape.operators)
        + problem
        + landscape.pair_sd * rng.normal(size=shape)
    )
    logits[np.arange(landscape.problems), best] += landscape.effect
    rates = 1 / (1 + np.exp(-logits))
    correct = rng.binomial(landscape.attempts, rates)
    failed = np.maximum(
        1, rng.binomial(_ROLLOUTS, 1 - rates[:, OPERATORS.index("retry")])
    )
    profiles = Profiles(
        cell,
        tuple(f"{cell} {i}" for i in range(landscape.problems)),
        failed,
        clear + landscape.blur * rng.normal(size=clear.shape),
        OPERATORS,
        correct / landscape.attempts,
        np.full(shape, landscape.attempts),
        {"failed_share": tuple(repr(float(n / _ROLLOUTS)) for n in failed)},
    )
    return _Simulated(profiles, rates, best)


def reader(found: _Simulated) -> Int[np.ndarray, "N"]:
    """The choice of who knows the planted rule and sees the features as they are seen: no router can do better."""
    targets = np.array([OPERATORS.index(RULE[name]) for name in FEATURES])
    return targets[found.profiles.features.argmax(axis=1)]
