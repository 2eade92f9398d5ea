"""Supervised training: the loss of packed rows, its compiled update, and the run."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from fr import distributed, tasks
from fr.config import Config, LoraConfig, TrainingConfig
from fr.errors import UserError
from fr.models import Model, save, sharding
from fr.models.config import ModelConfig, choose_dtype
from fr.models.dense import merge
from fr.models.orbax import save_outline
from fr.models.transformer import Transformer, init_params
from fr.runs.inputs import begin_training
from fr.sampling.chunked_lm_head import map_chunks, token_logp_entropy
from fr.training.data import Example, PackedBatch, PackedData, pack_all
from fr.training.examples import examples_of
from fr.training.lora import lora_context, partition, variables
from fr.training.microbatches import (
    AnyArray,
    LossMetrics,
    check_rows,
    place_batch,
    training_mesh,
)
from fr.training.trainer import Evaluator, Step, fit
from fr.training.update import TrainState, compile_update, init_state
from fr.workdir import PathLike

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def next_token_loss(
    head: Callable,
    hidden: Float[Array, "B T D"],
    tokens: Int[AnyArray, "B T"],
    weights: Float[AnyArray, "B T"],
    vocab: int,
    shards: int = 1,
) -> Float[Array, ""]:
    """-sum_t w_t log p(x_t | x_<t), in nats, float32.

    The state at t - 1 predicts the token at t, so the weight of a row's first token
    never counts.

    Args:
        head: Maps states [..., D] to logits [..., vocab].
        hidden: Final states.
        tokens: Token ids.
        weights: Weights of the tokens.
        vocab: Size of the vocabulary.
        shards: Devices that the rows are spread over.

    Returns:
        The weighted sum.
    """
    read = lambda target, state: token_logp_entropy(head(state), target, 1.0)
    states = hidden[:, :-1].reshape(-1, hidden.shape[-1])
    logp, _ = map_chunks(
        read, vocab, (jnp.asarray(tokens[:, 1:].reshape(-1)), states), shards
    )
    return -jnp.sum(logp * weights[:, 1:].reshape(-1))


@struct.dataclass
class _Counted:
    batch: PackedBatch
    total: Float[
        Array, "B"
    ]  # learnt tokens of the whole batch, so that its microbatches add up


def check_training(config: TrainingConfig, mesh: Mesh) -> None:
    """Check that the rows of a step divide.

    Args:
        config: Settings of the training.
        mesh: Devices as (data, model).

    Raises:
        UserError: They do not divide; the message gives the numbers.
    """
    check_rows(config.batch, config.microbatch, mesh, "config.training.batch")


@functools.lru_cache(maxsize=8)
def make_supervised_update(
    model: ModelConfig,
    config: TrainingConfig,
    lora: LoraConfig = LoraConfig(),
    mesh: Mesh | None = None,
) -> Callable:
    """Compile the update (state, PackedBatch, frozen=None) -> (state, metrics).

    Metrics are of the batch before its update: `loss` (nats per learnt token), `learnt`
    (number of such tokens), `grad_norm` (before the clip) and `learning_rate`.

    Args:
        model: Shape of the decoder.
        config: Settings of the training.
        lora: Adapters; rank 0: all parameters are trained.
        mesh: Devices as (data, model); None: one device.

    Returns:
        The compiled function.
    """
    loss_of = _loss(model, config, lora, mesh)

    def loss(trained: dict, frozen: dict | None, counted: _Counted):
        total, learnt = loss_of(trained, frozen, counted.batch)
        return total / counted.total[0], LossMetrics({"learnt": learnt}, {})

    def prepare(batch: PackedBatch, step):
        total = jnp.maximum(jnp.sum(batch.weights[:, 1:]), 1.0)
        return _Counted(batch, jnp.full(len(batch.weights), total))

    return compile_update(loss, config, mesh, prepare, config.microbatch)


@functools.lru_cache(maxsize=8)
def make_supervised_loss(
    model: ModelConfig,
    config: TrainingConfig,
    lora: LoraConfig = LoraConfig(),
    mesh: Mesh | None = None,
) -> Callable:
    """Compile (trained, frozen, PackedBatch) -> (sum of losses in nats, learnt tokens).

    Args:
        model: Shape of the decoder.
        config: Settings of the training.
        lora: Adapters; rank 0: all parameters are trained.
        mesh: Devices as (data, model); None: one device.

    Returns:
        The compiled function.
    """
    return jax.jit(_loss(model, config, lora, mesh))


def _loss(
    model: ModelConfig, config: TrainingConfig, lora: LoraConfig, mesh: Mesh | None
) -> Callable:
    transformer = Transformer(model, choose_dtype(config.dtype or None), config.remat)

    def loss(trained: dict, frozen: dict | None, batch: PackedBatch):
        def apply(*args, method):
            with lora_context(lora):
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


def scratch_shape(config: Config) -> tuple[ModelConfig, "PreTrainedTokenizerFast"]:
    """The `architecture` as a decoder of the task's words.

    Args:
        config: The whole configuration.

    Returns:
        The shape, and the tokenizer of the task.

    Raises:
        UserError: The task has no tokenizer.
    """
    shape, tokenizer = config.architecture, tasks.tokenizer_of(config.task)
    decoder = ModelConfig(
        vocab=len(tokenizer),
        width=shape.width,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        ff=shape.ff,
    )
    return decoder, tokenizer


def random_model(config: Config) -> Model:
    """The `architecture` with random parameters, and the tokenizer of the task.

    Args:
        config: The whole configuration.

    Returns:
        The model.
    """
    decoder, tokenizer = scratch_shape(config)
    params = init_params(decoder, jax.random.key(config.seed))
    return Model(decoder, params, tokenizer, (tokenizer.eos_token_id,), "scratch")


def train_supervised(
    config: Config,
    training: TrainingConfig,
    workdir: PathLike,
    start: Model,
    folder: epath.Path,
    source: str = "",
) -> None:
    """Train a model on examples; with `config.lora` by adapters that the export merges.

    Args:
        config: The whole configuration.
        training: Settings of this training, `config.training` or `config.pretraining`.
        workdir: Folder of the models.
        start: The model that training starts from.
        folder: Receives checkpoints, metrics and in the end the model.
        source: Name of `start`; "": it was made from random numbers.

    Raises:
        UserError: Settings do not fit, or there is no example; raised before anything
            is written.
    """
    mesh, lora = training_mesh(training.model_axis), config.lora
    check_training(training, mesh)
    if start.tokenizer is None or not start.stop_tokens:
        raise UserError(
            f"{start.name} has no tokenizer or no stop token, so it cannot learn from "
            "text"
        )
    examples, seed = (
        examples_of(config, training, start),
        f"{config.seed}/{folder.name}",
    )
    # A pad is masked by its position; its id is never read.
    data = PackedData(examples.make, examples.total, 0, training, seed)
    trained, frozen = partition(start.config, start.params, lora, config.seed)
    update = make_supervised_update(start.config, training, lora, mesh)
    state = init_state(trained, training)
    permuted = training.order == "permuted"
    if permuted:
        state = dataclasses.replace(state, extra={"cursor": np.int32(0)})
    # By step: the cursor of the state, without waiting for the device.
    cursors: dict[int, int] = {}

    def advance(i: int, state: TrainState, _) -> Step:
        extra = state.extra or {}
        at = cursors.pop(i) if i in cursors else int(extra.get("cursor", 0))
        batch, cursors[i + 1] = data.batch(i, at)
        state, metrics = update(state, place_batch(batch, mesh), frozen)
        metrics |= {"update_tokens": int((batch.segments > 0).sum())}
        if state.extra:
            place = state.extra["cursor"].sharding
            cursor = sharding.device_put_global(np.int32(cursors[i + 1]), place)
            state = dataclasses.replace(state, extra={"cursor": cursor})
            metrics |= {"epoch": cursors[i + 1] / data.total}
        return Step(state, metrics)

    evaluator = (
        _evaluator(training, start, examples.held, config, mesh, frozen)
        if training.eval_every
        else None
    )
    # A folder may hold an ancestor and a specialist, each with examples of its own.
    own = "ancestor_" if folder.name == "ancestor" else ""
    inputs = {f"{own}{name}": value for name, value in examples.inputs.items()}
    if distributed.is_first():
        begin_training(
            workdir,
            folder.name,
            config,
            source,
            start if source else None,
            inputs,
        )
    distributed.wait(f"{folder.name}/claim")
    save_outline(folder, start, source, lora)
    state = fit(sharding.shard_tree(state, mesh), advance, training, folder, evaluator)
    params = merge(start.params, state.params, lora) if lora.active else state.params
    save(folder, start.config, params, start.tokenizer, start.stop_tokens)


def _evaluator(
    training: TrainingConfig,
    start: Model,
    held: Sequence[Example],
    config: Config,
    mesh,
    frozen: dict | None,
) -> Evaluator:
    """Nats a learnt token of held-out examples."""
    look = make_supervised_loss(start.config, training, config.lora, mesh)
    packed = pack_all(held, training.batch, training.sequence, 0)
    batches = [place_batch(batch, mesh) for batch in packed]

    def measure(state: TrainState) -> dict[str, float]:
        seen = jax.device_get([look(state.params, frozen, batch) for batch in batches])
        return {
            "held_out/loss": float(
                sum(total for total, _ in seen) / sum(count for _, count in seen)
            )
        }

    return Evaluator(training.eval_every, measure, "held_out/loss", lower=True)
