"""Stage 2, from `rollouts/` to `scores/` and `profiles*.csv`: scored failures.

Profiles are made of the scored failures by `fr.pipeline.profile_tables`.
"""

import dataclasses

import numpy as np
from etils import epath

from fr import distributed, store
from fr.diagnosis.features import SPREADS
from fr.errors import UserError
from fr.exchange.engine_gap import print_gap
from fr.pipeline.profile_tables import write_tables
from fr.pipeline.state_means import write_states
from fr.profiles import FEATURES
from fr.progress import Bar
from fr.runs.claims import claimed
from fr.runs.plans import complete
from fr.runs.run import Run
from fr.sampling.scoring import Scorer
from fr.types import Cost, is_failure


def diagnose(run: Run) -> dict:
    """Score every failed rollout into `scores/` and write the tables of profiles.

    With `diagnosis.statistics` = loop the scores are the statistics that the rollouts
    were sampled with. Process 0 writes the tables, whose rescue rates are still empty.

    Args:
        run: The run, with finished `rollouts/`.

    Returns:
        `failed_rollouts`, `failed_problems`, and `features`: means over the failed
        problems, null where there is no ancestor; of imported rollouts also `engine`,
        the engine's log-prob less ours, which is printed first.

    Raises:
        UserError: There are no rollouts or failures, or `scores/` is of other ones.
    """
    into, rollouts = run.workdir / "scores", run.workdir / "rollouts"
    have, sampled = store.finished(into), complete(rollouts, "scripts/sample.py")
    if not sampled:
        raise UserError(
            f"{rollouts} has no rollouts to diagnose; run scripts/sample.py first"
        )
    for index in sorted(have):
        _check_scored(rollouts, into, index)
    run.begin("scores")
    in_loop = run.config.diagnosis.statistics == "loop"
    scorer = None if in_loop else run.scorer()
    left, label = [i for i in sampled if i not in have], distributed.label("scores")
    follow = lambda: run.follow("scores")
    with (
        Bar(total=len(left), desc=label, unit="shard") as bar,
        claimed(into, left, lambda _: bar.update(), follow) as claims,
    ):
        for claim in claims:
            read = store.read(rollouts, [claim.index])
            failed = [a for a in read if is_failure(a.grade)]
            made = _score(failed, scorer, run) if scorer else _of_the_loop(failed, run)
            claim.write(made)
            bar.update()
    distributed.wait("scores")
    if not store.read_table(into, ["row"]).num_rows:
        raise UserError(
            f"{rollouts} has no failed rollout; "
            "raise config.task.problems or sampling.rollouts"
        )
    gap = print_gap(run)
    write_states(run)
    cells = write_tables(run)
    counts = {
        "failed_rollouts": sum(int(cell.n_failed.sum()) for cell in cells),
        "failed_problems": sum(map(len, cells)),
    }
    means = dict(
        zip(
            FEATURES,
            np.concatenate([cell.features for cell in cells]).mean(axis=0).tolist(),
        )
    )
    for name in SPREADS:
        numbers = [cell.numbers(name) for cell in cells if name in cell.extras]
        known = [values for values in numbers if values is not None]
        means |= {name: float(np.concatenate(known).mean())} if known else {}
    return {
        **({"engine": gap} if gap else {}),
        **counts,
        "features": {
            name: None if value != value else value for name, value in means.items()
        },
    }


def _check_scored(rollouts: epath.Path, scores: epath.Path, index: int) -> None:
    """Raise UserError if a shard of scores does not match its shard of rollouts."""
    if store.shard_path(rollouts, index).exists():
        rows = store.read_table(
            rollouts, ["row", "grade", "prompt"], [index]
        ).to_pylist()
        failed = [
            (row["row"], row["prompt"]) for row in rows if is_failure(row["grade"])
        ]
        scored = store.read_table(scores, ["row", "prompt"], [index]).to_pylist()
        if failed == [(row["row"], row["prompt"]) for row in scored]:
            return
    path = store.shard_path(scores, index)
    raise UserError(
        f"{path} does not hold the failures of its rollouts; remove it and start again"
    )


def _of_the_loop(failed: list[store.Attempt], run: Run) -> list[store.Attempt]:
    """The attempts with the statistics of their own loop, which cost nothing more."""
    needed = "entropy" if run.ancestor is None else "demotion"
    if any(needed not in a.stats for a in failed):
        raise UserError(
            'config.diagnosis.statistics = "loop" wants rollouts that the ancestor '
            f"read along, and {run.workdir / 'rollouts'} has none of its statistics; "
            'sample with this setting, or set "scored"'
        )
    return [dataclasses.replace(a, cost=Cost()) for a in failed]


def _score(
    failed: list[store.Attempt], scorer: Scorer, run: Run
) -> list[store.Attempt]:
    """The attempts with the scorer's statistics, and the cost of scoring."""
    sequences = [[*a.prompt, *a.tokens] for a in failed]
    scores = scorer.score(sequences, [len(a.prompt) for a in failed])
    two = run.ancestor is not None
    return [
        dataclasses.replace(
            a, stats=s, cost=Cost(scored=len(tokens), ancestor=len(tokens) * two)
        )
        for a, s, tokens in zip(failed, scores, sequences)
    ]
