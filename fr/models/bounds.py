"""Types and bounds of the settings in a `config.json`, checked before they are used."""

import math

from fr.errors import UserError

LARGEST = 1 << 23  # bytes of a config.json or generation_config.json

# Smallest and largest values of whole numbers: far beyond all existing models, and
# small enough that arrays whose size depends on them alone fit in memory.
_WHOLE = {
    "vocab_size": (1, 1 << 24),
    "hidden_size": (1, 1 << 17),
    "num_hidden_layers": (1, 1 << 12),
    "num_attention_heads": (1, 1 << 13),
    "num_key_value_heads": (1, 1 << 13),
    "head_dim": (2, 1 << 13),
    "intermediate_size": (1, 1 << 21),
    "max_position_embeddings": (1, 1 << 30),
    "original_max_position_embeddings": (1, 1 << 30),
    "sliding_window": (0, 1 << 30),
    "sliding_window_pattern": (1, 1 << 12),
    "_sliding_window_pattern": (1, 1 << 12),
}
_NUMBERS = {
    "rms_norm_eps": (1e-30, 0.1),
    "rope_theta": (1.0, 1e15),
    "rope_local_base_freq": (0.0, 1e15),
    "query_pre_attn_scalar": (1e-6, 1e9),
    "attn_logit_softcapping": (0.0, 1e9),
    "final_logit_softcapping": (0.0, 1e9),
    "partial_rotary_factor": (0.0, 1.0),
    # of rope_scaling and rope_parameters
    "factor": (1e-6, 1e6),
    "low_freq_factor": (0.0, 1e6),
    "high_freq_factor": (0.0, 1e6),
    "attention_factor": (1e-6, 1e6),
    "beta_fast": (0.0, 1e6),
    "beta_slow": (0.0, 1e6),
    "mscale": (0.0, 1e6),
    "mscale_all_dim": (0.0, 1e6),
}
_KINDS = {
    bool: (
        "tie_word_embeddings attention_bias mlp_bias residual_bias use_sliding_window "
        "truncate",
        "true or false",
    ),
    str: ("model_type hidden_act hidden_activation rope_type type", "a text"),
    dict: (
        "rope_scaling rope_parameters full_attention sliding_attention",
        "an object",
    ),
}
_KIND = {
    name: (kind, what)
    for kind, (names, what) in _KINDS.items()
    for name in names.split()
}


def check_config(raw: dict, where: str) -> None:
    """Check the types and ranges of all known settings.

    None counts as absent. Settings without an entry here are not read as numbers.

    Args:
        raw: The parsed file, or an object in it.
        where: Name of the file in errors.

    Raises:
        UserError: A setting has another type than it should, or is far out of range.
    """
    for name, value in raw.items():
        if value is None:
            continue
        if name in _WHOLE:
            whole_number(value, *_WHOLE[name], f"{where}: {name}")
        elif name in _NUMBERS:
            number(value, *_NUMBERS[name], f"{where}: {name}")
        elif name in _KIND and not isinstance(value, _KIND[name][0]):
            raise UserError(
                f"{where}: {name} = {shown(value)} must be {_KIND[name][1]}"
            )
        elif name == "layer_types":
            _names(value, f"{where}: {name}")
        if name in _KINDS[dict][0].split():
            check_config(value, f"{where}: {name}")
    heads, kv = (raw.get(f"num_{kind}_heads") for kind in ("attention", "key_value"))
    if heads and kv and heads % kv:
        raise UserError(
            f"{where}: num_key_value_heads = {kv} does not divide "
            f"num_attention_heads = {heads}"
        )
    if raw.get("head_dim") and raw["head_dim"] % 2:
        raise UserError(
            f"{where}: head_dim = {raw['head_dim']} must be even: rotations are of "
            "pairs"
        )


def whole_number(value: object, low: int, high: int, what: str) -> int:
    """Check that a value is a whole number in [low, high].

    Args:
        value: The value.
        low: Smallest valid number.
        high: Largest valid number.
        what: Start of the error.

    Returns:
        The value.

    Raises:
        UserError: It is not.
    """
    if not isinstance(value, int) or type(value) is bool or not low <= value <= high:
        kind = "a positive integer" if low == 1 else "a whole number"
        raise UserError(f"{what} = {shown(value)} must be {kind} from {low} to {high}")
    return value


def number(value: object, low: float, high: float, what: str) -> float:
    """Check that a value is a finite number in [low, high].

    Args:
        value: The value.
        low: Smallest valid number.
        high: Largest valid number.
        what: Start of the error.

    Returns:
        The value.

    Raises:
        UserError: It is not.
    """
    if (
        not isinstance(value, int | float)
        or type(value) is bool
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        raise UserError(
            f"{what} = {shown(value)} must be a number from {low:g} to {high:g}"
        )
    return value


def shown(value: object) -> str:
    """A short form of a value of any size, for errors.

    Args:
        value: The value.

    Returns:
        At most 60 characters.
    """
    if type(value) is int and abs(value) > 10**30:
        return "(a number of more than 30 digits)"
    if isinstance(value, (list, dict)) and len(value) > 20:
        return f"({len(value)} values)"
    return repr(value[:60] if isinstance(value, str) else value)[:60]


def _names(value: object, what: str) -> None:
    if not isinstance(value, list) or len(value) > _WHOLE["num_hidden_layers"][1]:
        raise UserError(
            f"{what} = {shown(value)} must be a list of texts, one per layer"
        )
    if not all(isinstance(name, str) for name in value):
        raise UserError(f"{what} must hold texts only")
