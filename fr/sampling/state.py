"""The state of a decoding batch, and the records that change it."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt

from fr.models.kv_cache import KVCache, init_cache
from fr.models.layouts import Layout
from fr.models.transformer import Transformer
from fr.sampling import steering
from fr.sampling.structs import SamplingParams


@struct.dataclass
class DecodeState:
    """A batch of B rows in flight.

    A row is live unless it is done or paused; a free slot counts as done. Cache entries
    [0, length[b]) of row b are live, and `last_token` is fed next, at entry length[b].
    A row's random key is folded with `generated`, so its draws depend on it alone.
    """

    last_token: Int[Array, "B"]  # token id that the next step reads
    length: Int[Array, "B"]  # cache entries that the row has written
    generated: Int[Array, "B"]  # tokens emitted, forced ones included
    done: Bool[Array, "B"]  # ended, or a free slot
    paused: Bool[Array, "B"]  # waits for the work source
    forced_index: Int[Array, "B"]  # next entry of the row's forced queue
    fired: Bool[Array, "B"]  # its detector has fired
    heat_left: Int[Array, "B"]  # tokens still to draw at the local temperature
    tokens_since_switch: Int[Array, "B"]  # tokens since the last switch token
    scores: Float[Array, "B W"]  # ring of detector scores
    memory: Float[Array, "B 4"]  # running sums of drawn tokens; `steering.remember`
    key: UInt[Array, "B 2"]  # raw key data
    rows: SamplingParams  # each row's own parameters
    cache: KVCache  # of the specialist
    ancestor_cache: KVCache | None  # None: no ancestor in the loop


@struct.dataclass
class ModelParams:
    """Parameters of the specialist and, if it decodes beside it, of the ancestor."""

    specialist: dict  # as `transformer.Transformer` takes them
    ancestor: dict | None  # None: no ancestor
    # Steering vectors of the specialist's layers; the first of K is zero.
    vectors: Float[Array, "L K D"] | None = None

    def variables(
        self, index: Int[Array, "B"] | None, strength: Float[Array, "B"] | None
    ) -> dict:
        """Variables that the specialist reads for B rows.

        Args:
            index: Index of each row's steering vectors; None without a table.
            strength: Factor on these vectors.

        Returns:
            Collection "params" and, with a table, "steer": strength * vectors, added to
            the residual stream after each layer for every token of the row.
        """
        own = {"params": self.specialist}
        if self.vectors is None or index is None or strength is None:
            return own
        offset = self.vectors[:, index] * strength[:, None]
        return own | {"steer": {"layers": {"offset": offset}}}


@struct.dataclass
class PromptCache:
    """Keys and values of prompts without their last token; rows are copied from it."""

    specialist: KVCache  # one cache row per kept prompt
    ancestor: KVCache | None  # None: no ancestor


@struct.dataclass
class Reading:
    """Parts of G prompts to read, each after entries [0, begin) of a kept prompt."""

    tokens: Int[Array, "G T"]  # token ids of the part; -1 pads on the right
    begin: Int[Array, "G"]  # entry of its first token; -1: an unused place, at the end
    source: Int[Array, "G"]  # index of the kept prompt that it goes on from
    into: Int[Array, "G"]  # index of its own; beyond the last one: dropped
    vector: Int[Array, "G"] | None = None  # as in `SamplingParams`; None without table
    strength: Float[Array, "G"] | None = None  # factor on these vectors


@struct.dataclass
class Insertion:
    """R rows to start; a slot of B marks an unused place."""

    slot: Int[Array, "R"]  # index of the row in the batch
    prompt: Int[Array, "R"]  # index of its prompt in the prompt cache
    last_token: Int[Array, "R"]  # the prompt's last token
    length: Int[Array, "R"]  # tokens of the prompt, minus one
    key: UInt[Array, "R 2"]  # raw key data
    rows: SamplingParams  # parameters of the R rows


@struct.dataclass
class Edit:
    """New values for paused rows: after a cut, pushed tokens, or an end."""

    mask: Bool[Array, "B"]  # rows that are changed; the rest of the edit is ignored
    done: Bool[Array, "B"]  # as in `DecodeState`, like all fields below
    last_token: Int[Array, "B"]  # token id
    length: Int[Array, "B"]  # cache entries
    generated: Int[Array, "B"]  # tokens
    fired: Bool[Array, "B"]  # the detector has fired in the kept tokens
    heat_left: Int[Array, "B"]  # tokens
    tokens_since_switch: Int[Array, "B"]  # tokens
    key: UInt[Array, "B 2"]  # another key after a rewind
    forced: Int[Array, "B Q"]  # the whole forced queue; -1 pads


def cache_size(need: int) -> int:
    """Round a length up to one of few sizes, since each size is a program of its own.

    Sizes are powers of two from 32 on and, from 96 on, three quarters of them.

    Args:
        need: Cache entries, or tokens of a prompt, that must fit.

    Returns:
        Entries.
    """
    power = max(32, 1 << max(need - 1, 0).bit_length())
    return power * 3 // 4 if power >= 128 and need <= power * 3 // 4 else power


def part_of(entry: int) -> tuple[int, int]:
    """The part of a prompt that is read together with one of its entries.

    Parts are 32 entries wide up to 64, then 64 up to 256, 128 up to 512, and 256.

    Args:
        entry: Index of a cache entry.

    Returns:
        Entry at which the part begins, and the one after its last.
    """
    bounds = ((64, 32), (256, 64), (512, 128))
    width = next((width for end, width in bounds if entry < end), 256)
    begin = entry - entry % width
    return begin, begin + width


def seen_entries(end: int, few: bool) -> int:
    """Entries that the program which reads a part of a prompt works with.

    Args:
        end: The entry after the part's last.
        few: Powers of two from 256 on: fewer programs, more masked entries.

    Returns:
        Entries.
    """
    return max(256, 1 << (end - 1).bit_length()) if few else cache_size(end)


def prompt_entries(tokens: int) -> int:
    """Entries of a prompt cache that holds a prompt.

    Args:
        tokens: Tokens of the prompt; a row reads the last one itself.

    Returns:
        Entries that its last part sees.
    """
    return cache_size(part_of(max(tokens - 2, 0))[1])


def cache_sizes(limit: int, few: bool = False) -> tuple[int, ...]:
    """All sizes that a growing cache takes.

    Args:
        limit: Largest number of entries.
        few: Each is 5/3 of the one before or more, and the first is about 256.

    Returns:
        Entries in ascending order; `limit` is the last.
    """
    first = 256 if few else 1
    sizes = [min(cache_size(first), limit)]
    while sizes[-1] < limit:
        need = 2 * sizes[-1] if few else sizes[-1] + 1
        sizes.append(min(cache_size(need), limit))
    # While the last of two stacked arrays is copied, the new cache and a part of the
    # old one are there: 1 + 3 / 10 of the new one at 5/3.
    while few and len(sizes) > 1 and 3 * sizes[-1] < 5 * sizes[-2]:
        del sizes[-2]
    return tuple(sizes)


def init_state(
    model: Transformer,
    ancestor: Transformer | None,
    rows: SamplingParams,
    size: int,
    layout: Layout,
) -> DecodeState:
    """An empty batch: every slot is free.

    Args:
        model: The specialist.
        ancestor: The ancestor, or None.
        rows: Parameters [B]; they give the batch size and the widths of token lists.
        size: Entries of the caches.
        layout: Their layout.

    Returns:
        The state.
    """
    b = rows.temperature.shape[0]
    empty = lambda of: empty_cache(of, b, size, layout)
    zeros = jnp.zeros(b, jnp.int32)
    return DecodeState(
        last_token=zeros,
        length=zeros,
        generated=zeros,
        done=jnp.ones(b, bool),
        paused=jnp.zeros(b, bool),
        forced_index=zeros,
        fired=jnp.zeros(b, bool),
        heat_left=zeros,
        tokens_since_switch=zeros,
        scores=jnp.zeros((b, steering.RING)),
        memory=jnp.zeros((b, 4)),
        key=jnp.zeros((b, 2), jnp.uint32),
        rows=rows,
        cache=empty(model),
        ancestor_cache=None if ancestor is None else empty(ancestor),
    )


def empty_cache(model: Transformer, rows: int, size: int, layout: Layout) -> KVCache:
    """An empty cache in the compute type of a model.

    Args:
        model: The model.
        rows: Number of cache rows.
        size: Entries per row.
        layout: Its layout.

    Returns:
        The cache.
    """
    return init_cache(model.config, rows, size, model.dtype, layout)


def init_prompt_cache(
    model: Transformer,
    ancestor: Transformer | None,
    count: int,
    size: int,
    layout: Layout,
) -> PromptCache:
    """An empty cache of prompts.

    Args:
        model: The specialist.
        ancestor: The ancestor, or None.
        count: Number of prompts.
        size: Entries of each; a prompt of `size` + 1 tokens fits.
        layout: Layout of the caches that are filled from it.

    Returns:
        The cache.
    """
    specialist = empty_cache(model, count, size, layout)
    second = None if ancestor is None else empty_cache(ancestor, count, size, layout)
    return PromptCache(specialist, second)
