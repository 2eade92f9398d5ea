"""What groups of columns add to a learned router: to the nuisances alone, and to all the other columns."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from fr.config import RoutingConfig
from fr.routing.columns import COLUMNS, read_columns
from fr.routing.compare import gap_of
from fr.routing.folds import Fold, make_folds, resample_problems
from fr.routing.learn import train_head
from fr.routing.policies import values_of
from fr.routing.pool import Pool, Population
from fr.stats.bootstrap import Estimate, effective, estimate

_BASE = ("nuisance", "prompt")


def ablate(
    pool: Pool,
    population: Population,
    routing: RoutingConfig,
    generator: Callable[[str], np.random.Generator],
) -> list[dict]:
    """Rows {group, columns, added, left_out, n} for every group of signals that some cell has, k-fold by problem.

    `added` is what a head on the nuisances gains by the group, `left_out` what the head on everything loses
    without it; the first row, `all signals`, is the head on everything less the one on nuisances. All heads of a
    fold share their inner folds; differences are paired, and are exploration: no family of them was declared.
    Empty where there is but one group, which compare's rows tell of already, or no k folds.
    """
    groups: dict[str, int] = {}
    for name in read_columns(pool.cells):
        if COLUMNS[name].kind == "signal":
            groups[COLUMNS[name].group] = groups.get(COLUMNS[name].group, 0) + 1
    folds = make_folds(pool, "kfold", routing.folds, generator("kfold"))
    if len(groups) < 2 or isinstance(folds, str):
        return []
    weights = resample_problems(
        pool, np.arange(len(pool)), routing.bootstrap, generator("rows")
    )
    total = weights @ population.mass

    def rescued(*signals: str) -> Estimate:
        choice = _out_of_fold(
            pool, population, folds, (*_BASE, *signals), routing, generator
        )
        return estimate(
            weights @ values_of(population.values, choice) / total,
            effective(population.mass),
        )

    nothing, everything = rescued(), rescued("signal")
    n = int((population.mass > 0).sum())
    rows = [
        {
            "group": "all signals",
            "columns": sum(groups.values()),
            "added": gap_of(everything - nothing),
        }
    ]
    for group, columns in groups.items():
        others = (other for other in groups if other != group)
        found = {
            "added": rescued(group) - nothing,
            "left_out": everything - rescued(*others),
        }
        rows.append(
            {
                "group": group,
                "columns": columns,
                **{key: gap_of(gap) for key, gap in found.items()},
            }
        )
    return [row | {"n": n} for row in rows]


def _out_of_fold(
    pool: Pool,
    population: Population,
    folds: list[Fold],
    reads: tuple[str, ...],
    routing,
    generator,
) -> Int[np.ndarray, "N"]:
    """Choices of heads that may read these kinds and groups of columns."""
    choice = np.full(len(pool), -1)
    for k, fold in enumerate(folds):
        # The same stream for all: they differ by what they read, not by their inner folds.
        routes = train_head(
            pool, population, fold.train, reads, routing, generator(f"ablation {k}")
        )[1]
        choice[fold.test] = routes[fold.test]
    return choice
