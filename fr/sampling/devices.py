"""One pure function, any number of local devices: plain, under pmap, or under shard_map."""

import functools
import itertools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fr.errors import UserError
from fr.models import sharding


class Devices:
    """Local devices and how to run on them. Every array but the parameters has a leading axis of data shards.

    Process-local on purpose: no cross-host collective enters the token loop, so uneven queues cannot hang a pod.
    `model` devices share one copy of the parameters and of a cache; how they do is left to the compiler, which
    only `shard_map` can. Raises UserError for a kind that is not known, and for devices that cannot be divided.
    """

    def __init__(self, kind: str = "auto", devices: list | None = None, model: int = 1):
        local = list(devices or jax.local_devices())
        if kind == "auto":
            kind = "shard_map" if model > 1 else "pmap" if len(local) > 1 else "one"
        if kind not in ("one", "pmap", "shard_map"):
            raise UserError(
                f"sampling.devices = {kind!r} is not known; there are: auto, one, pmap, shard_map"
            )
        if model > 1 and kind != "shard_map":
            raise UserError(
                f"sampling.devices = {kind!r} gives every device a whole model; "
                f"with sampling.model_axis = {model} use shard_map or auto"
            )
        if len(local) % model:
            raise UserError(
                f"sampling.model_axis = {model} does not divide the {len(local)} local devices"
            )
        self.kind = kind
        self.devices = local[:1] if kind == "one" else local
        self.mesh = Mesh(np.array(self.devices).reshape(-1, model), sharding.AXES)

    @property
    def count(self) -> int:
        """Data shards, D: each has a batch of its own, on one device or on those of a model axis."""
        return self.mesh.shape["data"]

    @property
    def stacked(self) -> bool:
        """Whether decoding reads layers off a stack; on a CPU one that is sliced off is copied, at every step."""
        return self.devices[0].platform != "cpu"

    @functools.cached_property
    def everywhere(self) -> list:
        """The devices of all processes, in the order of the processes' numbers."""
        if jax.process_count() == 1:
            return self.devices
        local = (
            jax.local_devices(i)[: len(self.devices)]
            for i in range(jax.process_count())
        )
        return list(itertools.chain.from_iterable(local))

    def replicate(self, params):
        """Put one copy of a tree in every data shard, divided over its devices; nothing moves that is there.

        What lies over the devices of several processes comes by a program that all of them must call.
        """
        if all(
            getattr(leaf, "is_fully_addressable", True)
            for leaf in jax.tree.leaves(params)
        ):
            return sharding.place(params, self.mesh)
        return self.receiver(lambda tree: tree, sharding.places(params, self.mesh))(
            params
        )

    def receiver(self, fn: Callable, places) -> Callable:
        """Compile fn(params), whose result each process has at `places` of its own `mesh`.

        The parameters may be divided in any way over `everywhere`; one program moves them, and all processes call
        it.
        """
        if len(self.everywhere) == len(self.devices):
            return jax.jit(fn, out_shardings=places)
        # The meshes of all processes as one, of which each has a block of rows.
        mesh = Mesh(
            np.array(self.everywhere).reshape(-1, self.mesh.shape["model"]),
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

    def wrap(self, fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
        """Compile fn(params, *arrays): it sees one data shard's slice, without the leading axis."""
        if self.kind == "pmap":
            return self._pmap(fn, donate)

        @functools.wraps(fn)
        def local(params, *arrays):
            out = fn(params, *jax.tree.map(lambda x: x[0], arrays))
            if self.kind == "shard_map":
                out = sharding.constrain(out, self.mesh)
            return jax.tree.map(lambda x: x[None], out)

        if self.kind == "one":
            # A place with a name: what is made without the parameters has none, and would compile the next anew.
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
                # Caches begin as zeros made inside, which the variance check would call replicated.
                check_vma=False,
            )(params, *arrays)

        return jax.jit(shard, donate_argnums=donate)

    def _pmap(self, fn: Callable, donate: tuple[int, ...]) -> Callable:
        # Which arguments have the device axis depends on how many there are; a new pmap would compile anew.
        program = functools.cache(
            lambda count: jax.pmap(
                fn,
                in_axes=(None, *[0] * count),
                devices=self.devices,
                donate_argnums=donate,
            )
        )
        return lambda params, *arrays: program(len(arrays))(params, *arrays)

    def split(self, tree):
        """Host arrays [D * B, ...] as [D, B, ...]."""
        return jax.tree.map(
            lambda x: np.reshape(x, (self.count, -1, *np.shape(x)[1:])), tree
        )
