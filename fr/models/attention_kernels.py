"""Attention of whole sequences by kernels that keep scores on the chip."""

import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from fr.errors import UserError
from fr.models.attention_scores import by_group, by_token
from fr.models.config import PLATFORM, ModelConfig

KERNELS = ("splash", "cudnn")
_SPLASH = "jax.experimental.pallas.ops.tpu.splash_attention"
_BLOCK, _LANES = 1024, 128  # tokens of a kernel's block: the most, and a multiple of
_PAD = 1  # segment of pads; tokens have segment 0


def check_kernel(name: str, config: ModelConfig, dtype) -> None:
    """Refuse a kernel that a platform or a model cannot have.

    Args:
        name: splash, cudnn or ragged.
        config: The decoder.
        dtype: Type of compute.

    Raises:
        UserError: It cannot; the line says what would do.
    """
    platform = PLATFORM.get() or jax.default_backend()
    if name == "ragged":
        if platform == "cpu":
            raise UserError(
                "config.models.attention = 'ragged' runs on a TPU or a GPU, and this "
                "is cpu; leave it out, or use chunked"
            )
        return
    wanted = "tpu" if name == "splash" else "gpu"
    if platform not in (wanted, "cuda") or (platform, name) == ("cuda", "splash"):
        raise UserError(
            f"config.models.attention = {name!r} runs on a {wanted.upper()} only, and "
            f"this is {platform}; leave it out, or use chunked"
        )
    if name == "cudnn" and (
        config.attention_softcap
        or jnp.dtype(dtype) != jnp.bfloat16
        or config.head_dim % 8
        or config.head_dim > 256
    ):
        raise UserError(
            "config.models.attention = 'cudnn' takes bfloat16, no soft cap of scores "
            f"and heads of 8 to 256 numbers; this model has {jnp.dtype(dtype).name}, a "
            f"cap of {config.attention_softcap} and heads of {config.head_dim}"
        )


def attend_by_kernel(
    name: str,
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    positions: Int[Array, "B T"],
    window: Int[Array, ""] | int | None,
    config: ModelConfig,
    mesh: Mesh | None,
) -> Float[Array, "B T N H"]:
    """Causal attention of whole sequences, one segment a row, with a gradient.

    Args:
        name: splash or cudnn.
        q: Scaled queries.
        k: Keys, rotated.
        v: Values.
        positions: Position of each token, in order; -1 marks a pad, at the end.
        window: Tokens in sight in this layer; None: all, in every layer.
        config: The decoder.
        mesh: Devices (data, model) over which a training spreads rows and heads; None:
            the program around it decides.

    Returns:
        Weighted values, without meaning at pads.
    """
    make = splash_attention if name == "splash" else _cudnn
    far = make(0, config.attention_softcap)
    read = lambda q, k, v, positions, window: far(q, k, v, positions)
    if window is not None:
        near = make(config.window, config.attention_softcap)
        slides = lambda window: window <= config.window
        read = lambda *given: jax.lax.cond(slides(given[4]), near, far, *given[:4])
    return _placed(read, q, k, v, positions, window, mesh)


def _placed(read: Callable, q, k, v, positions, window, mesh: Mesh | None):
    """Run a kernel on each device's rows and heads: it cannot be divided from outside.

    Key-value heads that do not divide are repeated for each query head.
    """
    around: Any = mesh or jax.sharding.get_abstract_mesh()
    names = {"data", "model"} if mesh else {"model"} & set(around.axis_names)
    if not names or around.size == 1:
        return read(q, k, v, positions, window)
    if k.shape[2] % around.shape["model"]:
        k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    rows = "data" if mesh else None
    heads = P(rows, None, "model")
    return jax.shard_map(
        read,
        mesh=around,
        in_specs=(heads, heads, heads, P(rows), P()),
        out_specs=heads,
        axis_names=names,
        check_vma=False,
    )(q, k, v, positions, window)


def _cudnn(window: int, softcap: float) -> Callable:
    del softcap  # refused by `check_kernel`
    sight = (window - 1, 0) if window else None

    def attend(q, k, v, positions):
        # No token sees a pad, for pads come last.
        return jax.nn.dot_product_attention(
            q,
            k.astype(q.dtype),
            v.astype(q.dtype),
            scale=1.0,
            is_causal=True,
            local_window_size=sight,
            implementation="cudnn",
        )

    return attend


def splash_attention(
    window: int, softcap: float, interpret: bool = False
) -> Callable[[Array, Array, Array, Array], Array]:
    """JAX's splash attention for TPUs.

    Args:
        window: Tokens in sight, the own one included; 0: all.
        softcap: Soft cap of scores; 0: none.
        interpret: Run it without a TPU, slowly.

    Returns:
        (q, k, v, positions) -> weighted values, shaped as in `attend_by_kernel`.
    """

    def attend(q, k, v, positions):
        tokens = q.shape[1]
        block = min(_BLOCK, -(-tokens // _LANES) * _LANES)
        more = -tokens % block
        longer = lambda x: jnp.pad(x, [(0, 0), (0, more)] + [(0, 0)] * (x.ndim - 2))
        pads = jnp.where(positions < 0, _PAD, 0)
        pads = jnp.pad(pads, [(0, 0), (0, more)], constant_values=_PAD)
        run, ids = _splash(tokens + more, block, window, softcap, interpret)
        one = lambda q, k, v, pads: run(q[None], k, v, ids(pads, pads))[0]
        # One head at a time: the mask of a kernel is made for each of its heads.
        one = jax.vmap(one, (0, None, None, None))  # queries of a key's head
        one = jax.vmap(jax.vmap(one, (0, 0, 0, None)))  # heads of keys, rows
        queries = by_group(longer(q), k.shape[2])
        k, v = (longer(x).transpose(0, 2, 1, 3) for x in (k, v))
        out = by_token(one(queries, k, v, pads))
        return out[:, :tokens].astype(v.dtype)

    return attend


@functools.lru_cache(maxsize=16)
def _splash(tokens: int, block: int, window: int, softcap: float, interpret: bool):
    """The kernel of one head; its mask takes seconds for a long sequence."""
    kernel = importlib.import_module(f"{_SPLASH}.splash_attention_kernel")
    masks = importlib.import_module(f"{_SPLASH}.splash_attention_mask")
    shape = (tokens, tokens)
    mask = masks.CausalMask(shape)
    if window:
        mask = masks.LocalMask(shape, (window - 1, 0), 0)
    half = max(_LANES, block // 2) if block % (2 * _LANES) == 0 else block
    sizes = kernel.BlockSizes(
        block_q=half,
        block_kv=block,
        block_kv_compute=half,
        block_q_dkv=half,
        block_kv_dkv=block,
        block_kv_dkv_compute=half,
        block_q_dq=half,
        block_kv_dq=block,
    )
    make = functools.partial(
        kernel.make_splash_mqa_single_device,
        masks.MultiHeadMask([mask]),
        block_sizes=sizes,
        attn_logits_soft_cap=softcap or None,
        interpret=interpret,
    )
    # Once for all programs: its tables must be no values of the trace around it, which
    # another thread does not see.
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(lambda: jax.tree.map(np.asarray, make())).result()
    return made, kernel.SegmentIds
