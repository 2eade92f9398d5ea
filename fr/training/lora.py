"""Low-rank adapters (arXiv 2106.09685) that are trained beside frozen parameters; `models.adapters` merges them."""

import contextlib
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from fr.config import LoraConfig
from fr.errors import UserError
from fr.models.config import ModelConfig, choose_dtype
from fr.models.weights import shapes
from fr.registry import suggest

# Axes of a kernel that its input has; those of the output follow.
_INPUTS = {"q": 1, "k": 1, "v": 1, "o": 2, "gate": 1, "up": 1, "down": 1}


def init_adapters(model: ModelConfig, config: LoraConfig, key) -> dict:
    """Adapters that change nothing yet: for each target, `a` [L, in..., r] at random and `b` [L, r, out...] of zeros.

    float32. Raises UserError for a target that a layer does not have.
    """
    for name in config.targets:
        if name not in _INPUTS:
            raise UserError(
                f"config.lora.targets: {name!r} is no part of a layer{suggest(name, _INPUTS)}"
            )
    flat = {}
    for path, shape in shapes(model).items():
        *_, name, leaf = path.split("/")
        if leaf != "kernel" or name not in config.targets:
            continue
        inputs, outputs = shape[1 : 1 + _INPUTS[name]], shape[1 + _INPUTS[name] :]
        draw = jax.random.normal(
            jax.random.fold_in(key, len(flat)), (shape[0], *inputs, config.rank)
        )
        flat[path.replace("kernel", "a")] = draw / math.sqrt(math.prod(inputs))
        flat[path.replace("kernel", "b")] = jnp.zeros((shape[0], config.rank, *outputs))
    return traverse_util.unflatten_dict(flat, sep="/")


def master_type(dtype: str, config: LoraConfig) -> jnp.dtype:
    """Type of the parameters that training starts from: float32 masters, but of those that only stand beside
    adapters, and never change, that of the computation (`dtype`, "": what suits the device).
    """
    return choose_dtype(dtype or None) if config.rank else jnp.float32


def split(
    model: ModelConfig, params: dict, config: LoraConfig, seed: int
) -> tuple[dict, dict | None]:
    """What is trained, and what stands frozen beside it: new adapters and all parameters, or these and nothing."""
    if not config.rank:
        return params, None
    return init_adapters(model, config, jax.random.key(seed)), params


def variables(trained: dict, frozen: dict | None, config: LoraConfig) -> dict:
    """What a model reads while `trained` is trained: all parameters, or adapters beside the frozen ones."""
    return {"params": frozen, "lora": trained} if config.rank else {"params": trained}


def applied(config: LoraConfig) -> contextlib.AbstractContextManager:
    """Within it, dense layers that have an adapter in the collection "lora" add (x a) b alpha / rank."""

    def add(layer, args, kwargs, context):
        out, module = layer(*args, **kwargs), context.module
        if context.method_name != "__call__" or not module.has_variable("lora", "a"):
            return out
        a, b = (
            module.get_variable("lora", name).astype(out.dtype) for name in ("a", "b")
        )
        low = jnp.tensordot(args[0].astype(out.dtype), a, axes=a.ndim - 1)
        return out + config.alpha / config.rank * jnp.tensordot(low, b, axes=1)

    return nn.intercept_methods(add) if config.rank else contextlib.nullcontext()
