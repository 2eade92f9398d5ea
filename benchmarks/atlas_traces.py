"""Simulated failed traces whose chance of success along the trace is known."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

CUTS = 12  # K
TRACES, SHARING = 60, 2  # of an atlas; traces of one problem, which share cut 0
SHAPES = ("flat", "rise", "cliff", "to the half", "slope", "recovery", "two cliffs")
SMALL = "V(0) small"  # the name of all shapes of such problems
# Shares of the shapes in an atlas.
MIXED = dict(zip(SHAPES, (0.25, 0.05, 0.2, 0.2, 0.1, 0.1, 0.1)))
FLAT = {"flat": 1.0}
HALF = {"to the half": 1.0}  # as near to a point of no return as can be without one
_FEW = 0.15  # of the problems have a small V(0)
_START, _SMALL = (0.2, 0.9), (0.01, 0.06)  # range of V(0)
_LEFT = (0.0, 0.4)  # range of V / V(0) after a cliff
_RISE = 0.1  # largest share by which V rises


@dataclasses.dataclass(frozen=True)
class Traces:
    """Simulated traces, `TRACES` after each other for each atlas.

    Attributes:
        chance: [N, K] true V at each cut.
        shape: [N] name of its shape.
        problem: [N] index of its problem.
        first: [N, K] right branches in the first half of the indices.
        second: [N, K] in the second half.
        half: branches of a half.
    """

    chance: Float[np.ndarray, "N K"]
    shape: np.ndarray
    problem: Int[np.ndarray, "N"]
    first: Int[np.ndarray, "N K"]
    second: Int[np.ndarray, "N K"]
    half: int

    @property
    def right(self) -> Int[np.ndarray, "N K"]:
        """Right branches of both halves."""
        return self.first + self.second

    def made(self, halves: int) -> Int[np.ndarray, "N K"]:
        """Count the branches.

        Args:
            halves: 1 or 2.

        Returns:
            The same number in every cell.
        """
        return np.full(self.chance.shape, halves * self.half)

    def no_return(self, share: float = 0.5) -> Int[np.ndarray, "N"]:
        """Find the true points of no return.

        Args:
            share: of V(0) that is lost for good.

        Returns:
            [N] cuts; -1 without one.
        """
        low = self.chance < share * self.chance[:, :1] - 1e-12
        lost = np.logical_and.accumulate(low[:, ::-1], axis=1)[:, ::-1]
        return np.where(lost.any(axis=1), lost.argmax(axis=1), -1)

    def place(self) -> Int[np.ndarray, "N"]:
        """Find the true place of the largest drop.

        Returns:
            [N] places; -1 without a drop, or without one that is the largest.
        """
        drop = self.chance[:, :-1] - self.chance[:, 1:]
        order = np.sort(drop, axis=1)
        single = order[:, -1] > order[:, -2] + 1e-9
        return np.where(single, drop.argmax(axis=1), -1)


def simulate(
    shapes: dict[str, float], traces: int, branches: int, rng: np.random.Generator
) -> Traces:
    """Draw problems, traces of them and branches at every cut.

    Args:
        shapes: shares of SHAPES.
        traces: their number, a multiple of SHARING.
        branches: per cut, an even number.
        rng: random stream.

    Returns:
        The traces.
    """
    names = list(shapes)
    kind = rng.choice(len(names), traces, p=[shapes[name] for name in names])
    problem = np.arange(traces) // SHARING
    problems = traces // SHARING
    small = rng.random(problems) < _FEW
    start = rng.uniform(*_START, problems)
    start = np.where(small, rng.uniform(*_SMALL, problems), start)[problem]
    forms = _forms(traces, rng)
    levels = np.stack([forms[name] for name in names])[kind, np.arange(traces)]
    chance = start[:, None] * levels
    half = branches // 2
    first, second = rng.binomial(half, chance, size=(2, *chance.shape))
    for counts in (first, second):  # the branches of cut 0 belong to the problem
        counts[:, 0] = counts[::SHARING, 0][problem]
    shape = np.where(small[problem], SMALL, np.array(names)[kind])
    return Traces(chance, shape, problem, first, second, half)


def _forms(n: int, rng) -> dict[str, Float[np.ndarray, "N K"]]:
    """V / V(0) of n traces of each shape."""
    cut = np.arange(CUTS)
    left = rng.uniform(*_LEFT, n)[:, None]
    place = rng.integers(0, CUTS - 1, n)[:, None]
    early = rng.integers(0, CUTS - 2, n)[:, None]
    late = rng.integers(early + 1, CUTS - 1)
    after = lambda at, level: np.where(cut > at, level, 1.0)
    down = after(place, left)
    back = np.where((cut > early) & (cut <= late), left, 1.0)
    way = cut / (CUTS - 1)
    forms = (
        *(np.ones((n, CUTS)), 1 + rng.uniform(0, _RISE, (n, 1)) * way),
        *(down, after(place, 0.5), 1 - (1 - left) * way, back),
        after(early, 0.65) * after(late, left + 0.1),
    )
    return dict(zip(SHAPES, forms))
