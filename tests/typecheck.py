"""The check of shapes in annotations, which `conftest.py` puts on every function of
`fr`.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype

# An int is a float, and a float complex, as type checkers have it.
_CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))


def shapes(function: Callable, check: Callable = _CHECK) -> Callable:
    """`function` with a check of its jaxtyping annotations; mypy reads the others.

    The fields of a struct that is a pytree are not checked where it is made: jax also
    makes one of tracers, of shapes and of shardings.
    """
    function.__annotations__ = {
        name: _with_numpy(kind) if _has_shape(kind) else typing.Any
        for name, kind in function.__annotations__.items()
    }
    checked = check(function)
    if function.__name__ != "__init__":
        return checked

    @functools.wraps(function)
    def init(self, *args, **kwargs):
        if getattr(type(self), "_flax_dataclass", False):
            return function(self, *args, **kwargs)
        return checked(self, *args, **kwargs)

    return init


def _has_shape(kind) -> bool:
    if inspect.isclass(kind) and issubclass(kind, jaxtyping.AbstractArray):
        return True
    return any(_has_shape(part) for part in typing.get_args(kind))


def _with_numpy(kind):
    """The annotation with NumPy's arrays too, which JAX's functions accept."""
    if inspect.isclass(kind) and issubclass(kind, jaxtyping.AbstractArray):
        if kind.array_type is not jax.Array:
            return kind
        return kind.dtype[jax.Array | np.ndarray | np.generic, kind.dim_str]
    parts, origin = typing.get_args(kind), typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(map(_with_numpy, parts))]  # noqa: UP007
    if origin in (tuple, list, dict, Sequence, Mapping):
        return types.GenericAlias(origin, tuple(map(_with_numpy, parts)))
    return kind
