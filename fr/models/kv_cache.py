"""Keys and values of decoded rows, in the order that a platform reads best."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from fr.models.config import ModelConfig
from fr.models.layouts import Layout, layout_of


@struct.dataclass
class LayerCache:
    """Keys and values of one layer; entry s of a row belongs to its position s.

    Attributes:
        k: Keys, rotated: [B, K, H, S] or [B, K, S, H]; with all layers [L, ...].
        v: Values, in the second order.
        layout: The order of keys.
    """

    k: Float[Array, "*rows K X Y"]
    v: Float[Array, "*rows K S H"]
    layout: Layout = struct.field(pytree_node=False)

    @property
    def size(self) -> int:
        """Entries per row, S."""
        return self.v.shape[-2]

    @property
    def rows(self) -> int:
        """Number of rows, B."""
        return self.v.shape[-4]

    @property
    def axis(self) -> int:
        """Axis of the entries in keys, from the right."""
        return -1 if self.layout.entries_last else -2

    def _like(self, k: Array, v: Array) -> "LayerCache":
        return LayerCache(k=k, v=v, layout=self.layout)

    def write(
        self,
        positions: Int[Array, "B T"],
        k: Float[Array, "B T K H"],
        v: Float[Array, "B T K H"],
    ) -> "LayerCache":
        """Put new keys and values at their positions.

        Args:
            positions: Position of each token; pads (-1) are dropped.
            k: Keys, rotated.
            v: Values.

        Returns:
            The cache with them.
        """
        rows = jnp.arange(positions.shape[0])[:, None]
        slots = jnp.where(positions < 0, self.size, positions)
        place = (rows, slice(None), slots)
        keys = (rows, slice(None), slice(None), slots)
        put = lambda x, at, new: x.at[at].set(new.astype(x.dtype), mode="drop")
        return self._like(
            put(self.k, keys if self.axis == -1 else place, k), put(self.v, place, v)
        )

    def take(self, rows: Int[Array, "R"]) -> "LayerCache":
        """Some rows.

        Args:
            rows: Their indices.

        Returns:
            The rows.
        """
        return self._like(*(x[..., rows, :, :, :] for x in (self.k, self.v)))

    def first(self, size: int) -> "LayerCache":
        """The first entries of every row.

        Args:
            size: Number of entries.

        Returns:
            A shorter cache.
        """
        k = self.k[..., :size] if self.axis == -1 else self.k[..., :size, :]
        return self._like(k, self.v[..., :size, :])

    def part(
        self, begin: Int[Array, ""], size: int, rows: Int[Array, "R"] | None = None
    ) -> "LayerCache":
        """Some entries.

        Args:
            begin: The first one.
            size: Number of entries.
            rows: Indices of rows; None: all.

        Returns:
            The entries.
        """
        cut = lambda x, axis: jax.lax.dynamic_slice_in_dim(
            x, begin, size, axis % x.ndim
        )
        some = self._like(cut(self.k, self.axis), cut(self.v, -2))
        return some if rows is None else some.take(rows)

    def copy_row(
        self, row: Int[Array, ""], given: "LayerCache", which: Int[Array, ""], size: int
    ) -> "LayerCache":
        """Write the first entries of another cache's row over a row's.

        Args:
            row: Index of the row that is written.
            given: The other cache, in the same layout.
            which: Index of its row.
            size: Entries.

        Returns:
            The cache.
        """
        axis = self.v.ndim - 4
        one = lambda x: jax.lax.dynamic_slice_in_dim(x, which, 1, axis)
        new = self._like(one(given.k), one(given.v)).first(size)
        put = lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, row, axis)
        return self._like(put(self.k, new.k), put(self.v, new.v))

    def put(
        self,
        row: Int[Array, ""],
        begin: Int[Array, ""],
        k: Float[Array, "*one K T H"],
        v: Float[Array, "*one K T H"],
    ) -> "LayerCache":
        """Write consecutive entries of one row; keys are [B, K, S, H].

        Args:
            row: Index of the row.
            begin: The first entry.
            k: Keys, rotated, with all layers if the cache has them.
            v: Their values.

        Returns:
            The cache.
        """
        one = lambda x, new: jax.lax.dynamic_update_slice(
            x, new.astype(x.dtype), (*[0] * (x.ndim - 4), row, 0, begin, 0)
        )
        return self._like(one(self.k, k), one(self.v, v))

    def followed_by(
        self, k: Float[Array, "B T K H"], v: Float[Array, "B T K H"]
    ) -> "LayerCache":
        """These entries and new ones after them.

        Args:
            k: Keys, rotated.
            v: Values.

        Returns:
            A longer cache.
        """
        keys = (0, 2, 3, 1) if self.axis == -1 else (0, 2, 1, 3)
        new = self._like(
            k.transpose(keys).astype(self.k.dtype),
            v.transpose(0, 2, 1, 3).astype(self.v.dtype),
        )
        return self._like(
            jnp.concatenate([self.k, new.k], axis=self.axis),
            jnp.concatenate([self.v, new.v], axis=-2),
        )


@struct.dataclass
class Recent:
    """Entries that a chunk has added beside a cache that it only reads.

    Entry j of a row is the one of step j. A row that ends has none from then on.

    Attributes:
        k: Keys, rotated; [L, ...] with all layers, like all fields.
        v: Values.
        step: Steps before this one.
    """

    k: Float[Array, "*rows K C H"]
    v: Float[Array, "*rows K C H"]
    step: Int[Array, "*layers"]

    def with_step(
        self, k: Float[Array, "L B K 1 H"], v: Float[Array, "L B K 1 H"]
    ) -> "Recent":
        """With the entries of one more step.

        Args:
            k: Keys of the step's tokens, rotated.
            v: Their values.

        Returns:
            The entries.
        """
        at = self.step[0]
        put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, at, axis=3)
        return Recent(put(self.k, k), put(self.v, v), self.step + 1)


@struct.dataclass
class KVCache:
    """The caches of all layers.

    Attributes:
        layers: One cache per layer, or one that has all layers, [L, ...].
        recent: What a chunk has added to it, if it is not written at once.
    """

    layers: tuple[LayerCache, ...]
    recent: Recent | None = None

    @property
    def size(self) -> int:
        """Entries per row, S."""
        return self.layers[0].size

    @property
    def layout(self) -> Layout:
        """The layout of all layers."""
        return self.layers[0].layout

    def axes(self) -> list[int]:
        """Axis of the entries, from the right, of each array in the order of leaves."""
        return [axis for each in self.layers for axis in (each.axis, -2)]

    def written(self, new: Any) -> "KVCache":
        """The cache after a call of a model whose layers are scanned.

        Args:
            new: What the layers gave: all layers of the cache, or with `recent` keys
                and values of one step.

        Returns:
            The cache.
        """
        if self.recent is None:
            return KVCache((new,))
        return KVCache(self.layers, self.recent.with_step(*new))

    def opened(self, steps: int) -> "KVCache":
        """The part of a cache that the steps of a chunk change.

        Args:
            steps: Steps of the chunk, C.

        Returns:
            All of it, or place for the entries of the chunk.
        """
        if not self.layout.scanned:
            return self
        depth, rows, heads, _, width = self.layers[0].v.shape
        empty = jnp.zeros((depth, rows, heads, steps, width), self.layers[0].v.dtype)
        return KVCache((), Recent(empty, empty, jnp.zeros(depth, jnp.int32)))

    def joined(self, part: "KVCache") -> "KVCache":
        """The cache as a step reads it.

        Args:
            part: The part that steps change.

        Returns:
            Both parts.
        """
        return part if part.recent is None else KVCache(self.layers, part.recent)

    def part(self) -> "KVCache":
        """The part that a step has changed, as `opened` gives it."""
        return self if self.recent is None else KVCache((), self.recent)

    def closed(
        self, part: "KVCache", start: Int[Array, "B"], count: Int[Array, "B"]
    ) -> "KVCache":
        """The cache after a chunk.

        Args:
            part: The part that its steps changed.
            start: Entries of each row before the chunk.
            count: Steps that the row was live in, the first ones.

        Returns:
            The cache with the entries of the chunk.
        """
        recent = part.recent
        if recent is None:
            return part
        (cache,) = self.layers
        width = min(recent.k.shape[3], cache.size)
        # A window that would reach beyond the last entry begins earlier.
        begin = jnp.minimum(start, cache.size - width)
        shift = start - begin
        index = jnp.arange(width)

        def write(row, pair):
            at = index - shift[row]
            new = ((at >= 0) & (at < count[row]))[:, None]

            def one(x, given):
                given = jax.lax.dynamic_slice_in_dim(given, row, 1, axis=1)
                given = jnp.roll(given[:, :, :, :width], shift[row], axis=3)
                place = (0, row, 0, begin[row], 0)
                old = jax.lax.dynamic_slice(x, place, given.shape)
                return jax.lax.dynamic_update_slice(
                    x, jnp.where(new, given, old), place
                )

            return one(pair[0], recent.k), one(pair[1], recent.v)

        # Row by row: a window of each costs little, a pass over the cache much.
        k, v = jax.lax.fori_loop(0, len(start), write, (cache.k, cache.v))
        return KVCache((LayerCache(k, v, cache.layout),))


def init_cache(
    config: ModelConfig,
    rows: int,
    size: int,
    dtype=jnp.float32,
    layout: Layout | None = None,
) -> KVCache:
    """An empty cache.

    Args:
        config: The decoder.
        rows: Number of rows, B.
        size: Entries per row, S.
        dtype: Type of keys and values.
        layout: The layout; None: this machine's.

    Returns:
        Zeros.
    """
    own = layout or layout_of()
    v = config.kv_heads, size, config.head_dim
    k = (v[0], v[2], v[1]) if own.entries_last else v
    depth = (config.layers,) * own.scanned
    empty = lambda shape: jnp.zeros((*depth, rows, *shape), dtype)
    each = range(1 if own.scanned else config.layers)
    return KVCache(tuple(LayerCache(empty(k), empty(v), own) for _ in each))
