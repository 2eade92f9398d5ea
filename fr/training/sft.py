"""Supervised training on traces: optimiser, state and the one compiled step."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import path_aware_map
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from fr.config import TrainingConfig
from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.transformer import Transformer
from fr.training.data import Batch
from fr.training.losses import next_token_loss


@struct.dataclass
class TrainState:
    """All that a resumed run needs: float32 master parameters, optimiser state, number of updates made."""

    step: Int[Array, ""]
    params: dict
    optimizer: optax.OptState


def make_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """AdamW behind a clip by global norm; linear warm-up, then a cosine to zero; norms' scales do not decay.

    Raises UserError if no steps are left after the warm-up.
    """
    if config.steps <= config.warmup_steps:
        raise UserError(
            f"config.training.steps = {config.steps} must be more than warmup_steps = {config.warmup_steps}"
        )
    schedule = learning_rate(config)
    decays = lambda params: path_aware_map(lambda path, _: path[-1] != "scale", params)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        # 0.95: of a run of a few thousand steps, 0.999 would average the second moment over most.
        optax.adamw(schedule, b2=0.95, weight_decay=config.weight_decay, mask=decays),
    )


def learning_rate(config: TrainingConfig) -> optax.Schedule:
    """Learning rate by the number of updates made."""
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, config.warmup_steps, config.steps)


def init_state(params: dict, config: TrainingConfig) -> TrainState:
    """The state before the first update."""
    return TrainState(jnp.zeros((), jnp.int32), params, make_optimizer(config).init(params))


@functools.lru_cache(maxsize=8)
def make_step(model: ModelConfig, config: TrainingConfig, dtype=jnp.float32) -> Callable:
    """The compiled update (state, Batch) -> (state, metrics); the given state's buffers are reused.

    Metrics are of the batch before its update: `loss` (nats a learnt token), `learnt` (such tokens),
    `grad_norm` (before the clip) and `learning_rate`. `dtype` is of the computation; parameters stay float32.
    """
    transformer = Transformer(model, dtype)
    optimizer, schedule = make_optimizer(config), learning_rate(config)

    def loss(params: dict, batch: Batch):
        apply = lambda *args, method: transformer.apply({"params": params}, *args, method=method)
        hidden, _ = apply(batch.tokens, batch.positions, None, batch.segments, method="hidden")
        head = lambda states: apply(states, method="head")
        total, count = next_token_loss(head, hidden, batch.tokens, batch.weights, model.vocab)
        return total / jnp.maximum(count, 1.0), count

    def step(state: TrainState, batch: Batch):
        (value, count), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        updates, moments = optimizer.update(grads, state.optimizer, state.params)
        metrics = {
            "loss": value,
            "learnt": count,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": schedule(state.step),
        }
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), moments), metrics

    return jax.jit(step, donate_argnums=0)


def placements(rows: int) -> tuple[NamedSharding, NamedSharding]:
    """Where state (whole on every local device) and batches (rows spread over them) live.

    Raises UserError if the rows do not divide among the devices.
    """
    devices = jax.local_devices()
    if rows % len(devices):
        raise UserError(
            f"config.training.batch = {rows} does not divide among {len(devices)} devices; use a multiple"
        )
    mesh = jax.sharding.Mesh(devices, ("data",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
