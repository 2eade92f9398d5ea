"""Training a head on the failed problems of some cells: nested folds, calibration, and a policy to keep."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import RoutingConfig
from fr.routing.columns import FREE, QUESTION, read_columns, readable, standardise
from fr.routing.fixed import attempt_prices, fixed_gains, fixed_routes
from fr.routing.folds import assign
from fr.routing.pool import Pool, Population, questions_of
from fr.routing.shrink import Shrinkage, earned
from fr.routing.trained import ANYWHERE, Head, Statistics, mean_and_sd

PERMUTED = (
    "head_permuted"  # the head, its columns permuted over the problems of each cell
)
# What each head may read, kinds of columns (or groups of them, in an ablation); `prompt` is the cell and the
# family, known before any rollout. What was checked from outside, none of them does.
READS = {
    "head": ("signal", "nuisance", "prompt"),
    "head_free": (FREE, "prompt"),
    "head_signals": ("signal", "prompt"),
    "head_nuisances": ("nuisance", "prompt"),
    "head_question": (QUESTION, "prompt"),
    "head_prompt": ("prompt",),
    "head_intercept": (),
    PERMUTED: ("signal", "nuisance", "prompt"),
}


def train_head(
    pool: Pool,
    population: Population,
    train: Bool[np.ndarray, "N"],
    reads: Sequence[str],
    routing: RoutingConfig,
    rng: np.random.Generator,
) -> tuple[Head, Int[np.ndarray, "N"], Float[np.ndarray, "N O"]]:
    """A head learned from the rows `train`, its choice on every row, and the rescue rates that it expects there.

    Outcomes of other rows are not read. Penalty, margin and calibration come from folds inside `train`; cells outside
    of it get z-statistics of their own failures, as a deployed router would.
    """
    import jax

    from fr.routing.head import fit

    prices = attempt_prices(pool, routing.price)
    by = "cell" if "prompt" in reads else "all"
    inner = assign(pool, train & (population.mass > 0), routing.inner_folds, rng)
    kept = [train & (inner != k) for k in range(routing.inner_folds)]
    columns, statistics = standard_columns(pool, train, reads)
    place, prompt = _prompt(pool, train, reads)
    inputs = np.column_stack([*columns.values(), *place]).astype(np.float32)
    attempts = np.where(pool.available, pool.attempts, 0)
    weights = np.stack([population.mass * rows for rows in (*kept, train)])
    params, scores = fit(
        inputs, population.rates, attempts, prices, weights, 0, routing
    )
    scores = np.asarray(scores, np.float64)
    looked_up = np.stack(
        [fixed_routes(pool, population, left, prices, by) for left in kept]
    )
    shrinkage = _shrinkage(
        scores, population, attempts, prices, inner, looked_up, routing
    )
    rates = shrinkage.rates(scores[-1, shrinkage.penalty], pool.available)
    fixed = fixed_gains(pool, population, train, prices, by)
    offered = np.where(pool.available, rates - prices, -np.inf)
    names = [profiles.cell for profiles in pool.cells]
    # The same for every cell, but for the operators that one lacks.
    everywhere = fixed_gains(pool, population, train, prices, "all").max(axis=0)
    head = Head(
        operators=pool.operators,
        columns=tuple(columns),
        prompt=prompt,
        statistics=statistics,
        families={
            name: pool.families[pool.family[pool.cell == c][0]]
            for c, name in enumerate(names)
        },
        gains={
            name: _plain(gains)
            for name, gains in zip((*names, ANYWHERE), (*fixed, everywhere))
        },
        prices=tuple(float(price) for price in prices),
        shrinkage=shrinkage,
        hidden=routing.hidden,
        questions=tuple(
            sorted(
                {name for name, seen in zip(questions_of(pool.cells), train) if seen}
            )
        ),
        params=jax.tree.map(
            lambda leaf: np.asarray(leaf[-1, shrinkage.penalty]), params
        ),
    )
    return head, shrinkage.choose(offered, fixed.argmax(axis=1)[pool.cell]), rates


def what_is_read(pool: Pool, reads: Sequence[str]) -> tuple[str, ...]:
    """What a head may read of these failures: columns that some cell has, and `prompt`."""
    columns = (name for name in read_columns(pool.cells) if readable(name, reads))
    return (*columns, *(("prompt",) if "prompt" in reads else ()))


def _shrinkage(
    scores, population: Population, attempts, prices, inner, looked_up, routing
) -> Shrinkage:
    """What the inner folds earn: every training row by the head, and the look-up, of the fold that left it out."""
    rows = np.flatnonzero(inner >= 0)
    return earned(
        scores[inner[rows], :, rows].swapaxes(0, 1),
        population.rates[rows],
        attempts[rows],
        prices,
        population.mass[rows],
        looked_up[inner[rows], rows],
        routing.caution,
    )


def standard_columns(
    pool: Pool, train, reads
) -> tuple[dict[str, Float[np.ndarray, "N"]], dict[str, Statistics]]:
    """Standardised columns of all rows, and by what; one that may not be read is 0, so that shapes agree."""
    columns = {}
    statistics = {
        name: {} for name in (*(profiles.cell for profiles in pool.cells), ANYWHERE)
    }
    for name, values in read_columns(pool.cells).items():
        column = np.zeros(len(pool))
        may = readable(name, reads)
        statistics[ANYWHERE][name] = mean_and_sd(values[train]) if may else (None, None)
        for c, profiles in enumerate(pool.cells):
            here = pool.cell == c
            rows = here & train if (here & train).any() else here
            known = mean_and_sd(values[rows]) if may else (None, None)
            statistics[profiles.cell][name] = known
            column[here] = standardise(values[here], *known)
        columns[name] = column
    return columns, statistics


def _prompt(
    pool: Pool, train, reads
) -> tuple[list[Float[np.ndarray, "N"]], tuple[tuple[str, float], ...]]:
    """An input for each cell and family, and its name and share of the training rows: see Head.prompt."""
    inputs, names = [], []
    for kind, index, known in (
        ("cell", pool.cell, [profiles.cell for profiles in pool.cells]),
        ("family", pool.family, pool.families),
    ):
        been = np.isin(index, index[train]) & ("prompt" in reads)
        for i, name in enumerate(known):
            share = float((index[train] == i).mean()) if "prompt" in reads else 0.0
            # The weights of a place that was not learned from are those that they were born with.
            inputs.append(been * ((index == i) - share) * (share > 0))
            names.append((f"{kind} {name if share else '?'}", share))
    return inputs, tuple(names)


def _plain(gains: Float[np.ndarray, "O+1"]) -> tuple[float | None, ...]:
    return tuple(None if np.isinf(gain) else float(gain) for gain in gains)
