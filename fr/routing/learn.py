"""Training a head on the failed problems of some cells: nested folds, calibration, and a policy to keep."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Int

from fr.config import RoutingConfig
from fr.errors import UserError
from fr.routing.columns import COLUMNS, read_columns, standardise
from fr.routing.fixed import attempt_prices, fixed_routes
from fr.routing.folds import assign
from fr.routing.pool import Pool, Population
from fr.routing.rule import Policy
from fr.routing.shrink import Shrinkage, earned
from fr.workdir import PathLike, write_json

# What each head may read, kinds of columns (or groups of them, in an ablation); `prompt` is the cell and the
# family, known before any rollout. What was checked from outside, none of them does.
READS = {
    "head": ("signal", "nuisance", "prompt"),
    "head_signals": ("signal", "prompt"),
    "head_nuisances": ("nuisance", "prompt"),
    "head_prompt": ("prompt",),
    "head_intercept": (),
}
_OUTLINE = "head.json"
Statistics = dict[str, tuple[float | None, float | None]]  # mean and sd of a column


@dataclasses.dataclass(frozen=True)
class Head:
    """A trained head with all that its policy needs: columns, statistics by cell, shrinkage, fixed choices."""

    operators: tuple[str, ...]
    columns: tuple[str, ...]
    prompt: tuple[str, ...]  # names of cells and families, one input each; those never learned from stay 0
    statistics: dict[str, Statistics]  # by cell
    families: dict[str, str]  # by cell
    fixed: dict[str, int]  # by cell; "" for a cell that is new
    prices: tuple[float, ...]
    shrinkage: Shrinkage
    hidden: int
    params: dict  # of OperatorScores, with a leading axis of seeds

    def policy(self, cell: str, statistics: Statistics | None = None) -> Policy:
        """`columns` [N, F] of the failures of a cell -> index of the operator to try, O for stop.

        A cell that the head has not seen needs the `statistics` of its own failures, as the rule does; raises
        UserError without them.
        """
        if statistics is None and cell not in self.statistics:
            raise UserError(
                f"the head has no statistics of cell {cell!r}; it knows {', '.join(self.statistics)}"
            )
        known = statistics or self.statistics[cell]
        on = np.array([name in (f"cell {cell}", f"family {self.families.get(cell)}") for name in self.prompt])
        fixed = self.fixed.get(cell, self.fixed[""])

        def policy(given: Float[np.ndarray, "N F"]) -> Int[np.ndarray, "N"]:
            read = [standardise(given[:, f], *known[name]) for f, name in enumerate(self.columns)]
            inputs = np.column_stack([*read, np.tile(on, (len(given), 1))]).astype(np.float32)
            available = np.ones((len(given), len(self.operators)), bool)
            gains = self.shrinkage.rates(self._scores(inputs), available) - np.array(self.prices)
            return self.shrinkage.choose(gains, np.full(len(given), fixed))

        return policy

    def save(self, folder: PathLike) -> None:
        """Write parameters (Orbax) and everything else (head.json) into `folder`."""
        import orbax.checkpoint as ocp  # here, because routing without a head needs no jax

        outline = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "params"}
        shrinkage = self.shrinkage
        margin = None if np.isinf(shrinkage.margin) else shrinkage.margin
        outline["shrinkage"] = {
            "calibration": shrinkage.calibration.tolist(), "margin": margin, "ridge": shrinkage.ridge
        }  # fmt: skip
        with ocp.StandardCheckpointer() as saver:
            saver.save(epath.Path(folder).absolute() / "params", self.params, force=True)
        write_json(epath.Path(folder) / _OUTLINE, outline)

    @classmethod
    def restore(cls, folder: PathLike) -> "Head":
        """What `save` wrote; raises UserError where it did not."""
        import orbax.checkpoint as ocp

        path = epath.Path(folder) / _OUTLINE
        if not path.exists():
            raise UserError(f"{folder}: holds no head ({_OUTLINE} is missing); scripts/route.py writes one")
        outline = json.loads(path.read_text())
        shrinkage = outline.pop("shrinkage")
        margin = np.inf if shrinkage["margin"] is None else shrinkage["margin"]
        calibrated = Shrinkage(np.array(shrinkage["calibration"]), margin, shrinkage["ridge"])
        with ocp.StandardCheckpointer() as saver:
            params = saver.restore(epath.Path(folder).absolute() / "params")
        for name in ("operators", "columns", "prompt", "prices"):
            outline[name] = tuple(outline[name])
        return cls(**outline, shrinkage=calibrated, params=params)

    def _scores(self, inputs: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N O"]:
        import jax

        from fr.routing.head import OperatorScores

        model = OperatorScores(len(self.operators), self.hidden)
        return np.asarray(jax.vmap(model.apply, (0, None))(self.params, inputs)).mean(axis=0)


def train_head(
    pool: Pool,
    population: Population,
    train: Bool[np.ndarray, "N"],
    reads: Sequence[str],
    routing: RoutingConfig,
    rng: np.random.Generator,
) -> tuple[Head, Int[np.ndarray, "N"]]:
    """A head learned from the rows `train`, and its choice on every row; outcomes of other rows are not read.

    Ridge, margin and calibration come from folds inside `train`; cells outside of it get z-statistics of their
    own failures, as a deployed router would.
    """
    import jax

    from fr.routing.head import fit

    prices = attempt_prices(pool, routing.price)
    by = "cell" if "prompt" in reads else "all"
    inner = assign(pool, train & (population.mass > 0), routing.inner_folds, rng)
    kept = [train & (inner != k) for k in range(routing.inner_folds)]
    inputs, names, statistics = _inputs(pool, train, reads)
    attempts = np.where(pool.available, pool.attempts, 0)
    weights = np.stack([population.mass * rows for rows in (*kept, train)])
    params, scores = fit(inputs, population.rates, attempts, prices, weights, 0, routing)
    scores = np.asarray(scores, np.float64)

    # Every training row by the head, and the look-up, of the fold that left it out.
    rows = np.flatnonzero(inner >= 0)
    looked_up = np.stack([fixed_routes(pool, population, left, prices, by) for left in kept])
    shrinkage = earned(
        scores[inner[rows], :, rows].swapaxes(0, 1),
        population.rates[rows],
        attempts[rows],
        prices,
        population.mass[rows],
        looked_up[inner[rows], rows],
        routing.caution,
    )
    fixed = fixed_routes(pool, population, train, prices, by)
    offered = shrinkage.rates(scores[-1, shrinkage.ridge], pool.available) - prices
    routes = shrinkage.choose(np.where(pool.available, offered, -np.inf), fixed)
    cells = [profiles.cell for profiles in pool.cells]
    everyone = fixed_routes(pool, population, train, prices, "all")
    head = Head(
        pool.operators,
        tuple(name for name in names if not name.startswith(("cell ", "family "))),
        tuple(name for name in names if name.startswith(("cell ", "family "))),
        statistics,
        {name: pool.families[pool.family[pool.cell == c][0]] for c, name in enumerate(cells)},
        {name: int(fixed[pool.cell == c][0]) for c, name in enumerate(cells)} | {"": int(everyone[0])},
        tuple(float(price) for price in prices),
        shrinkage,
        routing.hidden,
        jax.tree.map(lambda leaf: np.asarray(leaf[-1, shrinkage.ridge]), params),
    )
    return head, routes


def _inputs(pool: Pool, train, reads) -> tuple[Float[np.ndarray, "N F"], list[str], dict[str, Statistics]]:
    """Standardised columns of all rows, and the prompt's; what may not be read is 0, so that shapes agree."""
    inputs, names, statistics = [], [], {profiles.cell: {} for profiles in pool.cells}
    for name, values in read_columns(pool.cells).items():
        column = np.zeros(len(pool))
        for c, profiles in enumerate(pool.cells):
            here = pool.cell == c
            rows = here & train if (here & train).any() else here
            readable = not {COLUMNS[name].kind, COLUMNS[name].group}.isdisjoint(reads)
            known = _mean_and_sd(values[rows]) if readable else (None, None)
            statistics[profiles.cell][name] = known
            column[here] = standardise(values[here], *known)
        inputs.append(column)
        names.append(name)
    for kind, index, known in (
        ("cell", pool.cell, [profiles.cell for profiles in pool.cells]),
        ("family", pool.family, pool.families),
    ):
        for i, name in enumerate(known):
            # The weights of a place that was not learned from are those that they were born with.
            seen = "prompt" in reads and (train & (index == i)).any()
            inputs.append((index == i) * float(seen))
            names.append(f"{kind} {name if seen else '?'}")
    return np.column_stack(inputs).astype(np.float32), names, statistics


def _mean_and_sd(values: Float[np.ndarray, "M"]) -> tuple[float | None, float | None]:
    known = values[~np.isnan(values)]
    return (float(known.mean()), float(known.std())) if len(known) else (None, None)
