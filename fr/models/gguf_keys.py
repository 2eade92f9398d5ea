"""Metadata of a GGUF file as a `config.json` would say it: every key is used, known to be harmless, or refused."""

import math
from collections.abc import Callable

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
# A list of them has a value a layer.
_BY_LAYER = (
    "attention.sliding_window_pattern",
    "attention.head_count_kv",
    "feed_forward_length",
)
# They describe the file, or repeat what its tensors say.
_HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")
# Another value than these would change the function; zero and false say "not there" for every key.
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
# The two models that scale queries by width / heads instead of head_dim; a GGUF file does not say so.
_SCALED_BY_WIDTH = {("gemma2", 46), ("gemma3", 62)}
_TOKENIZER = frozenset(
    "model pre tokens token_type scores merges add_bos_token add_eos_token add_sep_token add_space_prefix "
    "token_type_count chat_template".split()
)


def config_of(
    arch: str, meta: dict[str, object], vocab: int, tied: bool, where: str
) -> dict:
    """What `families.model_config` reads, from the metadata of a file.

    Raises UserError, by the key's name, for a value that changes the function and that the decoder lacks.
    """
    get = lambda key, default=None: meta.get(f"{arch}.{key}", default)
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
            f"{where}: {arch}.attention.scale = {scale!r} is not supported, only {scalar**-0.5:.6g}"
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
    """Raise UserError for a value of `_SAME` or `_READ_BELOW` that is of another type than its key has."""
    for key in (*_SAME, *_READ_BELOW):
        value = get(key)
        plain = isinstance(value, str if key == "rope.scaling.type" else (int, float))
        if value is not None and not plain and key not in _BY_LAYER:
            raise UserError(
                f"{where}.{key} = {shown(value)} is of another type than that key has"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}.{key} = {value} is no finite number")
    if get("attention.key_length") is not None:
        whole_number(
            get("attention.key_length"), 0, 1 << 13, f"{where}.attention.key_length"
        )


def check_tokenizer_keys(meta: dict, where: str) -> None:
    """Raise UserError for a setting of the tokenizer that is not known and not off."""
    for key, value in meta.items():
        name = key.removeprefix("tokenizer.ggml.")
        if (
            name != key
            and name not in _TOKENIZER
            and not name.endswith("_token_id")
            and value
        ):
            raise UserError(f"{where}: {key} is not supported")


def _refuse_unknown(
    arch: str, meta: dict[str, object], head_dim: int, where: str
) -> None:
    known = {*_SAME, *_READ_BELOW, *_HARMLESS}
    for full, value in meta.items():
        key = full.removeprefix(f"{arch}.")
        if key == full or key in known:
            continue
        if key in _HEAD_SIZES:
            if value and value != head_dim:
                raise UserError(
                    f"{where}: {full} = {shown(value)} is not supported beside heads of {head_dim}"
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
    """As llama.cpp reads it: a factor without a type, and the old key, are linear."""
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
