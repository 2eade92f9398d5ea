"""The parts of `benchmarks.gpu`, each in a process of its own.

`python -m benchmarks.gpu_parts PART full|small` prints the result as JSON.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from benchmarks.machine import PeakMemory, machine
from benchmarks.timing import Times, clocked, decode_step, in_turn
from fr.compiling.slices import CHIPS
from fr.models import ModelConfig, load
from fr.models.config import choose_dtype
from fr.models.transformer import Transformer
from fr.models.weight_table import shapes
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.sampling.scoring import Scorer
from fr.types import Request

ROOT = Path(__file__).parents[1]
_TESTING = 140  # seconds of the tests; what has run until then counts


@dataclasses.dataclass(frozen=True)
class Form:
    """Sizes of all parts; the defaults are for a GPU.

    Attributes:
        model: Shape of the model with random weights.
        prompt: Tokens of a prompt.
        steps: Tokens a row of the two runs whose difference is a decode step.
        rows: Divides the numbers of rows.
        read: Bytes of the array that is read.
        drift: Rows and tokens whose log-probs are compared.
        tests: Words for pytest.
        grpo: Settings of the training.
    """

    # Qwen2.5-1.5B's shape.
    model: ModelConfig = ModelConfig(
        vocab=151_936,
        width=1536,
        layers=28,
        heads=12,
        kv_heads=2,
        head_dim=128,
        ff=8960,
        qkv_bias=True,
    )
    prompt: int = 512
    steps: tuple[int, int] = (16, 80)
    rows: int = 1
    read: int = 1 << 33
    drift: tuple[int, int] = (32, 64)
    tests: tuple[str, ...] = (
        "tests/test_logits.py",
        "tests/test_decode.py",
        "tests/test_transformer.py",
        "tests/test_blockwise_attention.py",
    )
    grpo: tuple[str, ...] = ("steps=3", "prompts=16", "eval_every=0", "microbatch=128")


SMALL = Form(
    model=ModelConfig(
        vocab=64, width=32, layers=1, heads=2, kv_heads=1, head_dim=16, ff=64
    ),
    prompt=8,
    steps=(2, 6),
    rows=64,
    read=1 << 24,
    drift=(2, 8),
    tests=("tests/test_logits.py", "-k", "uniform_is_inverted"),
    grpo=("steps=1", "prompts=2", "rollouts=2", "eval_every=0", "max_new_tokens=8")
    + ("microbatch=0", "length_buckets=1"),
)


def _device(form: Form) -> dict:
    """The machine, and the bandwidth of its memory by a large read."""
    values = jnp.ones(form.read // 4, jnp.float32)
    total = jax.jit(jnp.sum)
    read = clocked(lambda: total(values).block_until_ready())
    times = in_turn({"read": read}, 5)["read"]
    stats = jax.local_devices()[0].memory_stats() or {}
    return machine() | {
        "read_gb_per_s": form.read / times.least / 1e9,
        "memory_gb": stats.get("bytes_limit", 0) / 1e9,
    }


def _bandwidth() -> float | None:
    """Bytes a second of this device's memory by its data sheet; None: unknown."""
    kind = jax.local_devices()[0].device_kind.lower()
    known = (chip for name, chip in CHIPS.items() if name in kind)
    return next((chip.bandwidth for chip in known), None)


def _decode(form: Form, rows: int, statistics: bool) -> dict:
    """A decode step of random weights, and the share of the bandwidth that it reaches.

    Only weights and live entries are counted, each read once per step.
    """
    config, dtype, memory = form.model, choose_dtype(), PeakMemory()
    engine = Engine(
        Transformer(config, dtype),
        random_weights(config, dtype),
        slots=rows // form.rows,
        chunk=min(16, form.steps[0]),
        prefill=8,
        statistics=statistics,
        devices=Devices("one"),
    )
    draw = np.random.default_rng(0)
    prompts = draw.integers(0, config.vocab, (8, form.prompt)).tolist()
    job = decode_step(engine, prompts, engine.slots, *form.steps)
    times: Times = in_turn({"step": job}, 3)["step"]
    weights = sum(x.nbytes for x in jax.tree.leaves(engine._batch._params.specialist))
    entries = form.prompt + sum(form.steps) / 2
    per_entry = 2 * config.layers * config.kv_heads * config.head_dim * dtype.itemsize
    moved = weights + engine.slots * entries * per_entry
    peak = _bandwidth()
    return {
        "rows": engine.slots,
        "statistics": statistics,
        "dtype": dtype.name,
        "entries": entries,
        **times.record(),
        "tokens_per_s": engine.slots / times.median,
        "weights_gb": weights / 1e9,
        "cache_gb": (moved - weights) / 1e9,
        "gb_per_s": moved / times.median / 1e9,
        "share_of_bandwidth": peak and moved / times.median / peak,
        "peak_memory_gb": memory.peak() / 1e9,
    }


