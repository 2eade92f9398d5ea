"""Memory of a training per device, computed from shapes alone."""

import collections
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from fr.config import Config, LoraConfig
from fr.models import sharding
from fr.models.blockwise_attention import work_space
from fr.models.config import ModelConfig, choose_dtype
from fr.models.kv_cache import init_cache
from fr.models.transformer import Transformer, init_params
from fr.sampling.chunked_lm_head import chunk_tokens
from fr.sampling.scoring import token_logps
from fr.sampling.state import cache_size
from fr.training.lora import init_adapters, lora_context, variables
from fr.training.policy_update import shared_rows
from fr.training.preference_loss import last_states
from fr.training.update import Settings, make_optimizer

READING = (
    4  # arrays of a chunk's logits that are alive in its forward and backward pass
)


@dataclasses.dataclass(frozen=True)
class MemoryItem:
    """One item that a device holds.

    Attributes:
        name: What it is.
        bytes: Its size on one device.
        note: Its type and shape, for the table.
    """

    name: str
    bytes: int
    note: str


def policy_memory(
    model: ModelConfig, config: Config, data: int, prompt: int, dtype=None
) -> tuple[MemoryItem, ...]:
    """Memory of policy optimisation per device of a mesh `data` x `policy.model_axis`.

    Nothing is allocated. The update and the sampler are there at the same time.
    Compiled programs and temporaries that the compiler adds are not counted.

    Args:
        model: Shape of the decoder.
        config: The whole configuration.
        data: Size of the data axis.
        prompt: Tokens of a prompt.
        dtype: Type of sampling and of frozen parameters; None: this machine's.

    Returns:
        The items, in bytes per device.
    """
    c = config.policy
    rows, new = c.prompts * c.rollouts // c.minibatches, c.max_new_tokens
    lines = _Lines(rows, prompt + new, new, shared_rows(c))
    learning = _learning(model, config, c, lines, data, dtype, ancestor=bool(c.kl))
    return (*learning, *_sampling(model, config, lines.length, dtype))


def supervised_memory(
    model: ModelConfig, config: Config, data: int, dtype=None
) -> tuple[MemoryItem, ...]:
    """Memory of supervised training per device; all tokens of the rows may be learnt.

    Args:
        model: Shape of the decoder.
        config: The whole configuration.
        data: Size of the data axis.
        dtype: Type of frozen parameters; None: this machine's.

    Returns:
        The items, in bytes per device.
    """
    c = config.training
    return _learning(
        model,
        config,
        c,
        _Lines(c.batch, c.sequence, c.sequence),
        data,
        dtype,
        ancestor=False,
    )


