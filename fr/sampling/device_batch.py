"""The device side of an engine: one batch, its compiled programs and its cache size."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from fr.models.transformer import Transformer
from fr.sampling import state
from fr.sampling.devices import Devices
from fr.sampling.programs import KEYS, layered, shared_programs
from fr.sampling.sampling_params import default_params
from fr.sampling.scheduler import Round
from fr.sampling.state import DecodeState, Edit, ModelParams, PromptCache


@dataclasses.dataclass
class Counts:
    """Work that an engine has done since it was made; a step is one of all slots."""

    full_steps: int = 0  # steps of chunks that began with a row in every slot
    full_live: int = 0  # live rows in them, summed over steps
    drain_steps: int = 0  # steps of chunks that began with a free slot: no row was left
    drain_live: int = 0  # live rows in them, summed over steps
    prompts: int = 0  # prompts prefilled, whole or from a kept beginning on
    prompt_tokens: int = 0  # tokens that were read for them, without pads
    inserted: int = 0  # rows started
    inserted_tokens: int = 0  # tokens of their prompts, each without its last
    resized: int = 0  # changes of the cache's size
    probe_tokens: int = 0  # tokens of forced answers that were scored
    probe_padded: int = 0  # the same with pads


class DeviceBatch:
    """The decoding state of all devices and the programs that change it.

    One program is compiled per function and array shape. The state is donated to every
    program that returns it, so it never exists twice.

    Attributes:
        state: The batch, [D, ...]; None between runs.
        limit: Largest number of cache entries of the run.
        size: Cache entries at present.
    """

    def __init__(
        self,
        model: Transformer,
        params: dict,
        ancestor: Transformer | None,
        ancestor_params: dict | None,
        *,
        devices: Devices,
        slots: int,
        chunk: int,
        kept: int,
        tau: float,
        statistics: bool,
        keep_top: int,
        counts: Counts,
        vectors: Float[np.ndarray, "L K D"] | None = None,
    ):
        """Place the parameters and make the programs; nothing compiles yet.

        Args:
            model: The specialist.
            params: Its parameters.
            ancestor: The ancestor, or None.
            ancestor_params: Its parameters, or None.
            devices: Devices to run on.
            slots: Rows per data shard, B.
            chunk: Steps per call of the decoding program.
            kept: Prompts per data shard in the prompt cache.
            tau: Diagnosis temperature.
            statistics: Emit statistics of every token.
            keep_top: Number of most probable tokens to emit with them.
            counts: The engine's counts, to add to.
            vectors: Steering vectors, see `Engine`; None: programs have no place for
                them.
        """
        self.devices, self.slots, self.chunk = devices, slots, chunk
        self.counts, self._kept = counts, kept
        self.state: DecodeState | None = None
        self.limit = self.size = 0
        # Entries of the prompt cache, and of the longest cache so far.
        self._prompt_capacity = self._largest = 0
        second = None
        if ancestor is not None and ancestor_params:
            second = layered(ancestor, ancestor_params, devices)
        table: Any = vectors
        self._steered = vectors is not None
        self._params = devices.replicate(
            ModelParams(layered(model, params, devices), second, table)
        )
        self._tau = np.full(devices.count, tau, np.float32)
        self._programs = shared_programs(
            model,
            ancestor,
            devices,
            chunk=chunk,
            kept=kept,
            statistics=statistics,
            keep_top=keep_top,
        )
        self._reshard = self._make_reshard(model)

    def _make_reshard(self, model: Transformer) -> Callable[[dict], dict]:
        """The program that brings parameters to the layout, types and places in use."""
        types = jax.tree.map(lambda leaf: leaf.dtype, self._params.specialist)
        places = jax.tree.map(lambda leaf: leaf.sharding, self._params.specialist)
        cast_leaf = lambda leaf, kind: leaf.astype(kind)
        bring = lambda params: jax.tree.map(
            cast_leaf, layered(model, params, self.devices), types
        )
        return self.devices.make_reshard(bring, places)

    def update(self, params: dict) -> None:
        """Decode with other parameters of the specialist from the next call on.

        Args:
            params: Parameters; see `Engine.update`.
        """
        self._params = dataclasses.replace(
            self._params, specialist=self._reshard(params)
        )

    def start(self, max_length: int) -> None:
        """Begin a run with an empty batch and the smallest cache.

        Args:
            max_length: Largest number of positions of a row.
        """
        self.limit = -(-max_length // 32) * 32
        self._sizes = state.cache_sizes(self.limit, self.devices.layout.few_sizes)
        self.size, self._prompt_capacity = self._sizes[0], 0
        empty = self.devices.shard_batch(
            default_params(self.slots * self.devices.count, self._steered)
        )
        self.state = self._programs.init(self.size)(self._params, empty)

    def stop(self) -> None:
        """Free the batch."""
        self.state = None

    def reserve_prompts(self, entries: int) -> bool:
        """Make the prompt cache at least this long.

        Args:
            entries: Entries that the longest prompt needs.

        Returns:
            True if the cache is a new one, without prompts.
        """
        if entries <= self._prompt_capacity:
            return False
        self._prompt_capacity = entries
        self._prompt_cache: PromptCache = self._programs.init_prompt_cache(entries)(
            self._params, self._tau
        )
        return True

    def insert(self, entering: Round) -> None:
        """Prefill the prompts of a round and start its rows.

        Args:
            entering: The round; its prompts fit the prompt cache and the caches.
        """
        self.counts.prompts += entering.prompts
        for size, reading in entering.reads:
            self.counts.prompt_tokens += int((reading.tokens >= 0).sum())
            self._prompt_cache = self._programs.prefill(size)(
                self._params, self._prompt_cache, self.devices.shard_batch(reading)
            )
        insertion = self.devices.shard_batch(entering.insertion)
        self.state = self._programs.insert(
            self._params, self.state, self._prompt_cache, insertion
        )

    def decode(self) -> jax.Array:
        """Decode one chunk.

        Returns:
            Fields of `StepOutput`, [D, steps, F, B], not waited for.
        """
        self.state, block = self._programs.decode(self._params, self.state, self._tau)
        return block

    def apply_edit(self, edit: Edit) -> None:
        """Release paused rows.

        Args:
            edit: Arrays [D * B].
        """
        self.state = self._programs.apply_edit(
            self._params, self.state, self.devices.shard_batch(edit)
        )

    def probe(self, *args: Any) -> jax.Array:
        """Log-probs of forced answers after cached rows, steered as the rows are.

        Args:
            *args: A cache and a `probe_trees.TreeBatch`, [D, ...].

        Returns:
            Log-probs [D, E], not waited for.
        """
        rows = cast(DecodeState, self.state).rows if self._steered else None
        steer = (rows.vector, rows.vector_strength) if rows is not None else ()
        return self._programs.probe(self._params, *args, *steer)

    def fetch_progress(
        self,
    ) -> tuple[Bool[np.ndarray, "B"], Bool[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """`done`, `paused` and `length` of all rows, [D * B]; waits for the chunk."""
        batch = cast(DecodeState, self.state)
        done, paused, length = jax.device_get((batch.done, batch.paused, batch.length))
        return done.reshape(-1), paused.reshape(-1), length.reshape(-1)

    def resize(self, need: int, shrink: bool = False) -> None:
        """Change the cache, one size at a time, until `need` entries fit.

        Every step uses a program of its own; one run soon has them all.

        Args:
            need: Cache entries.
            shrink: Shorten a cache that is larger than needed.
        """
        at = self._sizes.index(self.size)
        to = next(
            i for i, size in enumerate(self._sizes) if size >= min(need, self.limit)
        )
        while at < to or (shrink and at > to):
            last, at = at, at + (1 if at < to else -1)
            self.counts.resized += 1
            self.size = self._sizes[at]
            self._resize_to(self.size, back=self._sizes[last])

    def _resize_to(self, size: int, back: int) -> None:
        """Copy the caches array by array: each old one is freed before the next.

        The first time that a size is reached, the program of the way back is compiled,
        too: it is wanted at an unforeseeable time, and the run would stop for it.
        """
        batch = cast(DecodeState, self.state)
        caches = batch.cache, batch.ancestor_cache
        axes = [axis for cache in caches if cache for axis in cache.axes()]
        arrays, tree = jax.tree.flatten(caches)
        nothing: Any = None
        # From here on only the list holds the arrays.
        self.state = dataclasses.replace(batch, cache=nothing, ancestor_cache=None)
        del batch, caches
        grows = size > self._largest
        self._largest = max(size, self._largest)
        for i, axis in enumerate(axes):
            arrays[i] = self._resized(arrays[i], size, axis)
            if grows:
                self._compile_resize(arrays[i], back, axis)
        own, second = jax.tree.unflatten(tree, arrays)
        self.state = dataclasses.replace(self.state, cache=own, ancestor_cache=second)

    def _resized(self, x: jax.Array, size: int, axis: int) -> jax.Array:
        made = self._programs.ahead.get((x.shape, size, axis))
        return (made or self._programs.resize(size, axis))((), {KEYS: x})[KEYS]

    def _compile_resize(self, x: jax.Array, size: int, axis: int) -> None:
        key, ahead = (x.shape, size, axis), self._programs.ahead
        if key not in ahead:
            # From the shape alone: to call the program would take its memory.
            place = None if self.devices.kind == "pmap" else x.sharding
            given = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
            program: Any = self._programs.resize(size, axis)
            ahead[key] = program.lower((), {KEYS: given}).compile()
