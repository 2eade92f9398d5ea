"""Rollouts of a step as arrays, their rewards, and the advantages that follow."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from fr.config import Config
from fr.config.algorithms import Algorithm
from fr.models import Model
from fr.rewards import MixedRewards, RewardMix
from fr.rewards.mix import STD_FLOOR, centred_by_group
from fr.tasks.formats import answer_span, reasoning_tokens
from fr.training.confidence_curves import ConfidenceCurves
from fr.training.reward_model import RewardModelScorer
from fr.training.rollouts import GradedRollout, Group, Sampler
from fr.types import RewardBatch, Truth


def advantages(
    rewards: Float[np.ndarray, "B"], group: int, algorithm: Algorithm
) -> Float[np.ndarray, "B"]:
    """Advantage of each rollout, A = (r - centre) / max(std, 1e-3), float32.

    The variance is taken in two passes. With ddof 1 one reward of 1 among seven of 0
    gives advantages of 2.47 and -0.35.

    Args:
        rewards: Reward per rollout; the `group` rollouts of a problem are consecutive.
        group: Rollouts per problem, G; at least 2 where an algorithm compares them.
        algorithm: `centre` is the mean of the group, of the group's others (RLOO,
            arXiv 2402.14740) or of the batch. `scale` is the standard deviation of
            the group (arXiv 2402.03300) or of the batch (arXiv 2508.08221) with
            `ddof`, or 1 ("none", arXiv 2503.20783).

    Returns:
        Advantages in the order of the rewards.
    """
    # float64: a float32 mean of equal rewards may miss them by a rounding, which the
    # division by 1e-3 would turn into an advantage.
    rewards = np.asarray(rewards, np.float64).reshape(-1, group)
    axis = None if algorithm.centre == "batch" else 1
    centred = rewards - rewards.mean(axis=axis, keepdims=True)
    if algorithm.centre == "others":
        # r - mean of the others = (r - mean of all) G / (G - 1)
        centred *= group / (group - 1)
    if algorithm.scale != "none":
        axis = None if algorithm.scale == "batch" else 1
        deviations = rewards - rewards.mean(axis=axis, keepdims=True)
        count = rewards.size if axis is None else group
        variance = np.square(deviations).sum(axis=axis, keepdims=True) / max(
            count - algorithm.ddof, 1
        )
        centred /= np.maximum(np.sqrt(variance), STD_FLOOR)
    return centred.reshape(-1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class RewardedRollouts:
    """Rollouts of a step as arrays, and what they earned.

    Attributes:
        batch: What reward terms read.
        mixed: Rewards, and what terms add to advantages.
        tokens: Prompts and completions; -1 pads on the right.
        start: Index of the first token of each completion.
    """

    batch: RewardBatch
    mixed: MixedRewards
    tokens: Int[np.ndarray, "B T"]
    start: Int[np.ndarray, "B"]


class RewardReader:
    """Turns graded rollouts into rewards and advantages; made once per run.

    All arrays have one shape, set by the longest prompt and `max_new_tokens`: another
    shape would compile the programs that read them again.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        mix: RewardMix,
        algorithm: Algorithm,
        sampler: Sampler,
        mesh: Mesh,
    ):
        self._config, self._model, self._mix = config, model, mix
        self._algorithm, self._sampler = algorithm, sampler
        self._reward_model = (
            RewardModelScorer(config, model, mesh) if mix.needs_model else None
        )

    def read(
        self, groups: Sequence[Group], curves: ConfidenceCurves, step: int
    ) -> RewardedRollouts:
        """Rewards of some groups.

        Args:
            groups: Graded rollouts, one list per problem.
            curves: Confidence along these rollouts.
            step: Step of the training, from 1.

        Returns:
            The rollouts as arrays, with their rewards.
        """
        rollouts = list(itertools.chain.from_iterable(groups))
        tokens, start = self._rows(rollouts)
        scores = None
        if self._reward_model:
            scores = self._reward_model.read(
                self._rows(rollouts, cut=self._reward_model.cut)[0]
            )
        batch = self._batch(rollouts, curves, step, scores)
        return RewardedRollouts(batch, self._mix.read(batch), tokens, start)

    def differ(
        self, step: int, groups: Sequence[Group], curves: ConfidenceCurves
    ) -> Bool[np.ndarray, "N"]:
        """Groups whose rows differ by reward; all advantages of the others are 0.

        Args:
            step: Step of the training, from 1.
            groups: Graded rollouts, one list per problem.
            curves: Confidence along these rollouts.

        Returns:
            One flag per group.
        """
        return self.read(groups, curves, step).mixed.varies

    def advantages(self, rewarded: RewardedRollouts) -> Float[np.ndarray, "B W"]:
        """Advantage of each token, of its row's reward plus the terms placed there.

        Args:
            rewarded: The result of `read`.

        Returns:
            Advantages, also at tokens that were not sampled.
        """
        batch, added = rewarded.batch, rewarded.mixed.advantage
        if self._config.policy.center_terms == "group":
            added = centred_by_group(added, batch.mask, batch.group)
        by_row = advantages(rewarded.mixed.reward, batch.group, self._algorithm)
        return by_row[:, None] + added

    def _rows(
        self, rollouts: Sequence[GradedRollout], cut: bool = False
    ) -> tuple[Int[np.ndarray, "B T"], Int[np.ndarray, "B"]]:
        """Prompts with completions, and where completions begin.

        With `cut` completions end before the sentence that states their answer.
        """
        start = np.array([len(r.rollout.row.prompt) for r in rollouts], np.int32)
        tokens = np.full((len(rollouts), self._sampler.length), -1, np.int32)
        for line, r, at in zip(tokens, rollouts, start):
            own = r.rollout.tokens
            if cut:
                own = own[: reasoning_tokens(r.problem, own.tolist(), self._model)]
            line[:at], line[at : at + len(own)] = r.rollout.row.prompt, own
        return tokens, start

    def _batch(
        self,
        graded: Sequence[GradedRollout],
        curves: ConfidenceCurves,
        step: int,
        scores: Float[np.ndarray, "B"] | None,
    ) -> RewardBatch:
        """The batch that reward terms read."""
        rollouts = [g.rollout for g in graded]
        spans = [
            answer_span(g.problem, g.rollout.tokens.tolist(), self._model)
            for g in graded
        ]
        return RewardBatch(
            tokens=self._table([r.tokens for r in rollouts], fill=-1),
            # Forced tokens are context: the policy did not draw them.
            mask=self._table([~r.forced for r in rollouts]),
            length=np.array([r.length for r in rollouts], np.int32),
            truncated=np.array([r.truncated for r in rollouts]),
            answer=np.array(spans, np.int32),
            texts=tuple(g.text for g in graded),
            problems=tuple(g.problem for g in graded),
            stats={
                name: self._table([r.stats[name] for r in rollouts])
                for name in self._sampler.engine.fields
            },
            sample_logp=self._table([r.sample_logp for r in rollouts]),
            cuts=curves.cuts,
            own=curves.own,
            truth=Truth(
                grades=tuple(g.grade for g in graded),
                answers=tuple(g.problem.answer for g in graded),
                confidence=curves.gold,
            ),
            group=self._config.policy.rollouts,
            step=step,
            judged=scores,
        )

    def _table(self, rows: Sequence[np.ndarray], fill=0) -> np.ndarray:
        """Rows of unequal length as one array [B, width]."""
        table = np.full((len(rows), self._sampler.width), fill, rows[0].dtype)
        for line, row in zip(table, rows):
            line[: len(row)] = row
        return table
