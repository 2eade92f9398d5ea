"""The check of shapes in annotations, which `conftest.py` puts on every function of `fr`."""

import functools
import inspect
import typing
from collections.abc import Callable

import jaxtyping
from beartype import BeartypeConf, beartype

# An int is a float, and a float complex, as type checkers have it.
_CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))


def shapes(function: Callable, check: Callable = _CHECK) -> Callable:
    """`function` with a check of its jaxtyping annotations; mypy reads the others.

    The fields of a struct that is a pytree are not checked where it is made: jax also
    makes one of tracers, of shapes and of shardings.
    """
    function.__annotations__ = {
        name: kind if _has_shape(kind) else typing.Any
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
