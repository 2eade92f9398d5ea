"""Supervised training: the loss of packed rows, its compiled update, and what held-out rows say of it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from fr.config import LoraConfig, TrainingConfig
from fr.models.config import ModelConfig, choose_dtype
from fr.models.transformer import Transformer
from fr.sampling.chunked_lm_head import by_pieces, token_reading
from fr.training.data import Batch
from fr.training.lora import applied, variables
from fr.training.update import Measured, check_rows, compile_update


def next_token_loss(
    head: Callable,
    hidden: Float[Array, "B T D"],
    tokens: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    vocab: int,
    shards: int = 1,
) -> Float[Array, ""]:
    """Weighted sum of the tokens' negative log-probs (nats, float32).

    `head` maps states [..., D] to logits [..., vocab]. The state at t - 1 predicts the token at t, so the weight of
    a row's first token never counts. `shards` is the number of devices that the rows are spread over.
    """
    read = lambda target, state: token_reading(head(state), target, 1.0)
    states = hidden[:, :-1].reshape(-1, hidden.shape[-1])
    logp, _ = by_pieces(read, vocab, (tokens[:, 1:].reshape(-1), states), shards)
    return -jnp.sum(logp * weights[:, 1:].reshape(-1))


@struct.dataclass
class _Counted:
    batch: Batch
    total: Float[
        Array, "B"
    ]  # learnt tokens of the whole batch, so that its microbatches add up


def check_training(config: TrainingConfig, mesh: Mesh) -> None:
    """Raise UserError, naming the numbers, unless the rows of a step divide."""
    check_rows(config.batch, config.microbatch, mesh, "config.training.batch")


@functools.lru_cache(maxsize=8)
def make_step(
    model: ModelConfig,
    config: TrainingConfig,
    lora: LoraConfig = LoraConfig(),
    mesh: Mesh | None = None,
) -> Callable:
    """The compiled update (state, Batch, frozen=None) -> (state, metrics), as `policy.make_update`.

    Metrics are of the batch before its update: `loss` (nats a learnt token), `learnt` (such tokens),
    `grad_norm` (before the clip) and `learning_rate`.
    """
    loss_of = _loss(model, config, lora, mesh)

    def loss(trained: dict, frozen: dict | None, counted: _Counted):
        total, learnt = loss_of(trained, frozen, counted.batch)
        return total / counted.total[0], Measured({"learnt": learnt}, {})

    def prepare(batch: Batch, step):
        total = jnp.maximum(jnp.sum(batch.weights[:, 1:]), 1.0)
        return _Counted(batch, jnp.full(len(batch.weights), total))

    return compile_update(loss, config, mesh, prepare, config.microbatch)


@functools.lru_cache(maxsize=8)
def make_loss(
    model: ModelConfig,
    config: TrainingConfig,
    lora: LoraConfig = LoraConfig(),
    mesh: Mesh | None = None,
) -> Callable:
    """Compiled (trained, frozen, Batch) -> (sum of the learnt tokens' negative log-probs, their number)."""
    return jax.jit(_loss(model, config, lora, mesh))


def _loss(
    model: ModelConfig, config: TrainingConfig, lora: LoraConfig, mesh: Mesh | None
) -> Callable:
    transformer = Transformer(model, choose_dtype(config.dtype or None), config.remat)

    def loss(trained: dict, frozen: dict | None, batch: Batch):
        def apply(*args, method):
            with applied(lora):
                return transformer.apply(
                    variables(trained, frozen, lora), *args, method=method
                )

        hidden, _ = apply(
            batch.tokens, batch.positions, None, batch.segments, method="hidden"
        )
        head = lambda states: apply(states, method="head")
        shards = mesh.shape["data"] if mesh else 1
        total = next_token_loss(
            head, hidden, batch.tokens, batch.weights, model.vocab, shards
        )
        return total, jnp.sum(batch.weights[:, 1:])

    return loss
