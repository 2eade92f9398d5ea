"""Accuracy, calibration and premature confidence of a model, from fresh attempts."""

import dataclasses

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import distributed, store
from fr.config import Config
from fr.diagnosis.junction import NO_FAILURES
from fr.errors import UserError
from fr.evaluation.decodings import DECODINGS, loop_alarm
from fr.evaluation.eval_metrics import (
    EvalMetrics,
    interval_of,
    measure_attempts,
    read_metrics,
)
from fr.evaluation.measures import MEASURES
from fr.evaluation.sampled_answers import compare_signals
from fr.evaluation.unsolved import only_unsolved, spread
from fr.interventions import OPERATORS, Operator, OperatorContext, select
from fr.registry import suggest
from fr.runs.attempts import make_attempts
from fr.runs.planned import Planned, plan_attempt, plan_change
from fr.runs.run import Run
from fr.stats.bootstrap import HEADER, Interval, percent
from fr.tasks.formats import ANSWER_SETS, build_probe
from fr.types import GRADES, ROLLOUT
from fr.workdir import PathLike, write_json

MEASURES.complete()

_FOLDER = "evaluation"


def evaluate(run: Run, against: PathLike | None = None) -> dict:
    """Make `evaluation.samples` attempts at each problem and measure the model.

    Leaves `evaluation/` (attempts) and evaluation.json. Killed at any moment, the next
    call continues.

    Args:
        run: The run.
        against: Folder of another model's evaluation on the same problems, for
            differences that are paired by problem.

    Returns:
        The content of evaluation.json: counts of `grades`, `metrics` with intervals
        over problems, `reliability` by bin of confidence, `tokens` spent, and with
        `against` the differences.

    Raises:
        UserError: `against` holds no evaluation, or one of other problems.
    """
    whole, run = run, only_unsolved(run)
    c, folder = run.config.evaluation, run.workdir / _FOLDER
    other = _other(run, against) if against else None
    gold = c.sampled or c.cuts_at == "thoughts"
    sets = ANSWER_SETS if gold else ANSWER_SETS[:1]
    ask = lambda problem, tokens: build_probe(
        problem, tokens, run.specialist, c.cuts, sets, c.cuts_at
    )
    make_attempts(run, DECODINGS[c.decoding](run, _plan(run)), _FOLDER, ask)
    signals = {"signals": compare_signals(run, folder)} if c.sampled else {}
    found = spread(measure_attempts(run, folder), whole)
    result = _summary(run, found) | signals
    if other:
        result["against"] = {"workdir": epath.Path(against).name} | _differences(
            found, other, run
        )
        if line := _loop_alarm(result["against"]["metrics"], run):
            distributed.print0(line)
            result["against"]["alarm"] = line
    if distributed.is_first():
        found.write(run.workdir)
        write_json(run.workdir / "evaluation.json", result)
    return result


def check_evaluation(config: Config) -> None:
    """Check the registered names of an evaluation, before a model is loaded.

    Args:
        config: All settings.

    Raises:
        UserError: An operator, decoding or measure is unknown, or the operator starts
            from a failure, which an evaluation does not have.
    """
    c = config.evaluation
    if c.decoding not in DECODINGS:
        raise UserError(
            f"config.evaluation.decoding: unknown decoding {c.decoding!r}"
            f"{suggest(c.decoding, DECODINGS)}"
        )
    for name in c.measures:
        if name not in MEASURES:
            raise UserError(
                f"config.evaluation.measures: unknown measure {name!r}"
                f"{suggest(name, MEASURES)}"
            )
    if not c.operator:
        return
    free = [name for name in OPERATORS if not OPERATORS[name].reads_failures]
    if c.operator not in free:
        why = "reads failures" if c.operator in OPERATORS else "is unknown"
        raise UserError(
            f"config.evaluation.operator: {c.operator!r} {why}"
            f"{suggest(c.operator, free)}"
        )


