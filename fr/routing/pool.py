"""Several cells as one table, and the populations of problems that a policy can be judged on."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import RoutingConfig
from fr.diagnosis.labels import STEERABLE, label
from fr.routing.attempts import recover_attempts
from fr.routing.profiles import Profiles, weights_of
from fr.routing.protocols import View

UNWEIGHTED = "all_unweighted"  # where a table says how often a router meets each problem: as if it met all
POPULATIONS = ("all", UNWEIGHTED, "steerable", "steerable_halves")
MODEL = (
    "model"  # column that says which model failed; without it, the cell is one model's
)
QUESTION = "question"  # column that says which rows are the same question; without it, those of one problem_id


@dataclasses.dataclass(frozen=True)
class Pool:
    """Failed problems of all cells over the union of their operators; what a cell lacks is marked."""

    cells: tuple[Profiles, ...]
    operators: tuple[str, ...]
    cell: Int[np.ndarray, "N"]  # index into `cells`
    problem: Int[
        np.ndarray, "N"
    ]  # the same number for the same question of the same family
    family: Int[np.ndarray, "N"]
    families: tuple[str, ...]
    available: Bool[np.ndarray, "N O"]
    rates: Float[np.ndarray, "N O"]  # 0 where not available
    attempts: Int[np.ndarray, "N O"]  # 0 where not available, 1 where unknown
    weight: Float[
        np.ndarray, "N"
    ]  # how often a deployed router meets each problem; mean 1
    model: Int[np.ndarray, "N"]  # the same number for the same model on the same family

    def __len__(self) -> int:
        return len(self.cell)


@dataclasses.dataclass(frozen=True)
class Population:
    """How much each problem counts, and what each operator rescues there, times that."""

    mass: Float[np.ndarray, "N"]
    values: Float[np.ndarray, "N O"]

    @property
    def rates(self) -> Float[np.ndarray, "N O"]:
        """Rescue rates of the problems that count, 0 for the others."""
        return self.values / np.where(self.mass > 0, self.mass, 1)[:, None]


def family_of(profiles: Profiles) -> str:
    """Column `family`, or else the task: column `task`, or what stands behind the bar of `model|task`."""
    for name in ("family", "task"):
        if any(profiles.extras.get(name, ())):
            return profiles.extras[name][0]
    return profiles.cell.rsplit("|", 1)[-1]


def questions_of(cells: Sequence[Profiles]) -> list[str]:
    """A name for the question of every row, the same for the same question of the same family."""
    return [
        f"{family_of(profiles)} {name}"
        for profiles in cells
        for name in profiles.extras.get(QUESTION, profiles.problems)
    ]


def models_of(cells: Sequence[Profiles]) -> list[str]:
    """A name for the model of every row and its family: column MODEL, or else the cell's."""
    return [
        f"{family_of(profiles)} {name}"
        for profiles in cells
        for name in profiles.extras.get(MODEL, (profiles.cell,) * len(profiles))
    ]


def permute_columns(pool: Pool, rng: np.random.Generator) -> Pool:
    """The pool in which every row has all columns of another failure of its cell; outcomes stay where they are."""
    cells = []
    for profiles in pool.cells:
        order = rng.permutation(len(profiles))
        extras = {
            name: tuple(values[i] for i in order)
            for name, values in profiles.extras.items()
        }
        told = {
            "features": profiles.features[order],
            "n_failed": profiles.n_failed[order],
            "extras": extras,
        }
        cells.append(dataclasses.replace(profiles, **told))
    return dataclasses.replace(pool, cells=tuple(cells))


def make_pool(cells: Sequence[Profiles]) -> Pool:
    """The cells as one table, in their order."""
    operators = tuple(
        dict.fromkeys(name for profiles in cells for name in profiles.operators)
    )
    families = tuple(dict.fromkeys(family_of(profiles) for profiles in cells))
    rates, attempts, available = [], [], []
    for profiles in cells:
        at = [operators.index(name) for name in profiles.operators]
        shape = (len(profiles), len(operators))
        there, here, tried = (
            np.zeros(shape, bool),
            np.zeros(shape),
            np.zeros(shape, int),
        )
        there[:, at], here[:, at] = True, profiles.rates
        tried[:, at] = np.maximum(recover_attempts(profiles), 1)
        rates.append(here), attempts.append(tried), available.append(there)
    cell = np.repeat(np.arange(len(cells)), [len(profiles) for profiles in cells])
    family = np.array([families.index(family_of(profiles)) for profiles in cells])[cell]
    problem = np.unique(questions_of(cells), return_inverse=True)[1]
    stacked = (np.concatenate(part) for part in (available, rates, attempts))
    weight = np.concatenate([weights_of(profiles) for profiles in cells])
    weight = np.ones(len(weight)) if np.ptp(weight) == 0 else weight / weight.mean()
    model = np.unique(models_of(cells), return_inverse=True)[1]
    return Pool(
        tuple(cells),
        operators,
        cell,
        problem,
        family,
        families,
        *stacked,
        weight,
        model,
    )


def make_populations(
    pool: Pool, halves: Sequence[View | None], routing: RoutingConfig
) -> dict[str, Population]:
    """`all`: every failed problem, selected on nothing, as often as a deployed router meets it (`weights_of`);
    `all_unweighted`: once each. `steerable`: those that the source's labels choose,
    by the very rates that score them. `steerable_halves`: as often as one half of the attempts calls a
    problem steerable, it is scored by the other half; problems of unknown attempts never count.
    """
    shape = pool.rates.shape
    steerable, mass, values = np.zeros(shape[0]), np.zeros(shape[0]), np.zeros(shape)
    for c, (profiles, view) in enumerate(zip(pool.cells, halves)):
        rows = np.flatnonzero(pool.cell == c)
        at = [pool.operators.index(name) for name in profiles.operators]
        labels = label(profiles.rates, profiles.operators, routing.margin, routing.hard)
        steerable[rows] = labels == STEERABLE
        if view is not None:
            mass[rows[view.kept]] = view.steerable.mean(axis=0)
            scored = (view.scoring * view.steerable[..., None]).mean(axis=0)
            values[np.ix_(rows[view.kept], at)] = scored
    weight = pool.weight
    every = {
        "all": Population(weight, pool.rates * weight[:, None]),
        UNWEIGHTED: Population(np.ones(shape[0]) * (np.ptp(weight) > 0), pool.rates),
        "steerable": Population(
            steerable * weight, pool.rates * (steerable * weight)[:, None]
        ),
        "steerable_halves": Population(mass * weight, values * weight[:, None]),
    }
    return {name: every[name] for name in POPULATIONS if every[name].mass.any()}
