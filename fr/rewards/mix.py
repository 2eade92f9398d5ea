"""A mix of reward terms: each is run, normalised, weighed, placed and logged apart."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from fr.config import RewardsConfig
from fr.errors import UserError
from fr.rewards.base import TERMS, Term, Values, token_mean
from fr.rewards.groups import centred_by_group, filled, standardised, varying
from fr.rewards.values import values_of, withhold
from fr.tasks.forced_answers import SETS
from fr.types import RewardBatch


@dataclasses.dataclass(frozen=True)
class Mixed:
    """What a mix makes of a batch."""

    reward: Float[
        np.ndarray, "B"
    ]  # float32: what the advantages of a group are made of
    advantage: Float[
        np.ndarray, "B T"
    ]  # float32: what is added to them; 0 off sampled tokens
    terms: dict[str, Values]  # every term as it is: before normalisation and weight
    metrics: dict[
        str, float
    ]  # means over rows, and shares of groups that teach nothing or only confidence
    varies: Bool[np.ndarray, "N"]  # groups whose rows differ by the mix


class Mix:
    """The terms of a config, ready to read batches; raises UserError for a mix that cannot be.

    `sets` names the sets of answers ("own", "gold") in which confidence must be measured; `judged`: a reward model
    must read the batch.
    """

    def __init__(self, config: RewardsConfig):
        self.config = config
        self.weights = dict(config.terms)
        for name in self.weights:
            # The nearest name alone, as a registry has it, would hide terms that one has not heard of.
            if name not in TERMS:
                raise UserError(
                    f"config.rewards.terms: unknown reward term {name!r}; there are: {', '.join(TERMS)}"
                )
        self.terms = [TERMS[name] for name in self.weights]
        self._normalise, self._placement = (
            dict(config.normalise),
            dict(config.placement),
        )
        self._check()
        wanted = {term.needs_confidence for term in self.terms}
        self.sets = tuple(name for name in SETS if name in wanted)
        self.judged = any(term.needs_model for term in self.terms)
        self.uncentred = [
            t.name
            for t in self.terms
            if self.weights[t.name] and self._at(t) == "advantage"
        ]

    def read(self, batch: RewardBatch) -> Mixed:
        """Rewards and advantages of a batch; raises as `fr.rewards.values.values_of` does.

        A value for each token that is placed as a reward counts with its mean over the row's sampled tokens. A row
        that a term leaves out gets the mean of its group's others in this term, and a line's `left_out/NAME` says
        how many there are.
        """
        blind = withhold(batch)
        raw = {
            term.name: values_of(term, batch if term.needs_gold else blind, self.config)
            for term in self.terms
        }
        by_row = lambda values: (
            token_mean(values, batch.mask) if values.ndim == 2 else values
        )
        parts = {
            name: self.weights[name]
            * filled(self._normalised(name, values, batch), batch.mask, batch.group)
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
        varies = varying(sum(rows.values()), batch.group)
        return Mixed(
            reward.astype(np.float32),
            advantage.astype(np.float32),
            raw,
            metrics,
            varies,
        )

    def _at(self, term: Term) -> str:
        """Where a term goes."""
        return self._placement.get(term.name, term.placement)

    def _check(self) -> None:
        """Refuse settings of terms that are not in the mix, and terms that the settings cannot serve."""
        for field, given in (
            ("normalise", self._normalise),
            ("placement", self._placement),
        ):
            if stray := [name for name in given if name not in self.weights]:
                raise UserError(
                    f"config.rewards.{field} names {stray[0]!r}, which config.rewards.terms does not have"
                )
        for term in self.terms:
            if term.needs_model and not self.config.model:
                raise UserError(
                    f"reward term {term.name!r} asks a reward model: set config.rewards.model to the folder that "
                    "scripts/train.py --config.algorithm=reward_model made"
                )
            if term.needs_logp and self.config.confidence == "sampled":
                raise UserError(
                    f"reward term {term.name!r} reads log-probs of answers, which sampled ones do not give: "
                    'set config.rewards.confidence = "scored"'
                )

    def _normalised(self, name: str, values: Values, batch: RewardBatch) -> Values:
        """Values of a term as the config wants them."""
        if name not in self._normalise:
            return values
        among = batch.group if self._normalise[name] == "group" else len(values)
        known = ~np.isnan(values)
        given = standardised(
            np.where(known, values, 0.0),
            batch.mask & known if values.ndim == 2 else known,
            among,
        )
        return np.where(known, given, np.nan)

    def _groups(
        self, rows: dict[str, Float[np.ndarray, "B"]], group: int
    ) -> dict[str, float]:
        """Shares of groups whose rows do not differ by the mix, and of those that differ by confidence alone."""
        total = sum(rows.values())
        outcome = sum(
            (rows[t.name] for t in self.terms if not t.of_confidence),
            np.zeros_like(total),
        )
        differs, by_outcome = varying(total, group), varying(outcome, group)
        return {
            "groups/flat": float(np.mean(~differs)),
            "groups/confidence_only": float(np.mean(differs & ~by_outcome)),
        }
