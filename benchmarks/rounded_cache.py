r"""Effect of a cache in fewer bits on the statistics of sampled tokens.

    python -m benchmarks.rounded_cache --rows=16 --tokens=64 \
        --out=docs/results/data/rounded_cache.json

SmolLM2 draws in float32. Then the same tokens are read with each entry of the cache
rounded as it is written: to bfloat16, or to whole numbers with one scale per entry and
head. The ancestor of J is the model with 5 % of noise on every weight.
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from benchmarks.precision import noisy
from fr import tasks
from fr.config import TaskConfig
from fr.models import load
from fr.models.kv_cache import KVCache, LayerCache, init_cache
from fr.models.transformer import Transformer
from fr.sampling import token_stats
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.types import Request

STATISTICS = ("entropy", "logp", "demotion")
TEMPERATURE = 0.6


def _whole(bits: int):
    """Rounds to whole numbers of `bits` bits, one scale per entry and head."""
    top = 2 ** (bits - 1) - 1

    def rounded(x):
        scale = jnp.max(jnp.abs(x), -1, keepdims=True) / top
        return jnp.round(x / jnp.where(scale > 0, scale, 1)) * scale

    return rounded


KINDS = {
    "float32": lambda x: x,
    "bfloat16": lambda x: x.astype(jnp.bfloat16).astype(x.dtype),
    "int8": _whole(8),
    "int4": _whole(4),
}


@struct.dataclass
class _Rounded(LayerCache):
    """A cache whose new entries are rounded."""

    kind: str = struct.field(pytree_node=False, default="float32")

    def write(self, positions, k, v):
        return super().write(positions, KINDS[self.kind](k), KINDS[self.kind](v))


def _logits(module, config, params, kind, tokens, positions):
    """Logits [R, T, V] of sequences that are read through a cache."""
    empty = init_cache(config, *tokens.shape)
    layers = (_Rounded(x.k, x.v, x.layout, kind=kind) for x in empty.layers)
    h, _ = module.apply(
        {"params": params}, tokens, positions, KVCache(tuple(layers)), method="hidden"
    )
    return module.apply({"params": params}, h, method="head")


def _statistics(own, ancestor, tokens) -> dict[str, np.ndarray]:
    tau = jnp.float32(TEMPERATURE)
    first = token_stats.logit_moments(own, tau)
    second = token_stats.logit_moments(ancestor, tau, token_stats.ANCESTOR_TOP)
    one = token_stats.token_stats(first, tokens)
    two = token_stats.lineage_stats(first, second, tokens)
    found = {"entropy": one.entropy, "logp": one.logp, "demotion": two.demotion}
    return {name: np.asarray(value) for name, value in found.items()}


def main() -> None:
    """Draw, read with each kind of cache, and compare with float32."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--rows", type=int, default=16)
    flags.add_argument("--tokens", type=int, default=64)
    flags.add_argument("--out", default="")
    given = flags.parse_args()
    model = load("smollm2", dtype=jnp.float32)
    task = tasks.make(TaskConfig(name="word_problems"))
    asked = {"temperature": 1.0, "budget": given.tokens}
    rows = [
        Request(p.id, model.encode(task.prompt(p)), row_key(0, p.id), asked)
        for p in task.problems("test", given.rows)
    ]
    module = Transformer(model.config, jnp.float32, "xla")
    done = Engine(module, model.params, slots=given.rows).sample(rows)
    texts = [[*r.row.prompt, *r.tokens.tolist()] for r in done]
    longest = max(map(len, texts))
    tokens = np.zeros((len(texts), longest), np.int32)
    positions = np.full(tokens.shape, -1, np.int32)
    drawn = np.zeros(tokens.shape, bool)  # places that draw the next token
    for i, (text, r) in enumerate(zip(texts, done)):
        tokens[i, : len(text)], positions[i, : len(text)] = text, np.arange(len(text))
        drawn[i, len(r.row.prompt) - 1 : len(text) - 1] = True
    following = np.roll(tokens, -1, axis=1)[drawn]
    other = noisy(model.params, 0.05)
    read = jax.jit(
        lambda params, kind: _logits(
            module, model.config, params, kind, tokens, positions
        )[drawn],
        static_argnames="kind",
    )
    found, top = {}, {}
    for kind in KINDS:
        own = read(model.params, kind)
        found[kind] = _statistics(own, read(other, kind), jnp.asarray(following))
        top[kind] = np.asarray(own).argmax(-1)
    base = found.pop("float32")
    report = {
        "tokens": len(following),
        "sd": {name: float(base[name].std()) for name in STATISTICS},
        "kinds": {
            kind: {
                **{
                    name: {
                        "mean": float(np.abs(own[name] - base[name]).mean()),
                        "max": float(np.abs(own[name] - base[name]).max()),
                    }
                    for name in STATISTICS
                },
                "other_top": float((top[kind] != top["float32"]).mean()),
            }
            for kind, own in found.items()
        },
    }
    text = json.dumps(report, indent=1)
    print(text)
    if given.out:
        pathlib.Path(given.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
