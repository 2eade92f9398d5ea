"""Time of probes of finished rows, against their products and sampled answers."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import roofline
from benchmarks.matmuls import products
from benchmarks.parts import PARTS, Bench, Figure, Part
from benchmarks.timing import clocked, in_turn
from fr.models import ModelConfig
from fr.models.kv_cache import init_cache
from fr.sampling.probes import BUDGET, SAMPLES, forced_requests
from fr.sampling.sampling_params import row_key
from fr.sampling.state import cache_size
from fr.types import Probe, Request, Rollout

FINISHED = 16  # rows whose probes go together
TOKENS = 64  # of a rollout
CUTS, CUE, ANSWER = 6, 8, 8  # of its probe: number of cuts, tokens of cue and answer


@PARTS.register("probes")
def probes_part(bench: Bench) -> Part:
    """One pass over the probes of finished rows against the matrix products of its
    tokens.

    The products run at XLA's own rate. Per rollout, the pass and the sampled variant
    (SAMPLES answers per cut, BUDGET tokens each, since no token ends them here) are
    compared with the time of the rollout itself.
    """
    engine, finished = bench.plain, min(FINISHED, bench.rows)
    prompt = lambda i: tuple(bench.prompts[i % len(bench.prompts)])
    todo = [
        Request(str(i), prompt(i), row_key(0, i), {"budget": TOKENS})
        for i in range(bench.rows)
    ]
    rollouts = engine.sample(todo)
    probe = Probe(
        tuple(range(0, TOKENS, -(-TOKENS // CUTS))),
        tuple(range(CUE)),
        {"own": (tuple(range(ANSWER)),)},
    )
    # An answer's last token is not read; the token before a cut is.
    tokens = finished * CUTS * (CUE + ANSWER)
    # A whole number of rollouts, as many as the slots have room for.
    asked = max(1, bench.rows // (CUTS * SAMPLES))
    forced = [
        row
        for rollout in rollouts[:asked]
        for row in forced_requests(rollout, probe, 0)
    ]
    times = in_turn(
        {
            "probes": clocked(_pass(bench, rollouts[:finished], probe)),
            "products": clocked(
                _products(bench.model.config, bench.model.dtype, tokens)
            ),
            "rollouts": clocked(lambda: engine.sample(todo)),
            "sampled": clocked(lambda: engine.sample(forced)),
        },
        bench.repeats,
    )
    head = bench.model.config.vocab * bench.model.config.width
    weights = roofline.weights_of(bench.model.config)
    rate = 2.0 * weights * tokens / times["products"].least
    floor = 2.0 * ((weights - head) * tokens + head * finished * CUTS * ANSWER) / rate
    ratio = times["probes"].median / floor
    rollout = times["rollouts"].median / len(todo)
    shares = {
        "probes": times["probes"].median / finished / rollout,
        "sampled": times["sampled"].median / asked / rollout,
    }
    record = {
        "rows": finished,
        "cuts": CUTS,
        "tokens": tokens,
        "gflop_per_s": rate / 1e9,
        "floor_ms": 1e3 * floor,
        "times": {name: found.record() for name, found in times.items()},
        "over_products": ratio,
        "share_of_rollout": shares,
        "sampled": {"samples": SAMPLES, "budget": BUDGET, "rollouts": asked},
    }
    name = "probes, share of the time of their rollouts (goal: the sampled variant's)"
    return Part(
        record,
        (
            Figure("probes over the products of their tokens", ratio, 1.3),
            Figure(name, shares["probes"], shares["sampled"], digits=3),
        ),
    )


def _pass(bench: Bench, rollouts: list[Rollout], probe: Probe) -> Callable[[], object]:
    """A job: from the plans of finished rows to their confidence, on an empty cache."""
    engine, model = bench.plain, bench.model
    size = cache_size(len(bench.prompts[0]) + TOKENS)
    empty = engine.devices.jit_sharded(
        lambda params, _: init_cache(model.config, engine.slots, size, model.dtype)
    )
    cache, shares = empty({}, np.zeros(engine.devices.count)), engine.devices.count
    slots = [i % shares * engine.slots + i // shares for i in range(len(rollouts))]
    prober = engine.prober(lambda row, tokens: probe)

    def job():
        prober.exchange(cache, list(zip(slots, rollouts)))
        return prober.exchange(cache, [])

    return job


def _products(config: ModelConfig, dtype: jnp.dtype, rows: int) -> Callable[[], object]:
    """A job: the products of one token's path through the model, for `rows` tokens."""
    draw = np.random.default_rng(0)
    layers, head = jax.tree.map(
        lambda x: jnp.asarray(x, dtype), roofline.matrices(config, draw)
    )
    x = jnp.asarray(draw.standard_normal((rows, config.width), np.float32), dtype)
    step = jax.jit(functools.partial(products, concatenate=jnp.concatenate))
    return lambda: step(layers, head, x).block_until_ready()
