"""The stage: branches of failed traces, and `atlas.json` with what they say."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from fr import distributed, store
from fr.atlas import actions, branch_values, branches, referee
from fr.atlas.atlas_page import write_atlas_page
from fr.atlas.branch_arrays import Branches, rates, read_branches
from fr.atlas.branches import FailedTrace
from fr.diagnosis.trace_cuts import equal_cuts
from fr.errors import UserError
from fr.profiles import write_profiles
from fr.runs.plans import complete
from fr.runs.run import Run
from fr.stats import drops, no_return
from fr.stats.bootstrap import HEADER, percent, rounded
from fr.stats.paired_noise import paired_noise
from fr.stats.variance_shares import variance_shares
from fr.workdir import write_json

Cuts = dict[str, tuple[int, ...]]


def atlas(run: Run, tell=distributed.print0) -> dict:
    """Branch failed traces at their cuts with every operator, and summarise.

    Args:
        run: The run, with finished `rollouts/` and `scores/`.
        tell: Prints the cost that is expected, before it is paid.

    Returns:
        The content of `atlas.json`, which process 0 writes.

    Raises:
        UserError: There are no scored failures, or an operator cannot go on from a cut.
    """
    if not complete(run.workdir / "scores", "scripts/diagnose.py"):
        raise UserError(
            f"{run.workdir / 'scores'} has no failed rollout; "
            "run scripts/sample.py and scripts/diagnose.py first"
        )
    c, traces = run.config.atlas, branches.open_traces(run)
    places = {t.row: equal_cuts(t.ends, c.cuts) for t in traces}
    # Cuts that were added before a kill are planned at once: a plan only grows.
    begun = run.begin(branches.FOLDER)
    rounds = [name for name in map(_round, range(c.more_cuts)) if name in begun]
    cuts: Cuts = {
        row: (*own, *(begun[name][row] for name in rounds if row in begun[name]))
        for row, own in places.items()
    }
    plan = branches.plan_branches(run, traces, cuts)
    cost = branches.expected_cost(run, traces, plan)
    tell(
        f"atlas: {len(traces)} traces, {cost['branches']:,} branches, about "
        f"{cost['expected']:,} forward tokens, at most {cost['at_most']:,}; reading "
        f"the traces once takes {cost['read']:,}"
    )
    branches.make_branches(run, plan)
    for name in map(_round, range(len(rounds), c.more_cuts)):
        more = run.begin(branches.FOLDER, **{name: _more(run, traces, cuts)})[name]
        cuts |= {row: (*cuts[row], cut) for row, cut in more.items()}
        branches.make_branches(run, branches.plan_branches(run, traces, cuts))
    found = _read(run, traces, cuts)
    index = branch_values.place_index(found, [places[t.row] for t in traces])
    cells = actions.action_cells(run, found, index, traces, _rows(run, traces))
    summary = {**HEADER, **_summary(run, found, index, traces)}
    if distributed.is_first():
        write_profiles(run.workdir / actions.NAME, cells)
        write_json(run.workdir / "atlas.json", summary)
        write_atlas_page(run.workdir, summary, traces)
    return summary


def _read(run: Run, traces: Sequence[FailedTrace], cuts: Cuts) -> Branches:
    folder = run.workdir / branches.FOLDER
    return read_branches(folder, traces, cuts, run.ancestor_weight)


def _round(index: int) -> str:
    """Key of a round of further cuts in the record of the stage."""
    return f"more_cuts_{index + 1}"


def _more(run: Run, traces: Sequence[FailedTrace], cuts: Cuts) -> dict[str, int]:
    """A further cut of each trace, where the rate of retry changes most between two.

    Only the first half of the branches is read, which detects. A trace without a place
    between two cuts has none.
    """
    found = _read(run, traces, cuts)
    value = rates(found.half(False)[:, :, found.operators.index(branches.RETRY)])
    more: dict[str, int] = {}
    for i, trace in enumerate(traces):
        own = found.cuts[i][found.known[i]]
        for j in np.argsort(-np.abs(np.diff(value[i, : len(own)])), kind="stable"):
            inside = trace.ends[(trace.ends > own[j]) & (trace.ends < own[j + 1])]
            if len(inside):
                more[trace.row] = int(inside[len(inside) // 2])
                break
    return more


def _rows(run: Run, traces: Sequence[FailedTrace]) -> dict[str, dict]:
    """Rows of the store of each trace, by folder."""
    columns = ["row", "grade", *(f"cost_{name}" for name in store.COSTS)]
    wanted = {trace.row for trace in traces}
    return {
        folder: {
            row["row"]: row
            for row in store.read_table(run.workdir / folder, columns).to_pylist()
            if row["row"] in wanted
        }
        for folder in ("rollouts", "scores")
    }


def _summary(
    run: Run,
    found: Branches,
    index: Int[np.ndarray, "N P"],
    traces: Sequence[FailedTrace],
) -> dict:
    c, routing = run.config.atlas, run.config.routing
    how = routing.bootstrap, run.config.seed
    lost = {
        operator: no_return.points_of_no_return(
            *found.counts(operator), c.share, c.level
        )
        for operator in found.sampled
    }
    detect = found.counts(branches.RETRY, second=False)
    judge = found.counts(branches.RETRY, second=True)
    fallen = drops.largest_drop(*detect, level=c.level, seed=run.config.seed)
    sizes = drops.estimate(*judge, fallen.place)
    truth = _truth(drops.largest_drop(*judge, level=c.level), found)
    located = [
        *referee.baselines(found, truth, run.config.seed),
        _cliffs(found, detect),
        *referee.locate(found, traces, run.config),
    ]
    sampled = [found.operators.index(name) for name in found.sampled]
    first, second = (
        branch_values.at_places(rates(found.half(one)), index)[:, :, sampled]
        for one in (False, True)
    )
    return {
        "specialist": run.names[0],
        "ancestor": run.names[1],
        "operators": list(found.operators),
        "branches": int((~np.isnan(found.right)).sum()),
        "tokens": rounded(float(np.nansum(found.cost))),
        "values": branch_values.value_rows(found, index, *how),
        "variance": variance_shares(first, second, found.groups, *how),
        "paired": _paired(found, run),
        "no_return": [_claims(name, each, found) for name, each in lost.items()],
        "defects": referee.against_defects(
            found, traces, _cut_of(lost[branches.RETRY]), run.config
        ),
        "drops": {
            "claimed": int(fallen.selected.sum()),
            "traces": len(traces),
            "size": _mean(100 * sizes.drop[fallen.selected]),
            "cliffs": percent(float(drops.cliff_test(*detect).any(axis=1).mean())),
        },
        "referee": referee.judge(found, located, truth, *how),
        "traces": _traces(found, traces, lost, fallen),
    }


def _truth(fallen: drops.Drops, found: Branches) -> np.ndarray:
    """Intervals with the claimed drop of a trace, [N, K - 1]."""
    truth = np.zeros((len(found.rows), found.cuts.shape[1] - 1), bool)
    rows = np.flatnonzero(fallen.selected)
    truth[rows, fallen.place[rows]] = True
    return truth


def _cliffs(found: Branches, detect) -> referee.Located:
    """The largest fall between two cuts, of the branches that detect (2606.25524)."""
    with np.errstate(invalid="ignore"):
        share = detect[0] / detect[1]
    fall = np.where(found.known[:, 1:], share[:, :-1] - share[:, 1:], np.nan)
    return referee.Located.of("cliff", fall)


def _paired(found: Branches, run: Run) -> dict:
    """Noise of V_o - V_retry with shared keys against independent ones."""
    reference = found.operators.index(branches.RETRY)
    how = found.groups, run.config.routing.bootstrap, run.config.seed
    noise = paired_noise(found.right, reference, *how)
    rows = [
        {"operator": found.operators[o], **r} for o, r in noise["operators"].items()
    ]
    return {"median": noise["median"], "operators": rows}


def _claims(operator: str, each: no_return.NoReturn, found: Branches) -> dict:
    words = each.verdicts()
    own = np.flatnonzero(each.selected)
    shares = found.cuts[own, each.at[own]] / found.lengths[own]
    return {
        "operator": operator,
        "claimed": words.count(no_return.CLAIMED),
        "none": words.count(no_return.NONE),
        "cannot_tell": words.count(no_return.CANNOT_TELL),
        "median_place": rounded(float(np.median(shares))) if len(own) else None,
    }


def _cut_of(each: no_return.NoReturn) -> Int[np.ndarray, "N"]:
    return np.where(each.selected, each.at, -1)


def _mean(values: np.ndarray) -> float | None:
    return rounded(float(values.mean())) if len(values) else None


def _traces(found: Branches, traces, lost, fallen) -> list[dict]:
    """Rates and claims of each trace, to draw over its text."""
    rows = []
    counts = {name: found.counts(name) for name in found.operators}
    for i, trace in enumerate(traces):
        known = found.known[i]
        rows.append(
            {
                "row": trace.row,
                "problem": trace.problem.id,
                "tokens": len(trace.written.tokens),
                "cuts": found.cuts[i][known].tolist(),
                "right": {
                    n: right[i][known].tolist() for n, (right, _) in counts.items()
                },
                "made": {n: made[i][known].tolist() for n, (_, made) in counts.items()},
                "no_return": {
                    n: int(found.cuts[i, each.at[i]]) if each.selected[i] else None
                    for n, each in lost.items()
                },
                "drop_after": int(found.cuts[i, fallen.place[i]])
                if fallen.selected[i]
                else None,
            }
        )
    return rows
