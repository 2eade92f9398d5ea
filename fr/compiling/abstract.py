"""Programs that are lowered from shapes alone, and what lies beside them in memory."""

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fr.models import sharding
from fr.models.config import ModelConfig
from fr.models.transformer import init_params
from fr.sampling.devices import Devices


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a run.

    Attributes:
        name: What it does.
        shape: Its size in words.
        lower: Gives it as the compiler takes it.
        uses: Names of what lies in memory and is among its arguments.
        dtype: Type of its products.
        made_of: All that decides its text, so that it is traced once; None: its text
            decides.
        apart: Bytes a device of its stage's arrays that it takes no part in.
    """

    name: str
    shape: str
    lower: Callable[[], Any]
    uses: tuple[str, ...]
    dtype: str
    made_of: Hashable = None
    apart: int = 0


@dataclasses.dataclass
class Stage:
    """Programs that take turns on the same devices.

    Attributes:
        name: Name of the stage.
        programs: Its programs.
        held: Bytes a device of what lies there all the time, by name.
    """

    name: str
    programs: list[Program]
    held: dict[str, int]

    def beside(self, program: Program) -> int:
        """Bytes a device of what lies beside a program and is not an argument of it.

        Args:
            program: One of its programs.

        Returns:
            Bytes.
        """
        held = sum(n for name, n in self.held.items() if name not in program.uses)
        return held + program.apart


def shapes_of(fn: Callable, *args) -> Any:
    """Shapes and types of a function's result; nothing is computed.

    Args:
        fn: The function.
        *args: Its arguments, or their shapes.

    Returns:
        Tree of shapes.
    """
    return jax.eval_shape(fn, *args)


@functools.lru_cache(maxsize=16)
def _parameters(model: ModelConfig) -> Any:
    return shapes_of(functools.partial(init_params, model), jax.random.key(0))


def parameters(model: ModelConfig, dtype) -> Any:
    """Shapes of a decoder's parameters, layers stacked.

    Args:
        model: Its shape.
        dtype: Type of all of them.

    Returns:
        Tree of shapes.
    """
    kind = jnp.dtype(dtype)
    return jax.tree.map(lambda x: array(x.shape, kind), _parameters(model))


def array(shape: tuple[int, ...], dtype, place=None) -> Any:
    """The shape of one array.

    Args:
        shape: Its sizes.
        dtype: Its type.
        place: Its sharding, or None.

    Returns:
        The shape.
    """
    kind = jax.dtypes.canonicalize_dtype(dtype)  # as arrays of the host are taken
    return jax.ShapeDtypeStruct(shape, kind, sharding=place)


def by_path(tree, mesh: Mesh) -> Any:
    """Shapes where `sharding.shard_tree` puts the arrays.

    Args:
        tree: Tree of shapes.
        mesh: Devices as (data, model).

    Returns:
        The tree, with shardings.
    """
    places = sharding.shardings(tree, mesh)
    return jax.tree.map(lambda x, place: array(x.shape, x.dtype, place), tree, places)


def by_rows(tree, mesh: Mesh) -> Any:
    """Shapes of a batch whose rows are spread over the data axis.

    Args:
        tree: Tree of shapes.
        mesh: Devices as (data, model).

    Returns:
        The tree, with shardings.
    """
    place = NamedSharding(mesh, P("data"))
    return jax.tree.map(lambda x: array(x.shape, x.dtype, place), tree)


def by_shard(tree, devices: Devices) -> Any:
    """Shapes [D, ...] of arrays that every data shard has one of.

    Args:
        tree: Tree of shapes without the leading axis.
        devices: Devices of a sampler.

    Returns:
        The tree, with the leading axis and with shardings.
    """
    lead = lambda x: array((devices.count, *x.shape), x.dtype)
    tree = by_path(jax.tree.map(lead, tree), devices.mesh)
    if devices.kind == "one":
        return tree
    spread = lambda x: NamedSharding(devices.mesh, P("data", *x.sharding.spec[1:]))
    return jax.tree.map(lambda x: array(x.shape, x.dtype, spread(x)), tree)


def bytes_of(tree) -> int:
    """Bytes of a tree on one device.

    Args:
        tree: Tree of shapes with shardings.

    Returns:
        Bytes.
    """
    size = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def lowering(devices: Devices, program: Any, *args, params) -> Callable[[], Any]:
    """A function that lowers a program of a sampler.

    Args:
        devices: Its devices.
        program: Made by `devices.jit_sharded`.
        *args: Shapes of its arguments after the parameters.
        params: Shapes of the parameters.

    Returns:
        A function that lowers it.
    """
    if devices.kind == "pmap":  # it places its arguments itself
        params, args = jax.tree.map(lambda x: array(x.shape, x.dtype), (params, args))
    return lambda: program.lower(params, *args)
