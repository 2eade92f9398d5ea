"""Supervised training on traces: the loss of packed rows and its compiled update."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax.sharding import Mesh

from fr.config import TrainingConfig
from fr.models.config import ModelConfig
from fr.models.transformer import Transformer
from fr.training.data import Batch
from fr.training.losses import next_token_loss
from fr.training.state import Measured, compile_update


@functools.lru_cache(maxsize=8)
def make_step(
    model: ModelConfig, config: TrainingConfig, mesh: Mesh | None = None, dtype=jnp.float32
) -> Callable:
    """The compiled update (state, Batch) -> (state, metrics); the given state's buffers are reused.

    Metrics are of the batch before its update: `loss` (nats a learnt token), `learnt` (such tokens),
    `grad_norm` (before the clip) and `learning_rate`. All lies on `mesh`, as `sharding.place` and
    `state.place_batch` put it, or on one device. `dtype` is of the computation; parameters stay float32.
    """
    transformer = Transformer(model, dtype)

    def loss(params: dict, frozen: None, batch: Batch):
        apply = lambda *args, method: transformer.apply({"params": params}, *args, method=method)
        hidden, _ = apply(batch.tokens, batch.positions, None, batch.segments, method="hidden")
        head = lambda states: apply(states, method="head")
        shards = mesh.shape["data"] if mesh else 1
        total = next_token_loss(head, hidden, batch.tokens, batch.weights, model.vocab, shards)
        count = jnp.sum(batch.weights[:, 1:])
        return total / jnp.maximum(count, 1.0), Measured({"learnt": count}, {})

    return compile_update(loss, config, mesh)
