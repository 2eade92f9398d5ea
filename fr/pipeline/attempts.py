"""From a plan of rows to graded attempts in the store, shard by shard: a killed run loses one shard at most."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from fr import processes, store
from fr.pipeline.run import Run
from fr.sampling.rows import row_key
from fr.tasks.grading import grade_all
from fr.types import Cost, Problem, Rollout, Row


@dataclasses.dataclass(frozen=True)
class Planned:
    """One attempt to make: its row, and what the row cannot say of itself."""

    row: Row
    problem: Problem
    operator: str
    attempt: int
    reads_ancestor: bool


def plan_attempt(
    run: Run, prompt: tuple[int, ...], problem: Problem, operator: str, attempt: int, own: dict, reads: bool
) -> Planned:
    """An attempt under the run's sampling settings, changed by what the operator sets of its own."""
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
        Row(f"{problem.id}/{operator}/{attempt}", prompt, key, params), problem, operator, attempt, reads
    )


def make_attempts(run: Run, plan: Sequence[Planned], name: str) -> None:
    """Make every attempt of the plan that the folder `name` does not have; each process makes its share of them.

    Returns when the folder is whole. A shard holds only rows that read the ancestor, or only rows that do not:
    the latter never pay for it.
    """
    shards = _shards(plan, run.config.sampling.shard_rows)
    folder = run.workdir / name
    have = store.finished(folder)
    longest = max((len(p.row.prompt) + p.row.params["budget"] for p in plan), default=1)
    engines = {}
    mine = processes.share(name, [i for i in range(len(shards)) if i not in have])
    rows = sum(len(shards[i]) for i in mine)
    with tqdm(total=rows, desc=processes.label(name), unit="row") as bar:
        for i in mine:
            reads = shards[i][0].reads_ancestor
            if reads not in engines:
                engines[reads] = run.engine(reads)
            rollouts = engines[reads].sample([p.row for p in shards[i]], longest, bar.update)
            store.write_shard(folder, i, _records(run, shards[i], rollouts))
    processes.wait(name)


def _shards(plan: Sequence[Planned], size: int) -> list[list[Planned]]:
    """Cut a plan at `size` rows, plain rows first, then those that read the ancestor."""
    groups = ([p for p in plan if not p.reads_ancestor], [p for p in plan if p.reads_ancestor])
    return [group[i : i + size] for group in groups for i in range(0, len(group), size)]


def _records(run: Run, planned: Sequence[Planned], rollouts: Sequence[Rollout]) -> list[store.Attempt]:
    # The new text, without the stop token; a pushed token is part of it.
    texts = [run.specialist.decode(r.tokens if r.truncated else r.tokens[:-1]) for r in rollouts]
    grades = grade_all(run.task, [(p.problem, text) for p, text in zip(planned, texts)])
    return [_record(run, *each) for each in zip(planned, rollouts, texts, grades)]


def _record(run: Run, planned: Planned, rollout: Rollout, text: str, grade: str) -> store.Attempt:
    row, (specialist, ancestor) = planned.row, run.names
    return store.Attempt(
        row=row.id,
        problem=planned.problem.id,
        attempt=planned.attempt,
        task=planned.problem.task,
        specialist=specialist,
        ancestor=ancestor if planned.reads_ancestor else "",
        operator=planned.operator,
        seed=run.config.seed,
        text=text,
        grade=grade,
        truncated=rollout.truncated,
        params={name: value for name, value in row.params.items() if name in store.PARAMS},
        cost=_cost(rollout, planned.reads_ancestor),
        key=row.key,
        prompt=np.array(row.prompt, np.int32),
        tokens=rollout.tokens,
        forced=rollout.forced,
        fired=rollout.fired,
        sample_logp=rollout.sample_logp,
        stats=rollout.stats,
    )


def _cost(rollout: Rollout, reads_ancestor: bool) -> Cost:
    """Positions of this attempt alone: it is charged its whole prompt, though siblings share the prefill."""
    prompt, forced = len(rollout.row.prompt), int(rollout.forced.sum())
    return Cost(
        prefill=prompt,
        generated=rollout.generated - forced,
        forced=forced,
        ancestor=(prompt + rollout.generated) * reads_ancestor,
        probe=rollout.confidence.positions if rollout.confidence else 0,
    )
