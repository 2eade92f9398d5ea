"""Attention of one new token per row that reads the live entries of a cache only."""

import functools
import importlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from fr.models.attention_scores import UNSEEN, by_group, by_token, capped
from fr.models.config import ModelConfig
from fr.models.kv_cache import KVCache, LayerCache

# Bytes of keys that a step of the kernel reads, and bounds of their entries. Less would
# take less time than the start of a step, and more would read past the end of rows: in
# long caches this counts for little.
_BYTES, _LONG, _LEAST, _MOST = 2**18, 2**14, 128, 1024
# Sizes of heads that a TPU keeps innermost. With others entries are, for they need no
# padding, and the kernel would have a copy of the whole cache.
_WIDTHS = 128


@struct.dataclass
class Stacked:
    """One layer of a cache that has all layers in one array; it is not cut out.

    Attributes:
        cache: All layers.
        index: The layer.
    """

    cache: LayerCache
    index: Int[Array, ""]


class Live(NamedTuple):
    """Softmax and weighted sum over live entries, before both are divided.

    A row without a live entry has `total` 0 and `top` UNSEEN.

    Attributes:
        out: sum_s exp(score_s - top) v_s.
        top: Largest score.
        total: sum_s exp(score_s - top).
    """

    out: Float[Array, "B K G H"]
    top: Float[Array, "B K G 1"]
    total: Float[Array, "B K G 1"]


def parts_of_heads() -> int:
    """Devices of the model axis of the program around, 1 without one."""
    around = jax.sharding.get_abstract_mesh()
    return around.shape["model"] if "model" in around.axis_names else 1


def reads_live_entries(config: ModelConfig, attention: str, cache: KVCache) -> bool:
    """True if a decoding step of this cache goes by `live_entries`.

    Args:
        config: The decoder.
        attention: As in `Transformer`.
        cache: The cache.

    Returns:
        False where steps write the cache at once, for heads of another size than a
        multiple of 128, and where heads are not divided as the devices are.
    """
    return (
        attention == "ragged"
        and cache.recent is not None
        and not cache.layout.entries_last
        and config.head_dim % _WIDTHS == 0
        and config.kv_heads % parts_of_heads() == 0
    )


def takes_lengths(config: ModelConfig, cache: LayerCache) -> bool:
    """True if cuDNN can read a layer's cache where it lies; see `attend_first`.

    Args:
        config: The decoder.
        cache: The cache of a layer.

    Returns:
        False for other types than bfloat16, soft caps of scores, and heads that it
        does not take or that are not divided as the devices are.
    """
    return (
        not cache.layout.entries_last
        and cache.v.dtype == jnp.bfloat16
        and not config.attention_softcap
        and config.head_dim % 8 == 0
        and config.head_dim <= 256
        and config.kv_heads % parts_of_heads() == 0
    )


