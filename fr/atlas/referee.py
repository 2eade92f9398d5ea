"""The referee: every localiser is judged on one truth, in two ways.

1. Average precision of the intervals between cuts in which the rate of retry drops.
2. Points gained by restarting where the localiser says, at equal forward tokens.

The bounds of both are a random place, the place that is best on other problems'
traces, and outside truth.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.atlas.branch_arrays import Branches
from fr.atlas.branch_values import trace_weights, weighted
from fr.atlas.branches import RETRY, FailedTrace
from fr.config import Config
from fr.diagnosis.localisers import LOCALISERS
from fr.diagnosis.signals import mean
from fr.stats.bootstrap import Estimate, difference_record, estimate, holm

RANDOM, POSITION = "random", "position_only"
_ORDERS = 64  # random orders of the branches of a cut
_RETRIES = 4  # budget of a restart, in the mean cost of a fresh attempt


@dataclasses.dataclass(frozen=True)
class Located:
    """Scores of one localiser for the intervals between cuts, [N, K - 1].

    Attributes:
        name: Name of the localiser.
        scores: Rank of each interval within its trace, in [0, 1]; NaN where there is
            none. Comparable over traces of any length.
        outside: It uses outside truth.
    """

    name: str
    scores: Float[np.ndarray, "N J"]
    outside: bool = False

    @classmethod
    def of(cls, name: str, values: Float[np.ndarray, "N J"], outside: bool = False):
        """Rank the intervals of each trace.

        Args:
            name: Name of the localiser.
            values: Its scores, in any unit; NaN where there is none.
            outside: It uses outside truth.

        Returns:
            The localiser's ranks.
        """
        return cls(name, _ranks(values), outside)

    @property
    def place(self) -> Int[np.ndarray, "N"]:
        """Cut before the interval with the largest score; -1 of an unknown one."""
        known = np.isfinite(self.scores)
        best = np.where(known, self.scores, -np.inf).argmax(axis=1)
        return np.where(known.any(axis=1), best, -1)


def locate(
    branches: Branches,
    traces: Sequence[FailedTrace],
    config: Config,
) -> list[Located]:
    """Score the intervals of all traces by every registered localiser.

    Args:
        branches: The branches, for the cuts.
        traces: The failed traces, with their confidence where it was probed.
        config: All settings.

    Returns:
        The localisers that at least half of the traces have a score of.
    """
    found = []
    for name in LOCALISERS:
        scores = np.full((len(traces), branches.cuts.shape[1] - 1), np.nan)
        for i, trace in enumerate(traces):
            each = LOCALISERS[name].score(trace.attempt, trace.written, config)
            if each is not None:
                scores[i] = _by_interval(each, branches.cuts[i])
        if np.isfinite(scores).any(axis=1).mean() >= 0.5:
            found.append(Located.of(name, scores, LOCALISERS[name].outside))
    return found


def _by_interval(
    scores: Float[np.ndarray, "T"], cuts: Int[np.ndarray, "K"]
) -> Float[np.ndarray, "J"]:
    """The largest score of the tokens between one cut and the next."""
    found = np.full(len(cuts) - 1, np.nan)
    for j, (begin, end) in enumerate(zip(cuts[:-1], cuts[1:])):
        if end > begin >= 0 and len(own := scores[begin:end]):
            found[j] = own.max()
    return found


def _ranks(scores: Float[np.ndarray, "N J"]) -> Float[np.ndarray, "N J"]:
    """Share of a trace's other intervals that score less, ties by half."""
    less = (scores[:, :, None] > scores[:, None, :]).sum(axis=2)
    equal = (scores[:, :, None] == scores[:, None, :]).sum(axis=2) - 1
    known = (~np.isnan(scores)).sum(axis=1, keepdims=True)
    ranks = (less + equal / 2) / np.maximum(known - 1, 1)
    return np.where(np.isnan(scores), np.nan, ranks)


