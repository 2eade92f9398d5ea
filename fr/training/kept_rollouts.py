"""The rollouts that a policy was trained on, kept as attempts are, with what they earned and what was learnt."""

import itertools

import numpy as np
import pyarrow as pa
from etils import epath

from fr import store
from fr.config import Config
from fr.models import Model
from fr.rewards.mix import Mixed
from fr.runs.attempts import graded_columns, sampled_columns
from fr.tasks.extract import PROMPT_TAIL, THINK, opens_thought
from fr.training.policy_loss import PolicyBatch
from fr.training.rollouts import Attempt, Drawn
from fr.types import ROLLOUT, Cost, RewardBatch

ROLLOUTS = "rollouts-train"  # folder beside a training's checkpoints; a shard a step, numbered by it


def keep_rollouts(
    folder: epath.Path,
    config: Config,
    model: Model,
    drawn: Drawn,
    batch: RewardBatch,
    mixed: Mixed,
    rows: PolicyBatch,
) -> None:
    """Write the shard of a step: the columns of the store, and behind them those of the training.

    `step`; `reward`, what the mix made of the row; `advantage` of each of its tokens, 0 where nothing is learnt;
    `learnt`, the tokens that are; `term_NAME`, of a row or of its tokens, before normalisation and weight, null where
    the term leaves the row out. Groups that were drawn and dropped (DAPO) have null in all of them but `step`.
    A step that is made again after a kill writes the same bytes.
    """
    taken, dropped = (
        list(itertools.chain(*groups)) for groups in (drawn.groups, drawn.dropped)
    )
    records, rest = [], [None] * len(dropped)
    for group in (*drawn.groups, *drawn.dropped):
        records += [
            _record(config, model, attempt, i) for i, attempt in enumerate(group)
        ]
    lengths = [attempt.rollout.length for attempt in taken]
    cut = lambda table: [
        row[:length] for row, length in zip(np.asarray(table), lengths)
    ]
    tokens = lambda table, kind: pa.array([*cut(table), *rest], pa.list_(kind))
    more = {
        "step": pa.array([batch.step] * len(records), pa.int32()),
        "reward": pa.array([*mixed.reward.tolist(), *rest], pa.float32()),
        "advantage": tokens(rows.advantages.astype(np.float32), pa.float32()),
        "learnt": tokens(rows.mask, pa.bool_()),
    }
    for name, values in mixed.terms.items():
        if values.ndim == 2:
            more[f"term_{name}"] = tokens(values.astype(np.float32), pa.float32())
        else:
            known = [None if np.isnan(value) else float(value) for value in values]
            more[f"term_{name}"] = pa.array([*known, *rest], pa.float32())
    store.write_shard(folder, batch.step, records, more, again=True)


def _record(
    config: Config, model: Model, attempt: Attempt, number: int
) -> store.Attempt:
    row, rollout = attempt.rollout.row, attempt.rollout
    begun = THINK * opens_thought(model.decode(row.prompt[-PROMPT_TAIL:]))
    prompt, forced = len(row.prompt), int(rollout.forced.sum())
    return store.Attempt(
        **sampled_columns(row, rollout),
        **graded_columns(
            attempt.problem, attempt.text, begun + attempt.text, attempt.grade
        ),
        attempt=number,
        specialist=f"{config.algorithm}-{config.seed}",
        ancestor="",
        operator=ROLLOUT,
        seed=config.seed,
        cost=Cost(prefill=prompt, generated=rollout.generated - forced, forced=forced),
    )
