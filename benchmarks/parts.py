"""Parts of a benchmark: each measures figures and states their goals."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import roofline
from benchmarks.sizes import Sizes
from benchmarks.timing import Times, decode_step, in_turn, spread
from fr.config import PolicyConfig
from fr.models import Model
from fr.models.transformer import Transformer
from fr.registry import Registry
from fr.sampling.engine import Engine

PARTS = Registry("part")


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured number with its goal."""

    name: str  # what is measured
    value: float  # measured
    goal: float  # a bound on `value`
    at_least: bool = False  # the goal is a lower bound
    digits: int = 2  # after the point, in tables
    unit: str = ""  # with a leading space

    @property
    def reached(self) -> bool:
        """True if the number is on the right side of its goal."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclasses.dataclass(frozen=True)
class Part:
    """Result of a part: a record for the JSON and figures for the table."""

    record: dict
    figures: tuple[Figure, ...]


@dataclasses.dataclass(frozen=True)
class Bench:
    """Inputs shared by all parts."""

    model: Model  # that is sampled
    prompts: list[list[int]]  # ids, all of one length
    rows: int  # over all devices
    repeats: int  # timed runs of each job
    sizes: Sizes  # of the parts
    torch: str | None  # interpreter of the transformers peer
    options: dict  # of every engine: chunk, prefill, tau
    policy: PolicyConfig = PolicyConfig()  # of the update that is timed
    trl: str | None = None  # interpreter of the trl peer

    @functools.cached_property
    def plain(self) -> Engine:
        """The engine that most parts time: all statistics, no ancestor.

        Shared, because its compilation takes long.
        """
        return self.engine()

    def engine(self, rows: int = 0, **more) -> Engine:
        """Make an engine.

        Args:
            rows: number of rows over all devices; 0: `self.rows`.
            **more: options of Engine.

        Returns:
            The engine.
        """
        module = Transformer(self.model.config, self.model.dtype)
        return Engine(
            module,
            self.model.params,
            **spread(rows or self.rows),
            **self.options,
            **more,
        )

    def step(
        self, engine: Engine, prompts: list[list[int]] | None = None
    ) -> Callable[[], float]:
        """Make a job that measures one decode step.

        Args:
            engine: the engine to time.
            prompts: ids of prompts of one length; default: the prompts of the bench.

        Returns:
            A function that returns the seconds of one step.
        """
        rows = engine.slots * engine.devices.count
        return decode_step(engine, prompts or self.prompts, rows, *self.sizes.steps)


@PARTS.register("roofline")
def roofline_part(bench: Bench) -> Part:
    """The decode step with all statistics against the machine's floor for it."""
    config, dtype = bench.model.config, bench.model.dtype
    machine = roofline.measure(
        config, dtype, [bench.rows], bench.repeats, bench.sizes.read_bytes, bench.torch
    )
    step = in_turn({"step": bench.step(bench.plain)}, bench.repeats)["step"]
    context = len(bench.prompts[0]) + sum(bench.sizes.steps) / 2
    floor = machine.floor(config, dtype, bench.rows, context)
    fraction = floor.seconds / step.median
    record = {
        "rows": bench.rows,
        "context": context,
        **machine.record(config),
        **floor.record(),
        "step": step.record(),
        "fraction": fraction,
    }
    return Part(
        record,
        (
            Figure(
                f"share of the roofline, {bench.rows} rows",
                fraction,
                0.70,
                at_least=True,
            ),
        ),
    )


@PARTS.register("statistics")
def statistics_part(bench: Bench) -> Part:
    """The decode step with all statistics against sampling with log-probs alone, and
    with the five most probable tokens against statistics alone.
    """
    engines = {
        "with": bench.plain,
        "without": bench.engine(statistics=False),
        "top": bench.engine(keep_top=5),
    }
    steps = in_turn(
        {name: bench.step(engine) for name, engine in engines.items()}, bench.repeats
    )
    cost = steps["with"].median / steps["without"].median - 1
    top = steps["top"].median / steps["with"].median - 1
    return Part(
        {"rows": bench.rows, **_records(steps), "cost": cost, "cost_of_top": top},
        (
            Figure("cost of all statistics", cost, 0.10),
            Figure("cost of keeping the 5 most probable tokens", top, 0.02),
        ),
    )


@PARTS.register("ancestor")
def ancestor_part(bench: Bench) -> Part:
    """The decode step with a second model of the same size against two steps of one."""
    module = Transformer(bench.model.config, bench.model.dtype)
    # Copies: one set of weights for both would be read once for both.
    other = jax.tree.map(jnp.copy, bench.model.params)
    engines = {
        "single": bench.plain,
        "pair": bench.engine(ancestor=module, ancestor_params=other),
    }
    steps = in_turn(
        {name: bench.step(engine) for name, engine in engines.items()}, bench.repeats
    )
    second = steps["pair"].median / steps["single"].median - 1
    record = {"rows": bench.rows, **_records(steps), "second_over_single": second}
    return Part(
        record, (Figure("ancestor in the loop, in steps of one model", second, 1.10),)
    )


@PARTS.register("context")
def context_part(bench: Bench) -> Part:
    """The decode step at the longest context against a line through shorter ones."""
    lengths, rows = bench.sizes.contexts, min(bench.rows, bench.sizes.context_rows)
    text = [token for prompt in bench.prompts for token in prompt]
    prompt = lambda length: [(text * (length // len(text) + 1))[:length]]
    engine = bench.engine(rows)
    jobs = {str(length): bench.step(engine, prompt(length)) for length in lengths}
    steps = in_turn(jobs, bench.repeats)
    seconds = [steps[str(length)].median for length in lengths]
    slope, start = _line(lengths[:-1], seconds[:-1])
    excess = seconds[-1] / (start + slope * lengths[-1]) - 1
    record = {
        "rows": rows,
        "steps": _records(steps),
        "us_per_entry": 1e6 * slope / rows,
        "excess": excess,
    }
    return Part(
        record,
        (Figure(f"cost at context {lengths[-1]} over linear growth", excess, 0.15),),
    )


def _line(x: tuple[int, ...], y: list[float]) -> tuple[float, float]:
    """Slope and intercept of the least-squares line."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum(
        (a - mean_x) ** 2 for a in x
    )
    return slope, mean_y - slope * mean_x


def _records(steps: dict[str, Times]) -> dict:
    return {name: times.record() for name, times in steps.items()}
