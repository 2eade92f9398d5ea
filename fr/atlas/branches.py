"""From scored failures to `branches/`: every operator from every cut of failed traces.

A branch keeps the first tokens of a failed trace and goes on from there. All operators
of one (trace, cut, index) have the same random key, so that their differences are
paired. At cut 0 the traces of a problem share their branches.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from fr import store
from fr.diagnosis.junction import Trace
from fr.diagnosis.trace_cuts import step_ends
from fr.errors import UserError
from fr.interventions import Operator, OperatorContext, select
from fr.interventions.restarts import restart
from fr.pipeline.intervene import setting_of
from fr.pipeline.profile_tables import failures_by_problem
from fr.pipeline.state_means import probe_along
from fr.runs.attempts import make_attempts
from fr.runs.planned import Planned, plan_change
from fr.runs.run import Run
from fr.sampling import steering
from fr.sampling.sampling_params import row_key
from fr.tasks.formats import CompletionText
from fr.types import Problem

FOLDER = "branches"
RETRY = "retry"  # the operator that goes on plainly; the reference of all others


@dataclasses.dataclass(frozen=True)
class FailedTrace:
    """A failed rollout that is cut, with what operators may read of it.

    Attributes:
        attempt: The scored rollout.
        context: Its problem, its scores and its settings; the only failure is itself.
        prompt: Token ids of the problem's prompt.
    """

    attempt: store.Attempt
    context: OperatorContext
    prompt: tuple[int, ...]

    @property
    def row(self) -> str:
        """Name of the rollout."""
        return self.attempt.row

    @property
    def problem(self) -> Problem:
        """The problem that it failed at."""
        return self.context.problem

    @property
    def written(self) -> CompletionText:
        """Its text and tokens."""
        return self.context.failure.written

    @property
    def ends(self) -> Int[np.ndarray, "C"]:
        """Tokens up to the end of each step, 0 first, in order; its possible cuts."""
        return step_ends(self.written)


def open_traces(run: Run) -> list[FailedTrace]:
    """The failed rollouts that a run's atlas is of.

    `atlas.traces` of them, at most `atlas.per_problem` of a problem: the first of each
    problem in turn, then the second. They stay the same when rollouts are added.

    Args:
        run: The run, with finished `scores/`.

    Returns:
        The traces.

    Raises:
        UserError: No failed rollout has two places to cut.
    """
    c, problems = run.config.atlas, {problem.id: problem for problem in run.problems}
    failures = {
        name: failed[: c.per_problem]
        for name, failed in failures_by_problem(run.workdir / "scores").items()
        if name in problems
    }
    probed = probe_along(run.workdir, [a for some in failures.values() for a in some])
    found = {
        a.row: _trace(run, problems[name], a, probed.get(a.row))
        for name, some in failures.items()
        for a in some
    }
    able = {row: trace for row, trace in found.items() if len(trace.ends) > 1}
    turns: dict[str, Iterator[int]] = {}
    turn = {
        row: next(turns.setdefault(trace.problem.id, itertools.count()))
        for row, trace in able.items()
    }
    chosen = sorted(able, key=turn.__getitem__)[: c.traces]
    chosen = run.begin(FOLDER, traces=chosen)["traces"]
    if not chosen:
        raise UserError(
            f"{run.workdir / 'scores'} has no failed rollout with a step to cut it at"
        )
    return [found[row] for row in chosen]


def _trace(
    run: Run,
    problem: Problem,
    attempt: store.Attempt,
    probed: Float[np.ndarray, "T"] | None,
) -> FailedTrace:
    if probed is not None:
        stats = attempt.stats | {"state_probe": probed}
        attempt = dataclasses.replace(attempt, stats=stats)
    failed = [(attempt.tokens, Trace(attempt.stats, ~attempt.forced))]
    context = setting_of(run, problem, failed, run.ancestor is not None)
    return FailedTrace(attempt, context, run.specialist.encode(context.prompt))


def atlas_operators(run: Run, part: str) -> tuple[list[Operator], dict[str, str]]:
    """Select the operators that can go on from the traces of a part of the task.

    Args:
        run: The run.
        part: Name of a task.

    Returns:
        The operators, and the reason for each that is left out.

    Raises:
        UserError: `atlas.operators` has no `retry`.
    """
    names = run.config.atlas.operators
    if RETRY not in names:
        raise UserError(
            f"config.atlas.operators has no {RETRY!r}, which all others are compared "
            "with; add it"
        )
    return select(names, run.ancestor is not None, run.specialist, part)


def plan_branches(
    run: Run, traces: Sequence[FailedTrace], cuts: Mapping[str, Sequence[int]]
) -> list[Planned]:
    """Plan the branches of every operator at every cut.

    Args:
        run: The run.
        traces: The failed traces.
        cuts: Tokens that are kept, by name of the trace.

    Returns:
        The branches; names are `TRACE@CUT/OPERATOR/INDEX`, or `PROBLEM@0/...`.
    """
    plan, begun = [], set()
    able = {part: atlas_operators(run, part)[0] for part in run.parts}
    for trace in traces:
        for cut in sorted(set(cuts[trace.row])):
            origin = trace.row if cut else trace.problem.id
            if origin not in begun or cut:
                plan += _at_cut(run, trace, cut, origin, able[trace.problem.task])
            begun.add(origin)
    return plan


def _at_cut(
    run: Run, trace: FailedTrace, cut: int, origin: str, operators: Sequence[Operator]
) -> list[Planned]:
    planned = []
    for operator in operators:
        reads = operator.uses_ancestor and trace.context.has_ancestor
        count = 1 if operator.deterministic else run.config.atlas.branches
        for index in range(count):
            context = dataclasses.replace(trace.context, attempt=index)
            change = restart(operator, context, cut)
            named = plan_change(
                *(run, trace.prompt, trace.problem, operator.name, index),
                *(change, reads),
            )
            own = (operator.name,) * (run.config.intervention.keys == "own")
            key = row_key(run.config.seed, FOLDER, origin, cut, index, *own)
            name = f"{origin}@{cut}/{operator.name}/{index}"
            row = dataclasses.replace(named.row, id=name, key=key)
            quiet = not (reads or run.config.atlas.statistics or _watches(row.params))
            planned.append(dataclasses.replace(named, row=row, quiet=quiet))
    return planned


def origin_of(row: str) -> tuple[str, int, str, int]:
    """Read the name of a branch.

    Args:
        row: Its name.

    Returns:
        (trace, or problem at the start; tokens kept; operator; index).
    """
    origin, _, rest = row.rpartition("@")
    cut, operator, index = rest.split("/")
    return origin, int(cut), operator, int(index)


def _watches(params: Mapping) -> bool:
    """True if a row's operator reads the statistics of its own tokens."""
    plain = params.get("operator", steering.PLAIN) == steering.PLAIN
    return not plain or params.get("floor", -np.inf) > -np.inf


