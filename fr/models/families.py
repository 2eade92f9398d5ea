"""Model families: from a `config.json` to a ModelConfig."""

import dataclasses
import re

from fr.errors import UserError, first_line
from fr.models.bounds import check_config, shown, whole_number
from fr.models.config import ModelConfig
from fr.models.rope import read_scaling
from fr.registry import Registry

_GEMMA = {"gelu": True, "scaled_embedding": True, "unit_offset": True}


@dataclasses.dataclass(frozen=True)
class Family:
    """The properties of a family that its `config.json` does not state.

    Attributes:
        model_class: Class of transformers, for exports.
        traits: Fields of ModelConfig.
        defaults: Settings of `config.json` where it has none.
    """

    model_class: str
    traits: dict
    defaults: dict


# Old exports leave out settings that equal the default of their class in transformers.
_LLAMA = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
_QWEN = _LLAMA | {"max_position_embeddings": 32768}
_GEMMA_DEFAULTS = (
    _LLAMA
    | {"head_dim": 256, "tie_word_embeddings": True, "query_pre_attn_scalar": 256}
    | {"max_position_embeddings": 8192}
)
FAMILIES = Registry("model family")
for _name, _family in {
    "llama": Family("LlamaForCausalLM", {}, _LLAMA),
    "qwen2": Family("Qwen2ForCausalLM", {"qkv_bias": True}, _QWEN),
    "qwen3": Family("Qwen3ForCausalLM", {"qk_norm": True}, _QWEN | {"head_dim": 128}),
    "gemma": Family(
        "GemmaForCausalLM", _GEMMA, _GEMMA_DEFAULTS | {"num_key_value_heads": 16}
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        _GEMMA | {"post_norms": True},
        _GEMMA_DEFAULTS
        | {
            "sliding_window": 4096,
            "sliding_window_pattern": 2,
            "num_key_value_heads": 4,
        }
        | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        _GEMMA | {"post_norms": True, "qk_norm": True},
        _GEMMA_DEFAULTS
        | {"rope_theta": 1e6, "rope_local_base_freq": 10000.0}
        | {
            "sliding_window": 4096,
            "sliding_window_pattern": 6,
            "max_position_embeddings": 131072,
        }
        # The published multimodal folders name none of these.
        | {"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4},
    ),
}.items():
    FAMILIES.register(_name)(_family)
READ: set[str] = set()  # families of the models that this process has read
# A null here means off, not the default of the class.
_NULL_IS_OFF = ("attn_logit_softcapping", "final_logit_softcapping")

# Names of settings that may change the model. An unknown setting with such a name is
# refused unless its value means off, although the class of transformers ignores it.
_TELLING = re.compile(
    "multiplier|scal|softcap|expert|moe|rope|rotary|window|norm|bias|activation"
    "|pattern|attention|sparsity|quant|logit|alibi|residual|layer_types|parallel"
    "|cross|pruned"
)
_KNOWN = frozenset(
    "rms_norm_eps rope_theta rope_scaling rope_parameters rope_local_base_freq "
    "original_max_position_embeddings partial_rotary_factor num_attention_heads "
    "query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping "
    "sliding_window sliding_window_pattern _sliding_window_pattern use_sliding_window "
    "max_window_layers layer_types hidden_activation attention_bias mlp_bias "
    "residual_bias "
    "use_bidirectional_attention attention_dropout attn_implementation "
    "_attn_implementation _attn_implementation_internal _attn_implementation_autoset "
    "cross_attention_hidden_size tie_cross_layer tensor_parallel pruned_heads".split()
)
_OFF: tuple[object, ...] = (None, False, 0, 1, "", [], {}, "none", "default")

# Only these families scale queries by a number of their own and have sliding layers.
OWN_SCALE = ("gemma2", "gemma3_text")


def model_config(raw: dict, where: str) -> ModelConfig:
    """The ModelConfig of a parsed `config.json` of transformers 4 or 5.

    Args:
        raw: The parsed file.
        where: Name of the file in errors.

    Returns:
        The config.

    Raises:
        UserError: The family is unknown, or a setting is missing, out of its bounds, or
            not supported by the decoder.
    """
    raw = text_config(raw)
    check_config(raw, where)
    name = str(raw.get("model_type"))
    if name not in FAMILIES:
        said = shown(raw.get("model_type"))
        raise UserError(
            f"{where}: model_type {said} is not supported; there are: "
            f"{', '.join(FAMILIES)}"
        )
    family = FAMILIES[name]
    READ.add(name)
    off = {key: 0.0 for key in _NULL_IS_OFF if key in raw}
    raw = family.defaults | off | {k: v for k, v in raw.items() if v is not None}
    need = lambda key: _need(raw, key, where)
    _refuse_unknown(raw, name, where)
    width, heads, layers = (
        need("hidden_size"),
        need("num_attention_heads"),
        need("num_hidden_layers"),
    )
    window, full_every = _windows(raw, layers, where) if name in OWN_SCALE else (0, 0)
    if name not in OWN_SCALE and (
        kinds := set(raw.get("layer_types") or ()) - {"full_attention"}
    ):
        raise UserError(
            f"{where}: layer_types {shown(sorted(kinds))} are not supported by {name!r}"
        )
    try:
        return ModelConfig(
            vocab=need("vocab_size"),
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=raw.get("num_key_value_heads", heads),
            head_dim=raw.get("head_dim")
            or whole_number(width // heads, 1, width, f"{where}: width / heads"),
            ff=need("intermediate_size"),
            max_positions=raw.get("max_position_embeddings", 2048),
            norm_eps=float(raw["rms_norm_eps"]),
            tied=bool(raw["tie_word_embeddings"]),
            attention_softcap=float(raw.get("attn_logit_softcapping", 0.0)),
            logit_softcap=float(raw.get("final_logit_softcapping", 0.0)),
            query_scale=float(raw["query_pre_attn_scalar"]) ** -0.5
            if name in OWN_SCALE
            else 0.0,
            window=window,
            full_every=full_every,
            residual_bias=bool(raw.get("residual_bias", False)),
            **_rope(raw, name, where),
            **family.traits,
        )
    except (
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        LookupError,
    ) as error:
        raise UserError(f"{where}: {first_line(error)}") from error


def text_config(raw: dict) -> dict:
    """The settings of the language model in a multimodal Gemma 3's `config.json`.

    Args:
        raw: The parsed file.

    Returns:
        The settings; another family's are unchanged.
    """
    inner = raw.get("text_config")
    if raw.get("model_type") != "gemma3" or not isinstance(inner, dict):
        return raw
    shared = {
        key: raw[key]
        for key in ("tie_word_embeddings", "eos_token_id", "quantization_config")
        if key in raw
    }
    return {"model_type": "gemma3_text"} | shared | inner


def _need(raw: dict, key: str, where: str) -> int:
    if raw.get(key) is None:
        raise UserError(f"{where}: {key} = None must be a positive integer")
    return raw[key]


def _refuse_unknown(raw: dict, name: str, where: str) -> None:
    """Refuse settings that change the model and that the decoder does not have."""
    gelu = FAMILIES[name].traits.get("gelu", False)
    # "gelu" in Gemma's first exports is the tanh approximation, also in transformers.
    known = (
        ("gelu_pytorch_tanh", "gelu")[: 1 + (name == "gemma")] if gelu else ("silu",)
    )
    for activation in (raw.get("hidden_activation"), raw.get("hidden_act")):
        if activation not in (None, *known):
            raise UserError(
                f"{where}: activation {shown(activation)} is not supported, only "
                f"{known[0]!r}"
            )
    refused = [
        "attention_bias",
        "use_sliding_window",
        "use_bidirectional_attention",
    ]
    # A steered model of ours has one of the three biases of `mlp_bias`.
    refused += ["mlp_bias"] * (not raw.get("residual_bias"))
    # The Gemma 3 class of transformers has the first of the two and does not apply it.
    refused += _NULL_IS_OFF[: {"gemma2": 0, "gemma3_text": 1}.get(name, 2)]
    for key in refused:
        if raw.get(key):
            raise UserError(f"{where}: {key} = {shown(raw[key])} is not supported")
    if raw.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(
            f"{where}: partial_rotary_factor = {raw['partial_rotary_factor']!r} is not "
            "supported"
        )
    for key, value in raw.items():
        if (
            _TELLING.search(key)
            and key not in _KNOWN
            and "dropout" not in key
            and value not in _OFF
        ):
            raise UserError(
                f"{where}: {key} = {shown(value)} is not supported by model_type "
                f"{name!r}"
            )


def _windows(raw: dict, layers: int, where: str) -> tuple[int, int]:
    """(window, full_every) from `layer_types` or, in old exports, the pattern."""
    kinds = raw.get("layer_types")
    if kinds is None:
        return raw["sliding_window"], raw["sliding_window_pattern"]
    slides = [kind == "sliding_attention" for kind in kinds]
    if not any(slides):
        return 0, 0
    for every in range(2, layers + 2):
        if slides == [(i + 1) % every != 0 for i in range(layers)]:
            return raw["sliding_window"], every
    raise UserError(
        f"{where}: layer_types must be full at every n-th layer and sliding between, "
        f"not {shown(kinds)}"
    )


def _rope(raw: dict, name: str, where: str) -> dict:
    """The rotary fields from `rope_parameters` (transformers 5), or `rope_theta` and
    `rope_scaling` (4). With both, `rope_scaling` counts, as in transformers, unless
    they contradict each other.
    """
    new, old = raw.get("rope_parameters") or {}, raw.get("rope_scaling") or {}
    length = raw.get("max_position_embeddings", 2048)
    local: dict = {}
    if name == "gemma3_text":
        if new and not new.keys() <= {"full_attention", "sliding_attention"}:
            raise UserError(
                f"{where}: rope_parameters must have full_attention and "
                "sliding_attention"
            )
        new, local = new.get("full_attention") or {}, new.get("sliding_attention") or {}
    elif any(isinstance(value, dict) for value in new.values()):
        raise UserError(
            f"{where}: rope_parameters by kind of layer are not supported by {name!r}"
        )
    extra = raw.get("original_max_position_embeddings")
    extra = {} if extra is None else {"original_max_position_embeddings": extra}
    of = lambda rope: read_scaling(rope | extra if rope else rope, length, where)
    scaling, other = of(old or new), of(new)
    if old and other not in (None, scaling):
        raise UserError(
            f"{where}: rope_scaling and rope_parameters differ; leave one of them out"
        )
    thetas = [
        r["rope_theta"] for r in (old, new, raw) if r.get("rope_theta") is not None
    ]
    if (
        old
        and "rope_theta" in new
        and float(new["rope_theta"]) != float(old.get("rope_theta", raw["rope_theta"]))
    ):
        raise UserError(
            f"{where}: rope_theta = {new['rope_theta']!r} of rope_parameters differs "
            "from the one beside it"
        )
    return {
        "rope_theta": float(thetas[0]),
        "rope_scaling": scaling,
        "local_rope_theta": float(
            local.get("rope_theta") or raw.get("rope_local_base_freq", 0.0)
        ),
        "local_rope_scaling": of(local),
    }
