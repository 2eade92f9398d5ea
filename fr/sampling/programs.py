"""The compiled functions of an engine, one per function and array shape."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fr.models.transformer import Transformer, unstack
from fr.sampling import decode, probe_trees, state, transitions
from fr.sampling.devices import Devices

KEYS = "layers/k"  # end of the path of an array of a cache; decides how it is divided


class Programs:
    """The programs that make and change a `state.DecodeState`.

    A program compiles when it is first called. Those with one size per program are
    functions of this size. All of them take `state.ModelParams` and arrays [D, ...].

    Attributes:
        decode: (params, batch, tau) -> (batch, fields of `StepOutput`).
        prefill: entries -> (params, prompt cache, reading) -> prompt cache.
        insert: (params, batch, prompt cache, insertion) -> batch.
        apply_edit: (params, batch, edit) -> batch.
        probe: (params, cache, trees, ...) -> log-probs.
        resize: (entries, axis) -> ((), {name: array of a cache}) -> the same, resized.
        ahead: Compiled `resize` by shape, entries and axis, before they are wanted.
        init: entries -> (params, rows) -> batch.
        init_prompt_cache: entries -> (params, tau) -> prompt cache.
    """

    def __init__(
        self,
        model: Transformer,
        ancestor: Transformer | None,
        devices: Devices,
        *,
        chunk: int,
        kept: int,
        statistics: bool,
        keep_top: int,
    ):
        """Make the programs; nothing compiles yet.

        Args:
            model: The specialist.
            ancestor: The ancestor, or None.
            devices: Devices to run on.
            chunk: Steps per call of the decoding program.
            kept: Prompts per data shard in the prompt cache.
            statistics: Emit statistics of every token.
            keep_top: Number of most probable tokens to emit with them.
        """

        def program(name: str, fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
            fn.__name__ = name  # for the compile log
            return devices.jit_sharded(fn, donate)

        both, layout = (model, ancestor), devices.layout
        step = lambda *args: decode.decode_chunk(
            *both, chunk, statistics, keep_top, *args
        )
        self.decode = program("decode", step, donate=(1,))
        insert = lambda params, *args: transitions.insert(*args)
        self.insert = program("insert", insert, donate=(1,))
        edit = lambda params, *args: transitions.apply_edit(*args)
        self.apply_edit = program("apply_edit", edit, donate=(1,))

        def probe(params, cache, trees, vector=None, strength=None):
            of = lambda x: None if x is None else x[trees.rows]
            read = params.variables(of(vector), of(strength))
            return probe_trees.score_trees(model, read, cache, trees)

        self.probe = program("probe", probe)
        # One compiled function per size: a fresh function would compile in every run.
        together = devices.reads_together
        self.prefill = functools.cache(
            lambda size: program(
                "prefill",
                lambda *args: transitions.prefill(*both, together, size, *args),
                donate=(1,),
            )
        )
        self.ahead: dict[tuple, Callable] = {}
        self.resize = functools.cache(
            lambda size, axis: program(
                "resize",
                lambda params, named: jax.tree.map(
                    lambda x: _resized(x, size, axis), named
                ),
            )
        )
        self.init = functools.cache(
            lambda size: program(
                "init",
                lambda params, empty: state.init_state(*both, empty, size, layout),
            )
        )
        self.init_prompt_cache = functools.cache(
            lambda size: program(
                "init_prompt_cache",
                lambda params, tau: state.init_prompt_cache(*both, kept, size, layout),
            )
        )


# Engines of one process that are made alike have the same programs, compiled once.
shared_programs = functools.lru_cache(maxsize=8)(Programs)


def layered(model: Transformer, params: dict, devices: Devices) -> dict:
    """Parameters in the layout that decoding reads.

    Args:
        model: The model.
        params: Its parameters; layers are stacked or a tuple.
        devices: Devices to run on.

    Returns:
        The parameters; layers are a stack, or a tuple where the devices would copy
        each slice of a stack.
    """
    apart = isinstance(params["layers"], tuple)
    if devices.layout.scanned is not apart:
        return params
    if apart:
        stack = lambda *leaves: jnp.stack(leaves)
        return {**params, "layers": jax.tree.map(stack, *params["layers"])}
    return {**params, "layers": unstack(params["layers"], model.config.layers)}


def _resized(x: jax.Array, size: int, axis: int) -> jax.Array:
    """An array of a cache with another number of entries; new ones are zeros.

    Entries are along `axis`, counted from the right.
    """
    more = size - x.shape[axis]
    if more <= 0:
        return jax.lax.slice_in_dim(x, 0, size, axis=axis % x.ndim)
    return jnp.pad(x, [(0, more * (i == axis % x.ndim)) for i in range(x.ndim)])