def expected_cost(
    run: Run, traces: Sequence[FailedTrace], plan: Sequence[Planned]
) -> dict[str, int]:
    """Forward tokens that planned branches will take.

    A branch is expected to end where its trace ended. Prompts and kept tokens are read
    once per trace.

    Args:
        run: The run.
        traces: The failed traces.
        plan: The branches.

    Returns:
        `branches`, `read` (prompts and traces), `expected` and `at_most` (new tokens;
        an ancestor's token counts by its size).
    """
    usual = {t.problem.id: len(t.written.tokens) for t in traces}
    usual |= {t.row: len(t.written.tokens) for t in traces}
    expected = most = 0.0
    for planned in plan:
        weight = 1 + planned.reads_ancestor * run.ancestor_weight
        left = max(1, usual[origin_of(planned.row.id)[0]] - planned.cue)
        most += weight * planned.row.params["budget"]
        expected += weight * min(left, planned.row.params["budget"])
    return {
        "branches": len(plan),
        "read": sum(len(t.prompt) + len(t.written.tokens) for t in traces),
        "expected": round(expected),
        "at_most": round(most),
    }


def make_branches(run: Run, plan: Sequence[Planned]) -> None:
    """Make the planned branches that `branches/` does not have yet.

    Args:
        run: The run.
        plan: All branches so far.
    """
    make_attempts(run, plan, FOLDER, more=_columns)


def _columns(planned: Sequence[Planned]) -> dict[str, pa.Array]:
    """The trace of each branch (at the start: its problem) and the tokens kept."""
    return {
        "origin": pa.array([origin_of(p.row.id)[0] for p in planned], pa.string()),
        "cut": pa.array([p.cue for p in planned], pa.int32()),
    }
