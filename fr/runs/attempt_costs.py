"""Costs of attempts and of diagnoses, in forward tokens, for the tables of profiles.

A forward token is one token that the specialist processed: prompt, generated, forced,
scored or probe. A token of the ancestor counts by its size relative to the specialist.
Rows are attempts as the store has them, with columns `cost_*`.
"""

from collections.abc import Sequence

import numpy as np

from fr import store
from fr.profiles import FORWARD, Recorded
from fr.types import RIGHT


def forward_tokens(row: dict, ancestor_weight: float) -> float:
    """Forward tokens of one attempt: every token that a model processed for it.

    Args:
        row: Columns `cost_*` of the store.
        ancestor_weight: Parameters of the ancestor over the specialist's.

    Returns:
        Tokens, the ancestor's in units of the specialist's.
    """
    own = sum(row[f"cost_{name}"] for name in store.COSTS if name != "ancestor")
    return own + ancestor_weight * row["cost_ancestor"]


def recorded_attempts(
    tried: Sequence[Sequence[Sequence[dict]]], weight: float
) -> Recorded | None:
    """Every single attempt with its result and its cost.

    Args:
        tried: Rows of attempts, by operator and problem.
        weight: Parameters of the ancestor over the specialist's.

    Returns:
        The record, in forward tokens and generated tokens; None if a problem lacks an
        operator's attempts. Operators are paired if their attempts have the same keys.
    """
    if not all(group for own in tried for group in own):
        return None
    costs = lambda row: {
        FORWARD: forward_tokens(row, weight),
        "generated": float(row["cost_generated"]),
    }
    each = lambda group: [(row["grade"] == RIGHT, costs(row)) for row in group]
    keys: dict[tuple, set] = {}
    for row in (row for own in tried for group in own for row in group):
        keys.setdefault((row["problem"], row["attempt"]), set()).add(tuple(row["key"]))
    paired = len(tried) > 1 and all(len(same) == 1 for same in keys.values())
    attempts = [[each(group) for group in problem] for problem in zip(*tried)]
    return Recorded.of(attempts, paired)


def operator_columns(
    name: str, tried: Sequence[Sequence[dict]], weight: float
) -> dict[str, list[float]]:
    """Columns of one operator: mean cost per attempt and share of fired attempts.

    Args:
        name: Name of the operator.
        tried: Rows of its attempts, by problem, [N].
        weight: Parameters of the ancestor over the specialist's.

    Returns:
        `NAME_cost` in forward tokens, [N], and `NAME_fired`, [N], if a detector fired
        at all; no column if a problem lacks attempts.
    """
    if not all(tried):
        return {}
    columns = {
        f"{name}_cost": [
            float(np.mean([forward_tokens(row, weight) for row in group]))
            for group in tried
        ]
    }
    if any(row["fire_position"] >= 0 for group in tried for row in group):
        columns[f"{name}_fired"] = [
            float(np.mean([row["fire_position"] >= 0 for row in group]))
            for group in tried
        ]
    return columns


def diagnosis_columns(
    rollouts: Sequence[Sequence[dict]],
    failed: Sequence[Sequence[dict]],
    weight: float,
    first: int | None,
) -> dict[str, list[float]]:
    """Columns of the rollouts: their number, and the costs of making and scoring them.

    The first K failures are free for every policy, since all policies have paid for
    them before they choose.

    Args:
        rollouts: Rows of the rollouts, by problem, [N].
        failed: Rows of their scores, by problem, [N].
        weight: Parameters of the ancestor over the specialist's.
        first: K, for a table of first failures; None: all failures.

    Returns:
        `rollouts`, `failures_generated` (tokens), `failures_cost` (forward tokens) and
        `diagnosis_cost` (failures, probes and scores in forward tokens), [N] each.
    """
    probes = [sum(row["cost_probe"] for row in group) for group in rollouts]
    made = [
        sum(forward_tokens(row, weight) for row in group) - probe
        for group, probe in zip(rollouts, probes)
    ]
    made = [0.0] * len(made) if first else made
    scored = [sum(forward_tokens(row, weight) for row in group) for group in failed]
    return {
        "rollouts": [len(group) for group in rollouts],
        "failures_generated": [
            0.0 if first else float(sum(row["cost_generated"] for row in group))
            for group in rollouts
        ],
        "failures_cost": made,
        "diagnosis_cost": [sum(parts) for parts in zip(made, probes, scored)],
    }