def baselines(
    branches: Branches, truth: Bool[np.ndarray, "N J"], seed: int
) -> list[Located]:
    """A random place, and the place where other problems' traces drop.

    Args:
        branches: The branches.
        truth: Intervals with a drop.
        seed: Seed of the random places.

    Returns:
        `random` and `position_only`, which is fitted without the trace's own problem.
    """
    between = branches.known[:, 1:]
    rng = np.random.default_rng(seed)
    chance = np.where(between, rng.random(between.shape), np.nan)
    ends = np.maximum(branches.cuts.max(axis=1, keepdims=True), 1)
    shares = np.where(between, branches.cuts[:, :-1] / ends, np.nan)
    place = np.full(between.shape, np.nan)
    for group in np.unique(branches.groups):
        own = branches.groups == group
        others = between & ~own[:, None]
        for i in np.flatnonzero(own):
            near = np.exp(-0.5 * ((shares[i, :, None] - shares[others]) / 0.1) ** 2)
            place[i] = (near @ truth[others]) / np.maximum(near.sum(axis=1), 1e-9)
    place = np.where(between, place, np.nan)
    return [Located.of(RANDOM, chance), Located.of(POSITION, place)]


def against_defects(
    branches: Branches,
    traces: Sequence[FailedTrace],
    claimed: Int[np.ndarray, "N"],
    config: Config,
) -> dict | None:
    """Compare claimed points of no return with the first defect of each trace.

    The state at a cut holds the defect's token d if more than d tokens are kept. A
    claim is before the defect, at the first cut that holds it, or at a later one.

    Args:
        branches: The branches, for the cuts.
        traces: The failed traces.
        claimed: Cut of the claim of each trace; -1 without one.
        config: All settings.

    Returns:
        {"traces", "both", "before", "at", "after", "tokens"}: number of traces with a
        known defect, and with a claim, too. The three shares of the latter are in
        percent, and `tokens` is the median of the claim's kept tokens less d + 1, with
        intervals over problems. None without a trace that has both.
    """
    defect, score = np.full(len(traces), -1), LOCALISERS["first_defect"].score
    for i, trace in enumerate(traces):
        found = score(trace.attempt, trace.written, config)
        if found is not None and found.max(initial=0) > 0:
            defect[i] = found.argmax()
    both = np.flatnonzero((defect >= 0) & (claimed >= 0))
    if not len(both):
        return None
    kept = branches.cuts[both, claimed[both]] - (defect[both] + 1)
    holds = branches.known[both] & (branches.cuts[both] > defect[both, None])
    first = holds.argmax(axis=1) == claimed[both]
    how = config.routing.bootstrap, config.seed
    weights = trace_weights(branches, *how)[:, both]
    problems = len(np.unique(branches.groups[both]))
    share = lambda which: weighted(1.0 * which, weights, problems).percent().as_dict()
    order = np.argsort(kept, kind="stable")
    below = weights[:, order].cumsum(axis=1)
    middle = kept[order][(2 * below >= below[:, -1:]).argmax(axis=1)]
    return {
        "traces": int((defect >= 0).sum()),
        "both": len(both),
        "before": share(kept < 0),
        "at": share((kept >= 0) & first),
        "after": share((kept >= 0) & ~first),
        "tokens": estimate(middle.astype(float), problems).plain().as_dict(),
    }


def average_precision(
    scores: Float[np.ndarray, "M"],
    truth: Bool[np.ndarray, "M"],
    mass: Float[np.ndarray, "M"],
) -> float:
    """AP = sum_k (R_k - R_{k-1}) P_k over falling thresholds; equal scores together.

    Args:
        scores: Higher is nearer to a drop.
        truth: A drop.
        mass: Weight of each.

    Returns:
        The area under precision and recall; NaN without a drop.
    """
    if not (mass * truth).sum() > 0:
        return np.nan
    levels, at = np.unique(-scores, return_inverse=True)
    hits = np.bincount(at, mass * truth, len(levels))
    every = np.bincount(at, mass, len(levels))
    precision = np.cumsum(hits) / np.maximum(np.cumsum(every), 1e-12)
    return float(hits @ precision / hits.sum())


