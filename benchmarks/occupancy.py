"""Use of slots under a long queue of rows of very unequal length."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.parts import PARTS, Bench, Figure, Part
from benchmarks.sizes import Sizes
from benchmarks.timing import clocked
from fr.models import ModelConfig
from fr.models.transformer import Transformer, init_params
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.types import Request

# standard deviations from the median to the 90th percentile of a normal
NINETIETH = 1.2815515655446004


def lengths(sizes: Sizes, count: int, seed: int) -> np.ndarray:
    """Draw log-normal lengths.

    Args:
        sizes: median, spread and cut of the lengths.
        count: number of rows.
        seed: of the random stream.

    Returns:
        Tokens of each row, [count], in [1, `sizes.longest`].
    """
    drawn = (
        np.random.default_rng(seed).standard_normal(count)
        * np.log(sizes.spread)
        / NINETIETH
    )
    return np.clip(np.rint(sizes.median * np.exp(drawn)), 1, sizes.longest).astype(int)


@PARTS.register("occupancy")
def occupancy_part(bench: Bench) -> Part:
    """Live rows over slots until the queue is empty, without the final drain.

    Also counts the programs compiled during the run. The model is tiny and random; a
    row ends when it has spent its budget.
    """
    sizes = bench.sizes
    config = ModelConfig(
        vocab=512, width=64, layers=2, heads=2, kv_heads=2, head_dim=32, ff=128
    )
    params = init_params(config, jax.random.key(0))
    options = {**bench.options, "slots": sizes.slots, "devices": Devices("one")}
    engine = Engine(Transformer(config), params, **options)

    def run(count: int, seed: int) -> None:
        prompt = lambda i: tuple(
            int(t) for t in np.random.default_rng(i // 16).integers(0, config.vocab, 32)
        )
        todo = [
            Request(str(i), prompt(i), row_key(seed, i), {"budget": int(budget)})
            for i, budget in enumerate(lengths(sizes, count, seed))
        ]
        engine.sample(todo, max_length=32 + sizes.longest)

    # Rows of the same kind, but none that are timed.
    run(sizes.queue // 4, seed=1)
    before, compiled = dataclasses.replace(engine.counts), _compilations()
    seconds = clocked(lambda: run(sizes.queue, seed=0))()
    count = {
        name: value - getattr(before, name)
        for name, value in vars(engine.counts).items()
    }
    share = lambda kind: (
        count[f"{kind}_live"] / max(1, sizes.slots * count[f"{kind}_steps"])
    )
    record = {
        "slots": sizes.slots,
        "rows": sizes.queue,
        "occupancy": share("full"),
        "drain": {"steps": count["drain_steps"], "occupancy": share("drain")},
        "compilations": compiled(),
        "seconds": seconds,
        "counts": count,
    }
    return Part(
        record,
        (
            Figure(
                "slot occupancy until the queue is empty",
                record["occupancy"],
                0.90,
                at_least=True,
            ),
            Figure(
                "compilations after the warm-up", record["compilations"], 0, digits=0
            ),
        ),
    )


def _compilations() -> Callable[[], int]:
    """A function that says how many programs have been compiled since."""
    seen = []
    count = lambda event, seconds, **_: (
        seen.append(event) if "backend_compile" in event else None
    )
    jax.monitoring.register_event_duration_secs_listener(count)
    return lambda: len(seen)
