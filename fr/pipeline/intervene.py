"""Stage 3, from `scores/` to `attempts/`: operators tried on the failed problems."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from fr import store
from fr.diagnosis.features import bottom_confidence, group_confidence
from fr.diagnosis.junction import Trace, calibrate
from fr.errors import UserError
from fr.exchange.notes import print_note
from fr.interventions import OPERATORS, Failure, OperatorContext
from fr.pipeline.profile_tables import failures_by_problem, write_tables
from fr.runs.attempts import make_attempts
from fr.runs.planned import plan_change
from fr.runs.run import Run
from fr.sampling.sampling_params import row_key
from fr.stats.bootstrap import percent, rate
from fr.stats.pass_at_k import plurality, surest, weighted
from fr.tasks.canonical import canonical_answers
from fr.tasks.formats import CompletionText, format_of
from fr.types import RIGHT, UNPARSED, Problem


def intervene(run: Run) -> dict:
    """Try each operator `intervention.attempts` times on each failed problem.

    Args:
        run: The run, with finished `rollouts/` and `scores/`.

    Returns:
        `operators` (a rate with its interval, the share of attempts whose detector
        fired, and `uses_oracle`: the operator uses truth that no model gave),
        `left_out` (reason by operator) and `without_verifier` (rates of votes over all
        rollouts).

    Raises:
        UserError: There are no failures, or rollouts that are not scored.
    """
    config, able = run.config, {}
    left_out: dict[str, str] = {}
    for part in run.parts:
        able[part], why = run.operators(part)
        left_out |= why
    failures = failures_by_problem(run.workdir / "scores")
    if not failures:
        raise UserError(
            f"{run.workdir / 'scores'} has no failed rollout; "
            "run scripts/diagnose.py first"
        )
    if store.finished(run.workdir / "scores") != store.finished(
        run.workdir / "rollouts"
    ):
        raise UserError(
            f"{run.workdir / 'scores'} lacks rollouts; run scripts/diagnose.py again"
        )
    imported = print_note(run.workdir, "attempts")
    # Operators read the failures that were there when a problem was first intervened
    # upon, so that more rollouts later change none of their attempts.
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
        # Another engine may have asked by another prompt than the task's.
        prompt = tuple(first[0].prompt.tolist()) if imported else ()
        prompt = prompt or run.specialist.encode(setting.prompt)
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
) -> OperatorContext:
    """Collect what operators may read of a problem: failed attempts and their scores.

    Args:
        run: The run.
        problem: The failed problem.
        failed: Token ids, [T], and scored trace of each failed attempt.
        has_ancestor: The ancestor may be used in the decode loop.

    Returns:
        The context that is passed to `change` of an operator, for attempt 0.
    """
    form = format_of(problem.task)
    return OperatorContext(
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
    """Share right with its interval and share of attempts that fired, by operator."""
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
            "uses_oracle": OPERATORS[name].uses_oracle,
        }
    return out


def _by_vote(run: Run) -> dict[str, dict]:
    """Accuracy without a verifier: of one rollout, and of the answer of a vote.

    majority: the most common answer. weighted: each vote counts its confidence. surest:
        the
    answer of the most confident rollout. Confidence is DeepConf's: the bottom 10 % of
    windows of `rewards.window` tokens (arXiv 2508.15260).
    """
    columns = ["problem", "task", "text", "read", "grade", "forced", "top20_confidence"]
    rollouts: dict[str, list[dict]] = {}
    for row in store.read_table(run.workdir / "rollouts", columns).to_pylist():
        rollouts.setdefault(row["problem"], []).append(row)
    window, seed = run.config.rewards.window, run.config.seed
    resamples = run.config.routing.bootstrap
    known = True  # imported rollouts have no statistics
    for row in itertools.chain(*rollouts.values()):
        drawn = ~np.array(row.pop("forced"), bool)
        confidence = row.pop("top20_confidence")
        known = known and confidence is not None
        row["confidence"] = known and bottom_confidence(
            group_confidence(np.array(confidence)[drawn], window)
        )
    single = list(itertools.chain(*rollouts.values()))
    return {
        "rollout": rate(
            (row["problem"] for row in single),
            (row["grade"] == RIGHT for row in single),
            resamples,
            seed,
        ),
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
            if known or by is None
        },
    }


def vote(attempts: Sequence[dict], seed: int, by: Callable | None = None) -> bool:
    """Grade the answer that a vote over attempts at one problem returns.

    Args:
        attempts: Rows of attempts with `problem`, `task`, `text`, `read` and `grade`;
            with `confidence` where `by` reads it. An attempt that was not parsed
            abstains.
        seed: Seed of the draw among ties.
        by: `weighted` or `surest` of `fr.stats.pass_at_k`; None: the most common
            answer.

    Returns:
        True if the chosen answer is right; False if every attempt abstains.
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
