"""Gates: which failed rollouts of a step are learned from, by the regime of each."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool

from fr.config import Config
from fr.diagnosis.trace_regimes import (
    EXECUTION,
    PREMATURE,
    REGIMES,
    UNDERTHINKING,
    WANDERING,
    regime_of,
)
from fr.registry import Registry
from fr.tasks.canonical import extracted_answer
from fr.tasks.formats import format_of
from fr.training.rollouts import GradedRollout, Group
from fr.types import is_failure

# (regime of a failed row, regimes that the reward's terms fit) -> it is learned from
Gate = Callable[[str, frozenset[str]], bool]
GATES = Registry("gate")

# The reward terms that act on what goes wrong in a regime. No term acts on false
# arithmetic: that needs a calculator, which is outside truth.
TERMS_OF = {
    EXECUTION: (),
    PREMATURE: ("pcs", "pcs_own", "late_confidence", "pacr", "pacr_sparse"),
    UNDERTHINKING: ("thought_switch",),
    WANDERING: ("repetition", "length"),
}


@GATES.register("all")
def every(regime: str, fitting: frozenset[str]) -> bool:
    """Every failed row."""
    return True


@GATES.register("none")
def only_right(regime: str, fitting: frozenset[str]) -> bool:
    """No failed row: right rows alone are learned from."""
    return False


@GATES.register("matched")
def matched(regime: str, fitting: frozenset[str]) -> bool:
    """Failed rows of a regime that a term of the reward fits."""
    return regime in fitting


@GATES.register("mismatched")
def mismatched(regime: str, fitting: frozenset[str]) -> bool:
    """Failed rows of another regime of reasoning: not `execution`, and no term fits."""
    return regime not in fitting and regime != EXECUTION


@GATES.register("execution")
def execution(regime: str, fitting: frozenset[str]) -> bool:
    """Failed rows with a false step."""
    return regime == EXECUTION


@dataclasses.dataclass(frozen=True)
class Gated:
    """Rollouts of a step that are learned from, and what a gate held back.

    Attributes:
        open: Rows that are learned from: all that did not fail, and the failed ones
            that the gate lets through.
        metrics: `gated`, the share of failed rows that it holds back, and by regime
            `regime/NAME`, its share of the failed rows; 0 without failures.
    """

    open: Bool[np.ndarray, "B"]
    metrics: dict[str, float]


def gate_of(config: Config) -> Callable[[Sequence[Group]], Gated] | None:
    """The gate `policy.gate`, ready to read the rollouts of a step.

    A row that it holds back has advantage 0 at all its tokens. It stays in its group's
    mean and standard deviation, and in the number of rows or tokens that a mean divides
    by: a closed gate takes gradient away and gives none to other rows. `kl` and
    `entropy` still act on it.

    Args:
        config: The whole configuration; terms of weight 0 fit nothing.

    Returns:
        (groups) -> what is learned from; None: there is no gate.

    Raises:
        UserError: The gate is not registered.
    """
    if not config.policy.gate:
        return None
    gate: Gate = GATES[config.policy.gate]
    paid = {name for name, weight in config.rewards.terms if weight > 0}
    fitting = frozenset(name for name in REGIMES if paid.intersection(TERMS_OF[name]))

    def read(groups: Sequence[Group]) -> Gated:
        rows = [row for group in groups for row in group]
        told = [_regime(row, config) if is_failure(row.grade) else None for row in rows]
        learned = np.array([name is None or gate(name, fitting) for name in told])
        failed = max(len(told) - told.count(None), 1)
        shares = {f"regime/{name}": told.count(name) / failed for name in REGIMES}
        return Gated(learned, {"gated": (~learned).sum() / failed} | shares)

    return read


def _regime(row: GradedRollout, config: Config) -> str:
    task = row.problem.task
    switches = config.rewards.switch_words or format_of(task).switches
    answer = extracted_answer(task, row.text)
    return regime_of(row.text, answer, row.rollout.truncated, switches)
