"""Attempts of every operator on the failed problems."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from fr import store
from fr.diagnosis.features import bottom_confidence, group_confidence
from fr.diagnosis.junction import Trace, calibrate
from fr.errors import UserError
from fr.interventions import OPERATORS, Failure, Setting
from fr.pipeline.profile_tables import failures_by_problem, write_tables
from fr.runs.attempts import make_attempts, plan_change
from fr.runs.run import Run
from fr.sampling.rows import row_key
from fr.stats.bootstrap import percent, rate
from fr.stats.pass_at_k import plurality, surest, weighted
from fr.tasks.canonical import canonical_answers
from fr.tasks.formats import CompletionText, format_of
from fr.types import RIGHT, UNPARSED, Problem


def intervene(run: Run) -> dict:
    """Try each operator `intervention.attempts` times on each failed problem; write `attempts/` and the tables."""
    config, able, left_out = run.config, {}, {}
    for part in run.parts:
        able[part], why = run.operators(part)
        left_out |= why
    failures = failures_by_problem(run.workdir / "scores")
    if not failures:
        raise UserError(
            f"{run.workdir / 'scores'} has no failed rollout; run scripts/diagnose.py first"
        )
    if store.finished(run.workdir / "scores") != store.finished(
        run.workdir / "rollouts"
    ):
        raise UserError(
            f"{run.workdir / 'scores'} lacks rollouts; run scripts/diagnose.py again"
        )
    # Operators look at the failures that were there when a problem was first intervened upon: more rollouts change
    # no attempt that is made.
    seen = run.begin(
        "attempts", seen={name: len(failed) for name, failed in failures.items()}
    )["seen"]
    plan = []
    for problem in run.problems:
        if problem.id not in failures:
            continue
        first = failures[problem.id][: seen[problem.id]]
        failed = [(a.tokens, Trace(a.stats, ~a.forced)) for a in first]
        setting = setting_of(run, problem, failed, run.ancestor is not None)
        prompt = run.specialist.encode(setting.prompt)
        for operator in able[problem.task]:
            reads = operator.uses_ancestor and setting.has_ancestor
            for attempt in range(
                1 if operator.deterministic else config.intervention.attempts
            ):
                change = operator.change(dataclasses.replace(setting, attempt=attempt))
                plan.append(
                    plan_change(
                        run, prompt, problem, operator.name, attempt, change, reads
                    )
                )
    make_attempts(run, plan, "attempts")
    write_tables(run)
    return {
        "operators": _by_operator(run),
        "left_out": left_out,
        "without_verifier": _by_vote(run),
    }


def setting_of(
    run: Run,
    problem: Problem,
    failed: Sequence[tuple[np.ndarray, Trace]],
    has_ancestor: bool,
) -> Setting:
    """What operators may look at: the failed attempts of a problem, as tokens and their scores."""
    form = format_of(problem.task)
    return Setting(
        config=run.config,
        problem=problem,
        attempt=0,
        calibration=calibrate([trace for _, trace in failed], run.config.diagnosis),
        has_ancestor=has_ancestor,
        prompt=run.task.prompt(problem),
        failures=tuple(
            Failure(CompletionText(form, tokens, run.specialist), trace)
            for tokens, trace in failed
        ),
        codec=run.specialist,
    )


def _by_operator(run: Run) -> dict[str, dict]:
    """Share right with its interval, share of attempts whose detector fired, and whether truth came from outside."""
    columns = ["problem", "operator", "grade", "fire_position"]
    rows = store.read_table(run.workdir / "attempts", columns).to_pylist()
    out = {}
    for name in dict.fromkeys(row["operator"] for row in rows):
        own = [row for row in rows if row["operator"] == name]
        out[name] = {
            **rate(
                (row["problem"] for row in own),
                (row["grade"] == RIGHT for row in own),
                run.config.routing.bootstrap,
                run.config.seed,
            ),
            "fired": percent(sum(row["fire_position"] >= 0 for row in own) / len(own)),
            "outside": OPERATORS[name].outside,
        }
    return out


def _by_vote(run: Run) -> dict[str, dict]:
    """Accuracy where nobody knows which rollouts failed: of one of them, and of the one answer that a rule returns.

    majority: what most of them give. weighted: the same, each vote counting its confidence. surest: that of the
    most confident one. Confidence is DeepConf's bottom 10 % of windows of `rewards.window` tokens.
    """
    columns = ["problem", "task", "text", "read", "grade", "forced", "top20_confidence"]
    rollouts: dict[str, list[dict]] = {}
    for row in store.read_table(run.workdir / "rollouts", columns).to_pylist():
        rollouts.setdefault(row["problem"], []).append(row)
    window, seed = run.config.rewards.window, run.config.seed
    resamples = run.config.routing.bootstrap
    for row in itertools.chain(*rollouts.values()):
        drawn = ~np.array(row.pop("forced"), bool)
        row["confidence"] = bottom_confidence(
            group_confidence(np.array(row.pop("top20_confidence"))[drawn], window)
        )
    single = [
        (row["problem"], row["grade"] == RIGHT)
        for group in rollouts.values()
        for row in group
    ]
    return {
        "rollout": rate(*zip(*single), resamples, seed),
        **{
            name: rate(
                rollouts,
                (vote(group, seed, by) for group in rollouts.values()),
                resamples,
                seed,
            )
            for name, by in (
                ("majority", None),
                ("weighted", weighted),
                ("surest", surest),
            )
        },
    }


def vote(attempts: Sequence[dict], seed: int, by: Callable | None = None) -> bool:
    """Whether the answer that most attempts at a problem give is right; what cannot be parsed abstains.

    `by`, of `fr.stats.pass_at_k`, takes their `confidence` into account.
    """
    texts = [
        None if a["grade"] == UNPARSED else a.get("read") or a["text"] for a in attempts
    ]
    answers = canonical_answers(attempts[0]["task"], texts) if attempts else []
    key = row_key(seed, "majority", attempts[0]["problem"]) if attempts else 0
    draw = np.random.default_rng(key)
    chosen = (
        by(answers, [a["confidence"] for a in attempts], draw)
        if by
        else plurality(answers, draw)
    )
    return chosen is not None and attempts[chosen]["grade"] == RIGHT
