"""Credit along rollouts: chances of success from their cuts, by plain branches.

A branch keeps the first tokens of a rollout and goes on under the same parameters. V(k)
is the share of right branches from cut k, and the last value is the outcome itself.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from fr import distributed
from fr.config import Config
from fr.diagnosis.junction import NO_FAILURES, Trace
from fr.diagnosis.trace_cuts import equal_cuts, step_ends
from fr.errors import UserError
from fr.interventions import OPERATORS, Failure, OperatorContext
from fr.interventions.restarts import restart
from fr.metrics import Stages
from fr.registry import Registry
from fr.sampling.sampling_params import row_key
from fr.tasks.formats import Codec, CompletionText, format_of
from fr.training.rollouts import GradedRollout, Group, Sampler
from fr.types import Cost, Request, is_failure


@dataclasses.dataclass(frozen=True)
class Values:
    """Chances of success along the rollouts of a step.

    Attributes:
        cuts: Tokens kept, from 0 on, [B, K]; a short row has some cuts twice.
        value: V at the cuts, then the outcome, [B, K + 1]; NaN in rows without
            branches.
        failed: The rollout failed.
        gain: A_o = mean over the cuts of V_o - V, o the operator of
            `policy.credit_operator`, [B]; NaN in rows without its branches.
    """

    cuts: Int[np.ndarray, "B K"]
    value: Float[np.ndarray, "B K1"]
    failed: Bool[np.ndarray, "B"]
    gain: Float[np.ndarray, "B"]


Rule = Callable[[Values, np.ndarray, float, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Credit:
    """A registered way to spread advantages over the tokens of a rollout.

    Attributes:
        rule: (values, advantages of every token [B, W], `credit_share`, seed of the
            step) -> advantages.
        of_all: It needs branches of right rollouts too.
        operator: It needs branches of `policy.credit_operator` too.
    """

    rule: Rule
    of_all: bool
    operator: bool


CREDITS = Registry("credit")
_NEVER = np.iinfo(np.int32).max  # tokens up to a point of no return without one


def register_credit(
    name: str, of_all: bool = False, operator: bool = False
) -> Callable[[Rule], Rule]:
    """Register a rule.

    Args:
        name: Value of `policy.credit`.
        of_all: It needs branches of right rollouts too.
        operator: It needs branches of `policy.credit_operator` too.

    Returns:
        A decorator that returns the rule unchanged.
    """

    def add(rule: Rule) -> Rule:
        CREDITS.register(name)(Credit(rule, of_all, operator))
        return rule

    return add


@register_credit("steps", of_all=True)
def steps(
    values: Values, advantages: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """A_t = V(k + 1) - V(k) at the tokens between cuts k and k + 1 (arXiv 2410.01679).

    In place of the advantage of the row.
    """
    token = np.arange(advantages.shape[1])
    part = (token[None, :, None] >= values.cuts[:, None]).sum(axis=2) - 1
    gains = _gains(values)
    return np.take_along_axis(gains, part, axis=1)


def _gains(values: Values) -> np.ndarray:
    """V(k + 1) - V(k); of equal cuts the last one has the whole gain."""
    gains = np.diff(values.value, axis=1)
    same = values.cuts[:, 1:] == values.cuts[:, :-1]
    gains[:, :-1][same] = 0.0
    return gains


@register_credit("until_lost")
def until_lost(
    values: Values, advantages: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Failed rows: no blame for tokens after the point of no return.

    That is the first cut from which on V stays below `share` V(0): what follows could
    not have changed the outcome. Without error control, since it is read from few
    branches.
    """
    return _cut_off(values, advantages, _lost_at(values, share))


