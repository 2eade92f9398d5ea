"""What is written of a step of policy optimisation, and what is said to whoever watches it."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fr.config import Config, PolicyConfig
from fr.rewards import text_terms
from fr.stats.calibration import premature
from fr.stats.pass_at_k import pass_at_k
from fr.tasks.countdown_rules import step_errors
from fr.training.objective import GAPS
from fr.training.rollouts import Group
from fr.types import GRADER_ERROR, UNPARSED, Cost, RewardBatch

_POINTS = 3  # of a line that is worth fitting


def gap_percentile(above: Float[np.ndarray, "K"], share: float) -> float:
    """The difference of log-probs that `share` of the tokens do not exceed, from shares above each of GAPS.

    Rounded up to an edge, so at most a fifth too large; infinite above the last one.
    """
    within = np.flatnonzero(above <= 1 - share)
    return (
        float(GAPS[min(within[0], len(GAPS) - 1)]) if len(within) else float(GAPS[-1])
    )


def rollout_metrics(batch: RewardBatch, cost: Cost, config: Config) -> dict[str, float]:
    """Means over a step's attempts; `solved` is the share of problems with a right one, `_tokens` what all cost.

    `premature` and `flat` are shares of the attempts whose confidence (in the own answer, else in the right ones)
    is known; `step_errors` those of all steps that a Countdown trace states, by exact arithmetic.
    """
    right, grades = batch.truth.right, batch.truth.grades
    values = {
        "accuracy": right.mean(),
        "solved": right.reshape(-1, batch.group).max(axis=1).mean(),
        "unparsed": grades.count(UNPARSED) / len(grades),
        "grader_error": grades.count(GRADER_ERROR) / len(grades),
        "length": batch.length.mean(),
        "truncated": batch.truncated.mean(),
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
    if config.task.name == "countdown":
        right_steps, wrong_steps = np.sum(
            [step_errors(text) for text in batch.texts], axis=0
        )
        values["step_errors"] = wrong_steps / max(right_steps + wrong_steps, 1)
    return values


def held_out_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Accuracy and pass@k (k = 2, 4, ... attempts) on problems that nothing is learnt from."""
    right = np.array([[attempt.right for attempt in group] for group in groups])
    count = right.shape[1]
    values = {"held_out/accuracy": right.mean()}
    for k in (2**i for i in range(1, count.bit_length())):
        values[f"held_out/pass@{k}"] = pass_at_k(right.sum(axis=1), count, k).mean()
    truncated = [attempt.rollout.truncated for group in groups for attempt in group]
    return values | {"held_out/truncated": np.mean(truncated)}


def entropy_fit(past: Sequence[dict], values: dict[str, float]) -> dict[str, float]:
    """a and b of accuracy = -a exp(entropy) + b over all steps so far, by least squares (arXiv 2505.22617).

    b - a is where accuracy ends when all entropy is spent. Empty for too few steps, or for one entropy.
    """
    lines = [line for line in (*past, values) if "entropy" in line]
    x, y = (
        np.array([line[name] for line in lines]) for name in ("entropy", "accuracy")
    )
    x = np.exp(x) - np.exp(x).mean()
    if len(lines) < _POINTS or not x.any():
        return {}
    a = -float(x @ y / (x @ x))
    return {
        "fit/a": a,
        "fit/b": float(
            y.mean() + a * np.exp([line["entropy"] for line in lines]).mean()
        ),
    }


def alarms(
    past: Sequence[dict], values: dict[str, float], config: PolicyConfig
) -> tuple[str, ...]:
    """One line for everything that has gone wrong since the step before: what it is and what would help."""
    past = [line for line in past if "entropy" in line]
    first = past[0]["entropy"] if past else math.inf
    tests = {
        "entropy": lambda line: (
            line["entropy"] < config.alarm_entropy * first < math.inf
        ),
        "kl": lambda line: line.get("kl", 0.0) > config.alarm_kl,
        "repetition": lambda line: line["repetition"] > config.alarm_repetition,
        "gap": lambda line: line.get("logp_gap_p99", 0.0) > config.alarm_gap,
    }
    texts = {
        "entropy": f"entropy has collapsed from {first:.3f} to {{entropy:.3f}} nats a token: raise "
        "config.policy.entropy, or set config.policy.covariance to clip or kl",
        "kl": "the policy is {kl:.3f} nats a token from its ancestor: raise config.policy.kl or lower "
        "config.policy.learning_rate",
        "repetition": "{repetition:.0%} of what it says repeats itself: give config.rewards.terms a "
        "('repetition', 0.5)",
        "gap": "a hundredth of the sampler's log-probs are {logp_gap_p99:.3f} nats or more from the trainer's: set "
        "config.policy.importance to token, or compute both in float32",
    }
    return tuple(
        texts[name].format(**values)
        for name, test in tests.items()
        if test(values) and not (past and test(past[-1]))
    )
