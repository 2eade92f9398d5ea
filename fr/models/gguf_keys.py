"""GGUF metadata as a `config.json`: each key is used, harmless, or refused."""

import math
from collections.abc import Callable
from typing import Any

from fr.errors import UserError
from fr.models.bounds import shown, whole_number

ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
_SAME = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
}
_READ_BELOW = (
    "attention.key_length",
    "attention.scale",
    "attention.sliding_window_pattern",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
)
# A list has one value per layer.
_BY_LAYER = (
    "attention.sliding_window_pattern",
    "attention.head_count_kv",
    "feed_forward_length",
)
# Keys that describe the file, or repeat the shapes of its tensors.
_HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")
# Other values than these would change the model; zero and false mean absent for all
# keys.
_NEUTRAL = {
    "attention.causal": (True,),
    "logit_scale": (1.0,),
    "residual_scale": (1.0,),
    "embedding_scale": (1.0,),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scaling.yarn_attn_factor": (1.0,),
    "rope.scaling.yarn_ext_factor": (1.0, -1.0),
}
_HEAD_SIZES = (
    "attention.value_length",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "rope.dimension_count",
    "rope.dimension_count_swa",
)
# Two models scale queries by width / heads instead of head_dim; a GGUF file does not
# record it.
_SCALED_BY_WIDTH = {("gemma2", 46), ("gemma3", 62)}
_TOKENIZER = frozenset(
    "model pre tokens token_type scores merges add_bos_token add_eos_token "
    "add_sep_token add_space_prefix token_type_count chat_template".split()
)


def config_of(
    arch: str, meta: dict[str, Any], vocab: int, tied: bool, where: str
) -> dict:
    """Settings for `families.model_config`, from the metadata of a file.

    Args:
        arch: Architecture of the file.
        meta: Metadata values by key.
        vocab: Rows of the embedding.
        tied: The file has no head of its own.
        where: Path, for errors.

    Returns:
        Settings by their names in a `config.json`.

    Raises:
        UserError: A value changes the model and the decoder lacks it; the key is named.
    """

    def get(key: str, default: Any = None) -> Any:
        return meta.get(f"{arch}.{key}", default)

    _check_types(get, f"{where}: {arch}")
    raw = {name: get(key) for key, name in _SAME.items() if get(key) is not None}
    for key, name in _SAME.items():
        if name in ("num_attention_heads", "hidden_size", "num_hidden_layers"):
            whole_number(raw.get(name), 1, 1 << 17, f"{where}: {arch}.{key}")
    heads, width, layers = (
        raw[n] for n in ("num_attention_heads", "hidden_size", "num_hidden_layers")
    )
    head_dim = get("attention.key_length") or max(1, width // heads)
    scaled_by_width = (arch, layers) in _SCALED_BY_WIDTH
    scalar = max(1, width // heads) if scaled_by_width else head_dim
    _refuse_unknown(arch, meta, head_dim, where)
    scale = get("attention.scale")
    if scale and not math.isclose(scale, scalar**-0.5, rel_tol=1e-4):
        raise UserError(
            f"{where}: {arch}.attention.scale = {scale!r} is not supported, only "
            f"{scalar**-0.5:.6g}"
        )
    raw |= {
        "model_type": ARCHITECTURES[arch],
        "head_dim": head_dim,
        "vocab_size": vocab,
        "query_pre_attn_scalar": scalar,
        "tie_word_embeddings": tied,
        "rope_scaling": _rope_scaling(get),
    }
    return raw | _windows(arch, get, raw, layers, where)


def _check_types(get: Callable, where: str) -> None:
    """Raise UserError for a value that has another type than its key."""
    for key in (*_SAME, *_READ_BELOW):
        value = get(key)
        plain = isinstance(value, str if key == "rope.scaling.type" else (int, float))
        if value is not None and not plain and key not in _BY_LAYER:
            raise UserError(
                f"{where}.{key} = {shown(value)} is of another type than the key has"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}.{key} = {value} is not a finite number")
    if get("attention.key_length") is not None:
        whole_number(
            get("attention.key_length"), 0, 1 << 13, f"{where}.attention.key_length"
        )


def check_tokenizer_keys(meta: dict, where: str) -> None:
    """Check that all settings of the tokenizer are known or off.

    Args:
        meta: Metadata values by key.
        where: Path, for errors.

    Raises:
        UserError: A setting is unknown and on.
    """
    for key, value in meta.items():
        name = key.removeprefix("tokenizer.ggml.")
        if (
            name != key
            and name not in _TOKENIZER
            and not name.endswith("_token_id")
            and value
        ):
            raise UserError(f"{where}: {key} is not supported")


def _refuse_unknown(arch: str, meta: dict[str, Any], head_dim: int, where: str) -> None:
    known = {*_SAME, *_READ_BELOW, *_HARMLESS}
    for full, value in meta.items():
        key = full.removeprefix(f"{arch}.")
        if key == full or key in known:
            continue
        if key in _HEAD_SIZES:
            if value and value != head_dim:
                raise UserError(
                    f"{where}: {full} = {shown(value)} is not supported beside heads "
                    f"of {head_dim}"
                )
        elif (value or key == "attention.causal") and value not in _NEUTRAL.get(
            key, ()
        ):
            raise UserError(
                f"{where}: {full} = {shown(value)} is not supported by this decoder"
            )


def _windows(arch: str, get: Callable, raw: dict, layers: int, where: str) -> dict:
    pattern, local = get("attention.sliding_window_pattern"), get("rope.freq_base_swa")
    if arch not in ("gemma2", "gemma3"):
        # A window as long as the context leaves nothing out.
        slides = (
            0 < raw.get("sliding_window", 0) < raw.get("max_position_embeddings", 0)
        )
        return {"use_sliding_window": slides}
    if isinstance(pattern, list):
        kinds = [
            "sliding_attention" if slides else "full_attention"
            for slides in pattern[:layers]
        ]
        pattern = {"layer_types": kinds}
    else:
        pattern = {"sliding_window_pattern": pattern} if pattern else {}
    if local and arch == "gemma2" and local != raw.get("rope_theta", 10000.0):
        raise UserError(
            f"{where}: {arch}.rope.freq_base_swa = {local!r} is not supported"
        )
    return pattern | (
        {"rope_local_base_freq": local} if local and arch == "gemma3" else {}
    )


def _rope_scaling(get: Callable) -> dict | None:
    """Scaling as in llama.cpp: a factor without a type, or the old key, is linear."""
    kind = get("rope.scaling.type", "linear")
    factor = get("rope.scaling.factor") or get("rope.scale_linear")
    if kind == "none" or (kind == "linear" and factor in (None, 1.0)):
        return None
    out = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        out |= {
            "original_max_position_embeddings": get(
                "rope.scaling.original_context_length"
            ),
            "beta_fast": get("rope.scaling.yarn_beta_fast"),
            "beta_slow": get("rope.scaling.yarn_beta_slow"),
        }
    return {name: value for name, value in out.items() if value is not None}
