"""The families that are read and written, and the two ways between a `config.json` and a ModelConfig."""

import dataclasses

from fr.errors import UserError
from fr.models.config import ModelConfig, RopeScaling

_GEMMA = {"gelu": True, "scaled_embedding": True, "unit_offset": True}


@dataclasses.dataclass(frozen=True)
class Family:
    """What a family's name says and its `config.json` does not."""

    model_class: str  # of transformers, for exports
    traits: dict  # ModelConfig fields
    defaults: dict  # settings of config.json where it is silent


# Old exports leave out what equals the default of their class in transformers.
_LLAMA = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
_GEMMA_DEFAULTS = _LLAMA | {"head_dim": 256, "tie_word_embeddings": True, "query_pre_attn_scalar": 256}
FAMILIES = {
    "llama": Family("LlamaForCausalLM", {}, _LLAMA),
    "qwen2": Family("Qwen2ForCausalLM", {"qkv_bias": True}, _LLAMA),
    "qwen3": Family("Qwen3ForCausalLM", {"qk_norm": True}, _LLAMA | {"head_dim": 128}),
    "gemma": Family("GemmaForCausalLM", _GEMMA, _GEMMA_DEFAULTS),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        _GEMMA | {"post_norms": True},
        _GEMMA_DEFAULTS
        | {"sliding_window": 4096, "sliding_window_pattern": 2}
        | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        _GEMMA | {"post_norms": True, "qk_norm": True},
        _GEMMA_DEFAULTS
        | {"rope_theta": 1e6, "rope_local_base_freq": 10000.0}
        | {"sliding_window": 4096, "sliding_window_pattern": 6},
    ),
}

# Only these families scale queries by their own number, and only these have sliding layers.
_OWN_SCALE = ("gemma2", "gemma3_text")


