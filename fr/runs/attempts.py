"""From planned requests to graded attempts in the store, shard by shard.

A killed run loses at most the shard that each process was working on.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fr import distributed, store
from fr.interrupts import check
from fr.models.model import check_context
from fr.progress import Bar
from fr.runs.claims import claimed
from fr.runs.planned import Planned
from fr.runs.plans import PlannedRow, extend_plan, is_planned
from fr.runs.run import Run
from fr.sampling.sources import OnPause, PauseAction, ProbePlan
from fr.tasks.canonical import extracted_answer
from fr.tasks.extract import PROMPT_TAIL, THINK, opens_thought
from fr.tasks.grading import grade_all, grader_version
from fr.types import Confidence, Cost, Probe, Problem, Request, Rollout

# Further columns of the attempts of a shard, by name.
More = Callable[[Sequence[Planned]], dict[str, pa.Array]]

# The probe of a finished attempt, from its problem and token ids; None: no probe.
Ask = Callable[[Problem, np.ndarray], Probe | None]


def make_attempts(
    run: Run,
    plan: Sequence[Planned],
    name: str,
    ask: Ask | None = None,
    more: More = lambda planned: {},
) -> None:
    """Make every attempt of a plan that a folder does not have yet.

    Processes claim shards one at a time; the call returns when the folder is whole. A
    shard holds only rows that read the ancestor, or only rows that do not, so that the
    latter never pay for it; and so for rows that are steered by vectors.

    Args:
        run: The run.
        plan: All attempts of the stage.
        name: Folder of the run, which is also the stage's name.
        ask: Gives the probe of a finished attempt, which is answered from the cache.
        more: Gives further columns of a shard's attempts.
    """
    folder = run.workdir / name
    run.begin(name)
    wanted = [
        PlannedRow(p.row.id, np.array(p.row.prompt, np.int32), p.row.key, p.group)
        for p in plan
    ]
    found: list[list[list[int]]] = []

    def extend() -> None:
        if distributed.is_joined():
            whole = lambda: is_planned(folder, wanted)
            distributed.until(whole, f"planned these rows of {folder}")
        found.append(extend_plan(folder, wanted, run.config.sampling.shard_rows))

    distributed.in_turn(f"{name} plan", extend)
    shards = [[plan[place] for place in shard] for shard in found[0]]
    have = store.finished(folder)
    longest = max((len(p.row.prompt) + p.row.params["budget"] for p in plan), default=1)
    models = [run.specialist]
    if run.ancestor and any(p.reads_ancestor for p in plan):
        models.append(run.ancestor)
    check_context(
        models, longest, f"the longest row of {name}", "config.sampling.max_new_tokens"
    )
    left = [i for i in range(len(shards)) if i not in have]
    total, label = sum(len(shards[i]) for i in left), distributed.label(name)
    follow = lambda: run.follow(name)
    # The bar counts the rows of all processes.
    with (
        Bar(total=total, desc=label, unit="row") as bar,
        claimed(folder, left, lambda i: bar.update(len(shards[i])), follow) as claims,
    ):
        for claim in claims:
            planned = shards[claim.index]
            rows, asked = [p.row for p in planned], _plan(planned, ask)
            first, on_pause = planned[0], _on_pause(planned)
            engine = run.engine(first.reads_ancestor, first.steered, first.quiet)
            check()
            rollouts = engine.sample(rows, longest, _shown(bar), asked, on_pause)
            claim.write(graded(run, planned, rollouts), more(planned))
    distributed.wait(name)


def _shown(bar: Bar) -> Callable[[int], None]:
    """Progress of a bar, and a point at which an interrupt is noticed."""

    def update(count: int) -> None:
        bar.update(count)
        check()

    return update


def _plan(planned: Sequence[Planned], ask: Ask | None) -> ProbePlan | None:
    """The probe function in the form that the engine takes."""
    problems = {p.row.id: p.problem for p in planned}
    return None if ask is None else lambda row, tokens: ask(problems[row.id], tokens)


def _on_pause(planned: Sequence[Planned]) -> OnPause:
    """One pause function for all rows: each row's own answers."""
    own = {p.row.id: p.on_pause for p in planned}

    def on_pause(row: Request, tokens: np.ndarray) -> PauseAction:
        answer = own[row.id]
        return answer(tokens) if answer else PauseAction()

    return on_pause


