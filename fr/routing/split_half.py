"""Two readings of the same attempts: the source's, and one without the winner's curse.

In the source's protocol (arXiv 2606.05145) a problem is called steerable by the same
rates that score it, and z-scores are over those problems. In split halves [ours] one
half of the attempts decides which problems count and which fixed operator is best, the
other half scores; z-scores are over all failed problems.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import RoutingConfig
from fr.diagnosis.labels import STEERABLE, label
from fr.profiles.profile import Profiles
from fr.stats.paired import halve_within

POPULATIONS = ("all", "all_unweighted", "steerable", "steerable_halves")
_FEWEST = 4  # attempts that can be halved without a half of one


@dataclasses.dataclass(frozen=True)
class View:
    """A cell as a protocol reads it. H halvings; H = 1 in the source's protocol.

    Attributes:
        kept: [N] rows of the profiles that the protocol can use.
        steerable: [H, N] problems that count, by the deciding attempts.
        deciding: [H, N, O] rates that choices are made from.
        scoring: [H, N, O] rates that results are read from.
        calibration: [M] rows of the profiles that z-statistics are over.
        dropped: problems with too few or an unknown number of attempts.
        fixed: operators with the same rate in both halves.
    """

    kept: Int[np.ndarray, "N"]
    steerable: Bool[np.ndarray, "H N"]
    deciding: Float[np.ndarray, "H N O"]
    scoring: Float[np.ndarray, "H N O"]
    calibration: Int[np.ndarray, "M"]
    dropped: int = 0
    fixed: tuple[str, ...] = ()

    @property
    def repeats(self) -> tuple[float, float]:
        """Share of steerable problems that the other half calls so too; and of all."""
        again = np.roll(self.steerable, len(self.steerable) // 2, axis=0)
        called = max(1, self.steerable.sum())
        agreed = float((self.steerable & again).sum() / called)
        return agreed, float(self.steerable.mean())


def in_sample_views(
    cells: Sequence[Profiles],
    routing: RoutingConfig,
    stream: Callable[[str, str], np.random.Generator],
) -> tuple[dict[str, View | None], ...]:
    """Read each cell by both protocols.

    Args:
        cells: the profiles.
        routing: settings of the labels and the halvings.
        stream: random stream by purpose and cell.

    Returns:
        Per cell, its views by protocol.
    """
    return tuple(
        {
            "source": source_view(p, routing),
            "split_halves": halves_view(p, routing, stream("halves", p.cell)),
        }
        for p in cells
    )


def source_view(profiles: Profiles, routing: RoutingConfig) -> View:
    """Read a cell by the source's protocol: every rate decides and scores.

    Args:
        profiles: the cell.
        routing: margin and hardness of a label.

    Returns:
        The view.
    """
    rates, rule = profiles.rates, (profiles.operators, routing.margin, routing.hard)
    steerable = label(rates, *rule) == STEERABLE
    rows = np.arange(len(profiles))
    chosen = np.flatnonzero(steerable)
    return View(rows, steerable[None], rates[None], rates[None], chosen)


def halves_view(
    profiles: Profiles, routing: RoutingConfig, rng: np.random.Generator
) -> View | None:
    """Halve the attempts of a cell at random, each halving used both ways.

    Hypergeometric thinning: n // 2 attempts against the rest; the same indices for all
    operators where they share random keys. Halvings [0, S) decide by
    the first half, [S, 2S) by the second. Half the attempts means noisier labels than
    the source's: different sets of problems.

    Args:
        profiles: the cell; problems with fewer than 4 attempts of an operator, or an
            unknown number, are dropped.
        routing: number of halvings S, margin and hardness of a label.
        rng: random stream.

    Returns:
        The view; None if no problem is left.
    """
    attempts = profiles.tried
    # Deterministic or tried once: the rate cannot be split, both halves have it.
    fixed = profiles.repeats_itself | (attempts == 1).all(axis=0)
    kept = np.flatnonzero(((attempts >= _FEWEST) | fixed).all(axis=1))
    if not len(kept):
        return None
    own, more = profiles.paired, (fixed, routing.splits, rng)
    if own is not None:
        halves = halve_within(own.right[kept], own.made[kept], *more)
    else:
        halves = halve(profiles.successes[kept], attempts[kept], *more)
    deciding, scoring = np.concatenate(halves), np.concatenate(halves[::-1])
    # A deterministic operator has its rate, for any number of printed attempts.
    deciding[..., fixed] = scoring[..., fixed] = profiles.rates[kept][:, fixed]
    rule = profiles.operators, routing.margin, routing.hard
    return View(
        kept,
        label(deciding, *rule) == STEERABLE,
        deciding,
        scoring,
        np.arange(len(profiles)),
        len(profiles) - len(kept),
        tuple(name for name, same in zip(profiles.operators, fixed) if same),
    )


def population_values(
    cells: Sequence[Profiles],
    views: Sequence[Mapping[str, View | None]],
    operators: Sequence[str],
    rates: Float[np.ndarray, "N O"],
    weight: Float[np.ndarray, "N"],
    routing: RoutingConfig,
) -> dict[str, tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N O"]]]:
    """Weigh problems and their rates for each population.

    all: every failed problem, as often as a deployed router meets it; all_unweighted:
    once each. steerable: by the rates that score them. steerable_halves: as often as
    one half of the attempts calls a problem steerable, scored by the other half.

    Args:
        cells: the profiles, one after the other in the rows.
        views: per cell, its in-sample protocols.
        operators: names, over all cells.
        rates: rescue rates of all rows.
        weight: how often a deployed router meets each problem.
        routing: margin and hardness of a label.

    Returns:
        (mass, values) by name of POPULATIONS; those without a problem are left out.
    """
    steerable, mass = np.zeros((2, len(weight)))
    values, start = np.zeros(rates.shape), 0
    for profiles, view_of in zip(cells, views):
        rows = np.arange(start, start + len(profiles))
        start += len(profiles)
        rule = profiles.operators, routing.margin, routing.hard
        steerable[rows] = label(profiles.rates, *rule) == STEERABLE
        view = view_of["split_halves"]
        if view is not None:
            at = [operators.index(name) for name in profiles.operators]
            mass[rows[view.kept]] = view.steerable.mean(axis=0)
            scored = (view.scoring * view.steerable[..., None]).mean(axis=0)
            values[np.ix_(rows[view.kept], at)] = scored
    once = np.ones(len(weight)) * (np.ptp(weight) > 0)
    every = (
        (weight, rates * weight[:, None]),
        (once, rates),
        (steerable * weight, rates * (steerable * weight)[:, None]),
        (mass * weight, values * weight[:, None]),
    )
    named = zip(POPULATIONS, every)
    return {name: found for name, found in named if found[0].any()}


def halve(
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    fixed: Bool[np.ndarray, "O"],
    splits: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "S N O"], Float[np.ndarray, "S N O"]]:
    """Draw rates in two disjoint random halves of the attempts.

    Args:
        correct: right attempts.
        attempts: all attempts; at least two where an operator is not fixed.
        fixed: operators that have their whole rate in both halves.
        splits: number of halvings, S.
        rng: random stream.

    Returns:
        Rates of the first n // 2 attempts and of the rest.
    """
    first = attempts // 2
    drawn = rng.hypergeometric(
        correct, attempts - correct, first, size=(splits, *correct.shape)
    )
    with np.errstate(invalid="ignore"):
        whole = correct / attempts
        here = np.where(fixed, whole, drawn / first)
        there = np.where(fixed, whole, (correct - drawn) / (attempts - first))
    return here, there
