"""Make this folder's golden models and logits with transformers' torch classes (needs
the extra `parity`).

    python tests/golden/make.py

One tiny random model a family, saved by transformers, and its float32 logits on a
sequence long enough for a fault in the rotary positions to show.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LENGTH, STEP = 384, 6  # tokens of the sequence; every sixth position's logits are kept
SIZE = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
LINEAR = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
# name: (model_type of transformers, its settings)
MODELS = {
    "llama": ("llama", {
        "num_hidden_layers": 2, "rope_parameters": LLAMA3, "tie_word_embeddings": True,
    }),
    "qwen2": ("qwen2", {"num_hidden_layers": 2}),
    "qwen3": ("qwen3", {"num_hidden_layers": 2}),
    "gemma2": ("gemma2", {
        "num_hidden_layers": 4, "sliding_window": 24, "query_pre_attn_scalar": 12,
    }),
    "gemma3": ("gemma3_text", {"num_hidden_layers": 4, "sliding_window": 24,
                               "sliding_window_pattern": 3,
                               "rope_parameters": LINEAR}),
}  # fmt: skip


def build(name: str):
    """A random torch model in evaluation mode, the same at every call."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, settings = MODELS[name]
    config = AutoConfig.for_model(kind, **SIZE, **settings)
    # Eager attention: the fused one leaves out Gemma 2's soft cap.
    return randomised(
        AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    )


def randomised(model):
    """A torch model in evaluation mode with random float32 parameters, the same at
    every call.
    """
    import torch

    model = model.float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # Larger than an initialisation, so that every part of the model moves the
        # logits.
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(
                0.3 * noise if parameter.ndim > 1 else parameter + 0.2 * noise
            )
    return model


def tokens_of(name: str) -> np.ndarray:
    """The golden sequence of a model, [1, LENGTH]."""
    return np.random.default_rng(len(name)).integers(0, SIZE["vocab_size"], (1, LENGTH))


def main() -> None:
    """Write every model's folder and `logits.npz`."""
    import torch

    logits = {}
    for name in MODELS:
        model = build(name)
        model.save_pretrained(HERE / name)
        with torch.no_grad():
            logits[name] = (
                model(torch.tensor(tokens_of(name))).logits[0, ::STEP].numpy()
            )
    np.savez_compressed(HERE / "logits.npz", **logits)


if __name__ == "__main__":
    main()
