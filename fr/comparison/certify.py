"""Certified lifts: a router against the best fixed operator, and every fixed choice."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtr, stdtrit

from fr.comparison.evaluate import choose_out_of_fold
from fr.routing.baselines import look_up, values_of
from fr.routing.dataset import Fold, RoutingData
from fr.routing.policies import LOOK_UPS, Policy
from fr.routing.posterior import column_scores
from fr.stats.bootstrap import (
    Interval,
    estimate,
    fold_correction,
    holm,
    percent,
    rounded,
)
from fr.stats.clustered import clustered_mean
from fr.stats.sequential import sequential_p

_LEVEL = 0.05  # of a certified lift
_MOST = 19_999  # draws of the test that columns tell operators apart
RUN = "run"  # column: the training run of the failed model; without it, the model
INCLUDED = (
    "which questions, training runs (where there are several) and attempts were drawn, "
    "and that the router and its look-up would be learned from other folds; fold "
    "splits are averaged over"
)
Found = tuple[float, float, float]  # mean, standard error, degrees of freedom


def certify(policies: Sequence[Policy], data: RoutingData) -> list[dict]:
    """Test the lift of routers, k-fold by question over several fold splits.

    The lift is over the router's basis, the best fixed operator of each model on each
    task, chosen on the training folds. `every` is the intersection–union test that the
    router beats every fixed choice (an operator per model and task): its p is the
    largest of theirs (doi 10.1080/00401706.1982.10487790). Both by Student's t with a
    variance clustered by question and, if there are several, by training run.

    A router is certified if both tests pass at 5 %: `columns_p`, and the one-sided
    test of the lift. A router that no column helps is certified in at most 5 % of
    tables by the first, for any error of what was learned in folds; where columns
    tell operators apart, but not the best one from the fixed choice, the second test
    sets the level. Routers are tested in their order, each only if those before it are
    certified: 5 % is the level of all together.

    Args:
        policies: routers with a basis.
        data: failed problems of a population.

    Returns:
        One record per policy; none without k folds.
    """
    splits = k_fold_splits(data)
    if not splits:
        return []
    records: list[dict] = []
    for policy in policies:
        gave, looked, kept = out_of_fold(policy, data, splits)
        told = columns_p(
            data.reading(policy.feature_groups), data.stream(f"told {policy.name}")
        )
        judged = judge(data, gave, looked, len(splits[0]))
        certain = told <= _LEVEL and ahead(judged)
        records.append(
            {
                "policy": policy.name,
                "reference": policy.basis,
                **judged,
                "gap_closed": gap_closed(data, gave, looked, len(splits[0])),
                "columns_p": rounded(told),
                "certified": certain and all(r["certified"] for r in records),
                "kept": sum(kept),
                "folds": len(kept),
                "splits": len(splits),
                "included": INCLUDED,
            }
        )
    tested = [record for record in records if "p" in record]
    for record, p in zip(tested, holm([record["p"] for record in tested])):
        record["p_holm"] = rounded(p)
    return records


def k_fold_splits(data: RoutingData) -> list[list[Fold]]:
    """Divide the problems into k folds, several times.

    Args:
        data: failed problems of a population.

    Returns:
        The folds of each splitting; none where problems are too few.
    """
    names = ["kfold", *(f"kfold {r}" for r in range(1, data.config.splittings))]
    found = [data.folds("kfold", name) for name in names]
    return [folds for folds in found if not isinstance(folds, str)]


def out_of_fold(
    policy: Policy, data: RoutingData, splits: Sequence[Sequence[Fold]]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"], list[bool]]:
    """Values of a router's choices and of its look-up's, both learned in other folds.

    Args:
        policy: a router.
        data: failed problems of a population.
        splits: of `k_fold_splits`.

    Returns:
        The two values of each row, averaged over the splittings, and for each fold
        whether the router kept the look-up's choices.
    """
    gave, looked = np.zeros((2, len(splits), len(data)))
    kept, by = [], LOOK_UPS[policy.basis or "best_fixed_per_model"]
    for r, folds in enumerate(splits):
        stream = data.stream(f"certify {r}")
        chosen = choose_out_of_fold([policy], data, folds, stream)[policy].operator
        for fold in folds:
            fixed = look_up(data, fold.train, by)
            gave[r, fold.test] = values_of(data.values, chosen)[fold.test]
            looked[r, fold.test] = values_of(data.values, fixed)[fold.test]
            counted = fold.test & (data.mass > 0)
            kept.append(bool((chosen[counted] == fixed[counted]).all()))
    return gave.mean(axis=0), looked.mean(axis=0), kept


def ahead(judged: dict) -> bool:
    """Say whether a lift is above 0, one-sided at 5 %.

    Args:
        judged: of `judge`.

    Returns:
        True if it is.
    """
    p, value = judged.get("p"), judged["interval"]["value"] or 0
    return p is not None and value > 0 and p / 2 <= _LEVEL


def columns_p(data: RoutingData, rng: np.random.Generator) -> float:
    """Test whether columns have to do with the differences between operators.

    T = ‖Σ_q ε_q U_q‖², U_q the sum over the rows of question q of `column_scores` and
    ε_q = 1; under the null it is as with random signs ε_q (arXiv 1909.03796). Signs
    rather than permutations: questions may have rows in several places, with residuals
    of different variance. Exact if, given the outcomes, the columns of a question are
    as likely as their mirror image about the mean; else as questions grow in number.
    Questions are taken as independent, training runs are not resampled.

    Args:
        data: failed problems of a population; it holds the columns to test.
        rng: random stream of at most 19,999 draws of signs.

    Returns:
        p; 1.0 without a column.
    """
    scores = column_scores(data)
    if scores is None:
        return 1.0
    _, member = np.unique(data.problem[data.mass > 0], return_inverse=True)
    flat = scores.reshape(len(scores), -1)
    sums = np.zeros((member.max() + 1, flat.shape[1]))
    np.add.at(sums, member, flat)

    def draw(tables: int) -> Float[np.ndarray, "B"]:
        signs = 2.0 * rng.integers(2, size=(tables, len(sums))) - 1
        return ((signs @ sums) ** 2).sum(axis=1)

    seen = float((sums.sum(axis=0) ** 2).sum())
    return sequential_p(draw, seen, _MOST, enough=20, batch=500)[0]


def judge(
    data: RoutingData,
    gave: Float[np.ndarray, "N"],
    looked: Float[np.ndarray, "N"],
    folds: int,
) -> dict:
    """Compare what a router gave each row with its look-up, and every fixed choice.

    Args:
        data: failed problems of a population.
        gave: values of the router's choices.
        looked: values of the look-up's choices.
        folds: number of folds that both were learned in.

    Returns:
        {"interval", "p"?, "every", "questions", "runs"} in points.
    """
    clusters = [data.problem, training_runs(data)]
    counts = [len(np.unique(c[data.mass > 0])) for c in clusters]
    # One training run has no variance over runs: the claim is about that run.
    if counts[1] < 2:
        clusters = clusters[:1]
    mean, error, degrees = clustered_mean(gave - looked, data.mass, clusters)
    error *= fold_correction(folds)
    found: dict = {"interval": Interval(percent(mean)).as_dict()}
    if error > 0:
        reach = stdtrit(degrees, 0.975) * error
        ends = percent(mean), percent(mean - reach), percent(mean + reach)
        found = {"interval": Interval(*ends).as_dict()}
        found["p"] = float(2 * stdtr(degrees, -abs(mean / error)))
    hardest, choice = beats_every(data, gave, clusters)
    every = None
    if hardest:
        mean, error, degrees = hardest
        low = percent(mean - stdtrit(degrees, 0.95) * error)
        models = [name for profiles in data.cells for name in profiles.models]
        places = (models[i] for i in data.places("model")[1])
        every = {
            "interval": Interval(percent(mean), low).as_dict(),
            "p": float(stdtr(degrees, -mean / error)),
            "hardest": dict(zip(places, (data.operators[o] for o in choice))),
        }
    return found | {"every": every, "questions": counts[0], "runs": counts[1]}


def gap_closed(
    data: RoutingData,
    gave: Float[np.ndarray, "N"],
    looked: Float[np.ndarray, "N"],
    folds: int,
) -> dict | None:
    """Divide a router's lift by the lift of a perfect router.

    (mean of the router - mean of the look-up) / (mean of the best - mean of the
    look-up). The best operator of a problem is chosen by a random half of its attempts
    and judged by the other, over the halvings of `halves_view`, so that luck is not
    taken for headroom. Few attempts choose worse than a perfect router, and the share
    is then too large. Problems without two halves are left out.

    Args:
        data: failed problems of a population.
        gave: values of the router's choices.
        looked: values of the look-up's choices.
        folds: number of folds that both were learned in.

    Returns:
        An interval in percent, over questions, widened by `fold_correction`; None where
        the headroom is not above 0 in 97.5 % of the resamples.
    """
    best, known = np.zeros(len(data)), np.zeros(len(data), bool)
    for c, views in enumerate(data.views):
        if view := views.get("split_halves"):
            rows = np.flatnonzero(data.cell == c)[view.kept]
            chosen = view.deciding.argmax(axis=-1)[..., None]
            scored = np.take_along_axis(view.scoring, chosen, axis=-1)[..., 0]
            best[rows], known[rows] = scored.mean(axis=0), True
    used = known & (data.mass > 0)
    weights = data.resamples[:, used]
    headroom = weights @ (best * data.mass - looked)[used]
    if not used.any() or headroom[0] <= 0 or np.mean(headroom[1:] <= 0) > 0.025:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        share = weights @ (gave - looked)[used] / headroom
    problems = len(np.unique(data.problem[used]))
    found = estimate(share, problems).widened(fold_correction(folds))
    return found.percent().as_dict()


def beats_every(
    data: RoutingData,
    gave: Float[np.ndarray, "N"],
    clusters: list[Int[np.ndarray, "N"]],
) -> tuple[Found | None, list[int]]:
    """Find the fixed choice that a router beats with the largest p.

    Searched from the best operator of each model, one model at a time, until no other
    operator has a larger p.

    Args:
        data: failed problems of a population.
        gave: values of the router's choices.
        clusters: of `clustered_mean`.

    Returns:
        (mean, error, degrees) of the difference, None if it has no error; and the
        operator of each model in each cell.
    """
    place, firsts = data.places("model")
    offered = [np.flatnonzero(data.available[i]) for i in firsts]
    means = [data.values[place == g].mean(axis=0) for g in range(len(firsts))]
    choice = [int(own[mean[own].argmax()]) for own, mean in zip(offered, means)]

    def against(one: list[int]) -> tuple[float, Found]:
        gap = gave - values_of(data.values, np.array(one)[place])
        mean, error, degrees = found = clustered_mean(gap, data.mass, clusters)
        if error > 0:
            return float(stdtr(degrees, -mean / error)), found
        return float(mean <= 0), found

    largest, found = against(choice)
    moved = True
    while moved:
        moved = False
        for c, own in enumerate(offered):
            for o in own:
                other = [*choice[:c], int(o), *choice[c + 1 :]]
                p, there = against(other)
                # By more than a rounding, or two even choices would alternate for ever.
                if p > largest + 1e-12:
                    largest, found, choice, moved = p, there, other, True
    return (found if found[1] > 0 else None), choice


def training_runs(data: RoutingData) -> Int[np.ndarray, "N"]:
    """Number the training run of each row: column `run`, or else the model.

    Args:
        data: the failed problems.

    Returns:
        The runs; all the same if the column is missing and each cell has one model, for
        a claim about the models at hand is over their questions.
    """
    told = [profiles.extras.get(RUN, ()) for profiles in data.cells]
    if all(map(any, told)):
        models = [name for profiles in data.cells for name in profiles.models]
        runs = [name for column in told for name in column]
        names = [run or model for run, model in zip(runs, models)]
        return np.unique(names, return_inverse=True)[1]
    mixed = len(np.unique(data.model)) > len(data.cells)
    return data.model if mixed else np.zeros(len(data), int)
