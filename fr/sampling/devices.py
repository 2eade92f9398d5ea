"""One pure function on any number of local devices: plain, under pmap, or shard_map."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fr.errors import UserError
from fr.models import sharding
from fr.models.layouts import Layout, layout_of


class Devices:
    """Local devices and the way to run on them.

    Every array except the parameters has a leading axis of D data shards. `model`
    devices share one copy of the parameters and of a cache; the compiler divides them,
    which only `shard_map` allows. Devices are local to the process on purpose: no
    collective between hosts enters the token loop, so uneven queues cannot hang a pod.

    Attributes:
        kind: one, pmap or shard_map.
        devices: The devices in use.
        mesh: The devices as a mesh of (data, model).
    """

    def __init__(self, kind: str = "auto", devices: list | None = None, model: int = 1):
        """Choose the devices.

        Args:
            kind: auto, one, pmap or shard_map.
            devices: The devices; None: all local ones.
            model: Devices of the model axis.

        Raises:
            UserError: The kind is unknown, or the devices cannot be divided.
        """
        local = list(devices or jax.local_devices())
        if kind == "auto":
            kind = "shard_map" if model > 1 else "pmap" if len(local) > 1 else "one"
        if kind not in ("one", "pmap", "shard_map"):
            raise UserError(
                f"sampling.devices = {kind!r} is not known; there are: auto, one, "
                "pmap, shard_map"
            )
        if model > 1 and kind != "shard_map":
            raise UserError(
                f"sampling.devices = {kind!r} gives every device a whole model; "
                f"with sampling.model_axis = {model} use shard_map or auto"
            )
        if len(local) % model:
            raise UserError(
                f"sampling.model_axis = {model} does not divide the {len(local)} local "
                "devices"
            )
        self.kind = kind
        self.devices = local[:1] if kind == "one" else local
        self.mesh = Mesh(np.array(self.devices).reshape(-1, model), sharding.AXES)

    def __eq__(self, other) -> bool:
        """True if programs for one are programs for the other."""
        return isinstance(other, Devices) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple:
        return self.kind, self.mesh, self.layout

    @property
    def count(self) -> int:
        """Number of data shards, D; each has a batch of its own."""
        return self.mesh.shape["data"]

    @property
    def layout(self) -> Layout:
        """The layout of caches and layers in the token loop."""
        return layout_of(self.devices[0].platform)

    @property
    def reads_together(self) -> bool:
        """True if prompts of one call are in one product. On a CPU the last bits of a
        product depend on its rows, so that prompts are read in turn.
        """
        return self.devices[0].platform != "cpu"

    @functools.cached_property
    def all_devices(self) -> list:
        """The devices of all processes, in the order of the processes."""
        if jax.process_count() == 1:
            return self.devices
        processes = range(jax.process_count())
        local = (jax.local_devices(i)[: len(self.devices)] for i in processes)
        return list(itertools.chain.from_iterable(local))

    def replicate(self, params):
        """Put one copy of a tree in every data shard, divided over the shard's devices.

        Leaves that are in place are not moved. Leaves spread over the devices of
        several processes are moved by a program that all processes must call.

        Args:
            params: Tree of arrays.

        Returns:
            The tree in place.
        """
        leaves = jax.tree.leaves(params)
        if all(getattr(leaf, "is_fully_addressable", True) for leaf in leaves):
            return sharding.shard_tree(params, self.mesh)
        target = sharding.shardings(params, self.mesh)
        return self.make_reshard(lambda tree: tree, target)(params)

    def make_reshard(self, fn: Callable, places) -> Callable:
        """Compile `fn(params)` so that each process has the result on its own mesh.

        Args:
            fn: A function of parameters, which may be divided in any way over
                `all_devices`; one program moves them, and all processes call it.
            places: Tree of shardings on this process's `mesh` for the result.

        Returns:
            The compiled function.
        """
        if len(self.all_devices) == len(self.devices):
            return jax.jit(fn, out_shardings=places)
        # One mesh over all processes; each process has a block of its rows.
        mesh = Mesh(
            np.array(self.all_devices).reshape(-1, self.mesh.shape["model"]),
            sharding.AXES,
        )
        program = jax.jit(
            fn,
            out_shardings=jax.tree.map(
                lambda place: NamedSharding(mesh, place.spec), places
            ),
        )

        def own(leaf: jax.Array, place: NamedSharding) -> jax.Array:
            parts = [shard.data for shard in leaf.addressable_shards]
            return jax.make_array_from_single_device_arrays(leaf.shape, place, parts)

        return lambda params: jax.tree.map(own, program(params), places)

    def jit_sharded(self, fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
        """Compile `fn(params, *arrays)`, which sees one data shard's slice of each
        array.

        Args:
            fn: A function of parameters and of arrays without the leading axis.
            donate: Indices of arguments whose buffers may be reused.

        Returns:
            A function of parameters and of arrays [D, ...].
        """
        if self.kind == "pmap":
            return self._pmap(fn, donate)

        @functools.wraps(fn)
        def local(params, *arrays):
            out = fn(params, *jax.tree.map(lambda x: x[0], arrays))
            if self.kind == "shard_map":
                out = sharding.constrain(out, self.mesh)
            return jax.tree.map(lambda x: x[None], out)

        if self.kind == "one":
            # Name the output's place: arrays made without the parameters have none, and
            # the next program would compile again.
            return jax.jit(
                local,
                donate_argnums=donate,
                out_shardings=NamedSharding(self.mesh, P()),
            )

        @functools.wraps(fn)
        def shard(params, *arrays):
            return jax.shard_map(
                local,
                mesh=self.mesh,
                in_specs=(P(), *[P("data")] * len(arrays)),
                out_specs=P("data"),
                axis_names={"data"},
                # The variance check takes caches, zeros made inside, for replicated.
                check_vma=False,
            )(params, *arrays)

        return jax.jit(shard, donate_argnums=donate)

    def _pmap(self, fn: Callable, donate: tuple[int, ...]) -> "_Mapped":
        # One pmap per number of arguments: a new one would compile again.
        program = lambda count: jax.pmap(
            fn,
            in_axes=(None, *[0] * count),
            devices=self.devices,
            donate_argnums=donate,
        )
        return _Mapped(functools.cache(program))

    def shard_batch(self, tree):
        """Reshape host arrays [D * B, ...] to [D, B, ...].

        Args:
            tree: Tree of host arrays.

        Returns:
            The tree.
        """
        return jax.tree.map(
            lambda x: np.reshape(x, (self.count, -1, *np.shape(x)[1:])), tree
        )


class _Mapped:
    """A program under pmap, called and lowered as one under jit."""

    def __init__(self, program: Callable[[int], Any]):
        self._program = program

    def __call__(self, params, *arrays):
        return self._program(len(arrays))(params, *arrays)

    def lower(self, params, *arrays):
        return self._program(len(arrays)).lower(params, *arrays)
