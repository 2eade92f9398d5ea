"""The state of a training run, its optimiser, and the compiled update of every loss."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import path_aware_map
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from fr.config import PolicyConfig, PreferenceConfig, TrainingConfig
from fr.errors import UserError
from fr.training.microbatches import LossMetrics, accumulate_gradients, keep_sharding

Settings = TrainingConfig | PolicyConfig | PreferenceConfig


@struct.dataclass
class TrainState:
    """All that a resumed run needs.

    Attributes:
        step: Number of updates made.
        params: Trained parameters, float32: all of the model's, or adapters.
        optimizer: The optimiser's moments.
        extra: Arrays that an update does not change: a reference, older parameters, a
            cursor, a coefficient.
    """

    step: Int[Array, ""]
    params: dict
    optimizer: optax.OptState
    extra: dict | None = None


def learning_rate(config: Settings) -> optax.Schedule:
    """Learning rate by the number of updates made.

    A linear warm-up from 0, then constant or a cosine to 0.

    Args:
        config: Settings with `learning_rate`, `warmup_steps`, `schedule` and
            `optimizer_steps`, the updates of the whole run.

    Returns:
        The schedule: updates made -> learning rate.

    Raises:
        UserError: A cosine has no updates left after the warm-up.
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
            f"steps of training = {updates} must be more than warmup_steps = {warm} "
            "for a cosine schedule"
        )
    if not warm:
        return optax.cosine_decay_schedule(peak, updates)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warm, updates)


def make_optimizer(config: Settings) -> optax.GradientTransformation:
    """The optimiser named by `config.optimizer`, after a clip by global norm.

    AdamW (arXiv 1711.05101), Lion (arXiv 2302.06675) or Adafactor (arXiv 1804.04235: of
    a matrix it keeps a row and a column of second moments, and no first moments).
    Scales of norms do not decay.

    Args:
        config: Settings of the training. With `moments` = bfloat16 moments are stored
            in that type; they are computed with in float32.

    Returns:
        The gradient transformation.
    """
    decays = lambda params: path_aware_map(lambda path, _: path[-1] != "scale", params)
    rate, decay = learning_rate(config), config.weight_decay
    if config.optimizer == "lion":
        rule = optax.lion(rate, weight_decay=decay, mask=decays)
    elif config.optimizer == "adafactor":
        # Updates are not scaled by the size of a parameter, so that the learning rate
        # has the same meaning as for the other optimisers.
        rule = optax.chain(
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.add_decayed_weights(decay, mask=decays),
            optax.scale_by_learning_rate(rate),
        )
    else:
        # 0.95, because 0.999 would average the second moment over most of a run of a
        # few thousand steps.
        rule = optax.adamw(rate, b2=0.95, weight_decay=decay, mask=decays)
    if config.moments:
        rule = _kept_as(jnp.dtype(config.moments), rule)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)


def _kept_as(
    dtype: jnp.dtype, rule: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Store the rule's floating state as `dtype` between updates."""

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
    """The state before the first update.

    Args:
        params: What is trained, float32.
        config: Settings of the training.

    Returns:
        A state with `step` 0 and fresh moments.
    """
    # An array, not a number: a Python int would compile the update once per step.
    return TrainState(
        jnp.zeros((), jnp.int32), params, make_optimizer(config).init(params)
    )


def compile_update(
    loss: Callable[[dict, dict | None, Any], tuple[Float[Array, ""], LossMetrics]],
    config: Settings,
    mesh: Mesh | None = None,
    prepare: Callable[[Any, Int[Array, ""]], Any] = lambda batch, step: batch,
    microbatch: int = 0,
    widths: int = 1,
) -> Callable:
    """Compile the update (state, batch, frozen=None) -> (state, metrics).

    Metrics are of the batch before its update: `loss`, all that the loss measures,
    `grad_norm` (before the clip) and `learning_rate`. The buffers of the given state
    are reused.

    Args:
        loss: (trained, frozen, batch) -> (value, metrics). It must be a sum over the
            rows that it is given, so that microbatches add up to the batch.
        config: Settings of the training.
        mesh: Devices as (data, model); None: one device.
        prepare: (batch, updates made) -> batch, run on the whole batch first; puts
            quantities of the whole batch (denominators) into it.
        microbatch: Rows per gradient; 0: all rows at once.
        widths: Number of length buckets of microbatches.

    Returns:
        The compiled function.
    """
    optimizer, rate = make_optimizer(config), learning_rate(config)
    gradient = jax.value_and_grad(loss, has_aux=True)

    def update(state: TrainState, batch, frozen: dict | None = None):
        batch = prepare(batch, state.step)
        (value, measured), grads = accumulate_gradients(
            lambda part: gradient(state.params, frozen, part),
            batch,
            microbatch,
            mesh,
            widths,
        )
        changes, moments = optimizer.update(grads, state.optimizer, state.params)
        metrics = {
            "loss": value,
            **measured.sums,
            **measured.maxima,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": rate(state.step),
        }
        params = optax.apply_updates(state.params, changes)
        made = state.step + 1
        new = dataclasses.replace(state, step=made, params=params, optimizer=moments)
        return keep_sharding(new, mesh), metrics

    # The new state takes the old one's buffers: a caller that still needs them copies.
    return jax.jit(update, donate_argnums=0)