def preference_memory(
    model: ModelConfig, config: Config, data: int, prompt: int, dtype=None
) -> tuple[tuple[MemoryItem, ...], tuple[MemoryItem, ...]]:
    """Memory of training on pairs per device.

    The ancestor is read once, before the first update and in its own parameters; its
    log-probs of all candidates stay on the host.

    Args:
        model: Shape of the decoder.
        config: The whole configuration.
        data: Size of the data axis.
        prompt: Tokens of a prompt.
        dtype: Type of sampling and of frozen parameters; None: this machine's.

    Returns:
        The items while candidates are sampled, and afterwards while pairs are learnt
        from.
    """
    c, new = config.preference, config.sampling.max_new_tokens
    lines = _Lines(2 * c.pairs, prompt + new, new)
    learning = _learning(model, config, c, lines, data, dtype, ancestor=False)
    scores = 4 * lines.width * (config.algorithm == "dpo")
    size = -(-lines.rows // data) * (4 * lines.length + lines.width + scores)
    pairs = MemoryItem(
        "pairs",
        size,
        f"{lines.rows} rows of a step" + ", reference scores" * bool(scores),
    )
    return _sampling(model, config, lines.length, dtype), (*learning, pairs)


@dataclasses.dataclass(frozen=True)
class _Lines:
    """Rows of an update, and tokens of a row and of its completion."""

    rows: int
    length: int
    width: int
    group: int = 1  # rows that share one prompt


def _sampling(
    model: ModelConfig, config: Config, length: int, dtype
) -> tuple[MemoryItem, ...]:
    """The engine that draws completions."""
    dtype, parts, entries = (
        choose_dtype(dtype),
        config.sampling.model_axis,
        cache_size(length),
    )
    params = jax.eval_shape(functools.partial(init_params, model), jax.random.key(0))
    cache = jax.eval_shape(
        lambda: init_cache(model, config.sampling.slots, entries, dtype)
    )
    note = f"{config.sampling.slots} rows x {entries} entries"
    return (
        MemoryItem("sampler", _bytes(params, parts, dtype), f"a copy in {dtype.name}"),
        MemoryItem("KV cache", _bytes(cache, parts), note),
    )


def _learning(
    model: ModelConfig,
    config: Config,
    settings: Settings,
    lines: _Lines,
    data: int,
    dtype,
    ancestor: bool,
) -> tuple[MemoryItem, ...]:
    """The state of a training, and what one update adds."""
    lora, parts, part = (
        config.lora,
        settings.model_axis,
        settings.microbatch or lines.rows,
    )
    dtype, compute = choose_dtype(dtype), choose_dtype(settings.dtype or dtype)
    key = jax.random.key(0)
    params = jax.eval_shape(functools.partial(init_params, model), key)
    trained = (
        jax.eval_shape(functools.partial(init_adapters, model, lora), key)
        if lora.active
        else params
    )
    copies = 1 + (part < lines.rows)
    held = [
        MemoryItem(
            "trained parameters",
            _bytes(trained, parts),
            "float32" + ", adapters" * lora.active,
        )
    ]
    if lora.active:
        held.append(
            MemoryItem("frozen parameters", _bytes(params, parts, dtype), dtype.name)
        )
    elif ancestor:
        held.append(MemoryItem("ancestor", _bytes(params, parts, dtype), dtype.name))
    moments = jax.eval_shape(make_optimizer(settings).init, trained)
    note = "float32" + ", a microbatch's and their sum" * (copies - 1)
    held.append(
        MemoryItem(
            "optimiser",
            _bytes(moments, parts),
            f"{settings.optimizer}, moments in {settings.moments or 'float32'}",
        )
    )
    held.append(MemoryItem("gradients", copies * _bytes(trained, parts), note))
    local, by_head = -(-part // data), config.algorithm == "reward_model"
    own = _share(model, parts)
    shape = (local, lines.length, 0 if by_head else lines.width, lines.group)
    kept = _residuals(own, lora, compute, settings.remat, *shape)
    note = f"{local} rows x {lines.length} tokens" + ", recomputed" * settings.remat
    held.append(MemoryItem("activations", kept, note))
    layer = _residuals(dataclasses.replace(own, layers=1), lora, compute, False, *shape)
    layer += work_space(local, own.heads, lines.length)
    piece = 0 if by_head else min(chunk_tokens(model.vocab), local * lines.width)
    note = "a layer's gradient" + f", or logits of {piece} tokens" * bool(piece)
    # Logits have been read when the first layer's gradient is taken.
    held.append(
        MemoryItem("work space", max(layer, 4 * READING * piece * own.vocab), note)
    )
    return tuple(held)


def memory_table(held: tuple[MemoryItem, ...]) -> str:
    """The table that a dry run prints.

    Args:
        held: Items of one device.

    Returns:
        One line per item in GB (1e9 bytes), and their sum.
    """
    lines = [f"{one.name:<20}{one.bytes / 1e9:>10.3f} GB  {one.note}" for one in held]
    return "\n".join(
        [
            *lines,
            f"{'in all, a device':<20}{sum(one.bytes for one in held) / 1e9:>10.3f} GB",
        ]
    )


def _bytes(tree, parts: int, dtype=None) -> int:
    """Bytes of a tree of shapes on one of `parts` devices of a model axis."""

    def one(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        divided = "model" in sharding.spec(name, leaf.shape, parts)
        size = jnp.dtype(dtype or leaf.dtype).itemsize
        return math.prod(leaf.shape) * size // (parts if divided else 1)

    return sum(jax.tree.leaves(jax.tree_util.tree_map_with_path(one, tree)))


def _share(model: ModelConfig, parts: int) -> ModelConfig:
    """The part of a decoder that one of `parts` devices computes."""
    divide = lambda size: size if size % parts else size // parts
    heads = divide(model.heads)
    # A key head that is whole on every device serves the queries of that device alone.
    kv_heads = math.gcd(divide(model.kv_heads), heads)
    sizes = {
        "heads": heads,
        "kv_heads": kv_heads,
        "ff": divide(model.ff),
        "vocab": divide(model.vocab),
    }
    return dataclasses.replace(model, **sizes)


def _residuals(
    model: ModelConfig,
    lora: LoraConfig,
    dtype,
    remat: bool,
    rows: int,
    length: int,
    width: int,
    group: int,
) -> int:
    """Bytes that the forward pass keeps for the backward pass, without parameters.

    It reads log-probs of `width` tokens, or the last state if that is 0; `group` rows
    share one prompt.
    """
    transformer, key = Transformer(model, dtype, remat), jax.random.key(0)
    params = jax.eval_shape(functools.partial(init_params, model), key)
    adapters = (
        jax.eval_shape(functools.partial(init_adapters, model, lora), key)
        if lora.active
        else None
    )
    tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    start = jax.ShapeDtypeStruct((rows,), jnp.int32)

    def pull(params, adapters, tokens, start):
        trained, frozen = (adapters, params) if lora.active else (params, None)

        def read(trained):
            with lora_context(lora):
                given = variables(trained, frozen, lora)
                if not width:
                    return last_states(transformer, given, tokens)
                return token_logps(
                    transformer, given, tokens, start, width, group=group
                )[0]

        return jax.vjp(read, trained)[1]

    kept = jax.eval_shape(pull, params, adapters, tokens, start)
    kind = lambda leaf: (leaf.shape, leaf.dtype)
    # The backward pass reads parameters too; they are there anyway.
    given = collections.Counter(map(kind, jax.tree.leaves((params, adapters))))
    counted = collections.Counter(map(kind, jax.tree.leaves(kept))) - given
    return sum(
        count * math.prod(shape) * dtype.itemsize
        for (shape, dtype), count in counted.items()
    )
