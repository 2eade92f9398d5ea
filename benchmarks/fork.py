r"""Branches that start from a kept prefix, against branches that read theirs.

    python -m benchmarks --workdir=runs/fork --parts=fork --rows=64
    python -m benchmarks.fork --layers=4 --rows=64 --out=runs/fork.json

The second measures random weights of SmolLM2's shape with some of its 30 layers and as
large a share of its vocabulary, so that the head weighs what it does in the whole.
"""

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.parts import PARTS, Bench, Figure, Part
from benchmarks.sizes import STATED
from benchmarks.timing import Times, in_turn
from fr.models import Model, ModelConfig
from fr.models.transformer import init_params
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


def main() -> None:
    """Measure a part of SmolLM2, print and write."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--layers", type=int, default=4, help="of 30")
    flags.add_argument("--rows", type=int, default=64)
    flags.add_argument("--prefixes", type=int, nargs="+", default=[128, 512, 1024])
    flags.add_argument("--branch", type=int, default=64, help="tokens of a branch")
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--out", help="JSON file to write")
    given = flags.parse_args()
    config = ModelConfig(
        vocab=49_152 * given.layers // 30,
        width=576,
        layers=given.layers,
        heads=9,
        kv_heads=3,
        head_dim=64,
        ff=1536,
        tied=True,
        max_positions=2048,
    )
    params = init_params(config, jax.random.key(0))
    bench = Bench(
        model=Model(config, params, None, (0,), "part of SmolLM2"),
        prompts=[[1, 2, 3]],
        rows=given.rows,
        repeats=given.repeats,
        sizes=dataclasses.replace(
            STATED, prefixes=tuple(given.prefixes), branch=given.branch
        ),
        torch=None,
        options={"chunk": 16, "prefill": 8, "tau": 0.6},
    )
    found = fork_part(bench)
    figures = [dataclasses.asdict(figure) for figure in found.figures]
    text = json.dumps(vars(given) | found.record | {"figures": figures}, indent=1)
    print(text)
    if given.out:
        pathlib.Path(given.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
