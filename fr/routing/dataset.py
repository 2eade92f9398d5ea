"""The one table that routers learn from and are judged on: all cells, built once."""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import Config, RoutingConfig
from fr.profiles.profile import Profiles
from fr.routing.columns import PROMPT, read_columns, readable
from fr.routing.split_half import (
    View,
    in_sample_views,
    population_values,
)
from fr.stats.clustered import resample_problems

EVERYWHERE = "all cells"
OUT_OF_FOLD = ("kfold", "leave_cell_out", "leave_family_out")
IN_SAMPLE = ("source", "split_halves")


@dataclasses.dataclass(frozen=True)
class Fold:
    """Rows that a policy may learn from, and rows that it is judged on.

    Attributes:
        train: [N] mask.
        test: [N] mask; no problem is in both.
    """

    train: Bool[np.ndarray, "N"]
    test: Bool[np.ndarray, "N"]


@dataclasses.dataclass(frozen=True)
class RoutingData:
    """Failed problems of all cells over the union of their operators.

    Attributes:
        cells: the profiles.
        operators: [O] names in order of appearance.
        families: names of the task families.
        cell: [N] index into `cells`.
        problem: [N] the same number for the same question of a family.
        family: [N] index into `families`.
        model: [N] the same number for the same model on the same family.
        available: [N, O] whether the cell has the operator.
        rates: [N, O] rescue rates; 0 where not available.
        attempts: [N, O] attempts of each rate; 0 where not available, 1 where unknown.
        weight: [N] how often a deployed router meets each problem; mean 1.
        costs: per cell, mean forward tokens by operator (`Profiles.mean_costs`).
        columns: features by name, [N] each; NaN where unknown or not to be read.
        prompt: whether cell and family may be read.
        mass: [N] weight of each problem in the population.
        values: [N, O] rescue rates in the population, times the mass.
        populations: (mass, values) by name of POPULATIONS.
        views: per cell, its in-sample protocols (IN_SAMPLE); None: not supported.
        resamples: [R+1, N] how often each resample holds each row.
        config: settings of routing.
        seed: of all random streams.
    """

    cells: tuple[Profiles, ...]
    operators: tuple[str, ...]
    families: tuple[str, ...]
    cell: Int[np.ndarray, "N"]
    problem: Int[np.ndarray, "N"]
    family: Int[np.ndarray, "N"]
    model: Int[np.ndarray, "N"]
    available: Bool[np.ndarray, "N O"]
    rates: Float[np.ndarray, "N O"]
    attempts: Int[np.ndarray, "N O"]
    weight: Float[np.ndarray, "N"]
    costs: tuple[dict[str, float] | None, ...]
    columns: dict[str, Float[np.ndarray, "N"]]
    prompt: bool
    mass: Float[np.ndarray, "N"]
    values: Float[np.ndarray, "N O"]
    populations: dict[str, tuple[np.ndarray, np.ndarray]]
    views: tuple[dict[str, View | None], ...]
    resamples: Float[np.ndarray, "R N"]
    config: RoutingConfig
    seed: int

    @classmethod
    def build(
        cls, cells: Sequence[Profiles], config: Config, compared: bool = True
    ) -> "RoutingData":
        """Join the cells and prepare populations, halvings and resamples.

        Args:
            cells: profiles of one cell each.
            config: its `routing` and `seed` are used.
            compared: prepare what only comparisons of policies read: halvings, further
                populations and resamples. A choice reads none of them.

        Returns:
            The data, with the population "all" and every column readable.
        """
        operators = tuple(dict.fromkeys(o for p in cells for o in p.operators))
        families = tuple(dict.fromkeys(p.family for p in cells))
        cell = np.repeat(np.arange(len(cells)), [len(p) for p in cells])
        shape = len(cell), len(operators)
        available, rates, attempts = (np.zeros(shape, t) for t in (bool, float, int))
        for c, p in enumerate(cells):
            own = np.ix_(cell == c, [operators.index(o) for o in p.operators])
            available[own], rates[own] = True, p.rates
            attempts[own] = np.maximum(p.tried, 1)  # a rate of unknown attempts counts
        numbers = lambda names: np.unique(names, return_inverse=True)[1]
        weight = _normalised(np.concatenate([p.weights for p in cells]))
        data = cls(
            tuple(cells),
            operators,
            families,
            cell,
            numbers([name for p in cells for name in p.questions]),
            np.array([families.index(p.family) for p in cells])[cell],
            numbers([name for p in cells for name in p.models]),
            available,
            rates,
            attempts,
            weight,
            tuple(p.mean_costs for p in cells),
            read_columns(cells),
            True,
            weight,
            rates * weight[:, None],
            {},
            ({},) * len(cells),
            np.ones((1, len(cell))),
            config.routing,
            config.seed,
        )
        return data._with_comparisons() if compared else data

    def _with_comparisons(self) -> "RoutingData":
        routing, cells = self.config, self.cells
        views = in_sample_views(cells, routing, self.stream)
        read = cells, views, self.operators, self.rates, self.weight, routing
        rows = self.problem, self.cell, routing.bootstrap, self.stream("rows")
        return dataclasses.replace(
            self,
            populations=population_values(*read),
            views=views,
            resamples=resample_problems(*rows),
        )

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def population_rates(self) -> Float[np.ndarray, "N O"]:
        """Rescue rates in the population; 0 for problems that do not count."""
        return self.values / np.where(self.mass > 0, self.mass, 1)[:, None]

    @property
    def features(self) -> Float[np.ndarray, "N F"]:
        """FEATURES of all rows; NaN where a cell lacks one."""
        return np.concatenate([p.features for p in self.cells])

    @property
    def known_columns(self) -> tuple[str, ...]:
        """Columns that are not hidden."""
        known = (n for n, values in self.columns.items() if not np.isnan(values).all())
        return tuple(known)

    @property
    def prices(self) -> Float[np.ndarray, "O"]:
        """Rescues that an attempt must be worth: `attempt_price` for retry, by cost.

        Costs are averaged over the cells that know them; an operator of unknown cost
        has retry's.
        """
        known = [found for found in self.costs if found]
        relative = [
            np.mean([c[o] / c["retry"] for c in known if o in c] or [1.0])
            for o in self.operators
        ]
        return self.config.attempt_price * np.array(relative)

    def of_cell(self, c: int) -> "RoutingData":
        """Select one cell, over its own operators.

        Args:
            c: index of the cell.

        Returns:
            The data of its problems; their weights have mean 1 again.
        """
        p, here = self.cells[c], self.cell == c
        own = [self.operators.index(name) for name in p.operators]
        at = np.ix_(here, own)
        rates, weight = self.rates[at], _normalised(p.weights)
        return dataclasses.replace(
            self,
            cells=(p,),
            operators=p.operators,
            families=(p.family,),
            cell=np.zeros(len(p), int),
            problem=self.problem[here],
            family=np.zeros(len(p), int),
            model=self.model[here],
            available=self.available[at],
            rates=rates,
            attempts=self.attempts[at],
            weight=weight,
            costs=(self.costs[c],),
            columns={name: values[here] for name, values in self.columns.items()},
            mass=weight,
            values=rates * weight[:, None],
            populations={},
            views=(self.views[c],),
            resamples=self.resamples[:, here],
        )

    def under(self, population: str) -> "RoutingData":
        """Choose the population that policies learn for and are judged on.

        Args:
            population: of POPULATIONS.

        Returns:
            The data with its mass and values.
        """
        mass, values = self.populations[population]
        return dataclasses.replace(self, mass=mass, values=values)

    def reading(self, groups: Sequence[str]) -> "RoutingData":
        """Hide the columns of all other groups.

        Args:
            groups: kinds and groups of columns, FREE and PROMPT.

        Returns:
            The data with NaN in every other column.
        """
        hidden = np.full(len(self), np.nan)
        columns = {
            name: values if readable(name, groups) else hidden
            for name, values in self.columns.items()
        }
        return dataclasses.replace(self, columns=columns, prompt=PROMPT in groups)

    def permuted(self, rng: np.random.Generator) -> "RoutingData":
        """Give every row all columns of another failure of its cell.

        Args:
            rng: random stream.

        Returns:
            The data with the same outcomes.
        """
        order = np.arange(len(self))
        for c in range(len(self.cells)):
            here = np.flatnonzero(self.cell == c)
            order[here] = here[rng.permutation(len(here))]
        columns = {name: values[order] for name, values in self.columns.items()}
        return dataclasses.replace(self, columns=columns)

    def stream(self, purpose: str, cell: str = "") -> np.random.Generator:
        """Make a random stream of its own for a purpose.

        No number depends on what was computed before it.

        Args:
            purpose: its name.
            cell: for streams of one cell, its name.

        Returns:
            The stream.
        """
        # Not hash(), which gives a text another value in every process.
        marks = zlib.crc32(cell.encode()), zlib.crc32(purpose.encode())
        return np.random.default_rng([self.seed, *marks])

    def folds(self, protocol: str, purpose: str = "") -> list[Fold] | str:
        """Divide the rows for an out-of-fold protocol.

        k-fold divides each family's problems, so that a problem of two cells is on one
        side in both. Leaving a cell or a family out keeps the same problem of another
        model in training.

        Args:
            protocol: of OUT_OF_FOLD.
            purpose: of the random stream; the protocol's own by default.

        Returns:
            Folds that together judge every row once, or the reason why there are none.
        """
        count = self.config.folds
        if protocol == "kfold":
            if len(np.unique(self.problem)) < 2 * count:
                return f"needs {2 * count} problems for {count} folds"
            rng = self.stream(purpose or protocol)
            fold = self.assign(np.ones(len(self), bool), count, rng)
            return [Fold(fold != k, fold == k) for k in range(count)]
        cells = protocol == "leave_cell_out"
        groups = self.cell if cells else self.family
        number = int(groups.max()) + 1
        if number < 2:
            some, one = ("cells", "cell") if cells else ("families", "family")
            return f"needs two {some}; the profiles have one {one}"
        return [Fold(groups != g, groups == g) for g in range(number)]

    def assign(
        self, rows: Bool[np.ndarray, "N"], folds: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "N"]:
        """Assign each row the fold of its problem, even within each family.

        Args:
            rows: the rows to assign.
            folds: number of folds.
            rng: random stream.

        Returns:
            The fold of each row; −1 outside of `rows`.
        """
        fold = np.full(len(self), -1)
        for family in range(len(self.families)):
            chosen = rows & (self.family == family)
            problems, member = np.unique(self.problem[chosen], return_inverse=True)
            fold[chosen] = (rng.permutation(len(problems)) % folds)[member]
        return fold

    def places(self, by: str) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "G"]]:
        """Number the places that a look-up distinguishes.

        Args:
            by: "model": each model in each cell; else the cells.

        Returns:
            The place of each row, and one row of each place.
        """
        if by != "model":
            firsts = [np.flatnonzero(self.cell == c)[0] for c in range(len(self.cells))]
            return self.cell, np.array(firsts)
        pairs = np.stack([self.cell, self.model], axis=1)
        _, first, index = np.unique(
            pairs, axis=0, return_index=True, return_inverse=True
        )
        return index.reshape(-1), first


def _normalised(weight: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    if np.ptp(weight) == 0:
        return np.ones(len(weight))
    return weight / weight.mean()
