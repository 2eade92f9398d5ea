"""Limits of the machine: bandwidth, matrix products, the floor of a decode step."""

import dataclasses
import functools
import json
import subprocess
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import cores
from benchmarks.matmuls import products, projections
from benchmarks.systems import DRIVERS, SystemFailed
from benchmarks.timing import Times, clocked, in_turn
from fr.models import ModelConfig


@dataclasses.dataclass(frozen=True)
class _Floor:
    """Least work of one decode step, and the machine's rates for it."""

    operations: float
    bytes: float
    operations_per_s: float
    bytes_per_s: float

    @property
    def seconds(self) -> float:
        """Seconds of the step if products and reads overlapped fully."""
        return max(
            self.operations / self.operations_per_s, self.bytes / self.bytes_per_s
        )

    def record(self) -> dict:
        """The fields and `floor_ms`, for the JSON."""
        return {**dataclasses.asdict(self), "floor_ms": 1e3 * self.seconds}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rates of the machine by library, measured in turn."""

    read_bytes: int  # size of the array that is read
    read: dict[str, Times]  # of one read, by library
    products: dict[int, dict[str, Times]]  # of one step, by number of rows and library

    def floor(
        self, config: ModelConfig, dtype: jnp.dtype, rows: int, context: float
    ) -> _Floor:
        """Compute the floor of one decode step.

        Every weight is read once, and multiplied once per row (2 operations); every
        live cache entry is read.

        Args:
            config: the model.
            dtype: of weights and cache.
            rows: number of rows.
            context: live cache entries per row.

        Returns:
            The floor.
        """
        weights = weights_of(config)
        entries = 2 * config.layers * config.kv_heads * config.head_dim * rows * context
        operations = 2.0 * weights * rows
        fastest = min(times.least for times in self.products[rows].values())
        bandwidth = self.read_bytes / min(times.least for times in self.read.values())
        return _Floor(
            operations,
            dtype.itemsize * (weights + entries),
            operations / fastest,
            bandwidth,
        )

    def record(self, config: ModelConfig) -> dict:
        """Summarise for the JSON, with the best time of every library.

        Args:
            config: the model.

        Returns:
            Read bandwidth in GB/s and products in GFLOP/s, by library.
        """
        weights = weights_of(config)
        return {
            "read_gb_per_s": {
                name: self.read_bytes / times.least / 1e9
                for name, times in self.read.items()
            },
            "products_gflop_per_s": {
                str(rows): {
                    name: 2 * weights * rows / times.least / 1e9
                    for name, times in by.items()
                }
                for rows, by in self.products.items()
            },
        }


def weights_of(config: ModelConfig) -> int:
    """Count the parameters that a token is multiplied with.

    Args:
        config: the model.

    Returns:
        The number; a tied embedding counts once, as the head.
    """
    return (
        config.layers * sum(i * o for i, o in shapes(config).values())
        + config.vocab * config.width
    )


def measure(
    config: ModelConfig,
    dtype: jnp.dtype,
    rows: Sequence[int],
    repeats: int,
    read_bytes: int,
    torch: str | None,
) -> Machine:
    """Measure this machine with XLA, NumPy (not on an accelerator) and, if given,
    torch.

    Args:
        config: the model, for the shapes of the products.
        dtype: of the products.
        rows: numbers of rows.
        repeats: timed runs of each job.
        read_bytes: size of the array that is read.
        torch: path of an interpreter with torch, or None.

    Returns:
        The rates.

    Raises:
        SystemFailed: if the run of that interpreter fails.
    """
    draw = np.random.default_rng(0)
    layers, head = matrices(config, draw)
    placed = jax.tree.map(lambda x: jnp.asarray(x, dtype), (layers, head))
    step = jax.jit(functools.partial(products, concatenate=jnp.concatenate))
    found = {}
    for size in rows:
        x = draw.standard_normal((size, config.width), np.float32)
        on_device = jnp.asarray(x, dtype)
        jobs = {"xla": lambda: step(*placed, on_device).block_until_ready()}
        if jax.default_backend() == "cpu":
            jobs["numpy"] = lambda: products(layers, head, x, np.concatenate)
        found[size] = in_turn(
            {name: clocked(job) for name, job in jobs.items()}, repeats
        )
    read = in_turn(_readers(read_bytes), repeats)
    if torch:
        theirs = _torch(torch, config, rows, repeats, read_bytes)
        read["torch"] = Times(tuple(theirs["read"]))
        for size in rows:
            found[size]["torch"] = Times(tuple(theirs["products"][str(size)]))
    return Machine(read_bytes, read, found)


def matrices(
    config: ModelConfig, draw: np.random.Generator
) -> tuple[list[dict], np.ndarray]:
    """Draw random matrices of every layer and of the head, for `products`.

    Args:
        config: the model.
        draw: random stream.

    Returns:
        (layers, head).
    """
    matrix = lambda i, o: (
        draw.standard_normal((i, o), np.float32) / np.float32(i) ** 0.5
    )
    # Weights of their own for every layer, as in a model: one layer's would stay in the
    # caches.
    layers = [
        {name: matrix(*s) for name, s in shapes(config).items()}
        for _ in range(config.layers)
    ]
    return layers, matrix(config.width, config.vocab)


def shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """List the seven matrices of a layer.

    Args:
        config: the model.

    Returns:
        name -> (inputs, outputs).
    """
    return projections(
        config.width, config.heads, config.kv_heads, config.head_dim, config.ff
    )


def _readers(read_bytes: int) -> dict[str, Callable[[], float]]:
    host = np.ones(read_bytes // 4, np.float32)
    device, total = jnp.asarray(host), jax.jit(jnp.sum)
    jobs = {"xla": clocked(lambda: total(device).block_until_ready())}
    if jax.default_backend() == "cpu":
        jobs["numpy"] = clocked(lambda: host.sum())
    return jobs


def _torch(
    python: str, config: ModelConfig, rows: Sequence[int], repeats: int, read_bytes: int
) -> dict:
    shape = {
        name: getattr(config, name)
        for name in ("width", "heads", "kv_heads", "head_dim", "ff", "layers", "vocab")
    }
    wanted = {
        "rows": list(rows),
        "repeats": repeats,
        "read_bytes": read_bytes,
        "threads": cores(),
    }
    command = [
        python,
        str(DRIVERS / "torch_roofline.py"),
        json.dumps({**shape, **wanted}),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemFailed(
            "torch_roofline.py: "
            f"{(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        )
    return json.loads(done.stdout.splitlines()[-1])
