"""Policy optimisation: batches of rollouts, the loss of every algorithm, and its compiled update."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from fr.config import LoraConfig, PolicyConfig
from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.precision import choose_dtype
from fr.models.transformer import Transformer
from fr.sampling.scoring import token_logps
from fr.training.algorithms import Algorithm
from fr.training.covariance import costly
from fr.training.lora import applied, variables
from fr.training.microbatches import Measured
from fr.training.state import check_rows, compile_update


@struct.dataclass
class PolicyBatch:
    """Rollouts and what they are worth; columns count a row's tokens from `start` on.

    A prompt of two and a completion of three, the second of its tokens forced, in a batch of width 4:

    tokens  5 6 7 8 9 -1     start  2
    mask        1 0 1  0
    """

    tokens: Int[Array, "B T"]  # prompt and completion; -1 pads on the right
    start: Int[Array, "B"]  # where the completion begins; 1 or more
    mask: Bool[Array, "B W"]  # sampled tokens, the stop token among them
    old_logp: Float[Array, "B W"]  # of the policy that drew them, under the distribution of `ratio_logp`
    advantages: Float[Array, "B W"]
    ref_logp: Float[Array, "B W"] | None = None  # of the ancestor, under the same distribution

    @property
    def width(self) -> int:
        """Columns, W."""
        return self.mask.shape[1]

    def needs(self) -> Int[Array, "B"]:
        """The least number of columns that `narrow` may leave of each row; on the host a numpy array."""
        return (self.tokens >= 0).sum(axis=1) - self.start.clip(max=self.tokens.shape[1] - self.width)

    def narrow(self, columns: int) -> "PolicyBatch":
        """The first `columns` of W; as many as that takes off are taken off T."""
        less = self.width - columns
        return jax.tree.map(lambda x: x[:, : x.shape[1] - less] if x.ndim == 2 else x, self)


@struct.dataclass
class _Weighed:
    """A batch with all that depends on the whole of it, so that its microbatches add up."""

    batch: PolicyBatch
    weights: Float[Array, "B W"]  # of a token's loss
    share: Float[Array, "B W"]  # of a token in means over tokens
    costly: Bool[Array, "B W"]  # tokens that the covariance remedies deal with

    @property
    def width(self) -> int:
        return self.batch.width

    def needs(self) -> Int[Array, "B"]:
        return self.batch.needs()

    def narrow(self, columns: int) -> "_Weighed":
        rest = (x[:, :columns] for x in (self.weights, self.share, self.costly))
        return _Weighed(self.batch.narrow(columns), *rest)


def check_policy(config: PolicyConfig, mesh: Mesh) -> None:
    """Raise UserError, naming the numbers, unless the rows of a step divide into minibatches, and so on down."""
    rows = config.prompts * config.rollouts
    what = f"config.policy.prompts x rollouts = {config.prompts} x {config.rollouts}"
    if rows % config.minibatches:
        raise UserError(f"{what} = {rows} rows do not divide into minibatches = {config.minibatches}")
    part = what + (f" in {config.minibatches} minibatches" if config.minibatches > 1 else "")
    rows, unit = rows // config.minibatches, shared_rows(config)
    if (config.microbatch or rows) % unit:
        raise UserError(
            f"a microbatch of {config.microbatch or rows} rows splits the {unit} of a problem, which "
            f"config.policy.shared_prompts keeps together; use a multiple of {unit}"
        )
    check_rows(rows, config.microbatch, mesh, part, unit)


@functools.lru_cache(maxsize=8)
def make_update(
    model: ModelConfig, algorithm: Algorithm, config: PolicyConfig, lora: LoraConfig, mesh: Mesh
) -> Callable:
    """The compiled update (state, PolicyBatch, frozen=None) -> (state, metrics); the state's buffers are reused.

    With adapters the state holds these, and `frozen` the parameters beside them. All lies on `mesh`, as
    `sharding.place` and `state.place_batch` put it; shapes of a batch are those of the program.

    Metrics, of the batch before its update, means over sampled tokens: `loss`, `entropy` (nats, raw policy), `kl`
    (k3 to the ancestor, where the batch has it), `clip_share` (tokens whose gradient the clip took), `tokens`;
    `ratio_max`, `logp_gap` (largest |log-prob - old_logp|); `grad_norm` (before the clip) and `learning_rate`.
    """
    transformer = Transformer(model, choose_dtype(config.dtype or None), config.remat)
    temperature, shards = ratio_temperature(config), mesh.shape["data"]

    def loss(trained: dict, frozen: dict | None, weighed: _Weighed):
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
    return compile_update(loss, config, mesh, prepare, config.microbatch, config.widths)


def shared_rows(config: PolicyConfig) -> int:
    """How many rows in turn are read behind one prompt: those of a problem, or each behind its own."""
    return config.rollouts if config.shared_prompts else 1


def ratio_temperature(config: PolicyConfig) -> float:
    """Temperature of the log-probs in the ratio and in the KL: never of two distributions in one run."""
    return config.temperature if config.ratio_logp == "sample" else 1.0


@functools.lru_cache(maxsize=8)
def make_logps(model: ModelConfig, config: PolicyConfig, lora: LoraConfig, mesh: Mesh) -> Callable:
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
                transformer, read, tokens, start, width, temperature, shards, shared_rows(config)
            )[0]

    return jax.jit(logps, static_argnums=3)


def weigh(batch: PolicyBatch, step: Int[Array, ""], algorithm: Algorithm, config: PolicyConfig) -> _Weighed:
    """What a token's loss counts for; rows without a sampled token do not exist."""
    mask = batch.mask.astype(jnp.float32)
    length = jnp.sum(mask, axis=1, keepdims=True)
    rows, share = jnp.maximum(jnp.sum(length > 0), 1), mask / jnp.maximum(jnp.sum(mask), 1.0)
    weights = {
        "sequence": mask / jnp.maximum(length, 1.0) / rows,
        "token": share,
        "fixed": mask / config.max_new_tokens / rows,
    }[algorithm.mean]
    return _Weighed(batch, weights, share, costly(batch.mask, batch.advantages, batch.old_logp, step, config))


