"""Branches that start from a kept prefix, against branches that read theirs."""

import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.parts import PARTS, Bench, Figure, Part
from benchmarks.timing import Times, in_turn
from fr.sampling import steering
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.sampling.state import prompt_entries
from fr.types import Request

CUTS = 16  # of a trace; each has a branch of every operator
OPERATORS: dict[str, dict] = {
    "plain": {},
    "hot": {"operator": steering.HEAT, "fire_position": 0, "local_temperature": 1.5},
    "pushed": {"forced": (1, 2)},
    "other": {"avoid": (1,)},
}


@PARTS.register("fork")
def fork_part(bench: Bench) -> Part:
    """Branches per second from one trace's cuts, against the same without a kept trace.

    A tree is a trace and its last CUTS cuts, each with a branch of every operator. The
    branches that read have a trace each, of the same lengths. Times are of the
    processor, so that other programs on the machine do not count.
    """
    sizes, engine = bench.sizes, bench.plain
    records, figures = {}, []
    for prefix in sizes.prefixes:
        draw = np.random.default_rng(prefix)
        tree = lambda draw=draw, prefix=prefix: _tree(bench, prefix, draw, False)
        alone = lambda draw=draw, prefix=prefix: _tree(bench, prefix, draw, True)
        longest = prefix + CUTS + sizes.branch
        before = _counts(engine)
        engine.sample(tree(), longest)
        read, started = (b - a for a, b in zip(before, _counts(engine)))
        times = in_turn(
            {
                "fork": _processor(engine, tree, longest),
                "read": _processor(engine, alone, longest),
            },
            bench.repeats,
        )
        count = CUTS * len(OPERATORS)
        copies = Times(tuple(_copy(engine, tree(), longest, bench.repeats)))
        branch = times["fork"].median / count
        records[str(prefix)] = {
            "branches": count,
            "tokens": sizes.branch,
            "times": {name: found.record() for name, found in times.items()},
            "branches_per_s": {
                name: count / found.median for name, found in times.items()
            },
            "fork_ms": 1e3 * copies.median,
            "hits": 1 - read / started,
        }
        ratio = times["read"].median / times["fork"].median
        goal = 3.0 if prefix == 512 else 1.0
        name = f"prefix {prefix}"
        figures += [
            Figure(f"branches/s over reading again, {name}", ratio, goal, True),
            Figure(f"fork, share of a branch, {name}", copies.median / branch, 0.02),
            Figure(f"prefix hits, {name}", 1 - read / started, 0.95, True, 3),
        ]
    return Part({"rows": bench.rows, "prefixes": records}, tuple(figures))


def _tree(bench: Bench, prefix: int, draw, alone: bool) -> list[Request]:
    """Branches at the last cuts of one trace; `alone`: of a trace each."""
    vocab, length = bench.model.config.vocab, prefix + CUTS
    new = lambda: tuple(map(int, draw.integers(3, vocab, length)))
    trace, made = new(), []
    for cut in range(prefix, length):
        for name, params in OPERATORS.items():
            trace = new() if alone else trace
            own, key = f"{cut}/{name}", row_key(0, cut)
            budget = {"budget": bench.sizes.branch, **params}
            made.append(Request(own, trace[:cut], key, budget, trace[cut:]))
    return made


def _counts(engine: Engine) -> tuple[int, int]:
    return engine.counts.prompt_tokens, engine.counts.inserted_tokens


def _processor(
    engine: Engine, requests: Callable[[], list[Request]], longest: int
) -> Callable[[], float]:
    """A job: processor seconds of a run."""

    def run() -> float:
        todo, start = requests(), time.process_time()
        engine.sample(todo, longest)
        return time.process_time() - start

    return run


def _copy(
    engine: Engine, todo: list[Request], longest: int, repeats: int
) -> list[float]:
    """Processor seconds per row of the copies of kept entries, and of a new row."""
    batch, admission = engine._batch, engine._admission
    admission.forget()
    batch.start(longest)
    batch.reserve_prompts(max(prompt_entries(len(row.prompt)) for row in todo))
    batch.resize(longest)
    some = dict(enumerate(todo[: engine.slots]))
    rounds = lambda: list(admission.rounds(some))
    found = []
    for turn in range(repeats + 2):
        # The first reads the trace, the second only compiles.
        ready, rows = rounds(), len(some)
        start = time.process_time()
        for entering in ready:
            batch.insert(entering)
        jax.block_until_ready(batch.state)
        if turn > 1:
            found.append((time.process_time() - start) / rows)
    batch.stop()
    return found
