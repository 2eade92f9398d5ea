"""Adapters trained beside frozen parameters: low-rank products, or vectors.

Low-rank products are of arXiv 2106.09685. A vector a layer is added to the residual
stream at every token, h <- h + u (arXiv 2509.06608): the hook of
`fr.models.transformer`, so that sampling and updates read the same sum.
"""

import contextlib
import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from fr.config import LoraConfig
from fr.errors import UserError
from fr.models import Model
from fr.models.config import ModelConfig, choose_dtype
from fr.models.weight_table import shapes
from fr.registry import suggest

# Number of a kernel's input axes; its output axes follow.
_INPUTS = {"q": 1, "k": 1, "v": 1, "o": 2, "gate": 1, "up": 1, "down": 1}


def init_adapters(model: ModelConfig, config: LoraConfig, key) -> dict:
    """New adapters without effect: `a` [L, in..., r] random, `b` [L, r, out...] zero;
    or the vectors `offset` [L, D] zero.

    Args:
        model: Shape of the decoder.
        config: Rank, alpha and targets.
        key: Key of the random numbers.

    Returns:
        Adapters, float32, in the tree of the parameters.

    Raises:
        UserError: A target is not a part of a layer.
    """
    if config.vectors:
        return {"layers": {"offset": jnp.zeros((model.layers, model.width))}}
    for name in config.targets:
        if name not in _INPUTS:
            raise UserError(
                f"config.lora.targets: {name!r} is not a part of a layer"
                f"{suggest(name, _INPUTS)}"
            )
    flat: dict[str, jax.Array] = {}
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


def with_vectors(start: Model, config: LoraConfig) -> Model:
    """A model with a vector a layer, zero if it has none, that training adds to.

    Args:
        start: The model that training starts from, layers stacked.
        config: Adapters.

    Returns:
        The model; unchanged unless vectors are trained.
    """
    if not config.vectors or start.config.residual_bias:
        return start
    shape = dataclasses.replace(start.config, residual_bias=True)
    layers = start.params["layers"]
    zero = 0 * layers["attention_norm"]["scale"]  # [L, D], where the layers are
    params = {**start.params, "layers": {**layers, "offset": zero}}
    return dataclasses.replace(start, config=shape, params=params)


def master_dtype(dtype: str, config: LoraConfig) -> jnp.dtype:
    """Type of the parameters that training starts from.

    Args:
        dtype: Type of the computation; "": the one that suits the device.
        config: Adapters, if they are active.

    Returns:
        float32 for trained parameters; the type of the computation for frozen ones.
    """
    return choose_dtype(dtype or None) if config.active else jnp.float32


def partition(
    model: ModelConfig, params: dict, config: LoraConfig, seed: int
) -> tuple[dict, dict | None]:
    """Split a model into what is trained and what is frozen.

    Args:
        model: Shape of the decoder.
        params: All parameters.
        config: Adapters, if they are active.
        seed: Seed of new adapters.

    Returns:
        (adapters, parameters), or (parameters, None) without adapters.
    """
    if not config.active:
        return params, None
    return init_adapters(model, config, jax.random.key(seed)), params


def variables(trained: dict, frozen: dict | None, config: LoraConfig) -> dict:
    """Variables that a model reads while `trained` is trained.

    Args:
        trained: All parameters, or adapters.
        frozen: Parameters beside adapters; None without adapters.
        config: Adapters, if they are active.

    Returns:
        Collections "params" and, with adapters, "lora" or "steer".
    """
    if not config.active:
        return {"params": trained}
    return {"params": frozen, "steer" if config.vectors else "lora": trained}


def lora_context(config: LoraConfig) -> contextlib.AbstractContextManager:
    """A context in which dense layers add their adapter: y = W x + alpha / r (x a) b.

    Args:
        config: Rank and alpha; rank 0: layers are unchanged.

    Returns:
        The context manager.
    """

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