def graded(
    run: Run, planned: Sequence[Planned], rollouts: Sequence[Rollout]
) -> list[store.Attempt]:
    """Grade finished rollouts and make records of the store.

    Args:
        run: The run, whose task grades.
        planned: The attempts as planned, [B].
        rollouts: The rollouts, [B].

    Returns:
        Records in the same order, [B].
    """
    # Without the stop token; a pushed token is part of the text.
    new = [r.tokens if r.truncated else r.tokens[:-1] for r in rollouts]
    texts = [run.specialist.decode(tokens) for tokens in new]
    read = [_with_cue(run, *each) for each in zip(planned, new, texts)]
    grades = grade_all(run.task, [(p.problem, text) for p, text in zip(planned, read)])
    return [_record(run, *each) for each in zip(planned, rollouts, texts, read, grades)]


def _with_cue(run: Run, planned: Planned, tokens: np.ndarray, text: str) -> str:
    """Text for the grader: a forced answer with its cue, a thought with its start."""
    prompt = planned.row.prompt[: len(planned.row.prompt) - planned.cue]
    if planned.cue:
        cue = planned.row.prompt[-planned.cue :]
        text = run.specialist.decode((*cue, *tokens))
    return THINK * opens_thought(run.specialist.decode(prompt[-PROMPT_TAIL:])) + text


def graded_columns(
    problem: Problem, text: str, read: str, grade: str
) -> dict[str, Any]:
    """Columns of the store from which an attempt can be graded again without its task.

    Args:
        problem: The problem.
        text: The new tokens, decoded.
        read: The text that the grader read.
        grade: One of `fr.types.GRADES`.

    Returns:
        Values by column: problem, text, answer, grade and version of the grader.
    """
    return {
        "problem": problem.id,
        "task": problem.task,
        "question": problem.question,
        "reference": problem.answer,
        "meta": json.dumps(problem.meta, sort_keys=True),
        "text": text,
        "read": None if read == text else read,
        "answer": extracted_answer(problem.task, read),
        "grade": grade,
        "grader": grader_version(),
    }


def sampled_columns(row: Request, rollout: Rollout) -> dict[str, Any]:
    """Columns of the store that a request and its rollout fill.

    Args:
        row: The request.
        rollout: Its rollout, of T tokens.

    Returns:
        Values by column; per-token columns are [T].
    """
    return {
        "row": row.id,
        "key": row.key,
        "prompt": np.array(row.prompt, np.int32),
        "params": {
            name: value for name, value in row.params.items() if name in store.PARAMS
        },
        "tokens": rollout.tokens,
        "truncated": rollout.truncated,
        "forced": rollout.forced,
        "fired": rollout.fired,
        "sample_logp": rollout.sample_logp,
        "stats": rollout.stats,
        "top_tokens": rollout.top_tokens,
        "top_logp": rollout.top_logp,
    }


def _record(
    run: Run, planned: Planned, rollout: Rollout, text: str, read: str, grade: str
) -> store.Attempt:
    row, (specialist, ancestor) = planned.row, run.names
    return store.Attempt(
        **sampled_columns(row, rollout),
        **graded_columns(planned.problem, text, read, grade),
        attempt=planned.attempt,
        specialist=specialist,
        ancestor=ancestor if planned.reads_ancestor else "",
        operator=planned.operator,
        seed=run.config.seed,
        cost=_cost(rollout, planned.reads_ancestor),
        confidence=_confidence(rollout.confidence),
    )


def _confidence(found: Confidence | None) -> dict[str, np.ndarray]:
    """Columns of the store that a probe fills."""
    if found is None:
        return {}
    columns = {f"{name}_probability": found.probability(name) for name in found.logp}
    columns |= {f"{name}_mean_logp": found.mean_logp(name) for name in found.logp}
    return {"cuts": found.cuts, **columns}


def _cost(rollout: Rollout, reads_ancestor: bool) -> Cost:
    """Forward tokens of this attempt alone.

    It is charged its whole prompt, though siblings share the prefill.
    """
    prompt, forced = len(rollout.row.prompt), int(rollout.forced.sum())
    return Cost(
        prefill=prompt,
        generated=rollout.generated - forced,
        forced=forced,
        ancestor=(prompt + rollout.generated) * reads_ancestor,
        probe=rollout.confidence.positions if rollout.confidence else 0,
    )
