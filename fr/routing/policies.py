"""Every policy that routing is compared with, as rescue rates of problems that it did not learn from."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.config import RoutingConfig
from fr.diagnosis.labels import STEERABLE, counted, label
from fr.errors import UserError
from fr.routing.fixed import FIXED, LOOKUPS, attempt_prices, fixed_routes
from fr.routing.folds import Fold
from fr.routing.learn import PERMUTED, READS, train_head, what_is_read
from fr.routing.pool import Pool, Population, permute_columns
from fr.routing.posterior import POSTERIORS, posterior_choice
from fr.routing.rule import ZStatistics, rule_policy


def out_of_fold(
    pool: Pool,
    population: Population,
    folds: Sequence[Fold],
    routing: RoutingConfig,
    rng: np.random.Generator,
    heads: bool,
) -> tuple[dict[str, Int[np.ndarray, "N"]], dict[str, Float[np.ndarray, "N O"]]]:
    """Choice of every policy on every row, from what the other folds say, −1 where a policy has no answer; and the
    rescue rates that each learned router expects there.
    """
    routes: dict[str, Int[np.ndarray, "N"]] = {}
    expected: dict[str, Float[np.ndarray, "N O"]] = {}
    prices = attempt_prices(pool, routing.price)
    permuted = permute_columns(pool, rng)
    tables = {PERMUTED: permuted, "posterior_permuted": permuted}
    for fold in folds:
        given = {
            FIXED[by]: fixed_routes(pool, population, fold.train, prices, by)
            for by in LOOKUPS
        }
        given |= _rules(pool, fold, routing)
        for name, reads in POSTERIORS.items():
            table = tables.get(name, pool)
            given[name], rates = posterior_choice(
                table, population, fold.train, reads, routing
            )
            expected.setdefault(name, np.full(pool.rates.shape, np.nan))[fold.test] = (
                rates[fold.test]
            )
        seed, trained = rng.integers(2**32), {}
        for name, reads in READS.items() if heads else ():
            table, found = (
                tables.get(name, pool),
                (name == PERMUTED, *what_is_read(pool, reads)),
            )
            if (
                found not in trained
            ):  # else another head reads the same of these failures
                # The same stream for all: they differ by what they read, not by their inner folds.
                stream = np.random.default_rng(seed)
                trained[found] = train_head(
                    table, population, fold.train, reads, routing, stream
                )
            learned = trained[found]
            given[name] = learned[1]
            expected.setdefault(name, np.full(pool.rates.shape, np.nan))[fold.test] = (
                learned[2][fold.test]
            )
        for name, choice in given.items():
            routes.setdefault(name, np.full(len(pool), -1))[fold.test] = choice[
                fold.test
            ]
    for o, name in enumerate(pool.operators):
        routes[name if name == "retry" else f"always_{name}"] = np.where(
            pool.available[:, o], o, -1
        )
    return routes, expected


def values_of(
    table: Float[np.ndarray, "N O"], choice: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """What the choices give; stop gives 0, and no choice NaN."""
    padded = np.pad(table, ((0, 0), (0, 1)))
    taken = np.take_along_axis(padded, np.maximum(choice, 0)[:, None], axis=1)[:, 0]
    return np.where(choice < 0, np.nan, taken)


def _rules(
    pool: Pool, fold: Fold, routing: RoutingConfig
) -> dict[str, Int[np.ndarray, "N"]]:
    """The rule with its fallback and without, z-scores over the failures at hand and over the steerable ones.

    A cell that is left out brings z-statistics of its own failures; which of them are steerable is unknown
    then, and those variants have no answer.
    """
    names = ("rule", "rule_no_fallback", "rule_subset", "rule_subset_no_fallback")
    routes = {name: np.full(len(pool), -1) for name in names}
    for c, profiles in enumerate(pool.cells):
        here = pool.cell == c
        learned = fold.train[here]
        to_union = np.array([pool.operators.index(name) for name in profiles.operators])
        steerable = (
            label(profiles.rates, profiles.operators, routing.margin, routing.hard)
            == STEERABLE
        ) & learned
        for name in names:
            subset = "subset" in name
            rows = steerable if subset else learned if learned.any() else ~learned
            if not rows.any():
                continue
            try:
                statistics = ZStatistics.fit(profiles.features[rows])
                policy = rule_policy(
                    profiles.operators, statistics, "no_fallback" not in name
                )
            except UserError:
                continue  # no line of the rule has its feature and operator here
            routes[name][here] = to_union[policy(profiles.features)]
    return routes


def random_operator(
    pool: Pool, table: Float[np.ndarray, "N O"]
) -> Float[np.ndarray, "N"]:
    """Mean over a cell's operators, retry and the controls left out."""
    arms = (
        np.isin(np.arange(len(pool.operators)), counted(pool.operators))
        & pool.available
    )
    return (table * arms).sum(axis=1) / arms.sum(axis=1)


def shuffled(
    pool: Pool,
    population: Population,
    choice: Int[np.ndarray, "N"],
    folds: Sequence[Fold],
) -> Float[np.ndarray, "N"]:
    """Exact expectation of a policy's values when its features are shuffled over problems judged together.

    These are the problems of one cell and fold: over folds, a fixed choice would be exchanged too, and it errs
    against the very problems that it left out. Problems are exchanged by how much they count.
    """
    values = np.full(len(pool), np.nan)
    padded = np.pad(population.values, ((0, 0), (0, 1)))
    for fold in folds:
        for c in range(len(pool.cells)):
            here = np.flatnonzero((pool.cell == c) & fold.test & (choice >= 0))
            mass = population.mass[here]
            values[here] = 0.0
            if mass.sum() > 0:
                share = (
                    np.bincount(choice[here], mass, minlength=padded.shape[1])
                    / mass.sum()
                )
                values[here] = padded[here] @ share
    return values
