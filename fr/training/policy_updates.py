"""The updates of one step: minibatches, reference and old log-probs, and the compiled update."""

import functools
import random
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fr.config import Config, LoraConfig
from fr.models import Model
from fr.models.config import choose_dtype
from fr.training.algorithms import Algorithm
from fr.training.microbatches import by_need, in_order
from fr.training.policy_loss import (
    PolicyBatch,
    make_logps,
    make_update,
    recomputes,
    score_rows,
    shared_rows,
)
from fr.training.rl_metrics import gap_percentile
from fr.training.update import TrainState, place_batch


class Updates:
    """Learns from the rows of a step; made once, so that nothing is compiled again."""

    def __init__(self, config: Config, start: Model, algorithm: Algorithm, mesh: Mesh):
        c = config.policy
        self.config, self._mesh = config, mesh
        self._update = make_update(start.config, algorithm, c, config.lora, mesh)
        self._frozen = start.params if config.lora.rank else None
        self.recomputes = recomputes(c)
        self._logps = make_logps(start.config, c, config.lora, mesh)
        self._ancestor = None
        if c.kl:
            # A copy: the state's buffers are used again. Adapters have their ancestor beside them.
            dtype = choose_dtype(c.dtype or None)
            copy = lambda x: jnp.copy(x).astype(dtype)
            self._ancestor = (
                start.params if config.lora.rank else jax.tree.map(copy, start.params)
            )
            self._ancestor_logps = make_logps(start.config, c, LoraConfig(), mesh)

    @property
    def refers(self) -> bool:
        """Whether rows need the log-probs of a reference."""
        return self._ancestor is not None

    def reference(
        self, rows: PolicyBatch, state: TrainState
    ) -> Float[np.ndarray, "B W"]:
        """Log-probs under the reference: the ancestor, or what a refresh made of it."""
        order = in_order(rows.needs(), shared_rows(self.config.policy))
        if self.config.policy.reference_every:
            read = functools.partial(
                self._logps, state.extra["reference"], frozen=self._frozen
            )
            return self._scored(rows, order, read)
        return self._scored(
            rows, order, functools.partial(self._ancestor_logps, self._ancestor)
        )

    def with_old(self, state: TrainState, rows: PolicyBatch, step: int) -> PolicyBatch:
        """The rows with old log-probs of the trainer's own, for all updates but the first, which needs none."""
        c, parts = self.config.policy, self._minibatches(rows, step)
        if not self.recomputes or len(parts) == 1:
            return rows
        # Passes after the first come back to the rows of the first minibatch.
        later = np.concatenate(parts[1:] if c.epochs == 1 else parts[: c.minibatches])
        read = functools.partial(self._logps, state.params, frozen=self._frozen)
        old = self._scored(rows, later, read)
        known = np.isin(np.arange(len(old)), later)[:, None]
        return rows.replace(old_logp=np.where(known, old, rows.old_logp))

    def learn(
        self, state: TrainState, rows: PolicyBatch, step: int
    ) -> tuple[TrainState, dict[str, float]]:
        """All updates of a step. Metrics are means over them, but peaks.

        `logp_gap`, its mean and its 99th percentile are of the first one alone: before any update they tell how far
        the sampler's log-probs are from the trainer's. Where old log-probs are recomputed, those of the first update
        are its own: its ratio is 1 whatever the type of the computation.
        """
        c, seen = self.config.policy, []
        for number, part in enumerate(self._minibatches(rows, step)):
            some = jax.tree.map(lambda x: x[part], rows)
            if self.recomputes and number == 0:
                some = some.replace(fresh=np.ones(len(part), bool))
            state, metrics = self._update(
                state, place_batch(some, self._mesh), self._frozen
            )
            seen.append(metrics)
            if c.stop_kl and float(metrics["moved"]) > c.stop_kl:
                break
        seen = jax.device_get(seen)
        above = seen[0]["logp_gap_above"]
        values = {
            name: float(np.mean([metrics[name] for metrics in seen]))
            for name in seen[0]
        }
        values["ratio_max"] = float(max(metrics["ratio_max"] for metrics in seen))
        del values["logp_gap_above"]
        values |= {name: float(seen[0][name]) for name in ("logp_gap", "logp_gap_mean")}
        values["logp_gap_p99"] = gap_percentile(above, 0.99)
        if c.stop_kl:
            values["updates"] = len(seen)
        return state, values

    def _scored(
        self, rows: PolicyBatch, order: Int[np.ndarray, "R"], read: Callable
    ) -> Float[np.ndarray, "B W"]:
        """Log-probs of the rows in `order` (0 of others), as many rows at a time as an update takes."""
        c = self.config.policy
        size = c.microbatch or len(rows.mask) // c.minibatches
        return score_rows(
            read, rows.tokens, rows.start, rows.width, order, size, c.length_buckets, self._mesh
        )

    def _minibatches(self, rows: PolicyBatch, step: int) -> list[Int[np.ndarray, "R"]]:
        """Rows of every update of a step, pass by pass, in an order that suits microbatches."""
        c, need, parts = self.config.policy, rows.needs(), []
        unit = shared_rows(c)
        units = np.arange(len(need)).reshape(-1, unit)
        for epoch in range(c.epochs):
            chance = random.Random(f"{self.config.seed}/minibatches/{step}/{epoch}")
            order = units[chance.sample(range(len(units)), len(units))]
            for part in np.split(order.reshape(-1), c.minibatches):
                parts.append(part[by_need(need[part], c.microbatch, self._mesh, unit)])
        return parts
