"""The compiled update of policy optimisation, and the log-probs that it needs."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fr.config import LoraConfig, PolicyConfig
from fr.errors import UserError
from fr.models import sharding
from fr.models.config import ModelConfig, choose_dtype
from fr.models.transformer import Transformer
from fr.sampling.scoring import token_logps
from fr.training.algorithms import Algorithm
from fr.training.lora import applied, variables
from fr.training.microbatches import widths
from fr.training.objective import PolicyBatch, Weighed, policy_loss, recomputes, weigh
from fr.training.update import check_rows, compile_update, place_batch

__all__ = [
    "PolicyBatch",
    "check_policy",
    "make_logps",
    "make_update",
    "policy_loss",
    "ratio_temperature",
    "recomputes",
    "score_rows",
    "shared_rows",
    "weigh",
]


def check_policy(config: PolicyConfig, mesh: Mesh) -> None:
    """Raise UserError, naming the numbers, unless the rows of a step divide into minibatches, and so on down."""
    rows = config.prompts * config.rollouts
    what = f"config.policy.prompts x rollouts = {config.prompts} x {config.rollouts}"
    if rows % config.minibatches:
        raise UserError(
            f"{what} = {rows} rows do not divide into minibatches = {config.minibatches}"
        )
    part = what + (
        f" in {config.minibatches} minibatches" if config.minibatches > 1 else ""
    )
    rows, unit = rows // config.minibatches, shared_rows(config)
    if (config.microbatch or rows) % unit:
        raise UserError(
            f"a microbatch of {config.microbatch or rows} rows splits the {unit} of a problem, which "
            f"config.policy.shared_prompts keeps together; use a multiple of {unit}"
        )
    check_rows(rows, config.microbatch, mesh, part, unit)


@functools.lru_cache(maxsize=8)
def make_update(
    model: ModelConfig,
    algorithm: Algorithm,
    config: PolicyConfig,
    lora: LoraConfig,
    mesh: Mesh,
) -> Callable:
    """The compiled update (state, PolicyBatch, frozen=None) -> (state, metrics); the state's buffers are reused.

    With adapters the state holds these, and `frozen` the parameters beside them. All lies on `mesh`, as
    `sharding.place` and `state.place_batch` put it; shapes of a batch are those of the program.

    Metrics, of the batch before its update, means over sampled tokens: `loss`, `entropy` (nats, raw policy), `kl`
    (k3 to the ancestor, where the batch has it), `moved` (k3 to the old policy), `clip_share` (tokens whose gradient
    the clip took), `tokens`, `ratio_max`; of |log-prob - drawn_logp| the largest (`logp_gap`), the mean and the share
    above each of `objective.GAPS` (`logp_gap_above`); `importance` and `importance_cut`, where there are weights;
    `grad_norm` (before the clip) and `learning_rate`.
    """
    transformer = Transformer(model, choose_dtype(config.dtype or None), config.remat)
    temperature, shards = ratio_temperature(config), mesh.shape["data"]

    def loss(trained: dict, frozen: dict | None, weighed: Weighed):
        batch = weighed.batch
        with applied(lora):
            logp, entropy = token_logps(
                transformer,
                variables(trained, frozen, lora),
                batch.tokens,
                batch.start,
                batch.mask.shape[1],
                temperature,
                shards,
                shared_rows(config),
            )
        return policy_loss(logp, entropy, weighed, algorithm, config)

    prepare = lambda batch, step: weigh(batch, step, algorithm, config)
    return compile_update(loss, config, mesh, prepare, config.microbatch, config.length_buckets)


def shared_rows(config: PolicyConfig) -> int:
    """How many rows in turn are read behind one prompt: those of a problem, or each behind its own."""
    return config.rollouts if config.shared_prompts else 1


def ratio_temperature(config: PolicyConfig) -> float:
    """Temperature of the log-probs in the ratio and in the KL: never of two distributions in one run."""
    return config.temperature if config.ratio_distribution == "sample" else 1.0


@functools.lru_cache(maxsize=8)
def make_logps(
    model: ModelConfig, config: PolicyConfig, lora: LoraConfig, mesh: Mesh
) -> Callable:
    """Compiled (trained, tokens [B, T], start [B], width, frozen=None) -> log-probs [B, width]: of `ref_logp`.

    Under the distribution of the ratio, and in the type of the update. For the ancestor give its parameters and a
    LoraConfig without rank.
    """
    transformer = Transformer(model, choose_dtype(config.dtype or None))
    temperature, shards = ratio_temperature(config), mesh.shape["data"]

    def logps(trained, tokens, start, width, frozen=None):
        with applied(lora):
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


def score_rows(
    read: Callable,
    tokens: Int[np.ndarray, "B T"],
    start: Int[np.ndarray, "B"],
    width: int,
    order: Int[np.ndarray, "R"],
    size: int,
    count: int,
    mesh: Mesh,
) -> Float[np.ndarray, "B W"]:
    """Log-probs of the rows in `order` (0 of others), as many rows at a time as an update takes.

    Args:
        read: (tokens, start, columns) -> log-probs [size, columns]; of `make_logps`, with its parameters.
        tokens: prompts and completions; -1 pads on the right.
        start: where completions begin.
        width: columns of the result, W.
        order: rows by what they need, so that like ones are read together.
        size: rows of one pass; the last ones are read twice rather than in a shape of their own.
        count: widths at most, of which a pass takes the narrowest that holds its rows.
        mesh: the devices.
    """
    out, some = np.zeros((len(tokens), width), np.float32), []
    need = (tokens >= 0).sum(axis=1) - start.clip(max=tokens.shape[1] - width)
    for first in range(0, len(order), size):
        part = order[np.minimum(np.arange(first, first + size), len(order) - 1)]
        columns = next(w for w in widths(width, count) if w >= need[part].max())
        placed = place_batch(
            (tokens[part][:, : tokens.shape[1] - width + columns], start[part]), mesh
        )
        some.append((part, read(*placed, columns)))
    for part, logp in some:
        logp = sharding.on_host(logp)
        out[part, : logp.shape[1]] = logp
    return out
