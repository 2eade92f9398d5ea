"""From planned requests to graded attempts in the store, shard by shard.

A killed run loses at most the shard that each process was working on.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from fr import distributed, store
from fr.interrupts import check
from fr.interventions import Intervention
from fr.models.model import check_context
from fr.runs.plans import PlannedRow, extend_plan
from fr.runs.run import Run
from fr.sampling.sampling_params import row_key
from fr.sampling.sources import OnPause, PauseAction, ProbePlan
from fr.tasks.canonical import extracted_answer
from fr.tasks.extract import PROMPT_TAIL, THINK, opens_thought
from fr.tasks.grading import grade_all, grader_version
from fr.types import Confidence, Cost, Probe, Problem, Request, Rollout

# Operator whose keys the attempts of all operators have where they share them.
SHARED = "retry"

# The probe of a finished attempt, from its problem and token ids; None: no probe.
Ask = Callable[[Problem, np.ndarray], Probe | None]


@dataclasses.dataclass(frozen=True)
class Planned:
    """One attempt to make: its request, and what the request does not say."""

    row: Request  # prompt, key and sampling parameters
    problem: Problem  # the problem that is attempted
    operator: str  # its name
    attempt: int  # index among the problem's attempts by this operator
    reads_ancestor: bool  # the ancestor reads along in the decode loop
    # Tokens at the end of the prompt that the grader reads before the new text.
    cue: int = 0
    # Called with the row's tokens at its pause tokens; gives what to insert.
    on_pause: Callable[[np.ndarray], PauseAction] | None = None

    @property
    def group(self) -> int:
        """Rows of a group are decoded by one engine, and share shards."""
        return self.reads_ancestor + 2 * self.steered

    @property
    def steered(self) -> bool:
        """The row names steering vectors."""
        return "vector" in self.row.params


def plan_attempt(
    run: Run,
    prompt: tuple[int, ...],
    problem: Problem,
    operator: str,
    attempt: int,
    own: dict,
    reads: bool,
) -> Planned:
    """Plan an attempt under the run's sampling settings, changed by an operator's own.

    Args:
        run: The run, whose seed and specialist are read.
        prompt: Token ids of the whole prompt.
        problem: The problem that is attempted.
        operator: Name of the operator; `fr.types.ROLLOUT` for a plain rollout.
        attempt: Index among the problem's attempts by this operator.
        own: Fields of SamplingParams that differ from `config.sampling`.
        reads: The ancestor reads along in the decode loop.

    Returns:
        The planned attempt; its key depends on seed, problem, operator and index alone.
    """
    c = run.config.sampling
    params = {
        "temperature": c.temperature,
        "top_p": c.top_p,
        "top_k": c.top_k,
        "stop": run.specialist.stop_tokens,
        "budget": c.max_new_tokens,
        **own,
    }
    key = row_key(run.config.seed, problem.id, operator, attempt)
    return Planned(
        Request(f"{problem.id}/{operator}/{attempt}", prompt, key, params),
        problem,
        operator,
        attempt,
        reads,
    )


def plan_change(
    run: Run,
    prompt: tuple[int, ...],
    problem: Problem,
    operator: str,
    attempt: int,
    change: Intervention,
    reads: bool,
    shared: str = SHARED,
) -> Planned:
    """Plan an attempt as an operator changes it.

    With `intervention.keys = "shared"` its key depends on seed, problem and index
    alone: until their first different token, two operators draw the same numbers.

    Args:
        run: The run.
        prompt: Token ids of the problem's prompt.
        problem: The problem that is attempted.
        operator: Name of the operator.
        attempt: Index among the problem's attempts by this operator.
        change: The operator's edit. Tokens that it keeps of a failed attempt follow the
            prompt, and the grader reads them.
        reads: The ancestor reads along in the decode loop.
        shared: Operator whose keys it has where operators share them.

    Returns:
        The planned attempt.
    """
    if change.prompt is not None:
        prompt = run.specialist.encode(change.prompt)
    planned = plan_attempt(
        run, (*prompt, *change.kept), problem, operator, attempt, change.params, reads
    )
    key = planned.row.key
    if run.config.intervention.keys == "shared":
        key = row_key(run.config.seed, problem.id, shared, attempt)
    row = dataclasses.replace(planned.row, key=key, rest=change.rest)
    return dataclasses.replace(
        planned, row=row, cue=len(change.kept), on_pause=change.on_pause
    )


def make_attempts(
    run: Run, plan: Sequence[Planned], name: str, ask: Ask | None = None
) -> None:
    """Make every attempt of a plan that a folder does not have yet.

    Each process makes its share of the shards; the call returns when the folder is
    whole. A shard holds only rows that read the ancestor, or only rows that do not, so
    that the latter never pay for it; and so for rows that are steered by vectors.

    Args:
        run: The run.
        plan: All attempts of the stage.
        name: Folder of the run, which is also the stage's name.
        ask: Gives the probe of a finished attempt, which is answered from the cache.
    """
    folder = run.workdir / name
    run.begin(name)
    wanted = [
        PlannedRow(p.row.id, np.array(p.row.prompt, np.int32), p.row.key, p.group)
        for p in plan
    ]
    found: list[list[list[int]]] = []

    def extend() -> None:
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
    mine = distributed.assign_shards(
        name, [i for i in range(len(shards)) if i not in have]
    )
    with tqdm(
        total=sum(len(shards[i]) for i in mine),
        desc=distributed.label(name),
        unit="row",
    ) as bar:
        for i in mine:
            rows, asked = [p.row for p in shards[i]], _plan(shards[i], ask)
            engine, on_pause = (
                run.engine(shards[i][0].reads_ancestor, shards[i][0].steered),
                _on_pause(shards[i]),
            )
            check()
            rollouts = engine.sample(rows, longest, _shown(bar), asked, on_pause)
            store.write_shard(folder, i, graded(run, shards[i], rollouts))
    distributed.wait(name)


def _shown(bar: tqdm) -> Callable[[int], None]:
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
