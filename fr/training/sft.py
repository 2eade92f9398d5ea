"""Supervised training on traces: the loss of packed rows and its compiled update."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from fr.config import TrainingConfig
from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.transformer import Transformer
from fr.training.data import Batch
from fr.training.losses import next_token_loss
from fr.training.state import Measured, compile_update, training_mesh


@functools.lru_cache(maxsize=8)
def make_step(model: ModelConfig, config: TrainingConfig, dtype=jnp.float32) -> Callable:
    """The compiled update (state, Batch) -> (state, metrics); the given state's buffers are reused.

    Metrics are of the batch before its update: `loss` (nats a learnt token), `learnt` (such tokens),
    `grad_norm` (before the clip) and `learning_rate`. `dtype` is of the computation; parameters stay float32.
    """
    transformer = Transformer(model, dtype)

    def loss(params: dict, frozen: None, batch: Batch):
        apply = lambda *args, method: transformer.apply({"params": params}, *args, method=method)
        hidden, _ = apply(batch.tokens, batch.positions, None, batch.segments, method="hidden")
        head = lambda states: apply(states, method="head")
        # Rows lie on all local devices where they divide among them, else on one.
        shards = math.gcd(len(batch.tokens), jax.local_device_count())
        total = next_token_loss(head, hidden, batch.tokens, batch.weights, model.vocab, shards)
        count = jnp.sum(batch.weights[:, 1:])
        return total / jnp.maximum(count, 1.0), Measured({"learnt": count}, {})

    return compile_update(loss, config)


def placements(rows: int) -> tuple[NamedSharding, NamedSharding]:
    """Where state (whole on every local device) and batches (rows spread over them) live.

    Raises UserError if the rows do not divide among the devices.
    """
    devices = jax.local_devices()
    if rows % len(devices):
        raise UserError(
            f"config.training.batch = {rows} does not divide among {len(devices)} devices; use a multiple"
        )
    mesh = training_mesh(devices=devices)
    return NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