def model_config(raw: dict, where: str) -> ModelConfig:
    """The ModelConfig of a parsed `config.json`, of transformers 4 or 5; `where` names the file in errors.

    Raises UserError for another family, a missing setting, and a setting that the decoder does not have.
    """
    name = raw.get("model_type")
    if name not in FAMILIES:
        raise UserError(f"{where}: model_type {name!r} is not supported; there are: {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    raw = family.defaults | {k: v for k, v in raw.items() if v is not None}
    need = lambda key: _need(raw, key, where)
    _refuse_unknown(raw, family, where)
    width, heads, layers = need("hidden_size"), need("num_attention_heads"), need("num_hidden_layers")
    window, full_every = _windows(raw, layers, where) if name in _OWN_SCALE else (0, 0)
    try:
        return ModelConfig(
            vocab=need("vocab_size"),
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=raw.get("num_key_value_heads", heads),
            head_dim=raw.get("head_dim") or width // heads,
            ff=need("intermediate_size"),
            max_positions=raw.get("max_position_embeddings", 2048),
            norm_eps=float(raw["rms_norm_eps"]),
            tied=bool(raw["tie_word_embeddings"]),
            attention_softcap=float(raw.get("attn_logit_softcapping", 0.0)),
            logit_softcap=float(raw.get("final_logit_softcapping", 0.0)),
            query_scale=float(raw["query_pre_attn_scalar"]) ** -0.5 if name in _OWN_SCALE else 0.0,
            window=window,
            full_every=full_every,
            **_rope(raw, where),
            **family.traits,
        )
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{where}: {error}") from error


def _need(raw: dict, key: str, where: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or value <= 0:
        raise UserError(f"{where}: {key} = {value!r} must be a positive integer")
    return value


def _refuse_unknown(raw: dict, family: Family, where: str) -> None:
    """Settings that change the function of the model and that the decoder has no field for."""
    gelu = family.traits.get("gelu", False)
    activation = raw.get("hidden_activation") or raw.get("hidden_act")
    # Gemma's first exports say "gelu" and mean the tanh approximation (so do transformers' classes).
    known = ("gelu_pytorch_tanh", "gelu") if gelu else ("silu",)
    if activation not in (None, *known):
        raise UserError(f"{where}: activation {activation!r} is not supported, only {known[0]!r}")
    for key in ("attention_bias", "mlp_bias", "use_sliding_window", "use_bidirectional_attention"):
        if raw.get(key):
            raise UserError(f"{where}: {key} = {raw[key]!r} is not supported")
    if raw.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{where}: partial_rotary_factor = {raw['partial_rotary_factor']!r} is not supported")


def _windows(raw: dict, layers: int, where: str) -> tuple[int, int]:
    """(window, full_every): `layer_types` of new exports, or the pattern of old ones."""
    kinds = raw.get("layer_types")
    if kinds is None:
        return raw["sliding_window"], raw["sliding_window_pattern"]
    slides = [kind == "sliding_attention" for kind in kinds]
    if not any(slides):
        return 0, 0
    for every in range(2, layers + 2):
        if slides == [(i + 1) % every != 0 for i in range(layers)]:
            return raw["sliding_window"], every
    raise UserError(f"{where}: layer_types must be full at every n-th layer and sliding between, not {kinds}")


def _rope(raw: dict, where: str) -> dict:
    """The rotary fields: `rope_parameters` of transformers 5, or `rope_theta` and `rope_scaling` of 4."""
    new = raw.get("rope_parameters") or {}
    full = new.get("full_attention", new)
    scaling = full if new else raw.get("rope_scaling") or {}
    local = new.get("sliding_attention", {}).get("rope_theta") or raw.get("rope_local_base_freq", 0.0)
    fields = {
        "rope_theta": float(full.get("rope_theta", raw["rope_theta"])),
        "local_rope_theta": float(local),
    }
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    try:
        if kind == "linear":
            fields["rope_linear"] = float(scaling["factor"])
        elif kind == "llama3":
            names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
            fields["rope_scaling"] = RopeScaling(*(scaling[n] for n in names))
        elif kind != "default":
            raise UserError(
                f"{where}: rope type {kind!r} is not supported; there are: default, linear, llama3"
            )
    except KeyError as error:
        raise UserError(f"{where}: rope of type {kind!r} has no {error}") from error
    return fields


def family_of(config: ModelConfig) -> str:
    """Name of the family that a decoder's traits amount to; raises UserError if they are no family's."""
    for name, family in FAMILIES.items():
        traits = {t: False for other in FAMILIES.values() for t in other.traits} | family.traits
        if all(getattr(config, t) == value for t, value in traits.items()):
            return name
    raise UserError("a decoder with these traits has no name in transformers, so it cannot be exported")


def config_json(config: ModelConfig, stop_tokens: tuple[int, ...]) -> dict:
    """The `config.json` that transformers, 4 and 5, builds the same float32 decoder from."""
    name = family_of(config)
    rope = {"rope_type": "default"}
    if config.rope_linear != 1.0:
        rope = {"rope_type": "linear", "factor": config.rope_linear}
    if s := config.rope_scaling:
        rope = {"rope_type": "llama3", "factor": s.factor, "original_max_position_embeddings": s.original}
        rope |= {"low_freq_factor": s.low, "high_freq_factor": s.high}
    gelu = "gelu_pytorch_tanh" if config.gelu else "silu"
    out = {
        "architectures": [FAMILIES[name].model_class],
        "model_type": name,
        "dtype": "float32",
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ff,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if rope["rope_type"] == "default" else rope,
        "tie_word_embeddings": config.tied,
        "hidden_act": gelu,
        "hidden_activation": gelu,
        "attention_bias": False,
        "eos_token_id": list(stop_tokens) or None,
    }
    return out | (_sliding_json(config) if name in _OWN_SCALE else {})


def _sliding_json(config: ModelConfig) -> dict:
    kinds = ["sliding_attention" if config.slides(i) else "full_attention" for i in range(config.layers)]
    scalar = config.scale**-2
    return {
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar,
        "sliding_window": config.window or config.max_positions,
        "layer_types": kinds,
        "rope_local_base_freq": config.local_rope_theta,
        "attn_logit_softcapping": config.attention_softcap or None,
        "final_logit_softcapping": config.logit_softcap or None,
    }
