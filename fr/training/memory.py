"""What a run of policy optimisation holds on each device, worked out from shapes alone."""

import collections
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from fr.config import Config, LoraConfig
from fr.models import sharding
from fr.models.config import ModelConfig
from fr.models.precision import choose_dtype
from fr.models.transformer import Transformer, init_cache, init_params
from fr.sampling.batch import cache_size
from fr.sampling.pieces import piece_tokens
from fr.sampling.scoring import token_logps
from fr.training.lora import applied, init_adapters, variables
from fr.training.state import make_optimizer

READING = 4  # arrays as large as a piece of logits that are alive while it is read and differentiated


@dataclasses.dataclass(frozen=True)
class Held:
    """One kind of thing that a device holds."""

    name: str
    bytes: int
    note: str


def policy_memory(model: ModelConfig, config: Config, data: int, prompt: int, dtype=None) -> tuple[Held, ...]:
    """What every device of a mesh of `data` x `config.policy.model_axis` holds, prompts having `prompt` tokens.

    `dtype` is that of sampling and of frozen parameters; None: that of this machine, as everywhere. Nothing is
    allocated. The update and the sampler are there at one time; programs and what the compiler adds are not counted.
    """
    policy, lora, parts = config.policy, config.lora, config.policy.model_axis
    dtype, compute = choose_dtype(dtype), choose_dtype(policy.dtype or dtype)
    key = jax.random.key(0)
    params = jax.eval_shape(functools.partial(init_params, model), key)
    trained = jax.eval_shape(functools.partial(init_adapters, model, lora), key) if lora.rank else params
    rows = policy.prompts * policy.rollouts // policy.minibatches
    part = policy.microbatch or rows
    length, copies = prompt + policy.max_new_tokens, 1 + (part < rows)
    held = [Held("trained parameters", _bytes(trained, parts), "float32" + ", adapters" * bool(lora.rank))]
    if lora.rank:
        held.append(Held("frozen parameters", _bytes(params, parts, dtype), dtype.name))
    elif policy.kl:
        held.append(Held("ancestor", _bytes(params, parts, dtype), dtype.name))
    moments = jax.eval_shape(make_optimizer(policy).init, trained)
    note = "float32" + ", a microbatch's and their sum" * (copies - 1)
    held.append(Held("optimiser", _bytes(moments, parts), "two moments, float32"))
    held.append(Held("gradients", copies * _bytes(trained, parts), note))
    held.append(Held("sampler", _bytes(params, config.sampling.model_axis, dtype), f"a copy in {dtype.name}"))
    entries = cache_size(length)
    cache = jax.eval_shape(lambda: init_cache(model, config.sampling.slots, entries, dtype))
    note = f"{config.sampling.slots} rows x {entries} entries"
    held.append(Held("KV cache", _bytes(cache, config.sampling.model_axis), note))
    local = -(-part // data)
    own = _share(model, parts)
    kept = _residuals(own, lora, compute, policy.remat, local, length, policy.max_new_tokens)
    held.append(Held("activations", kept, f"{local} rows x {length} tokens" + ", recomputed" * policy.remat))
    single = dataclasses.replace(own, layers=1)
    layer = _residuals(single, lora, compute, False, local, length, policy.max_new_tokens)
    piece = min(piece_tokens(model.vocab), local * policy.max_new_tokens)
    work = layer + 4 * READING * piece * own.vocab
    held.append(Held("work space", work, f"a layer's gradient, logits of {piece} tokens"))
    return tuple(held)


def memory_table(held: tuple[Held, ...]) -> str:
    """The lines that a dry run prints: bytes a device, and their sum."""
    lines = [f"{one.name:<20}{one.bytes / 1e9:>10.3f} GB  {one.note}" for one in held]
    return "\n".join([*lines, f"{'in all, a device':<20}{sum(one.bytes for one in held) / 1e9:>10.3f} GB"])


def _bytes(tree, parts: int, dtype=None) -> int:
    """Bytes of a tree of shapes on one of `parts` devices of a model axis, floating leaves as `dtype` if given."""

    def one(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        divided = "model" in sharding.spec(name, leaf.shape, parts)
        size = jnp.dtype(dtype or leaf.dtype).itemsize
        return math.prod(leaf.shape) * size // (parts if divided else 1)

    return sum(jax.tree.leaves(jax.tree_util.tree_map_with_path(one, tree)))


def _share(model: ModelConfig, parts: int) -> ModelConfig:
    """A decoder of the size of what one of `parts` devices computes: heads, neurons and vocabulary are divided."""
    divide = lambda size: size if size % parts else size // parts
    heads = divide(model.heads)
    # A key head that is whole on every device serves the queries of that device alone.
    kv_heads = math.gcd(divide(model.kv_heads), heads)
    sizes = {"heads": heads, "kv_heads": kv_heads, "ff": divide(model.ff), "vocab": divide(model.vocab)}
    return dataclasses.replace(model, **sizes)


def _residuals(
    model: ModelConfig, lora: LoraConfig, dtype, remat: bool, rows: int, length: int, width: int
) -> int:
    """Bytes that the forward pass keeps for the backward pass of `rows` rows, parameters not counted."""
    transformer, key = Transformer(model, dtype, remat), jax.random.key(0)
    params = jax.eval_shape(functools.partial(init_params, model), key)
    adapters = jax.eval_shape(functools.partial(init_adapters, model, lora), key) if lora.rank else None
    tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    start = jax.ShapeDtypeStruct((rows,), jnp.int32)

    def pull(params, adapters, tokens, start):
        trained, frozen = (adapters, params) if lora.rank else (params, None)

        def read(trained):
            with applied(lora):
                return token_logps(transformer, variables(trained, frozen, lora), tokens, start, width)[0]

        return jax.vjp(read, trained)[1]

    kept = jax.eval_shape(pull, params, adapters, tokens, start)
    kind = lambda leaf: (leaf.shape, leaf.dtype)
    # The backward pass reads parameters too; they are there anyway.
    given = collections.Counter(map(kind, jax.tree.leaves((params, adapters))))
    counted = collections.Counter(map(kind, jax.tree.leaves(kept))) - given
    return sum(count * math.prod(shape) * dtype.itemsize for (shape, dtype), count in counted.items())
