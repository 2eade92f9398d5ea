"""The table of parameters: paths with us, names in safetensors and GGUF files."""

import dataclasses
import functools
import math
from collections.abc import Iterator

import jax
from flax import traverse_util

from fr.models.config import ModelConfig
from fr.models.transformer import init_params


@dataclasses.dataclass(frozen=True)
class Entry:
    """One parameter: its path with us, and the name of its tensor in files.

    Files hold a matrix as [outputs, inputs]; with us inputs come first, and heads have
    an axis of their own.

    Attributes:
        path: Path in our tree, `a/b/c`.
        hf: Name in safetensors; `{}` is the layer.
        gguf: Name in GGUF files.
        inputs: Leading axes of ours that are inputs; 0: not a matrix, not transposed.
    """

    path: str
    hf: str
    gguf: str
    inputs: int = 0

    def file_shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the tensor in a file.

        Args:
            ours: Our shape, of one layer.

        Returns:
            The file's shape.
        """
        if self.inputs:
            return math.prod(ours[self.inputs :]), math.prod(ours[: self.inputs])
        return ours if self.path in _EMBEDDINGS else (math.prod(ours),)

    def file_index(
        self, ours: tuple[int, ...], index: tuple[slice, ...]
    ) -> tuple[slice, ...]:
        """Slice of the tensor in a file that holds a slice of our parameter.

        Args:
            ours: Our shape, of one layer.
            index: A slice per axis.

        Returns:
            A slice per axis of the file's tensor.
        """
        if self.inputs:
            cut = self.inputs
            return _span(ours[cut:], index[cut:]), _span(ours[:cut], index[:cut])
        return index if self.path in _EMBEDDINGS else (_span(ours, index),)

    @property
    def layered(self) -> bool:
        """True if every layer has one."""
        return "{}" in self.hf


def _span(shape: tuple[int, ...], index: tuple[slice, ...]) -> slice:
    """A slice of several axes, merged into one."""
    inner = math.prod(shape[1:])
    whole = all(s == slice(0, n) for s, n in zip(index[1:], shape[1:]))
    assert whole, (
        f"{index} of {shape} is not contiguous: only the first of several axes can be "
        "divided"
    )
    return slice(index[0].start * inner, index[0].stop * inner)


_LAYER, _BLK = "model.layers.{}.", "blk.{}."
_EMBEDDINGS = ("embed/embedding", "head")


def _linear(ours: str, hf: str, gguf: str, inputs: int = 1) -> Entry:
    return Entry(
        f"layers/{ours}/kernel", f"{_LAYER}{hf}.weight", f"{_BLK}{gguf}.weight", inputs
    )


def _bias(ours: str, hf: str, gguf: str) -> Entry:
    return Entry(f"layers/{ours}/bias", f"{_LAYER}{hf}.bias", f"{_BLK}{gguf}.bias")


def _norm(ours: str, hf: str, gguf: str) -> Entry:
    return Entry(f"layers/{ours}/scale", f"{_LAYER}{hf}.weight", f"{_BLK}{gguf}.weight")


TABLE = (
    Entry("embed/embedding", "model.embed_tokens.weight", "token_embd.weight"),
    Entry("head", "lm_head.weight", "output.weight"),
    Entry("final_norm/scale", "model.norm.weight", "output_norm.weight"),
    _linear("attention/q", "self_attn.q_proj", "attn_q"),
    _linear("attention/k", "self_attn.k_proj", "attn_k"),
    _linear("attention/v", "self_attn.v_proj", "attn_v"),
    _linear("attention/o", "self_attn.o_proj", "attn_output", inputs=2),
    _bias("attention/q", "self_attn.q_proj", "attn_q"),
    _bias("attention/k", "self_attn.k_proj", "attn_k"),
    _bias("attention/v", "self_attn.v_proj", "attn_v"),
    _norm("attention/q_norm", "self_attn.q_norm", "attn_q_norm"),
    _norm("attention/k_norm", "self_attn.k_norm", "attn_k_norm"),
    _linear("gate", "mlp.gate_proj", "ffn_gate"),
    _linear("up", "mlp.up_proj", "ffn_up"),
    _linear("down", "mlp.down_proj", "ffn_down"),
    _norm("attention_norm", "input_layernorm", "attn_norm"),
)


# With norms after attention and feed-forward, `post_attention_layernorm` is not the
# feed-forward's norm.
_TWO_NORMS = (
    _norm("ff_norm", "post_attention_layernorm", "ffn_norm"),
    # transformers adds this bias in the Llama family (`mlp_bias`).
    Entry(
        "layers/offset",
        f"{_LAYER}mlp.down_proj.bias",
        f"{_BLK}ffn_down.bias",
    ),
)


_FOUR_NORMS = (
    _norm("attention_post_norm", "post_attention_layernorm", "post_attention_norm"),
    _norm("ff_norm", "pre_feedforward_layernorm", "ffn_norm"),
    _norm("ff_post_norm", "post_feedforward_layernorm", "post_ffw_norm"),
    Entry("layers/offset", f"{_LAYER}residual_bias", f"{_BLK}residual_bias"),
)


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of a decoder, layers stacked.

    Args:
        config: The decoder.

    Returns:
        Shapes by path.
    """
    tree = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    return {
        path: leaf.shape
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
    }


def entries(config: ModelConfig) -> Iterator[tuple[Entry, tuple[int, ...]]]:
    """The rows of the table that a decoder has.

    Args:
        config: The decoder.

    Yields:
        The entry, and the shape of its parameter.
    """
    ours = shapes(config)
    for entry in TABLE + (_FOUR_NORMS if config.post_norms else _TWO_NORMS):
        if entry.path in ours:
            yield entry, ours.pop(entry.path)
    assert not ours, f"parameters that the table lacks: {sorted(ours)}"
