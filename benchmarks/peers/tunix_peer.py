"""google-tunix's sampler on its Llama model: compiled prefill and decode.

All rows have their own prompt. Two faults of its Llama class are corrected here so that
it can take part: attention ignores the config's RoPE base, and `num_embed`, which sizes
the logits buffer that statistics need, is the width instead of the vocabulary.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import tunix
from serve import batches, serve
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.models.llama3 import model as llama
from tunix.models.llama3 import params as weights


class _Llama(llama.Llama3):
    """Tunix's Llama with two corrections; see the head of this file."""

    @property
    def num_embed(self):
        """Size of the vocabulary, as in tunix's other models."""
        return self.config.vocab_size


class _Ids:
    """A tokenizer whose texts are ids already."""

    def encode(self, text):
        """Return the ids of a prompt.

        Args:
            text: the ids.

        Returns:
            The same.
        """
        return json.loads(text)

    def decode(self, ids):
        """Return an empty text: only ids are read.

        Args:
            ids: generated ids.

        Returns:
            "".
        """
        return ""

    def bos_id(self):
        """No start token is added."""
        return 0

    def eos_id(self):
        """No token ends a text."""
        return -1

    def pad_id(self):
        """Prompts are equally long, so no pad is used."""
        return -1


@jax.jit
def _statistics(logits, tokens):
    """Log-prob of each token and entropy of each distribution."""
    logp = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(logp, tokens[:, None], -1)[:, 0], -jnp.sum(
        jnp.exp(logp) * logp, -1
    )


def _load(settings):
    """The model on the default device."""
    folder = pathlib.Path(settings["folder"])
    raw = json.loads((folder / "config.json").read_text())
    config = llama.ModelConfig(
        num_layers=raw["num_hidden_layers"],
        vocab_size=raw["vocab_size"],
        embed_dim=raw["hidden_size"],
        hidden_dim=raw["intermediate_size"],
        num_heads=raw["num_attention_heads"],
        head_dim=raw["head_dim"],
        num_kv_heads=raw["num_key_value_heads"],
        rope_theta=raw["rope_theta"],
        norm_eps=raw["rms_norm_eps"],
        weight_tying=raw["tie_word_embeddings"],
    )
    llama.Llama3 = _Llama
    llama.apply_rope = functools.partial(llama.apply_rope, rope_theta=config.rope_theta)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    model = weights.create_model_from_safe_tensors(str(folder), config, dtype=dtype)

    @functools.cache
    def sampler(size):
        cache = CacheConfig(
            size, config.num_layers, config.num_kv_heads, config.head_dim
        )
        return Sampler(model, _Ids(), cache)

    def job(request):
        tokens, logps, entropies = [], [], []
        for i, rows in enumerate(batches(request)):
            length = len(rows[0])
            out = sampler(length + request["new_tokens"])(
                [json.dumps(row) for row in rows],
                max_generation_steps=request["new_tokens"],
                max_prompt_length=length,
                temperature=1.0,
                top_p=1.0,
                return_logits=request["statistics"],
                seed=request["seed"] + i,
            )
            tokens += [row.tolist() for row in out.tokens]
            for logits, row in zip(out.logits, out.tokens):
                logp, entropy = _statistics(logits, row)
                logps.append(np.asarray(logp))
                entropies.append(np.asarray(entropy))
        if not request["statistics"]:
            return tokens, None, None
        return tokens, np.concatenate(logps), np.concatenate(entropies)

    about = (
        f"google-tunix {tunix.__version__}, jax {jax.__version__}, {dtype.dtype.name}"
    )
    return job, f"{about}, {jax.default_backend()}"


if __name__ == "__main__":
    serve(
        _load,
        lambda: (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    )