@register_credit("until_random")
def until_random(
    values: Values, advantages: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Control of `until_lost`: as many tokens are blamed, at other rows' places.

    The shares of the rows that are blamed are permuted over the failed rows.
    """
    lost = _lost_at(values, share)
    length = np.maximum(values.cuts[:, -1], 1)
    failed = np.flatnonzero(values.failed)
    order = np.random.default_rng(seed).permutation(failed)
    part = np.minimum(lost[order] / length[order], 1.0)
    kept = lost >= advantages.shape[1]
    lost = lost.copy()
    lost[failed] = np.where(
        kept[order], advantages.shape[1], np.round(part * length[failed]).astype(int)
    )
    return _cut_off(values, advantages, lost)


@register_credit("rescuable", operator=True)
def rescuable(
    values: Values, advantages: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Failed rows that the operator rescues more often than retry: A_o > 0."""
    kept = ~values.failed | (values.gain > 0)
    return np.where(kept[:, None], advantages, 0.0)


@register_credit("not_rescuable", operator=True)
def not_rescuable(
    values: Values, advantages: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Control of `rescuable`: the other failed rows, A_o <= 0."""
    kept = ~values.failed | (values.gain <= 0)
    return np.where(kept[:, None], advantages, 0.0)


def _lost_at(values: Values, share: float) -> Int[np.ndarray, "B"]:
    """Tokens up to the point of no return; a large number without one."""
    cuts, value = values.cuts, values.value[:, :-1]
    low = value < share * value[:, :1]
    stays = np.logical_and.accumulate(low[:, ::-1], axis=1)[:, ::-1]
    found = stays.any(axis=1)
    at = np.take_along_axis(cuts, stays.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(found, at, _NEVER)


def _cut_off(values: Values, advantages: np.ndarray, lost: np.ndarray) -> np.ndarray:
    token = np.arange(advantages.shape[1])
    blameless = values.failed[:, None] & (token >= lost[:, None])
    return np.where(blameless, 0.0, advantages)


class _Asked(NamedTuple):
    """A cut that is branched."""

    graded: GradedRollout
    written: CompletionText
    cut: int  # tokens kept


class CreditReader:
    """Branches the rollouts of a step and spreads its advantages; made once per run."""

    def __init__(self, config: Config, codec: Codec, sampler: Sampler):
        self._config, self._codec, self._sampler = config, codec, sampler
        self._credit: Credit = CREDITS[config.policy.credit]
        self._operator = OPERATORS[config.policy.credit_operator]
        if self._credit.operator and self._operator.needs_ancestor:
            raise UserError(
                f"config.policy.credit_operator = {self._operator.name!r} needs an "
                "ancestor in the loop, which training has not; take another operator"
            )

    def spread(
        self,
        groups: Sequence[Group],
        advantages: Float[np.ndarray, "B W"],
        step: int,
        stages: Stages,
    ) -> tuple[Float[np.ndarray, "B W"], Cost, dict[str, float]]:
        """Spread advantages over the tokens of the rollouts.

        Args:
            groups: Graded rollouts, one list per problem.
            advantages: Advantages of every token, by row and terms.
            step: Step of the training, from 1.
            stages: Clock of the step.

        Returns:
            (advantages, cost of the branches, metrics): `credit/moved`, the mean
            |change| per token of a row, and `credit/lost`, the share of failed rows
            with a point of no return.
        """
        c, seed = self._config.policy, step + 1_000_003 * self._config.seed
        values, cost = self._values(groups, step, stages)
        spread = self._credit.rule(values, advantages, c.credit_share, seed)
        lost = _lost_at(values, c.credit_share) < _NEVER
        failed = max(int(values.failed.sum()), 1)
        metrics = {
            "credit/moved": float(np.abs(spread - advantages).mean()),
            "credit/lost": float((lost & values.failed).sum() / failed),
        }
        return spread.astype(np.float32), cost, metrics

    def _values(
        self, groups: Sequence[Group], step: int, stages: Stages
    ) -> tuple[Values, Cost]:
        c = self._config.policy
        rows = [row for group in groups for row in group]
        failed = np.array([is_failure(row.grade) for row in rows])
        form = lambda row: format_of(row.problem.task)
        written = [
            CompletionText(form(row), row.rollout.tokens, self._codec) for row in rows
        ]
        cuts = np.array([equal_cuts(step_ends(w), c.credit_cuts) for w in written])
        value = np.full((len(rows), c.credit_cuts + 1), np.nan)
        value[:, -1] = [row.right for row in rows]
        told = np.flatnonzero(failed | self._credit.of_all)
        # A first cut of 0 has the same branches in all rows of a problem.
        names = [
            [(rows[i].rollout.row.id if k else rows[i].problem.id, int(k)) for k in own]
            for i, own in zip(told, cuts[told])
        ]
        asked = {
            name: _Asked(rows[i], written[i], name[1])
            for i, own in zip(told, names)
            for name in own
        }
        keys = [row_key(self._config.seed, "credit", step, *name) for name in asked]
        plain, cost = self._branch(list(asked.values()), keys, stages)
        of_cut = dict(zip(asked, range(len(asked))))
        place = np.array([[of_cut[name] for name in own] for own in names])
        gain = np.full(len(rows), np.nan)
        if len(told):
            value[told, :-1] = plain[place]
        if len(told) and self._credit.operator:
            own, more = self._branch(list(asked.values()), keys, stages, True)
            gain[told] = (own - plain)[place].mean(axis=1)
            cost += more
        return Values(cuts, value, failed, gain), cost

    def _branch(
        self,
        asked: Sequence[_Asked],
        keys: Sequence[np.ndarray],
        stages: Stages,
        operator: bool = False,
    ) -> tuple[Float[np.ndarray, "N"], Cost]:
        """Share of right branches of each cut, plain ones or of the operator.

        A process samples its share of cuts.
        """
        c, rows, owners, kept = self._config.policy, [], [], {}
        for each, key in distributed.local_slice(list(zip(asked, keys))):
            graded, _, cut = each
            row, tokens = graded.rollout.row, tuple(graded.rollout.tokens.tolist())
            prompt = (*row.prompt, *tokens[:cut])
            for i in range(c.credit_branches):
                name, own = f"{row.id}@{cut}/{i}", row_key(int(key[0]), int(key[1]), i)
                params = {**row.params, **(self._change(each, i) if operator else {})}
                params["budget"] = c.max_new_tokens - cut
                kept[name] = tokens[:cut]
                rows.append(Request(name, prompt, own, params, tokens[cut:]))
                owners.append(graded.problem)
        mine = self._sampler.graded(rows, owners, (), stages, kept)
        found = distributed.gather(mine)
        right = [attempt.right for some, _ in found for attempt in some]
        cost = sum((cost for _, cost in found), Cost())
        return np.array(right, float).reshape(-1, c.credit_branches).mean(axis=1), cost

    def _change(self, asked: _Asked, index: int) -> dict:
        """Sampling parameters of the operator from a cut of a rollout."""
        rollout = asked.graded.rollout
        trace = Trace(rollout.stats, ~rollout.forced)
        context = OperatorContext(
            config=self._config,
            problem=asked.graded.problem,
            attempt=index,
            calibration=NO_FAILURES,
            has_ancestor=False,
            failures=(Failure(asked.written, trace),),
            codec=self._codec,
        )
        change = restart(self._operator, context, asked.cut)
        if change.on_pause:
            raise UserError(
                f"config.policy.credit_operator = {self._operator.name!r} pauses, and "
                "branches of training cannot; take another operator"
            )
        return change.params
