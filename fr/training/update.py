"""The state of a training run, its optimiser, and the one compiled update that every loss goes through."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import path_aware_map
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from fr.config import PolicyConfig, PreferenceConfig, TrainingConfig
from fr.errors import UserError
from fr.models import sharding
from fr.training.microbatches import Measured, over_parts, pinned

Settings = TrainingConfig | PolicyConfig | PreferenceConfig


@struct.dataclass
class TrainState:
    """All that a resumed run needs: what is trained (float32), the optimiser's moments, number of updates made."""

    step: Int[Array, ""]
    params: dict  # all parameters, or adapters
    optimizer: optax.OptState
    extra: dict | None = (
        None  # what an update leaves alone: a reference, older parameters, a coefficient
    )


def learning_rate(config: Settings) -> optax.Schedule:
    """Learning rate by the number of updates made: linear warm-up, then constant or a cosine to zero.

    Raises UserError if a cosine has no updates left after the warm-up.
    """
    peak, warm, updates = (
        config.learning_rate,
        config.warmup_steps,
        config.optimizer_steps,
    )
    if config.schedule == "constant":
        return (
            optax.linear_schedule(0.0, peak, warm)
            if warm
            else optax.constant_schedule(peak)
        )
    if updates <= warm:
        raise UserError(
            f"steps of training = {updates} must be more than warmup_steps = {warm} for a cosine schedule"
        )
    if not warm:
        return optax.cosine_decay_schedule(peak, updates)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warm, updates)


def make_optimizer(config: Settings) -> optax.GradientTransformation:
    """The optimiser that `config.optimizer` names, after a clip by global norm; norms' scales do not decay.

    adamw (arXiv 1711.05101), lion (arXiv 2302.06675) or adafactor (arXiv 1804.04235: a matrix keeps a row and
    a column of second moments, and no first one). With `config.moments` = bfloat16 moments are kept in that
    type and computed with in float32.
    """
    decays = lambda params: path_aware_map(lambda path, _: path[-1] != "scale", params)
    rate, decay = learning_rate(config), config.weight_decay
    if config.optimizer == "lion":
        rule = optax.lion(rate, weight_decay=decay, mask=decays)
    elif config.optimizer == "adafactor":
        # Neither scaled by the size of a parameter: the learning rate means what it means for the others.
        rule = optax.chain(
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.add_decayed_weights(decay, mask=decays),
            optax.scale_by_learning_rate(rate),
        )
    else:
        # 0.95: of a run of a few thousand steps, 0.999 would average the second moment over most.
        rule = optax.adamw(rate, b2=0.95, weight_decay=decay, mask=decays)
    if config.moments:
        rule = _kept_as(jnp.dtype(config.moments), rule)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)


def _kept_as(
    dtype: jnp.dtype, rule: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The rule with its floating state stored as `dtype` between updates."""

    def cast(tree, kind):
        floats = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
        return jax.tree.map(lambda x: x.astype(kind) if floats(x) else x, tree)

    def update(grads, state, params=None):
        changes, state = rule.update(grads, cast(state, jnp.float32), params)
        return changes, cast(state, dtype)

    return optax.GradientTransformation(
        lambda params: cast(rule.init(params), dtype), update
    )


def init_state(params: dict, config: Settings) -> TrainState:
    """The state before the first update."""
    return TrainState(
        jnp.zeros((), jnp.int32), params, make_optimizer(config).init(params)
    )


def training_mesh(model_axis: int = 1, devices: list | None = None) -> Mesh:
    """All devices of all processes (or those given) as (data, model); raises UserError if they do not divide."""
    devices = devices or jax.devices()
    if len(devices) % model_axis:
        raise UserError(
            f"model_axis = {model_axis} does not divide {len(devices)} devices"
        )
    return Mesh(np.array(devices).reshape(-1, model_axis), sharding.AXES)


def check_rows(
    rows: int, microbatch: int, mesh: Mesh, what: str, unit: int = 1
) -> None:
    """Raise UserError unless an update's rows divide into microbatches, and those over the mesh, `unit`s whole.

    `what` says where the rows come from.
    """
    shards, part = mesh.shape["data"], microbatch or rows
    if rows % part:
        raise UserError(
            f"{what} = {rows} rows do not divide into microbatches of {part}"
        )
    if part % (shards * unit):
        where = (
            f"{what} = {rows} rows" if part == rows else f"a microbatch of {part} rows"
        )
        raise UserError(
            f"{where} does not divide among {shards} data shards ({mesh.size} devices, "
            f"model_axis {mesh.shape['model']}); use a multiple of {shards * unit}"
        )


def place_batch(batch, mesh: Mesh):
    """Put a batch on the mesh, its rows spread over the data axis; every process has the whole of it."""
    return sharding.put(batch, NamedSharding(mesh, P("data")))


def compile_update(
    loss: Callable[[dict, dict | None, object], tuple[Float[Array, ""], Measured]],
    config: Settings,
    mesh: Mesh | None = None,
    prepare: Callable[[object, Int[Array, ""]], object] = lambda batch, step: batch,
    microbatch: int = 0,
    widths: int = 1,
) -> Callable:
    """The compiled update (state, batch, frozen=None) -> (state, metrics); the given state's buffers are reused.

    `loss(trained, frozen, batch)` is a sum over the rows that it is given, so that microbatches add up to the batch:
    what depends on all of it (denominators) is put into the batch by `prepare(batch, updates made)`. Metrics are of
    the batch before its update: the loss, all that it measured, `grad_norm` (before the clip), `learning_rate`.
    """
    optimizer, rate = make_optimizer(config), learning_rate(config)
    gradient = jax.value_and_grad(loss, has_aux=True)

    def update(state: TrainState, batch, frozen: dict | None = None):
        batch = prepare(batch, state.step)
        (value, measured), grads = over_parts(
            lambda part: gradient(state.params, frozen, part),
            batch,
            microbatch,
            mesh,
            widths,
        )
        changes, moments = optimizer.update(grads, state.optimizer, state.params)
        metrics = {
            "loss": value,
            **measured.shares,
            **measured.peaks,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": rate(state.step),
        }
        params = optax.apply_updates(state.params, changes)
        new = state.replace(step=state.step + 1, params=params, optimizer=moments)
        return pinned(new, mesh), metrics

    return jax.jit(update, donate_argnums=0)
