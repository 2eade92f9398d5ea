"""The updates of one RL step: minibatches, reference and old log-probs."""

import dataclasses
import functools
import random
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fr.config import Config, LoraConfig, PolicyConfig
from fr.config.algorithms import Algorithm
from fr.models import Model
from fr.models.config import ModelConfig, choose_dtype
from fr.models.transformer import Transformer
from fr.sampling.scoring import token_logps
from fr.training.lora import lora_context, variables
from fr.training.microbatches import (
    length_order,
    place_batch,
    score_rows,
    sort_by_length,
)
from fr.training.policy_loss import (
    PolicyBatch,
    WeightedBatch,
    gap_percentile,
    policy_loss,
    weigh,
)
from fr.training.update import TrainState, compile_update


@functools.lru_cache(maxsize=8)
def make_update(
    model: ModelConfig,
    algorithm: Algorithm,
    config: PolicyConfig,
    lora: LoraConfig,
    mesh: Mesh,
) -> Callable:
    """Compile the update (state, PolicyBatch, frozen=None) -> (state, metrics).

    With adapters the state holds these, and `frozen` the model's parameters. All arrays
    lie on `mesh`. The state's buffers are reused.

    Metrics are of the batch before its update, means over sampled tokens:

    - `loss`, `tokens` (count), `entropy` (nats, raw policy)
    - `kl`: k3 to the ancestor, if the batch has it; `moved`: k3 to the old policy
    - `clip_share`: tokens whose gradient the clip took; `ratio_max`: the largest ratio
    - `logp_gap`, `logp_gap_mean`: largest and mean |log-prob - drawn_logp|
    - `logp_gap_above`: share of tokens above each of `policy_loss.GAPS`, and above WIDE
    - `importance`, `importance_cut`: mean weight, share that the bound cut
    - `grad_norm` (before the clip), `learning_rate`

    Args:
        model: Shape of the decoder.
        algorithm: A row of the table of algorithms.
        config: Settings of policy optimisation.
        lora: Adapters; rank 0: all parameters are trained.
        mesh: Devices as (data, model).

    Returns:
        The compiled function; one program per shape of the batch.
    """
    transformer = Transformer(
        model, choose_dtype(config.dtype or None), config.remat, mesh=mesh
    )
    temperature, shards = ratio_temperature(config), mesh.shape["data"]

    def loss(trained: dict, frozen: dict | None, weighed: WeightedBatch):
        batch = weighed.batch
        with lora_context(lora):
            logp, entropy = token_logps(
                transformer,
                variables(trained, frozen, lora),
                jnp.asarray(batch.tokens),
                jnp.asarray(batch.start),
                batch.mask.shape[1],
                temperature,
                shards,
                shared_rows(config),
            )
        return policy_loss(logp, entropy, weighed, algorithm, config)

    prepare = lambda batch, step: weigh(batch, step, algorithm, config)
    return compile_update(
        loss, config, mesh, prepare, config.microbatch, config.length_buckets
    )


def shared_rows(config: PolicyConfig) -> int:
    """Consecutive rows that share one prompt.

    Args:
        config: Settings of policy optimisation.

    Returns:
        Rollouts per problem, or 1 if each row carries its own prompt.
    """
    return config.rollouts if config.shared_prompts else 1


def ratio_temperature(config: PolicyConfig) -> float:
    """Temperature of the log-probs in the ratio and in the KL, one for a whole run.

    Args:
        config: Settings of policy optimisation.

    Returns:
        The sampling temperature, or 1 for the raw policy.
    """
    return config.temperature if config.ratio_distribution == "sample" else 1.0


@functools.lru_cache(maxsize=8)
def make_logps(
    model: ModelConfig, config: PolicyConfig, lora: LoraConfig, mesh: Mesh
) -> Callable:
    """Compile (trained, tokens, start, width, frozen=None) -> log-probs [B, width].

    Tokens are [B, T], -1 pads on the right; start is [B]. Log-probs are under the
    distribution of the ratio, in the type of the update.

    Args:
        model: Shape of the decoder.
        config: Settings of policy optimisation.
        lora: Adapters; for an ancestor's own parameters a LoraConfig of rank 0.
        mesh: Devices as (data, model).

    Returns:
        The compiled function.
    """
    transformer = Transformer(model, choose_dtype(config.dtype or None), mesh=mesh)
    temperature, shards = ratio_temperature(config), mesh.shape["data"]

    def logps(trained, tokens, start, width, frozen=None):
        with lora_context(lora):
            read = variables(trained, frozen, lora)
            return token_logps(
                transformer,
                read,
                tokens,
                start,
                width,
                temperature,
                shards,
                shared_rows(config),
            )[0]

    return jax.jit(logps, static_argnums=3)