def policy_loss(
    logp: Float[Array, "B W"],
    entropy: Float[Array, "B W"],
    weighed: _Weighed,
    algorithm: Algorithm,
    config: PolicyConfig,
) -> tuple[Float[Array, ""], Measured]:
    """Sum over tokens of weight x (-clipped ratio x advantage + kl x k3 - entropy bonus), and what it measures.

    A sequence ratio is taken a token at a time, as exp(mean log ratio) with the gradient of that token: for
    advantages that are constant along a row the same as its own gradient (arXiv 2507.18071).
    """
    batch = weighed.batch
    live = lambda x: jnp.where(batch.mask, x, 0.0)
    change, advantage = live(logp - batch.old_logp), batch.advantages
    log_ratio = change
    if algorithm.ratio == "sequence":
        mean = jnp.sum(change, axis=1, keepdims=True) / jnp.maximum(jnp.sum(batch.mask, 1, keepdims=True), 1)
        log_ratio = live(jax.lax.stop_gradient(mean - change) + change)
    ratio = jnp.exp(log_ratio)
    low, high = config.clip_low or algorithm.clip_low, config.clip_high or algorithm.clip_high
    if algorithm.ratio == "none":
        gain, clipped = logp * advantage, jnp.zeros_like(batch.mask)
    else:
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - low, 1 + high) * advantage)
        clipped = jnp.where(advantage > 0, ratio > 1 + high, (advantage < 0) & (ratio < 1 - low))
    if config.covariance == "clip":
        gain = jnp.where(weighed.costly, 0.0, gain)
    losses = -gain - config.entropy * entropy
    if config.covariance == "kl":
        losses += jnp.where(weighed.costly, config.covariance_kl * jnp.abs(change), 0.0)
    shares = {"tokens": jnp.sum(batch.mask), "entropy": jnp.sum(weighed.share * entropy)}
    shares["clip_share"] = jnp.sum(weighed.share * clipped)
    if batch.ref_logp is not None:
        k3 = live(_k3(batch.ref_logp - logp))
        losses += config.kl * k3
        shares["kl"] = jnp.sum(weighed.share * k3)
    elif config.kl:
        raise ValueError("config.policy.kl needs ref_logp in the batch")
    peaks = {"ratio_max": jnp.max(live(ratio)), "logp_gap": jnp.max(jnp.abs(change))}
    return jnp.sum(weighed.weights * losses), Measured(shares, peaks)


def _k3(d: Float[Array, "..."]) -> Float[Array, "..."]:
    """The estimate e^d - d - 1 of a KL, d = log p_ref - log p of a sampled token; never negative."""
    return jnp.expm1(d) - d