def _plan(run: Run) -> list[Planned]:
    """The attempts: plain ones, or as the config's operator changes them."""
    c = run.config.evaluation
    own, plan = {"temperature": c.temperature, "top_p": c.top_p}, []
    able = {part: _able(run, part) for part in run.parts} if c.operator else {}
    for problem in run.problems:
        asked = run.task.prompt(problem)
        prompt = run.specialist.encode(asked)
        if not c.operator:
            plan += [
                plan_attempt(run, prompt, problem, ROLLOUT, i, own, False)
                for i in range(c.samples)
            ]
            continue
        operator = able[problem.task]
        for i in range(1 if operator.deterministic else c.samples):
            change = operator.change(
                OperatorContext(
                    run.config,
                    problem,
                    i,
                    NO_FAILURES,
                    run.ancestor is not None,
                    asked,
                    codec=run.specialist,
                )
            )
            change = dataclasses.replace(change, params=own | change.params)
            reads = operator.uses_ancestor and run.ancestor is not None
            plan.append(
                plan_change(
                    run, prompt, problem, operator.name, i, change, reads, ROLLOUT
                )
            )
    return plan


def _able(run: Run, task: str) -> Operator:
    name = run.config.evaluation.operator
    able, why = select((name,), run.ancestor is not None, run.specialist, task)
    if not able:
        raise UserError(f"config.evaluation.operator: {name!r} {why[name]}")
    return able[0]


def _other(run: Run, against: PathLike) -> EvalMetrics:
    other = read_metrics(against)
    if set(other.problems) != {problem.id for problem in run.problems}:
        raise UserError(
            f"--against={against} was asked other problems; "
            "evaluate both with the same config.task"
        )
    return other


def _summary(run: Run, found: EvalMetrics) -> dict:
    columns = ["grade", *(f"cost_{name}" for name in store.COSTS)]
    grades, *costs = (
        store.read_table(run.workdir / _FOLDER, columns).to_pydict().values()
    )
    metrics = found.estimates(run.config)
    return {
        **HEADER,
        "model": run.names[0],
        "task": run.config.task.name,
        "problems": len(run.problems),
        "samples": run.config.evaluation.samples,
        "grades": {grade: grades.count(grade) for grade in GRADES},
        "metrics": {
            name: interval_of(name, value, share=True).as_dict()
            for name, value in metrics.items()
        },
        "reliability": {
            name: _reliability(sums.sum(axis=0)) for name, sums in found.bins.items()
        },
        "tokens": {
            name: sum(cost) for name, cost in zip(store.COSTS, costs) if any(cost)
        },
    }


def _reliability(sums: Float[np.ndarray, "K 3"]) -> list[dict]:
    """Mean confidence of the attempts of each bin and the share right, in percent."""
    rows = []
    for i, (count, confidence, right) in enumerate(sums):
        ends = {"from": percent(i / len(sums)), "to": percent((i + 1) / len(sums))}
        rows.append(ends | {"attempts": int(count)})
        if count:
            rows[-1]["confidence"] = percent(confidence / count)
            rows[-1]["right"] = percent(right / count)
    return rows


def _differences(ours: EvalMetrics, theirs: EvalMetrics, run: Run) -> dict:
    """Ours minus theirs of every metric that both have, under the same resamples."""
    order = np.array([theirs.problems.index(problem) for problem in ours.problems])
    pick = lambda group: {name: sums[order] for name, sums in group.items()}
    theirs = EvalMetrics(ours.problems, pick(theirs.ratios), pick(theirs.bins))
    here, there = ours.estimates(run.config), theirs.estimates(run.config)
    rows = {}
    for name in (name for name in here if name in there):
        gap = interval_of(name, here[name] - there[name])
        p = None if gap.low is None else (here[name] - there[name]).p_value()
        value = interval_of(name, there[name]).value
        rows[name] = {"there": value, "difference": gap.as_dict(), "p": p}
    return {"metrics": rows}


def _loop_alarm(rows: dict, run: Run) -> str:
    """The alarm of forced continuations against fewer of them; "" without one."""
    c, names = run.config.evaluation, ("accuracy", "answer_entropy")
    if c.decoding != "continued" or not all(name in rows for name in names):
        return ""
    falls, rises = (Interval.from_dict(rows[name]["difference"]) for name in names)
    return loop_alarm(falls, rises, c.continuations)
