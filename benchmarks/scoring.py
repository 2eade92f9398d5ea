"""Peak memory of scoring, in its own process.

`python -m benchmarks.scoring SIZES` prints it as JSON.
"""

import dataclasses
import json
import subprocess
import sys
import time

import jax
import numpy as np

from benchmarks.machine import PeakMemory
from benchmarks.parts import PARTS, Bench, Figure, Part
from benchmarks.systems import SystemFailed
from fr.models import ModelConfig
from fr.models.transformer import Transformer, init_params
from fr.sampling.devices import Devices
from fr.sampling.scoring import Scorer


@PARTS.register("scoring")
def scoring_part(bench: Bench) -> Part:
    """Memory above the parameters while rollouts are scored at a large vocabulary."""
    rollouts, tokens = bench.sizes.scored
    wanted = {
        "model": dataclasses.asdict(bench.sizes.scored_model),
        "rollouts": rollouts,
        "tokens": tokens,
    }
    command = [sys.executable, "-m", "benchmarks.scoring", json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemFailed(
            f"scoring: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        )
    record = {**wanted, **json.loads(done.stdout.splitlines()[-1])}
    vocab = bench.sizes.scored_model.vocab
    name = f"scoring {rollouts} x {tokens} at V = {vocab}, above parameters"
    return Part(record, (Figure(name, record["above_parameters_gb"], 1.5, unit=" GB"),))


def measure(wanted: dict) -> dict:
    """Score random rollouts of a random model twice; the first time includes
    compilation.

    Args:
        wanted: `model` (fields of ModelConfig), `rollouts` and `tokens`.

    Returns:
        Memory in GB and seconds, with and without compilation.
    """
    config, memory = ModelConfig(**wanted["model"]), PeakMemory()
    # Measured before the parameters, which leave temporary memory in use.
    empty = memory.now()
    params = jax.block_until_ready(init_params(config, jax.random.key(0)))
    scorer = Scorer(Transformer(config), params, devices=Devices("one"))
    draw = np.random.default_rng(0)
    rollouts = draw.integers(
        0, config.vocab, (wanted["rollouts"], wanted["tokens"])
    ).tolist()
    size, found = sum(x.nbytes for x in jax.tree.leaves(params)), []
    for _ in range(2):
        memory.restart()
        start = time.perf_counter()
        scorer.score(rollouts, [1] * len(rollouts))
        found.append((memory.peak() - empty - size, time.perf_counter() - start))
    (first, first_s), (later, later_s) = found
    return {
        "memory": memory.kind,
        "parameters_gb": size / 1e9,
        "above_parameters_gb": later / 1e9,
        "with_compilation_gb": first / 1e9,
        "seconds": later_s,
        "seconds_with_compilation": first_s,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