def solved_within(
    right: Float[np.ndarray, "B"], cost: Float[np.ndarray, "B"], budget: float, rng
) -> float:
    """Chance that branches in a random order reach a right answer within a budget.

    Args:
        right: 1, 0 or NaN.
        cost: Cost of each branch.
        budget: In the unit of the costs.
        rng: Random stream.

    Returns:
        The mean over random orders.
    """
    known = ~np.isnan(right)
    if not known.any():
        return np.nan
    right, cost = right[known], cost[known]
    orders = rng.permuted(np.tile(np.arange(len(right)), (_ORDERS, 1)), axis=1)
    spent = cost[orders].cumsum(axis=1)
    return float(((right[orders] > 0) & (spent <= budget)).any(axis=1).mean())


def judge(
    branches: Branches,
    located: Sequence[Located],
    truth: Bool[np.ndarray, "N J"],
    resamples: int,
    seed: int,
) -> list[dict]:
    """Judge localisers by average precision and by restarts at equal tokens.

    Args:
        branches: The branches.
        located: Localisers, and the two baselines.
        truth: Intervals with a drop of the rate of retry.
        resamples: Bootstrap resamples of problems.
        seed: Seed of the resamples.

    Returns:
        Rows {localiser, outside, average_precision, over_position, gain,
        gain_over_position}: differences with interval, p and Holm's p over localisers.
    """
    weights = trace_weights(branches, resamples, seed)
    problems = int(branches.groups.max()) + 1
    gains, precision = {}, {}
    value = _restarts(branches, seed)
    for each in located:
        place = each.place
        chosen = np.take_along_axis(value, np.maximum(place, 0)[:, None], axis=1)[:, 0]
        if each.name == RANDOM:
            chosen = np.nanmean(value, axis=1)
        gains[each.name] = np.where(place < 0, value[:, 0], chosen) - value[:, 0]
        precision[each.name] = _precisions(each.scores, truth, weights, problems)
    rows: list[dict] = []
    for each in located:
        mine = {
            "over_position": precision[each.name] - precision[POSITION],
            "gain_over_position": weighted(
                gains[each.name] - gains[POSITION], weights, problems
            ),
        }
        gain = weighted(gains[each.name], weights, problems)
        rows.append(
            {
                "localiser": each.name,
                "outside": each.outside,
                "average_precision": precision[each.name].percent().as_dict(),
                "gain": difference_record(gain),
                **{name: difference_record(gap) for name, gap in mine.items()},
            }
        )
    for name in ("over_position", "gain_over_position"):
        tested = [row[name] for row in rows if "p" in row[name] and not row["outside"]]
        for record, adjusted in zip(tested, holm([r["p"] for r in tested])):
            record["p_holm"] = adjusted
    return rows


def _precisions(
    scores: Float[np.ndarray, "N J"],
    truth: Bool[np.ndarray, "N J"],
    weights: Float[np.ndarray, "R1 N"],
    problems: int,
) -> Estimate:
    known = np.isfinite(scores)
    trace = np.nonzero(known)[0]
    return estimate(
        np.array(
            [
                average_precision(scores[known], truth[known], mass[trace])
                for mass in weights
            ]
        ),
        problems,
    )


def _restarts(branches: Branches, seed: int) -> Float[np.ndarray, "N K"]:
    """Chance that plain branches from each cut solve a problem within one budget.

    The second half of the branches, since a localiser may have read the first.
    """
    rng, o = np.random.default_rng(seed), branches.operators.index(RETRY)
    right, cost = (
        branches.half(True)[:, :, o],
        branches.cost[:, :, o, branches.indices(True)],
    )
    value = np.full(branches.cuts.shape, np.nan)
    for i in range(len(value)):
        budget = _RETRIES * mean(cost[i, 0].tolist())
        for k in np.flatnonzero(branches.known[i]):
            value[i, k] = solved_within(right[i, k], cost[i, k], budget, rng)
    return value