class PolicyUpdater:
    """Learns from the rows of a step; made once per run, so all is compiled once."""

    def __init__(self, config: Config, start: Model, algorithm: Algorithm, mesh: Mesh):
        c = config.policy
        self.config, self._mesh = config, mesh
        self._update = make_update(start.config, algorithm, c, config.lora, mesh)
        self._frozen = start.params if config.lora.active else None
        self.recomputes = recomputes(c)
        self._logps = make_logps(start.config, c, config.lora, mesh)
        self._ancestor = None
        if c.kl:
            # A copy, because updates reuse the state's buffers. With adapters the
            # ancestor's parameters are the frozen ones.
            dtype = choose_dtype(c.dtype or None)
            copy = lambda x: jnp.copy(x).astype(dtype)
            self._ancestor = (
                start.params if config.lora.active else jax.tree.map(copy, start.params)
            )
            self._ancestor_logps = make_logps(start.config, c, LoraConfig(), mesh)

    @property
    def needs_reference(self) -> bool:
        """True if rows need the log-probs of a reference."""
        return self._ancestor is not None

    def reference(
        self, rows: PolicyBatch, state: TrainState
    ) -> Float[np.ndarray, "B W"]:
        """Log-probs under the reference: the ancestor, or the last refreshed copy.

        Args:
            rows: The rows of a step.
            state: The state before the step's updates.

        Returns:
            Log-probs in nats.
        """
        order = length_order(rows.columns_used(), shared_rows(self.config.policy))
        if self.config.policy.reference_every:
            read = functools.partial(
                self._logps, (state.extra or {})["reference"], frozen=self._frozen
            )
            return self._scored(rows, order, read)
        return self._scored(
            rows, order, functools.partial(self._ancestor_logps, self._ancestor)
        )

    def with_old_logps(
        self, state: TrainState, rows: PolicyBatch, step: int
    ) -> PolicyBatch:
        """Add the trainer's own old log-probs, for all updates except the first.

        The first update needs none: its ratio is 1 by construction (`fresh`).

        Args:
            state: The state before the step's updates.
            rows: The rows of a step.
            step: Step of the training, from 1.

        Returns:
            The rows, unchanged if the sampler's log-probs are used.
        """
        c, parts = self.config.policy, self._minibatches(rows, step)
        if not self.recomputes or len(parts) == 1:
            return rows
        # Passes after the first come back to the rows of the first minibatch.
        later = np.concatenate(parts[1:] if c.epochs == 1 else parts[: c.minibatches])
        read = functools.partial(self._logps, state.params, frozen=self._frozen)
        old = self._scored(rows, later, read)
        known = np.isin(np.arange(len(old)), later)[:, None]
        old = np.where(known, old, rows.old_logp)
        return dataclasses.replace(rows, old_logp=old)

    def learn(
        self, state: TrainState, rows: PolicyBatch, step: int
    ) -> tuple[TrainState, dict[str, float]]:
        """Make all updates of a step.

        Metrics are means over the updates, of `ratio_max` the largest. `logp_gap`, its
        mean, its 99th percentile and the share of tokens above 0.1 nats
        (`logp_gap_wide`) are of the first update: before any update they compare the
        sampler's log-probs with the trainer's. With recomputed old log-probs the first
        update's are its own, so its ratio is 1 in every type.

        Args:
            state: The state before the step's updates; its buffers are reused.
            rows: The rows of a step.
            step: Step of the training, from 1.

        Returns:
            The new state, and metrics by name.
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
            # Reading a metric waits for the device: only with a bound to compare with.
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
        values["logp_gap_p99"] = gap_percentile(above[:-1], 0.99)
        values["logp_gap_wide"] = float(above[-1])
        if c.stop_kl:
            values["updates"] = len(seen)
        return state, values

    def _scored(
        self, rows: PolicyBatch, order: Int[np.ndarray, "R"], read: Callable
    ) -> Float[np.ndarray, "B W"]:
        """Log-probs of the rows in `order`; 0 for the others."""
        c = self.config.policy
        size = c.microbatch or len(rows.mask) // c.minibatches
        return score_rows(
            read,
            rows.tokens,
            rows.start,
            rows.width,
            order,
            size,
            c.length_buckets,
            self._mesh,
        )

    def _minibatches(self, rows: PolicyBatch, step: int) -> list[Int[np.ndarray, "_"]]:
        """Rows of each update of a step, ordered by `sort_by_length`."""
        c, need, parts = self.config.policy, rows.columns_used(), []
        unit = shared_rows(c)
        # Rows that share a prompt move as one, so that it is read once per update too.
        units = np.arange(len(need)).reshape(-1, unit)
        for epoch in range(c.epochs):
            chance = random.Random(f"{self.config.seed}/minibatches/{step}/{epoch}")
            order = units[chance.sample(range(len(units)), len(units))]
            for part in np.split(order.reshape(-1), c.minibatches):
                parts.append(
                    part[sort_by_length(need[part], c.microbatch, self._mesh, unit)]
                )
        return parts


def recomputes(config: PolicyConfig) -> bool:
    """True if the trainer computes the ratio's denominator itself, not the sampler.

    `ratio_from` decides, if it is set. Otherwise the trainer computes it if an update
    is not the first one on its rollouts, or if sampler or trainer computes in bfloat16,
    so that both differ at equal parameters. Rollouts of the parameters before the last
    step (`lag`) keep the sampler's log-probs, unless importance weights correct for
    them (decoupled PPO, arXiv 2110.00641).

    Args:
        config: Settings of policy optimisation.

    Returns:
        True or False.
    """
    if config.ratio_from:
        return config.ratio_from == "trainer"
    if config.lag and config.importance == "none":
        return False
    types = (choose_dtype(config.dtype or None), choose_dtype())
    return config.epochs * config.minibatches > 1 or any(
        kind != jnp.float32 for kind in types
    )
