"""Settings of `config.json` that change the function: logits equal to transformers'
torch classes, or refused.
"""

import numpy as np
import pytest
from golden.make import SIZE, randomised

from fr.errors import UserError
from fr.models import load, save

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

LINEAR = {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
WINDOW = {"sliding_window": 24, "num_hidden_layers": 4}
GEMMA3 = WINDOW | {"sliding_window_pattern": 3}
NO_CAPS = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
CASES = {
    "gemma2, no soft caps": ("gemma2", WINDOW | NO_CAPS),
    "gemma2, other soft caps": ("gemma2", WINDOW | dict.fromkeys(NO_CAPS, 5.0)),
    "gemma2, one soft cap": ("gemma2", WINDOW | {"final_logit_softcapping": None}),
    "gemma2, yarn": ("gemma2", WINDOW | {"rope_scaling": YARN}),
    "gemma3, soft cap": ("gemma3_text", GEMMA3 | {"final_logit_softcapping": 5.0}),
    "gemma3, old scaling": ("gemma3_text", GEMMA3 | {"rope_scaling": LINEAR}),
    "gemma3, scaled sliding layers": (
        "gemma3_text",
        GEMMA3 | {"rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": LINEAR | {"rope_theta": 1e4},
        }},
    ),
    "gemma3, both kinds scaled": (
        "gemma3_text",
        GEMMA3 | {"rope_parameters": {
            "full_attention": YARN | {"rope_theta": 5e5},
            "sliding_attention": LLAMA3
            | {"rope_theta": 2e4, "original_max_position_embeddings": 64},
        }},
    ),
    "llama, linear": ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    "llama, dynamic": ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    "llama, llama3 without a length": (
        "llama", {"rope_scaling": LLAMA3, "max_position_embeddings": 128},
    ),
    "qwen2, yarn": ("qwen2", {"rope_scaling": YARN}),
    "qwen2, yarn beside the default": (
        "qwen2", {"rope_scaling": YARN,
                  "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    ),
    "qwen3, yarn with all its settings": ("qwen3", {"rope_scaling": YARN | {
        "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 0.7, "truncate": False,
    }}),
    "qwen3, yarn with mscale": (
        "qwen3", {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}},
    ),
}  # fmt: skip


def _folder(path, kind: str, settings: dict):
    """A random torch model of these settings, saved with a config.json that states them
    word for word.
    """
    import json

    from transformers import AutoConfig, AutoModelForCausalLM

    raw = (
        SIZE
        | {"num_hidden_layers": 2, "max_position_embeddings": 512, "model_type": kind}
        | settings
    )
    path.mkdir()
    (path / "config.json").write_text(json.dumps(raw))
    config = AutoConfig.from_pretrained(path)
    model = randomised(
        AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    )
    model.save_pretrained(path)
    (path / "config.json").write_text(json.dumps(raw))
    return model


def _gap(ours, theirs) -> float:
    tokens = np.random.default_rng(0).integers(0, SIZE["vocab_size"], (2, 300))
    with torch.no_grad():
        return float(
            np.abs(
                np.asarray(ours.logits(tokens))
                - theirs(torch.tensor(tokens)).logits.numpy()
            ).max()
        )


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers_and_survive_our_export(tmp_path, name):
    from transformers import AutoModelForCausalLM

    theirs = _folder(tmp_path / "a", *CASES[name])
    ours = load(tmp_path / "a", "float32")
    assert _gap(ours, theirs) < 1e-3
    save(tmp_path / "b", ours.config, ours.params)
    assert load(tmp_path / "b", "float32").config == ours.config
    again = AutoModelForCausalLM.from_pretrained(
        tmp_path / "b", attn_implementation="eager"
    )
    assert _gap(ours, again) < 1e-3


@pytest.mark.parametrize("kind, settings, wanted", [
    ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
    ("qwen2", {"attn_logit_softcapping": 5.0},
     "attn_logit_softcapping = 5.0 is not supported"),
    ("gemma3_text", GEMMA3 | {"attn_logit_softcapping": 5.0}, "attn_logit_softcapping"),
    ("gemma2", WINDOW | {"hidden_activation": "gelu"},
     "activation 'gelu' is not supported"),
    ("llama", {"rope_scaling": YARN, "rope_parameters": LINEAR},
     "rope_scaling and rope_parameters differ"),
    ("llama", {"rope_scaling": YARN, "rope_parameters": {"rope_theta": 5e5}},
     "rope_theta = 500000.0"),
    ("llama", {"residual_multiplier": 0.2},
     "residual_multiplier = 0.2 is not supported"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
])  # fmt: skip
def test_what_would_change_the_function_is_refused_by_name(
    tmp_path, kind, settings, wanted
):
    import json

    (tmp_path / "config.json").write_text(
        json.dumps(SIZE | {"model_type": kind, "num_hidden_layers": 2} | settings)
    )
    with pytest.raises(UserError, match=wanted):
        load(tmp_path)
