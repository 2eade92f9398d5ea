"""Metrics, warnings and stored rollouts of an RL step."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from etils import epath

from fr import store
from fr.config import Config, PolicyConfig
from fr.models import Model
from fr.rewards import text_terms
from fr.runs.attempts import graded_columns, sampled_columns
from fr.stats.calibration import premature
from fr.stats.entropy_line import fit_entropy_line
from fr.stats.pass_at_k import pass_at_k
from fr.tasks.countdown_rules import step_errors
from fr.tasks.extract import PROMPT_TAIL, THINK, opens_thought
from fr.tasks.steps import find_steps
from fr.training.advantages import RewardedRollouts
from fr.training.policy_loss import PolicyBatch
from fr.training.rollouts import GradedRollout, Group, StepRollouts
from fr.types import GRADER_ERROR, ROLLOUT, UNPARSED, Cost, RewardBatch

_FALL = 0.02  # of mean confidence along the reasoning; less is noise of 80 rollouts


def rollout_metrics(batch: RewardBatch, cost: Cost, config: Config) -> dict[str, float]:
    """Means over the rollouts of a step.

    `solved` is the share of problems with a right rollout; `*_tokens` are forward
    tokens. `premature` and `flat` are shares of the rollouts with known confidence (in
    the own answer, else in the right ones; arXiv 2605.24396); `c_0` and `c_end` are
    the means of that confidence before and after the reasoning. `stepless` is the share
    of the stated answers that come without a step. `step_errors` is the share of
    false steps among all steps that Countdown traces state.

    Args:
        batch: The rollouts that were learnt from.
        cost: Forward tokens of all that was sampled.
        config: The whole configuration.

    Returns:
        Metrics by name; shares in [0, 1], lengths in tokens.
    """
    assert batch.truth is not None
    right, grades = batch.truth.right, batch.truth.grades
    values = {
        "accuracy": right.mean(),
        "solved": right.reshape(-1, batch.group).max(axis=1).mean(),
        "unparsed": grades.count(UNPARSED) / len(grades),
        "grader_error": grades.count(GRADER_ERROR) / len(grades),
        "length": batch.length.mean(),
        "truncated": batch.truncated.mean(),
        "stepless": _stepless(batch),
        "repetition": -text_terms.repetition(batch, config.rewards).mean(),
        "prompt_tokens": cost.prefill,
        "rollout_tokens": cost.generated,
        "probe_tokens": cost.probe,
    }
    trajectory = batch.own or batch.truth.confidence
    if trajectory and trajectory.known.any():
        rho, flat = premature(trajectory.probability[trajectory.known])
        early = ~flat & (np.nan_to_num(rho) < config.evaluation.premature)
        values |= {"premature": early.mean(), "flat": flat.mean()}
        first, *_, last = trajectory.probability[trajectory.known].mean(axis=0)
        values |= {"c_0": first, "c_end": last}
    if config.task.name == "countdown":
        right_steps, wrong_steps = np.sum(
            [step_errors(text) for text in batch.texts], axis=0
        )
        values["step_errors"] = wrong_steps / max(right_steps + wrong_steps, 1)
    return values


def _stepless(batch: RewardBatch) -> float:
    """Share of the rows with an answer that state no step `a op b = c`."""
    first, end = batch.answer.T
    answered = [text for text, has in zip(batch.texts, end > first) if has]
    return sum(not find_steps(text) for text in answered) / max(len(answered), 1)


def held_out_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Accuracy and pass@k (k = 2, 4, ... rollouts) on held-out problems.

    Args:
        groups: One list of rollouts per problem, of equal length.

    Returns:
        Metrics by name, shares in [0, 1].
    """
    right = np.array([[attempt.right for attempt in group] for group in groups])
    count = right.shape[1]
    values = {"held_out/accuracy": right.mean()}
    for k in (2**i for i in range(1, count.bit_length())):
        values[f"held_out/pass@{k}"] = pass_at_k(right.sum(axis=1), count, k).mean()
    truncated = [attempt.rollout.truncated for group in groups for attempt in group]
    return values | {"held_out/truncated": np.mean(truncated)}


