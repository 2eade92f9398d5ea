"""A certified lift: a router against the best fixed operator of each model, and against every fixed choice."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtr, stdtrit

from fr.config import RoutingConfig
from fr.routing.fixed import attempt_prices, fixed_routes, places_of
from fr.routing.folds import make_folds
from fr.routing.policies import values_of
from fr.routing.pool import Pool, Population, models_of
from fr.routing.posterior import POSTERIORS, posterior_choice, told_scores
from fr.stats.bootstrap import fold_correction, holm, percent
from fr.stats.sequential import sequential_p

LEVEL = 0.05  # of a certified lift
_MOST = 19_999  # draws of the test that columns tell operators apart
RUN = "run"  # column that names the training run whose model a failure is of; without it, the model
INCLUDED = (
    "which questions, training runs (where there are several) and attempts were drawn, and that the router and its "
    "look-up would be learned from other folds; fold splits are averaged over"
)


def certify(
    pool: Pool,
    population: Population,
    routing: RoutingConfig,
    generator: Callable[[str], np.random.Generator],
    routers: Sequence[str] = ("posterior", "posterior_nuisances"),
) -> list[dict]:
    """One record for each of `routers` of POSTERIORS, k-fold by question over several fold splits.

    `lift`: over the best fixed operator of each model on each task, chosen on the training folds. `every`: the
    intersection–union test that the router beats every fixed choice (an operator for each model on each task),
    one-sided: its p is the largest of theirs (Berger, doi 10.1080/00401706.1982.10487790), and no choice of the
    best need be resampled.
    Both by Student's t with a variance clustered by question and, where there are several, by training run: p has
    no floor. Empty without k folds.

    `certified`: the intersection of two tests at 5 %, `told` (`columns_tell`) and the one-sided test of the lift by
    its interval's error. A router that no column helps is certified in at most 5 % of tables by the first, whatever
    the error of what was learned in folds; where columns do tell operators apart, but not the best one from the
    fixed choice, the level is that of the second. `routers` are tested in their order, each only if those
    before it are certified, so that 5 % is the level of all together.
    """
    names = ["kfold", *(f"kfold {r}" for r in range(1, routing.splittings))]
    splits = [
        make_folds(pool, "kfold", routing.folds, generator(name)) for name in names
    ]
    if isinstance(splits[0], str):
        return []
    prices, records = attempt_prices(pool, routing.price), []
    for name in routers:
        gave, looked = np.zeros((2, len(splits), len(pool)))
        kept = []
        for r, folds in enumerate(splits):
            for fold in folds:
                choice, _ = posterior_choice(
                    pool, population, fold.train, POSTERIORS[name], routing
                )
                fixed = fixed_routes(pool, population, fold.train, prices, "model")
                gave[r, fold.test] = values_of(population.values, choice)[fold.test]
                looked[r, fold.test] = values_of(population.values, fixed)[fold.test]
                counted = fold.test & (population.mass > 0)
                kept.append(bool((choice[counted] == fixed[counted]).all()))
        told = columns_tell(
            pool, population, POSTERIORS[name], generator(f"told {name}")
        )
        judged = judge(
            pool, population, gave.mean(axis=0), looked.mean(axis=0), len(splits[0])
        )
        p, ahead = judged["lift"]["p"], (judged["lift"]["diff"] or 0) > 0
        certain = told <= LEVEL and p is not None and ahead and p / 2 <= LEVEL
        records.append({
            "policy": name, "splits": len(splits), "kept": sum(kept), "folds": len(kept), "included": INCLUDED,
            "told": round(told, 6), "certified": certain and all(r["certified"] for r in records), **judged,
        })  # fmt: skip
    tested = [record for record in records if record["lift"]["p"] is not None]
    for record, p in zip(tested, holm([record["lift"]["p"] for record in tested])):
        record["lift"]["p_holm"] = round(p, 6)
    return records


def columns_tell(
    pool: Pool, population: Population, reads: tuple[str, ...], rng: np.random.Generator
) -> float:
    """p of "what the columns `reads` say has nothing to do with the differences between operators".

    T = ‖Σ_q ε_q U_q‖², where U_q is the sum over the rows of question q of `told_scores` and ε_q = 1; under the
    null it is as with random signs ε_q (arXiv 1909.03796). Signs rather than permutations: questions may have rows
    in several places, and rows that differ in how much their residuals vary. Exact where, given the outcomes, the
    columns of a question are as likely as their mirror image about the mean; else as questions grow in number,
    whatever the variances. Questions are taken as independent, training runs are not resampled. At most
    19,999 draws of signs, fewer where p is large; 1.0 where there is no column to read.
    """
    scores = told_scores(pool, population, reads)
    if scores is None:
        return 1.0
    _, member = np.unique(pool.problem[population.mass > 0], return_inverse=True)
    flat = scores.reshape(len(scores), -1)
    sums = np.zeros((member.max() + 1, flat.shape[1]))
    np.add.at(sums, member, flat)

    def draw(tables: int) -> Float[np.ndarray, "B"]:
        signs = 2.0 * rng.integers(2, size=(tables, len(sums))) - 1
        return ((signs @ sums) ** 2).sum(axis=1)

    seen = float((sums.sum(axis=0) ** 2).sum())
    return sequential_p(draw, seen, _MOST, enough=20, batch=500)[0]


def judge(
    pool: Pool,
    population: Population,
    gave: Float[np.ndarray, "N"],
    looked: Float[np.ndarray, "N"],
    folds: int,
) -> dict:
    """{"lift", "every", "questions", "runs"} of what a router gave each row, beside the look-up's.

    The error of the lift is that of choices learned in folds (`fold_correction`).
    """
    clusters = [pool.problem, runs_of(pool)]
    counts = [len(np.unique(c[population.mass > 0])) for c in clusters]
    if counts[1] < 2:
        clusters = clusters[:1]
    mean, error, degrees = clustered(gave - looked, population.mass, clusters)
    error *= fold_correction(folds)
    lift = {"diff": percent(mean), "low": None, "high": None, "p": None}
    if error > 0:
        reach = stdtrit(degrees, 0.975) * error
        lift |= {"low": percent(mean - reach), "high": percent(mean + reach)}
        lift["p"] = float(2 * stdtr(degrees, -abs(mean / error)))
    worst, choice = beats_every(pool, population, gave, clusters)
    every = None
    if worst:
        mean, error, degrees = worst
        every = {
            "diff": percent(mean),
            "low": percent(mean - stdtrit(degrees, 0.95) * error),
            "p": float(stdtr(degrees, -mean / error)),
            "hardest": dict(zip(_names(pool), (pool.operators[o] for o in choice))),
        }
    return {"lift": lift, "every": every, "questions": counts[0], "runs": counts[1]}


def beats_every(
    pool: Pool,
    population: Population,
    gave: Float[np.ndarray, "N"],
    clusters: list[Int[np.ndarray, "N"]],
) -> tuple[tuple[float, float, float] | None, list[int]]:
    """(mean, error, degrees) against the fixed choice with the largest p, and that choice, cell by cell.

    Searched from the best operator of each model, one model at a time, until no other operator has a larger p.
    """
    place, firsts = places_of(pool, "model")
    offered = [np.flatnonzero(pool.available[i]) for i in firsts]
    means = [population.values[place == g].mean(axis=0) for g in range(len(firsts))]
    choice = [int(own[mean[own].argmax()]) for own, mean in zip(offered, means)]

    def against(one: list[int]) -> tuple[float, tuple]:
        gap = gave - values_of(population.values, np.array(one)[place])
        mean, error, degrees = found = clustered(gap, population.mass, clusters)
        return (
            float(stdtr(degrees, -mean / error)) if error > 0 else float(mean <= 0)
        ), found

    largest, found = against(choice)
    moved = True
    while moved:
        moved = False
        for c, own in enumerate(offered):
            for o in own:
                other = [*choice[:c], int(o), *choice[c + 1 :]]
                p, there = against(other)
                if p > largest + 1e-12:
                    largest, found, choice, moved = p, there, other, True
    return (found if found[1] > 0 else None), choice


def clustered(
    values: Float[np.ndarray, "N"],
    mass: Float[np.ndarray, "N"],
    clusters: list[Int[np.ndarray, "N"]],
) -> tuple[float, float, float]:
    """Mean of `values` (already times `mass`), its standard error and degrees of freedom.

    Of two clusterings the variance is that by the first, plus that by the second, less that by both at once
    (doi 10.1198/jbes.2010.07136); never below the larger of the two, and degrees are those of the fewer clusters.
    """
    total = mass.sum()
    mean = values.sum() / total
    rest = values - mean * mass

    def variance(index: Int[np.ndarray, "N"]) -> tuple[float, int]:
        _, member = np.unique(index, return_inverse=True)
        counted = len(np.unique(member[mass > 0]))
        sums = np.bincount(member, rest)
        return float(
            (sums**2).sum() / total**2 * counted / max(counted - 1, 1)
        ), counted

    found = [variance(index) for index in clusters]
    whole, fewest = max(v for v, _ in found), min(n for _, n in found)
    if len(clusters) > 1:
        both = clusters[0] * (int(clusters[1].max()) + 1) + clusters[1]
        whole = max(whole, sum(v for v, _ in found) - variance(both)[0])
    # Rounding leaves a little of a difference that is the same everywhere.
    return (
        float(mean),
        float(np.sqrt(whole)) if whole > 1e-20 else 0.0,
        max(1.0, fewest - 1.0),
    )


def runs_of(pool: Pool) -> Int[np.ndarray, "N"]:
    """A number for the training run of every row: column `run`, or else the model where cells mix several.

    All the same where neither is so: a claim about the models at hand is over their questions.
    """
    told = [profiles.extras.get(RUN) for profiles in pool.cells]
    if all(told):
        return np.unique(sum(told, ()), return_inverse=True)[1]
    mixed = len(np.unique(pool.model)) > len(pool.cells)
    return pool.model if mixed else np.zeros(len(pool), int)


def _names(pool: Pool) -> list[str]:
    models = models_of(pool.cells)
    return [models[i] for i in places_of(pool, "model")[1]]
