r"""Effect of bfloat16 on the statistics of a failure: decode loop, scorer, float32.

    python -m benchmarks.precision --specialist=smollm2 --rows=16 --tokens=64 \
        --out=docs/results/data/precision.json

The loop draws rollouts in bfloat16 together with an ancestor: the specialist with 2 %
of noise on every weight, so that J is as small as between a model and its own base. The
scorer then reads the same tokens in bfloat16 and in float32. A junction is at the
largest J.
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from fr import tasks
from fr.config import TaskConfig
from fr.models import load
from fr.models.transformer import Transformer
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.sampling.scoring import Scorer
from fr.types import Request

TOLERANCES, WINDOW = (0.0, 1e-4, 1e-2), 8


def noisy(params: dict, share: float) -> dict:
    """Make an ancestor: every weight times 1 + `share` * N(0, 1).

    Args:
        params: weights of a model.
        share: standard deviation of the noise, relative.

    Returns:
        The ancestor's weights.
    """
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return tree.unflatten(
        [
            x * (1 + share * jax.random.normal(k, x.shape, x.dtype))
            for x, k in zip(leaves, keys)
        ]
    )


def _compare(one: list[dict], other: list[dict], quantile: float = 0.99) -> dict:
    """Differences of two readings of the same tokens; dicts of [T] arrays."""
    join = lambda side, name: np.concatenate([row[name] for row in side])
    gap = np.abs(join(one, "logp") - join(other, "logp"))
    j = [[row["demotion"] for row in side] for side in (one, other)]
    flips = {
        f"J > {t:g} flips": float(
            np.mean((np.concatenate(j[0]) > t) != (np.concatenate(j[1]) > t))
        )
        for t in TOLERANCES
    }
    spreads = [
        {f"{t:g}": float(np.mean(np.concatenate(side) > t)) for t in TOLERANCES}
        for side in j
    ]
    apart = np.array([abs(int(np.argmax(a)) - int(np.argmax(b))) for a, b in zip(*j)])
    # A detector whose threshold comes from one reading, at work on the other.
    threshold = [np.quantile(np.concatenate(side), quantile) for side in j]
    fires = [float(np.mean([row.max() > threshold[1] for row in side])) for side in j]
    return {
        "tokens": len(gap),
        "logp gap": {
            "mean": float(gap.mean()),
            "p99": float(np.quantile(gap, 0.99)),
            "max": float(gap.max()),
        },
        **flips,
        "spread": spreads,
        "junctions moved": int((apart > 0).sum()),
        f"by more than {WINDOW} tokens": int((apart > WINDOW).sum()),
        "rollouts": len(apart),
        "threshold": list(map(float, threshold)),
        "rollouts above the second's threshold": fires,
    }


def main() -> None:
    """Draw, score and compare."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--specialist", default="smollm2")
    flags.add_argument("--task", default="sums")
    flags.add_argument("--noise", type=float, default=0.02)
    flags.add_argument("--rows", type=int, default=16)
    flags.add_argument("--tokens", type=int, default=64)
    flags.add_argument("--out", default="")
    given = flags.parse_args()
    model = load(given.specialist, dtype=jnp.float32)
    other = noisy(model.params, given.noise)
    task = tasks.make(
        TaskConfig(name=given.task, shots=2 if given.task == "sums" else 0)
    )
    rows = [
        Request(p.id, model.encode(task.prompt(p)), row_key(0, p.id), {
            "temperature": 0.6, "stop": model.stop_tokens, "budget": given.tokens,
        })
        for p in task.problems("test", given.rows)
    ]  # fmt: skip
    read, done = {}, None
    for name in ("bfloat16", "float32"):
        cast = lambda tree: jax.tree.map(lambda x: x.astype(name), tree)
        module = Transformer(model.config, jnp.dtype(name))
        second = {"ancestor": module, "ancestor_params": cast(other)}
        if done is None:
            engine = Engine(
                module,
                cast(model.params),
                **second,
                slots=given.rows,
                chunk=16,
                prefill=4,
            )
            done = engine.sample(rows)
            read["loop bfloat16"] = [rollout.stats for rollout in done]
        scorer = Scorer(module, cast(model.params), **second, rows=4)
        lines = [[*r.row.prompt, *r.tokens.tolist()] for r in done]
        read[f"scorer {name}"] = scorer.score(lines, [len(r.row.prompt) for r in done])
    names = list(read)
    pairs = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    found = {f"{a} against {b}": _compare(read[a], read[b]) for a, b in pairs}
    text = json.dumps(vars(given) | {"found": found}, indent=1)
    print(text)
    if given.out:
        pathlib.Path(given.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