def sight_of(
    positions: Int[Array, "B 1"],
    step: Int[Array, ""],
    window: Int[Array, ""] | int | None,
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """Entries of a cache before a chunk that the token of a step sees.

    Args:
        positions: Position of each row's token; -1: the row is not live.
        step: Steps of the chunk before this one.
        window: Tokens in sight, the own one included; None: all.

    Returns:
        The first entry, and the one after the last: not above the first if none is
        seen.
    """
    own = positions[:, 0]
    begin = 0 * own if window is None else jnp.maximum(own - window + 1, 0)
    return begin, own - step


def _over_heads(read: Callable, *heads: int) -> Callable:
    """Run a kernel on each device's heads: it cannot be divided from outside.

    `heads` is their axis in each argument, -1 where there is none. Results have it
    second.
    """
    if parts_of_heads() == 1:
        return read
    spec = lambda axis: P() if axis < 0 else P(*[None] * axis, "model")
    return jax.shard_map(
        read,
        mesh=jax.sharding.get_abstract_mesh(),
        in_specs=tuple(map(spec, heads)),
        out_specs=P(None, "model"),
        axis_names={"model"},
        check_vma=False,
    )


def attend_first(
    q: Float[Array, "B 1 N H"], cache: LayerCache, live: Int[Array, "B"]
) -> Float[Array, "B 1 N H"]:
    """Attention to the first entries of each row by cuDNN, which is told their number.

    Args:
        q: Scaled queries.
        cache: The cache of a layer; keys are [B, K, S, H].
        live: Entries that a row sees; a row with 0 gets values without meaning.

    Returns:
        Weighted values.
    """
    groups = cache.v.shape[1]

    def read(q, k, v, live):
        # A head of keys as a row of its own, and its queries as tokens: cuDNN takes
        # [rows, tokens, heads, H], and the cache is not laid out for it.
        flat = lambda x: x.reshape(-1, x.shape[2], 1, x.shape[3])
        out = jax.nn.dot_product_attention(
            flat(q),
            flat(k),
            flat(v),
            scale=1.0,
            key_value_seq_lengths=jnp.repeat(live, k.shape[1]),
            implementation="cudnn",
        )
        return out.reshape(q.shape)

    queries = by_group(q, groups)[:, :, :, 0].astype(cache.v.dtype)
    read = _over_heads(read, 1, 1, 1, -1)
    out = read(queries, cache.k, cache.v, jnp.maximum(live, 1))
    return by_token(out[:, :, :, None])


def live_entries(
    q: Float[Array, "B 1 N H"],
    layer: Stacked,
    begin: Int[Array, "B"],
    end: Int[Array, "B"],
    softcap: float,
    interpret: bool = False,
) -> Live:
    """Attention to entries [begin, end) of each row by a kernel for TPUs.

    The kernel runs once per block with an entry in sight. Other blocks are not read.

    Args:
        q: Scaled queries.
        layer: The cache of a layer; keys are [B, K, S, H].
        begin: First entry that a row sees.
        end: The entry after the last one; a row with `end` <= `begin` sees none.
        softcap: Soft cap of scores; 0: none.
        interpret: Run it without a TPU, slowly.

    Returns:
        Softmax and weighted sum.
    """
    cache = layer.cache
    queries = by_group(q, cache.v.shape[2])[:, :, :, 0].astype(cache.v.dtype)
    call = functools.partial(_call, softcap=softcap, interpret=interpret)
    found = _over_heads(call, 1, 2, 2, -1, -1, -1)(
        queries, cache.k, cache.v, layer.index, begin, end
    )
    # The kernel does not come to rows that see nothing.
    some = (end > begin)[:, None, None, None]
    fill = (0.0, UNSEEN, 0.0)
    return Live(*(jnp.where(some, x, y) for x, y in zip(found, fill)))


def block_of(heads: int, width: int, item: int, size: int) -> int:
    """Entries that a step of the kernel reads.

    Args:
        heads: Heads of keys, K.
        width: Numbers of a head, H.
        item: Bytes of a number.
        size: Entries per row.

    Returns:
        Entries: a power of two, or all if these are fewer.
    """
    fit = max(1, _BYTES * (1 + (size >= _LONG)) // (heads * width * item))
    return min(max(_LEAST, min(1 << (fit.bit_length() - 1), _MOST)), size)


def _schedule(begin: Array, end: Array, block: int, size: int) -> tuple[Array, ...]:
    """Steps of the kernel, and the row and block of entries of each."""
    blocks = -(-size // block)
    first = begin // block
    steps = jnp.where(end > begin, -(-end // block) - first, 0)
    after = jnp.cumsum(steps)
    number = jnp.arange(len(begin) * blocks, dtype=jnp.int32)
    # Sums over the rows before, not gathers, which take a TPU long.
    past = number[:, None] >= after
    row = jnp.sum(past, axis=1, dtype=jnp.int32)
    less = steps - jnp.diff(first, append=0)
    at = number + first[0] - jnp.sum(jnp.where(past, less, 0), axis=1)
    # Places beyond the last step are not read.
    row, at = jnp.minimum(row, len(begin) - 1), jnp.clip(at, 0, blocks - 1)
    return after[-1], row, at


def _call(q, k, v, index, begin, end, softcap: float, interpret: bool) -> Live:
    pallas = importlib.import_module("jax.experimental.pallas")
    tpu = importlib.import_module("jax.experimental.pallas.tpu")
    rows, heads, group, width = q.shape
    size, item = k.shape[3], k.dtype.itemsize
    block = block_of(heads, width, item, size)
    steps, row, at = _schedule(begin, end, block, size)
    spec = lambda last, index: pallas.BlockSpec((None, heads, *last), index)
    own = lambda i, layer, row, *_: (row[i], 0, 0, 0)
    entries = pallas.BlockSpec(
        (None, None, heads, block, width),
        lambda i, layer, row, at, *_: (layer[0], row[i], 0, at[i], 0),
    )
    made = lambda last: jax.ShapeDtypeStruct((rows, heads, group, last), jnp.float32)
    scores = rows * heads * group * size
    moved = 2 * rows * heads * size * width * item
    found = pallas.pallas_call(
        functools.partial(_step, pallas, block, size, softcap),
        grid_spec=tpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=5,
            grid=(steps,),
            in_specs=[spec((group, width), own), entries, entries],
            out_specs=[spec((group, last), own) for last in (width, 1, 1)],
        ),
        out_shape=[made(last) for last in (width, 1, 1)],
        compiler_params=tpu.CompilerParams(dimension_semantics=("arbitrary",)),
        # Full rows are taken: no call does more.
        cost_estimate=pallas.CostEstimate(
            flops=4 * scores * width, bytes_accessed=moved, transcendentals=scores
        ),
        name="live_entries",
        interpret=interpret,
    )(index[None], row, at, begin, end, q, k, v)
    return Live(*found)


def _step(
    pallas, block, size, softcap, layer, rows, blocks, begin, end, q, k, v, *made
):
    """Add a block of entries to the sums of its row, as `_Partial` does."""
    out, top, total = made
    i = pallas.program_id(0)
    row, first = rows[i], blocks[i] * block

    @pallas.when((i == 0) | (rows[jnp.maximum(i - 1, 0)] != row))
    def _():
        out[...] = jnp.zeros_like(out)
        top[...] = jnp.full_like(top, UNSEEN)
        total[...] = jnp.zeros_like(total)

    product = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
    keys, values = k[...], v[...]
    if size % block:  # the last block has places beyond the cache
        place = first + jax.lax.broadcasted_iota(jnp.int32, (1, block, 1), 1)
        values = jnp.where(place < end[row], values, jnp.zeros_like(values))
    scores = capped(product(q[...], keys, (((2,), (2,)), ((0,), (0,)))), softcap)
    entry = first + jax.lax.broadcasted_iota(jnp.int32, (1, 1, block), 2)
    seen = (entry >= begin[row]) & (entry < end[row])
    scores = jnp.where(seen, scores, UNSEEN)
    new = jnp.maximum(top[...], jnp.max(scores, axis=-1, keepdims=True))
    weights, kept = jnp.exp(scores - new), jnp.exp(top[...] - new)
    more = product(weights.astype(values.dtype), values, (((2,), (1,)), ((0,), (0,))))
    out[...] = out[...] * kept + more
    total[...] = total[...] * kept + jnp.sum(weights, axis=-1, keepdims=True)
    top[...] = new
