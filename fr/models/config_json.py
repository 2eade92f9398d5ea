"""The `config.json` of a decoder, for exports that transformers opens."""

from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.families import FAMILIES, OWN_SCALE
from fr.models.rope import write_scaling


def _family_of(config: ModelConfig) -> str:
    """Name of the family with the traits of a decoder; UserError if none has them."""
    known = {name: FAMILIES[name].traits for name in FAMILIES}
    without = {trait: False for own in known.values() for trait in own}
    for name, own in known.items():
        traits = without | own
        if all(getattr(config, t) == value for t, value in traits.items()):
            return name
    raise UserError(
        "a decoder with these traits has no name in transformers, so it cannot be "
        "exported"
    )


def config_json(config: ModelConfig, stop_tokens: tuple[int, ...]) -> dict:
    """The `config.json` from which transformers 4 and 5 build the same float32 decoder.

    Args:
        config: The decoder.
        stop_tokens: Ids that end a text.

    Returns:
        A JSON object.

    Raises:
        UserError: No family has the decoder's traits.
    """
    name = _family_of(config)
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
        "rope_scaling": write_scaling(config.rope_scaling)
        if config.rope_scaling
        else None,
        "tie_word_embeddings": config.tied,
        "hidden_act": gelu,
        "hidden_activation": gelu,
        "attention_bias": False,
        "eos_token_id": list(stop_tokens) or None,
    }
    if config.residual_bias:
        # The Llama class of transformers has such a bias, and takes zeros for the
        # biases of `gate` and `up`, which the file lacks. Other classes leave it out.
        out |= {"residual_bias": True, "mlp_bias": name == "llama"}
    return out | (_sliding_json(config) if name in OWN_SCALE else {})


def _sliding_json(config: ModelConfig) -> dict:
    kinds = [
        "sliding_attention" if config.slides(i) else "full_attention"
        for i in range(config.layers)
    ]
    scalar = config.scale**-2
    ropes = {}
    if config.local_rope_scaling:
        local = {"rope_theta": config.local_rope_theta} | write_scaling(
            config.local_rope_scaling
        )
        whole = {"rope_theta": config.rope_theta} | write_scaling(config.rope_scaling)
        ropes = {
            "rope_parameters": {"full_attention": whole, "sliding_attention": local}
        }
    return ropes | {
        "query_pre_attn_scalar": round(scalar)
        if abs(scalar - round(scalar)) < 1e-6
        else scalar,
        "sliding_window": config.window or config.max_positions,
        "layer_types": kinds,
        "rope_local_base_freq": config.local_rope_theta,
        "attn_logit_softcapping": config.attention_softcap or None,
        "final_logit_softcapping": config.logit_softcap or None,
    }
