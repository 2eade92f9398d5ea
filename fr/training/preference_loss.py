"""Losses on pairs: DPO, or a Bradley-Terry reward by a head on the last state."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from fr.config import LoraConfig, PreferenceConfig
from fr.models.config import ModelConfig, choose_dtype
from fr.models.transformer import Transformer
from fr.sampling.scoring import token_logps
from fr.training.lora import lora_context, variables
from fr.training.microbatches import AnyArray, LossMetrics, PaddedBatch, check_rows
from fr.training.update import compile_update


@struct.dataclass
class PreferenceBatch(PaddedBatch):
    """Pairs of completions: row 2p is the better one of pair p, row 2p + 1 the worse.

    Attributes:
        tokens: Prompt and completion; -1 pads on the right.
        start: Index of the first token of each completion.
        mask: Learnt tokens.
        margin: Required difference of the rewards (arXiv 2507.21931).
        ref_logp: Log-probs of the ancestor, which DPO needs.
    """

    tokens: Int[AnyArray, "B T"]
    start: Int[AnyArray, "B"]
    mask: Bool[AnyArray, "B W"]
    margin: Float[AnyArray, "P"]
    ref_logp: Float[AnyArray, "B W"] | None = None


@struct.dataclass
class _Weighed(PaddedBatch):
    batch: PreferenceBatch
    weights: Float[Array, "P"]

    @property
    def width(self) -> int:
        return self.batch.width

    def columns_used(self) -> Int[AnyArray, "B"]:
        return self.batch.columns_used()


def bradley_terry(
    better: Float[AnyArray, "P"] | float,
    worse: Float[AnyArray, "P"] | float,
    margin: Float[AnyArray, "P"] | float = 0.0,
) -> Float[Array, "*P"]:
    """Loss of pairs of rewards, -log sigmoid(r_better - r_worse - margin).

    Args:
        better: Rewards of the better completions.
        worse: Rewards of the worse completions.
        margin: Required difference (RLSF, arXiv 2507.21931).

    Returns:
        Loss of each pair.
    """
    return jax.nn.softplus(worse + margin - better)


def check_preference(config: PreferenceConfig, mesh: Mesh) -> None:
    """Check that the rows of a step divide; a pair stays on one device.

    Args:
        config: Settings of training on pairs.
        mesh: Devices as (data, model).

    Raises:
        UserError: They do not divide; the message gives the numbers.
    """
    what = f"config.preference.pairs x 2 = {config.pairs} x 2"
    check_rows(2 * config.pairs, config.microbatch, mesh, what, unit=2)


def with_head(trained: dict, model: ModelConfig) -> dict:
    """The trained parameters of the algorithm reward_model.

    Args:
        trained: All parameters, or adapters.
        model: Shape of the decoder.

    Returns:
        The same under "model", and a head whose reward is 0 everywhere under "reward".
    """
    return {"model": trained, "reward": {"kernel": jnp.zeros(model.width)}}


@functools.lru_cache(maxsize=8)
def make_preference_update(
    model: ModelConfig,
    algorithm: str,
    config: PreferenceConfig,
    lora: LoraConfig,
    mesh: Mesh,
) -> Callable:
    """Compile the update (state, PreferenceBatch, frozen=None) -> (state, metrics).

    The reward of a completion is, by algorithm,

        dpo:           beta sum_t (log p - log p_ref), masked tokens (arXiv 2305.18290)
        reward_model:  kernel . state of the last token

    With `likelihood` = a the loss of DPO has the term a (-sum_t log p / |y|) over the
    learnt tokens y of the better completion (arXiv 2404.19733). Without it both
    completions of a pair may become less likely, as long as the worse one does so
    faster. The term does not cancel on a common beginning, so `pairs` and
    `pairs_parted` differ with it.

    Metrics, means over pairs: `loss`, `accuracy` (the better one has the larger
    reward), `gap` (difference of the rewards).

    Args:
        model: Shape of the decoder.
        algorithm: "dpo" or "reward_model".
        config: Settings of training on pairs.
        lora: Adapters; rank 0: all parameters are trained.
        mesh: Devices as (data, model).

    Returns:
        The compiled function, as of `policy_update.make_update`.
    """
    return compile_update(
        _loss(model, algorithm, config, lora, mesh),
        config,
        mesh,
        _weigh,
        config.microbatch,
        config.length_buckets,
    )


@functools.lru_cache(maxsize=8)
def make_preference_evaluation(
    model: ModelConfig,
    algorithm: str,
    config: PreferenceConfig,
    lora: LoraConfig,
    mesh: Mesh,
) -> Callable:
    """Compile (trained, frozen, PreferenceBatch) -> (metrics, number of pairs).

    Metrics are `loss`, `accuracy` and `gap`, means over pairs.

    Args:
        model: Shape of the decoder.
        algorithm: "dpo" or "reward_model".
        config: Settings of training on pairs.
        lora: Adapters; rank 0: all parameters are trained.
        mesh: Devices as (data, model).

    Returns:
        The compiled function.
    """
    loss = _loss(model, algorithm, config, lora, mesh)

    def evaluator(trained: dict, frozen: dict | None, batch: PreferenceBatch):
        weighed = _weigh(batch)
        value, measured = loss(trained, frozen, weighed)
        return {"loss": value, **measured.sums}, jnp.sum(weighed.weights > 0)

    return jax.jit(evaluator)


def _weigh(batch: PreferenceBatch, step=None) -> _Weighed:
    # A pair without tokens fills up a batch.
    real = jnp.any(batch.mask, axis=1).reshape(-1, 2).any(axis=1).astype(jnp.float32)
    return _Weighed(batch, real / jnp.maximum(jnp.sum(real), 1.0))


def _loss(
    model: ModelConfig,
    algorithm: str,
    config: PreferenceConfig,
    lora: LoraConfig,
    mesh: Mesh,
) -> Callable:
    kinds = {"dpo": _dpo_reward, "reward_model": _head_reward}
    reward = kinds[algorithm](model, config, lora, mesh)
    # RLSF has the margin in the reward model alone: at beta = 0.1 a margin of 1 asks
    # DPO for a log ratio of 10 nats more.
    scale = config.dpo_margin if algorithm == "dpo" else config.margin

    def loss(trained: dict, frozen: dict | None, weighed: _Weighed):
        rewards, logp = reward(trained, frozen, weighed.batch)
        better, worse = rewards.reshape(-1, 2).T
        losses = bradley_terry(better, worse, scale * weighed.batch.margin)
        if config.likelihood and logp is not None:
            losses -= config.likelihood * logp[::2]
        share = lambda x: jnp.sum(weighed.weights * x)
        return share(losses), LossMetrics(
            {"accuracy": share(better > worse), "gap": share(better - worse)}, {}
        )

    return loss


@functools.lru_cache(maxsize=8)
def make_rewards(model: ModelConfig, dtype: str = "") -> Callable:
    """Compile (params, kernel [D], tokens [B, T]) -> rewards [B] of a trained head.

    Args:
        model: Shape of the decoder.
        dtype: Type of the computation; "": the one that suits the device.

    Returns:
        The compiled function; -1 pads tokens on the right.
    """
    transformer = Transformer(model, choose_dtype(dtype or None))
    return jax.jit(
        lambda params, kernel, tokens: (
            last_states(transformer, {"params": params}, tokens) @ kernel
        )
    )


def last_states(
    transformer: Transformer, read: dict, tokens: Int[AnyArray, "B T"]
) -> Float[Array, "B D"]:
    """The final state of each row's last token.

    Args:
        transformer: The decoder.
        read: Its variables.
        tokens: Token ids; -1 pads on the right.

    Returns:
        States, float32.
    """
    positions = jnp.where(tokens >= 0, jnp.arange(tokens.shape[1]), -1)
    hidden, _ = transformer.apply(read, tokens, positions, method="hidden")
    last = jnp.maximum(jnp.sum(tokens >= 0, axis=1) - 1, 0)
    return jax.vmap(lambda row, at: row[at])(hidden, last).astype(jnp.float32)


# Rewards [B], and mean log-probs of learnt tokens [B] if the algorithm has them.
def _head_reward(
    model: ModelConfig, config: PreferenceConfig, lora: LoraConfig, mesh: Mesh
) -> Callable:
    transformer = Transformer(
        model, choose_dtype(config.dtype or None), config.remat, mesh=mesh
    )

    def reward(
        trained: dict, frozen: dict | None, batch: PreferenceBatch
    ) -> tuple[Float[Array, "B"], None]:
        with lora_context(lora):
            states = last_states(
                transformer, variables(trained["model"], frozen, lora), batch.tokens
            )
        return states @ trained["reward"]["kernel"], None

    return reward


def _dpo_reward(
    model: ModelConfig, config: PreferenceConfig, lora: LoraConfig, mesh: Mesh
) -> Callable:
    transformer = Transformer(
        model, choose_dtype(config.dtype or None), config.remat, mesh=mesh
    )

    def reward(
        trained: dict, frozen: dict | None, batch: PreferenceBatch
    ) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
        if batch.ref_logp is None:
            raise ValueError("DPO needs ref_logp in the batch")
        width, shards = batch.mask.shape[1], mesh.shape["data"]
        with lora_context(lora):
            read = variables(trained, frozen, lora)
            logp, _ = token_logps(
                transformer,
                read,
                jnp.asarray(batch.tokens),
                jnp.asarray(batch.start),
                width,
                1.0,
                shards,
            )
        total = lambda values: jnp.sum(jnp.where(batch.mask, values, 0.0), axis=1)
        count = jnp.maximum(jnp.sum(batch.mask, axis=1), 1)
        return config.beta * total(logp - batch.ref_logp), total(logp) / count

    return reward