def entropy_fit(past: Sequence[dict], values: dict[str, float]) -> dict[str, float]:
    """Fit accuracy = -a exp(entropy) + b over all steps (arXiv 2505.22617).

    b - a is the accuracy when all entropy is spent. Least squares.

    Args:
        past: Metrics of the steps before.
        values: Metrics of this step.

    Returns:
        `fit/a` and `fit/b`; empty for too few steps, or if entropy does not vary.
    """
    lines = [line for line in (*past, values) if "entropy" in line]
    each = ([float(line[n]) for line in lines] for n in ("entropy", "accuracy"))
    found = fit_entropy_line(*each)
    return {f"fit/{name}": found[name] for name in ("a", "b") if found}


def alarms(
    past: Sequence[dict], values: dict[str, float], config: PolicyConfig
) -> tuple[str, ...]:
    """Warnings about problems that began with this step.

    Args:
        past: Metrics of the steps before.
        values: Metrics of this step.
        config: Settings of policy optimisation, with the limits.

    Returns:
        One line per problem: what it is and what would help.
    """
    past = [line for line in past if "entropy" in line]
    first = past[0]["entropy"] if past else math.inf
    tests = {
        "entropy": lambda line: (
            line["entropy"] < config.alarm_entropy * first < math.inf
        ),
        "kl": lambda line: line.get("kl", 0.0) > config.alarm_kl,
        "repetition": lambda line: line["repetition"] > config.alarm_repetition,
        "gap": lambda line: line.get("logp_gap_p99", 0.0) > config.alarm_gap,
        "fall": lambda line: line.get("c_end", 0.0) < line.get("c_0", 0.0) - _FALL,
    }
    texts = {
        "entropy": "the training loop stops exploring: entropy has collapsed from "
        f"{first:.3f} to {{entropy:.3f}} nats per token: set config.policy.covariance "
        "to clip or kl, or raise config.policy.entropy",
        "kl": "the policy is {kl:.3f} nats per token from its ancestor: raise "
        "config.policy.kl or lower "
        "config.policy.learning_rate",
        "repetition": "{repetition:.0%} of its text repeats itself: give "
        "config.rewards.terms a "
        "('repetition', 0.5)",
        "fall": "confidence falls along the reasoning, from {c_0:.3f} to {c_end:.3f}: "
        "a term that pays for its rise (pcs) then pays for less reasoning; train the "
        "start on longer traces first",
        "gap": "a hundredth of the sampler's log-probs are {logp_gap_p99:.3f} nats or "
        "more from the trainer's, {logp_gap_wide:.1%} more than 0.1: set "
        "config.policy.importance to token, or compute both in float32",
    }
    return tuple(
        texts[name].format(**values)
        for name, test in tests.items()
        if test(values) and not (past and test(past[-1]))
    )


# Folder beside a training's checkpoints, with one shard per step, numbered by it.
ROLLOUTS = "rollouts-train"


def store_rollouts(
    folder: epath.Path,
    config: Config,
    model: Model,
    drawn: StepRollouts,
    rewarded: RewardedRollouts,
    rows: PolicyBatch,
) -> None:
    """Write the shard of a step: the columns of the store and columns of the training.

    Added columns:

    - `step`, and `reward` of the row
    - `advantage` of each token, 0 where nothing is learnt; `learnt`: tokens that are
    - `term_NAME`, of a row or of its tokens, before normalisation and weight; null if
      the term leaves the row out

    Dropped groups (DAPO) have null in all of them except `step`. A step that is made
    again after an interruption writes the same bytes.

    Args:
        folder: Folder of the shards, one per step, numbered by it.
        config: The whole configuration.
        model: The model that training started from.
        drawn: The rollouts of the step.
        rewarded: Their rewards.
        rows: What the update reads.
    """
    batch, mixed = rewarded.batch, rewarded.mixed
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
    config: Config, model: Model, attempt: GradedRollout, number: int
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
