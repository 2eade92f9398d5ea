"""Training on pairs: DPO on the model itself, or a Bradley-Terry reward, a scalar head on the last state."""

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
from fr.training.lora import applied, variables
from fr.training.update import Measured, check_rows, compile_update


@struct.dataclass
class PreferenceBatch:
    """Pairs of completions: row 2p is the better one of pair p, row 2p + 1 the worse; laid out as a PolicyBatch."""

    tokens: Int[Array, "B T"]
    start: Int[Array, "B"]
    mask: Bool[Array, "B W"]
    margin: Float[
        Array, "P"
    ]  # by how much the reward of the better one should be larger (arXiv 2507.21931)
    ref_logp: Float[Array, "B W"] | None = None  # of the ancestor; DPO needs it

    @property
    def width(self) -> int:
        """Columns, W."""
        return self.mask.shape[1]

    def needs(self) -> Int[Array, "B"]:
        """Least number of columns that `narrow` may leave of each row."""
        return (self.tokens >= 0).sum(axis=1) - self.start.clip(
            max=self.tokens.shape[1] - self.width
        )

    def narrow(self, columns: int) -> "PreferenceBatch":
        """The first `columns` of W; T loses as many as W."""
        less = self.width - columns
        return jax.tree.map(
            lambda x: x[:, : x.shape[1] - less] if x.ndim == 2 else x, self
        )


@struct.dataclass
class _Weighed:
    batch: PreferenceBatch
    weights: Float[Array, "P"]

    @property
    def width(self) -> int:
        return self.batch.width

    def needs(self) -> Int[Array, "B"]:
        return self.batch.needs()

    def narrow(self, columns: int) -> "_Weighed":
        return self.replace(batch=self.batch.narrow(columns))


def bradley_terry(
    better: Float[Array, "P"],
    worse: Float[Array, "P"],
    margin: Float[Array, "P"] | float = 0.0,
) -> Float[Array, "P"]:
    """-log sigmoid(better - worse - margin), the loss of a pair of rewards; the margin is RLSF's (2507.21931)."""
    return jax.nn.softplus(worse + margin - better)


def check_preference(config: PreferenceConfig, mesh: Mesh) -> None:
    """Raise UserError, naming the numbers, unless the rows of a step divide; a pair stays on one device."""
    what = f"config.preference.pairs x 2 = {config.pairs} x 2"
    check_rows(2 * config.pairs, config.microbatch, mesh, what, unit=2)


def with_head(trained: dict, model: ModelConfig) -> dict:
    """What the algorithm reward_model trains: parameters or adapters, and a head whose reward is 0 everywhere."""
    return {"model": trained, "reward": {"kernel": jnp.zeros(model.width)}}


@functools.lru_cache(maxsize=8)
def make_preference_update(
    model: ModelConfig,
    algorithm: str,
    config: PreferenceConfig,
    lora: LoraConfig,
    mesh: Mesh,
) -> Callable:
    """The compiled update (state, PreferenceBatch, frozen=None) -> (state, metrics), as `policy.make_update`.

    By the algorithm a completion's reward is another: that of the head which `with_head` adds, on the state of its
    last token (reward_model), or beta (log p - log p_ref), summed over its masked tokens (dpo; arXiv 2305.18290).
    Metrics, means over pairs: `loss`, `accuracy` (the better one has the larger reward), `gap` (by how much).
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
def make_preference_exam(
    model: ModelConfig,
    algorithm: str,
    config: PreferenceConfig,
    lora: LoraConfig,
    mesh: Mesh,
) -> Callable:
    """Compiled (trained, frozen, PreferenceBatch) -> `loss`, `accuracy`, `gap` by name, and the number of pairs."""
    loss = _loss(model, algorithm, config, lora, mesh)

    def exam(trained: dict, frozen: dict | None, batch: PreferenceBatch):
        weighed = _weigh(batch)
        value, measured = loss(trained, frozen, weighed)
        return {"loss": value, **measured.shares}, jnp.sum(weighed.weights > 0)

    return jax.jit(exam)


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
    # At beta = .1 a margin of 1 asks DPO for a log ratio of 10 nats more: RLSF has it in the reward model alone.
    scale = config.dpo_margin if algorithm == "dpo" else config.margin

    def loss(trained: dict, frozen: dict | None, weighed: _Weighed):
        better, worse = reward(trained, frozen, weighed.batch).reshape(-1, 2).T
        losses = bradley_terry(better, worse, scale * weighed.batch.margin)
        share = lambda x: jnp.sum(weighed.weights * x)
        return share(losses), Measured(
            {"accuracy": share(better > worse), "gap": share(better - worse)}, {}
        )

    return loss


@functools.lru_cache(maxsize=8)
def make_rewards(model: ModelConfig, dtype: str = "") -> Callable:
    """Compiled (params, kernel [D], tokens [B, T]) -> rewards [B] of a trained head; -1 pads on the right."""
    transformer = Transformer(model, choose_dtype(dtype or None))
    return jax.jit(
        lambda params, kernel, tokens: (
            last_states(transformer, {"params": params}, tokens) @ kernel
        )
    )


def last_states(
    transformer: Transformer, read: dict, tokens: Int[Array, "B T"]
) -> Float[Array, "B D"]:
    """The final state of every row's last token, in float32."""
    positions = jnp.where(tokens >= 0, jnp.arange(tokens.shape[1]), -1)
    hidden, _ = transformer.apply(read, tokens, positions, method="hidden")
    last = jnp.maximum(jnp.sum(tokens >= 0, axis=1) - 1, 0)
    return jax.vmap(lambda row, at: row[at])(hidden, last).astype(jnp.float32)


def _head_reward(
    model: ModelConfig, config: PreferenceConfig, lora: LoraConfig, mesh: Mesh
) -> Callable:
    transformer = Transformer(model, choose_dtype(config.dtype or None), config.remat)

    def reward(
        trained: dict, frozen: dict | None, batch: PreferenceBatch
    ) -> Float[Array, "B"]:
        with applied(lora):
            states = last_states(
                transformer, variables(trained["model"], frozen, lora), batch.tokens
            )
        return states @ trained["reward"]["kernel"]

    return reward


def _dpo_reward(
    model: ModelConfig, config: PreferenceConfig, lora: LoraConfig, mesh: Mesh
) -> Callable:
    transformer = Transformer(model, choose_dtype(config.dtype or None), config.remat)

    def reward(
        trained: dict, frozen: dict | None, batch: PreferenceBatch
    ) -> Float[Array, "B"]:
        if batch.ref_logp is None:
            raise ValueError("DPO needs ref_logp in the batch")
        width, shards = batch.mask.shape[1], mesh.shape["data"]
        with applied(lora):
            read = variables(trained, frozen, lora)
            logp, _ = token_logps(
                transformer, read, batch.tokens, batch.start, width, 1.0, shards
            )
        return config.beta * jnp.sum(
            jnp.where(batch.mask, logp - batch.ref_logp, 0.0), axis=1
        )

    return reward
