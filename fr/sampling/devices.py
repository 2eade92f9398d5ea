"""One pure function, any number of local devices: plain, under pmap, or under shard_map."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fr.errors import UserError


class Devices:
    """Local devices and how to run on them. Every array but the parameters has a leading device axis.

    Process-local on purpose: no cross-host collective enters the token loop, so uneven queues cannot hang a pod.
    """

    def __init__(self, kind: str = "auto", devices: list | None = None):
        local = list(devices or jax.local_devices())
        self.kind = ("pmap" if len(local) > 1 else "one") if kind == "auto" else kind
        if self.kind not in ("one", "pmap", "shard_map"):
            raise UserError(
                f"sampling.devices = {kind!r} is not known; there are: auto, one, pmap, shard_map"
            )
        self.devices = local[:1] if self.kind == "one" else local
        self.mesh = Mesh(np.array(self.devices), ("data",))

    @property
    def count(self) -> int:
        """Devices in use, D."""
        return len(self.devices)

    def replicate(self, params):
        """Put one copy of a tree on every device, once, so that no call has to."""
        if self.kind == "pmap":
            # A broadcast view: the host holds one copy, each device is sent its own.
            stack = lambda x: np.broadcast_to(np.asarray(x), (self.count, *np.shape(x)))
            return jax.device_put(jax.tree.map(stack, params), NamedSharding(self.mesh, P("data")))
        return jax.device_put(params, NamedSharding(self.mesh, P()))

    def wrap(self, fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
        """Compile fn(params, *arrays): it sees one device's slice, without the device axis."""
        if self.kind == "pmap":
            return jax.pmap(fn, devices=self.devices, donate_argnums=donate)

        @functools.wraps(fn)
        def local(params, *arrays):
            squeezed = jax.tree.map(lambda x: x[0], arrays)
            return jax.tree.map(lambda x: x[None], fn(params, *squeezed))

        if self.kind == "shard_map":
            # Caches begin as zeros made inside, which the variance check would call replicated.
            shard = lambda params, *arrays: jax.shard_map(
                local,
                mesh=self.mesh,
                in_specs=(P(), *[P("data")] * len(arrays)),
                out_specs=P("data"),
                check_vma=False,
            )(params, *arrays)
            return jax.jit(shard, donate_argnums=donate)
        return jax.jit(local, donate_argnums=donate)

    def split(self, tree):
        """Host arrays [D * B, ...] as [D, B, ...]."""
        return jax.tree.map(lambda x: np.reshape(x, (self.count, -1, *np.shape(x)[1:])), tree)
