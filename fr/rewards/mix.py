"""A mix of reward terms: each is computed, normalised, weighted, placed and logged."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from fr.config import RewardsConfig
from fr.errors import UserError
from fr.rewards.terms import TERMS, Term, Values, token_mean, values_of, without_gold
from fr.tasks.formats import ANSWER_SETS
from fr.types import RewardBatch

STD_FLOOR = 1e-3  # smaller deviations are noise of continuous values


def standardise(
    values: Float[np.ndarray, "B ..."], where: Bool[np.ndarray, "B ..."], rows: int
) -> Float[np.ndarray, "B ..."]:
    """(x - mean) / max(std, 1e-3) among each `rows` consecutive rows.

    Args:
        values: Values per row or token.
        where: Values that count.
        rows: Rows that are standardised together.

    Returns:
        Standardised values; 0 outside `where`.
    """
    x, counted = (a.reshape(len(values) // rows, -1) for a in (values, where))
    mean, deviation = _moments(x, counted)
    return np.where(
        counted, (x - mean) / np.maximum(deviation, STD_FLOOR), 0.0
    ).reshape(values.shape)


def centred_by_group(
    values: Float[np.ndarray, "B T"], mask: Bool[np.ndarray, "B T"], group: int
) -> Float[np.ndarray, "B T"]:
    """Values per token less their group's mean of row means.

    A constant b that is added to all advantages has, under a mean over each row's
    tokens, the gradient b E[sum_t grad log p_t / |o|] = b grad E[1 / |o|]: a reward for
    short rows (b > 0) or long ones.

    Args:
        values: Values per token.
        mask: Tokens that count.
        group: Rows per problem.

    Returns:
        Centred values, float32; 0 outside the mask.
    """
    count = mask.sum(axis=1)
    means = np.where(mask, values, 0.0).sum(axis=1, dtype=np.float64) / np.maximum(
        count, 1
    )
    some = (count > 0).reshape(-1, group)
    of_group = (means.reshape(-1, group) * some).sum(axis=1) / np.maximum(
        some.sum(axis=1), 1
    )
    return np.where(mask, values - np.repeat(of_group, group)[:, None], 0.0).astype(
        np.float32
    )


def fill_left_out(
    values: Float[np.ndarray, "B ..."], mask: Bool[np.ndarray, "B T"], group: int
):
    """Replace rows of NaN by the mean of their group's other rows (0 if there is none).

    For values per token the mean is over the tokens of these rows, and it fills the
    row's own masked tokens.

    Args:
        values: Values per row or token.
        mask: Sampled tokens.
        group: Rows per problem.

    Returns:
        Values without NaN.
    """
    known = ~np.isnan(values.reshape(len(values), -1)).any(axis=1)
    if known.all():
        return values
    wide = values.ndim == 2
    counted = mask & known[:, None] if wide else known[:, None]
    x = np.where(counted, values if wide else values[:, None], 0.0).reshape(
        len(values) // group, -1
    )
    mean = x.sum(axis=1) / np.maximum(counted.reshape(x.shape).sum(axis=1), 1)
    of_row = np.repeat(mean, group)
    return (
        np.where(counted, values, mask * of_row[:, None])
        if wide
        else np.where(known, values, of_row)
    )


def groups_vary(values: Float[np.ndarray, "B"], group: int) -> Bool[np.ndarray, "N"]:
    """Flags of the groups whose standard deviation is above the floor, 1e-3.

    Args:
        values: Values per row.
        group: Rows per problem.

    Returns:
        One flag per group.
    """
    x = values.reshape(-1, group)
    return _moments(x, np.ones_like(x, bool))[1][:, 0] > STD_FLOOR


def _moments(x: Float[np.ndarray, "N K"], counted: Bool[np.ndarray, "N K"]):
    """Mean and population deviation [N, 1] of counted values, in two passes."""
    count = np.maximum(counted.sum(axis=1, keepdims=True), 1)
    mean = np.where(counted, x, 0.0).sum(axis=1, keepdims=True) / count
    square = np.where(counted, np.square(x - mean), 0.0).sum(axis=1, keepdims=True)
    return mean, np.sqrt(square / count)


@dataclasses.dataclass(frozen=True)
class MixedRewards:
    """The result of a mix for a batch.

    Attributes:
        reward: Reward per row, float32; advantages are computed from it.
        advantage: Values to add to advantages, float32; 0 at tokens that were not
            sampled.
        terms: Values of each term, before normalisation and weight.
        metrics: Means over rows, and shares of groups that teach nothing or confidence
            alone.
        varies: Groups whose rows differ by the mix.
    """

    reward: Float[np.ndarray, "B"]
    advantage: Float[np.ndarray, "B T"]
    terms: dict[str, Values]
    metrics: dict[str, float]
    varies: Bool[np.ndarray, "N"]


class RewardMix:
    """The terms of a config, ready to read batches.

    `sets` names the sets of answers ("own", "gold") in which confidence must be
    measured. With `needs_model` a reward model must score the batch.

    Args:
        config: Settings of rewards.

    Raises:
        UserError: The terms cannot be mixed as the settings want.
    """

    def __init__(self, config: RewardsConfig):
        self.config = config
        self.weights = dict(config.terms)
        for name in self.weights:
            # List all terms: the nearest name alone would hide unknown ones.
            if name not in TERMS:
                raise UserError(
                    f"config.rewards.terms: unknown reward term {name!r}; there are: "
                    f"{', '.join(TERMS)}"
                )
        self.terms = [TERMS[name] for name in self.weights]
        self._normalise, self._placement = (
            dict(config.normalise),
            dict(config.placement),
        )
        self._check()
        wanted = {term.needs_confidence for term in self.terms}
        self.sets = tuple(name for name in ANSWER_SETS if name in wanted)
        self.needs_model = any(term.needs_model for term in self.terms)
        self.uncentred = [
            t.name
            for t in self.terms
            if self.weights[t.name] and self._at(t) == "advantage"
        ]

    def read(self, batch: RewardBatch) -> MixedRewards:
        """Rewards and advantages of a batch.

        A value per token that is placed as a reward counts with its mean over the row's
        sampled tokens. A row that a term leaves out gets the mean of its group's others
        in this term; the metric `left_out/NAME` counts such rows.

        Args:
            batch: Finished rollouts, problem by problem.

        Returns:
            Rewards, and metrics `reward`, `reward/NAME`, `groups/flat` (share of groups
            whose rows do not differ) and `groups/confidence_only` (that differ by
            confidence alone).
        """
        blind = without_gold(batch)
        raw = {
            term.name: values_of(term, batch if term.needs_gold else blind, self.config)
            for term in self.terms
        }
        by_row = lambda values: (
            token_mean(values, batch.mask) if values.ndim == 2 else values
        )
        parts = {
            name: self.weights[name]
            * fill_left_out(
                self._normalised(name, values, batch), batch.mask, batch.group
            )
            for name, values in raw.items()
        }
        rows = {name: by_row(part) for name, part in parts.items()}
        reward, advantage = np.zeros(len(batch.tokens)), np.zeros(batch.tokens.shape)
        for term in self.terms:
            if self._at(term) == "reward":
                reward += rows[term.name]
                continue
            part = parts[term.name]
            part = np.where(batch.mask, part if part.ndim == 2 else part[:, None], 0.0)
            centred = self._at(term) == "advantage_centred"
            advantage += (
                centred_by_group(part, batch.mask, batch.group) if centred else part
            )
        metrics = {}
        for name, values in raw.items():
            known = ~np.isnan(by_row(values))
            metrics[f"reward/{name}"] = (
                float(by_row(values)[known].mean()) if known.any() else 0.0
            )
            if not known.all():
                metrics[f"left_out/{name}"] = int((~known).sum())
        metrics |= {"reward": float(reward.mean()), **self._groups(rows, batch.group)}
        total = sum(rows.values(), np.zeros(len(batch.tokens)))
        varies = groups_vary(total, batch.group)
        return MixedRewards(
            reward.astype(np.float32),
            advantage.astype(np.float32),
            raw,
            metrics,
            varies,
        )

    def _at(self, term: Term) -> str:
        """The placement of a term."""
        return self._placement.get(term.name, term.placement)

    def _check(self) -> None:
        """Refuse settings of absent terms, and terms that the settings cannot serve."""
        for field, given in (
            ("normalise", self._normalise),
            ("placement", self._placement),
        ):
            if stray := [name for name in given if name not in self.weights]:
                raise UserError(
                    f"config.rewards.{field} names {stray[0]!r}, which "
                    "config.rewards.terms does not have"
                )
        for term in self.terms:
            if term.needs_model and not self.config.model:
                raise UserError(
                    f"reward term {term.name!r} asks a reward model: set "
                    "config.rewards.model to the folder that scripts/train.py "
                    "--config.algorithm=reward_model made"
                )
            if term.needs_logp and self.config.confidence == "sampled":
                raise UserError(
                    f"reward term {term.name!r} reads log-probs of answers, which "
                    "sampled ones do not give: "
                    'set config.rewards.confidence = "scored"'
                )

    def _normalised(self, name: str, values: Values, batch: RewardBatch) -> Values:
        """Values of a term, normalised as the config wants."""
        if name not in self._normalise:
            return values
        among = batch.group if self._normalise[name] == "group" else len(values)
        known = ~np.isnan(values)
        given = standardise(
            np.where(known, values, 0.0),
            batch.mask & known if values.ndim == 2 else known,
            among,
        )
        return np.where(known, given, np.nan)

    def _groups(
        self, rows: dict[str, Float[np.ndarray, "B"]], group: int
    ) -> dict[str, float]:
        """Shares of groups that do not differ, and that differ by confidence alone."""
        zeros = np.zeros_like(next(iter(rows.values())))
        total = sum(rows.values(), zeros)
        outcome = sum((rows[t.name] for t in self.terms if not t.of_confidence), zeros)
        differs, by_outcome = groups_vary(total, group), groups_vary(outcome, group)
        return {
            "groups/flat": float(np.mean(~differs)),
            "groups/confidence_only": float(np.mean(differs & ~by_outcome)),
        }