def random_weights(config: ModelConfig, dtype: jnp.dtype) -> dict:
    """Random parameters, made on the device in their own type.

    Args:
        config: The decoder.
        dtype: Their type.

    Returns:
        Parameters, layers stacked; states keep their size from layer to layer.
    """
    flat = {}
    for number, (path, shape) in enumerate(shapes(config).items()):
        key = jax.random.fold_in(jax.random.key(0), number)
        flat[path] = _leaf(key, shape, "scale" in path, dtype)
    return traverse_util.unflatten_dict(flat, sep="/")


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _leaf(key, shape, norm, dtype):
    return (
        jnp.ones(shape, dtype) if norm else 0.02 * jax.random.normal(key, shape, dtype)
    )


def _drift(form: Form) -> dict:
    """Gaps of log-probs between the loop in bfloat16 and the scorer in both types.

    The models are random weights in the benchmark's shape, and the bundled one.
    """
    made = load("countdown", dtype=jnp.float32)
    given = {"random": (form.model, random_weights(form.model, jnp.dtype("float32")))}
    given["countdown"] = (made.config, made.params)
    return {name: _drift_of(form, *model) for name, model in given.items()}


def _drift_of(form: Form, config: ModelConfig, params: dict) -> dict:
    rows, tokens = form.drift
    draw, one = np.random.default_rng(0), Devices("one")
    cast = lambda kind: jax.tree.map(lambda x: x.astype(kind), params)
    narrow = jnp.dtype("bfloat16")
    engine = Engine(
        Transformer(config, narrow),
        cast(narrow),
        slots=rows,
        chunk=8,
        prefill=8,
        devices=one,
    )
    prompts = draw.integers(3, config.vocab, (8, 16)).tolist()
    found = engine.sample(
        [
            Request(str(i), tuple(prompts[i % 8]), row_key(0, i), {"budget": tokens})
            for i in range(rows)
        ]
    )
    read = {"loop bfloat16": [rollout.stats["logp"] for rollout in found]}
    whole = [[*r.row.prompt, *r.tokens.tolist()] for r in found]
    for kind in ("bfloat16", "float32"):
        scorer = Scorer(
            Transformer(config, jnp.dtype(kind)), cast(kind), rows=8, devices=one
        )
        exact = jax.default_matmul_precision("highest" if kind == "float32" else None)
        with exact:
            scores = scorer.score(whole, [len(r.row.prompt) for r in found])
        read[f"scorer {kind}"] = [row["logp"] for row in scores]
    first, *others = read
    return {f"{first} against {name}": gaps(read[first], read[name]) for name in others}


def gaps(one: list[np.ndarray], other: list[np.ndarray]) -> dict:
    """Summarise differences of log-probs.

    Args:
        one: Log-probs of the tokens of each row, nats.
        other: The same of another program.

    Returns:
        Mean, 99th percentile, largest, and the share above 0.1 nats.
    """
    gap = np.abs(np.concatenate(one) - np.concatenate(other))
    return {
        "tokens": gap.size,
        "mean": float(gap.mean()),
        "p99": float(np.quantile(gap, 0.99)),
        "largest": float(gap.max()),
        "share above 0.1": float((gap > 0.1).mean()),
    }


def _grpo(form: Form) -> dict:
    """A short GRPO of the bundled model: metrics and seconds of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        _checked(
            [
                "scripts/train.py",
                "--config=configs/countdown_grpo.py",
                f"--workdir={folder}/run",
                *(f"--config.policy.{setting}" for setting in form.grpo),
            ]
        )
        read = lambda name: [
            json.loads(line) for line in (Path(folder) / "run/specialist" / name).open()
        ]
        kept = ("step", "accuracy", "loss", "ratio_max")
        metrics = [
            {k: v for k, v in line.items() if k in kept or k.startswith("logp_gap")}
            for line in read("metrics.jsonl")
        ]
        return {"metrics": metrics, "timings": read("timings.jsonl")}


def _checked(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=_environment(), capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SystemExit(lines[-1])


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _tests(form: Form) -> dict:
    """Tests of sampling and scoring on this device, float32 products exact."""
    words = ["-m", "pytest", "-vv", "-p", "no:cacheprovider", "--tb=line", *form.tests]
    exact = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "PYTHONUNBUFFERED": "1"}
    run = functools.partial(subprocess.run, cwd=ROOT, capture_output=True)
    try:
        env = _environment() | exact
        printed = run([sys.executable, *words], env=env, timeout=_TESTING).stdout
        whole = True
    except subprocess.TimeoutExpired as error:
        printed, whole = error.stdout or b"", False
    line = re.compile(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)
    found = line.findall(printed.decode())
    if not found:
        raise SystemExit(f"pytest has run no test: {printed.decode()[-200:]!r}")
    counts = collections.Counter(result.lower() for _, result in found)
    wrong = [name for name, result in found if result in ("FAILED", "ERROR")]
    return {**counts, "names of failed": wrong, "all were run": whole}


_PARTS = {"device": _device, "drift": _drift, "grpo": _grpo, "tests": _tests}


def main(part: str, form: str) -> None:
    """Print the result of a part.

    Args:
        part: Its name.
        form: full or small.
    """
    sizes = SMALL if form == "small" else Form()
    # What a library prints is not the result.
    with contextlib.redirect_stdout(sys.stderr):
        if part.startswith("decode"):
            found = _decode(sizes, int(part.split("_")[1]), part.endswith("statistics"))
        else:
            found = _PARTS[part](sizes)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
