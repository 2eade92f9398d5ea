"""The training loop: steps in, checkpoints and metrics out, resumable at any moment."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
from etils import epath

from fr import distributed
from fr.boards import Board, open_boards
from fr.errors import UserError
from fr.interrupts import check
from fr.metrics import Clock, MetricsWriter, Stages
from fr.progress import Bar
from fr.training.checkpoints import Checkpoints
from fr.training.update import TrainState
from fr.workdir import PathLike, write_json


@runtime_checkable
class Schedule(Protocol):
    """Length of a run and its outputs: fields of the settings of every training."""

    @property
    def steps(self) -> int:
        """Steps of the run."""

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""

    @property
    def keep(self) -> int:
        """Newest checkpoints to keep."""

    @property
    def log_every(self) -> int:
        """Steps between lines of metrics."""

    @property
    def export(self) -> str:
        """The exported state: "last", or "best" by the evaluator's score."""


@dataclasses.dataclass(frozen=True)
class Step:
    """The result of one step.

    Attributes:
        state: The state after it.
        metrics: Scalars by name, on the device or not; fetched only when they are
            written.
        seconds: Wall time of its stages, which differs between runs.
        alarms: Lines to print.
    """

    state: TrainState
    metrics: dict
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    alarms: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """A measurement on held-out problems: before the first step, periodically, at last.

    Attributes:
        every: Steps between measurements.
        measure: state -> metrics by name.
        score: The metric that chooses the best checkpoint.
        lower: The lowest score is the best one.
    """

    every: int
    measure: Callable[[TrainState], dict]
    score: str
    lower: bool = False


# The step's index from 0, the state and the lines that metrics.jsonl has so far.
StepFn = Callable[[int, TrainState, Sequence[dict]], Step]


def fit(
    state: TrainState,
    advance: StepFn,
    schedule: Schedule,
    folder: PathLike,
    evaluator: Evaluator | None = None,
) -> TrainState:
    """Make all steps, from the newest checkpoint in `folder` or from `state`.

    Leaves `checkpoints/`, `metrics.jsonl` (the same bytes for every interruption) and
    `timings.jsonl`; with an evaluator also `export.json`, the scores of the last and of
    the best checkpoint. Several processes train one state together; the first one
    writes.

    Args:
        state: The state before the first step; it may be donated.
        advance: (index from 0, state, lines of metrics.jsonl) -> Step. It must depend
            on its arguments alone.
        schedule: Length of the run and its outputs.
        folder: Receives the files.
        evaluator: Measurement on held-out problems; None: there is none.

    Returns:
        The state that `schedule.export` names.

    Raises:
        UserError: A metric is not finite; earlier checkpoints stay.
    """
    folder = epath.Path(folder)
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(folder / "checkpoints", schedule.keep)
        )
        first = checkpoints.latest
        state = checkpoints.restore(state)
        # A checkpoint of step n is written after the lines up to n, so truncation at n
        # loses no line. Line 0 has no checkpoint.
        log = stack.enter_context(contextlib.closing(_MetricsLog(folder, first or -1)))
        shown = {
            "desc": folder.name,
            "unit": "step",
            "mininterval": 1.0,
            "disable": not distributed.is_first(),
        }
        bar = stack.enter_context(Bar(initial=first, total=schedule.steps, **shown))
        if evaluator and not first:
            log.write(0, _fetch(evaluator.measure(state), 0, 0), {})
        for done in range(first + 1, schedule.steps + 1):
            check()
            step = advance(done - 1, state, log.lines)
            distributed.beat()
            state, last = step.state, done == schedule.steps
            for line in step.alarms if distributed.is_first() else ():
                bar.write(f"step {done}: {line}")
            stages, held_out = Stages(), {}
            if evaluator and (last or done % evaluator.every == 0):
                with stages.time("held out"):
                    held_out = evaluator.measure(state)
            saves = last or held_out or done % schedule.checkpoint_every == 0
            if saves or done % schedule.log_every == 0:
                values = _fetch(step.metrics | held_out, done, checkpoints.latest)
                if held_out or last or done % schedule.log_every == 0:
                    log.write(done, values, step.seconds | stages.seconds)
                shown = {
                    name: f"{values[name]:.3f}"
                    for name in ("loss", "accuracy")
                    if name in values
                }
                bar.set_postfix(shown, refresh=False)
            if saves:
                score = (
                    held_out[evaluator.score] * (-1 if evaluator.lower else 1)
                    if evaluator and held_out
                    else None
                )
                checkpoints.save(done, state, score)
            bar.update()
        return (
            _chosen(state, checkpoints, evaluator, schedule, log.lines, folder)
            if evaluator
            else state
        )


def _chosen(
    state: TrainState,
    checkpoints: Checkpoints,
    evaluator: Evaluator,
    schedule: Schedule,
    lines: Sequence[dict],
    folder: epath.Path,
) -> TrainState:
    """The state to export, of the last or the best checkpoint; writes `export.json`."""
    seen = {
        line["step"]: line[evaluator.score] for line in lines if evaluator.score in line
    }
    steps = {"first": min(seen), "last": max(seen), "best": checkpoints.best}
    held = {name: {"step": step, "value": seen[step]} for name, step in steps.items()}
    record = {
        "exported": schedule.export,
        "metric": evaluator.score,
        "lower_is_better": evaluator.lower,
        **held,
    }
    if distributed.is_first():
        write_json(folder / "export.json", record)
    return (
        checkpoints.restore(state, steps["best"])
        if schedule.export == "best"
        else state
    )


class _MetricsLog:
    """Files of a run's metrics: reproducible values, timings, and boards.

    The first process writes. All processes have the lines, because steps read them.
    """

    def __init__(self, folder: epath.Path, after: int):
        self._files: tuple = ()
        self._boards: list[Board] = []
        self._clock, kept = Clock(), []
        if distributed.is_first():
            metrics = MetricsWriter(folder / "metrics.jsonl", after)
            timings = MetricsWriter(folder / "timings.jsonl", after)
            self._files, kept = (metrics, timings), metrics.lines
            self._boards = open_boards(folder, after)
        self.lines: list[dict] = list(distributed.gather(kept)[0])  # of metrics.jsonl

    def write(
        self, step: int, values: dict[str, float], seconds: dict[str, float]
    ) -> None:
        """A line in each file."""
        self.lines.append({"step": step, **values})
        if self._files:
            metrics, timings = self._files
            metrics.write(step, **values)
            live = sum(x.nbytes for x in jax.live_arrays()) / 2**20
            timings.write(
                step, **self._clock.read(), buffers_mib=round(live, 1), **seconds
            )
        for board in self._boards:
            board.write(step, values)

    def close(self) -> None:
        """Close the files."""
        for file in (*self._files, *self._boards):
            file.close()


def _fetch(measured: dict, step: int, latest: int) -> dict[str, float]:
    values = {name: float(value) for name, value in jax.device_get(measured).items()}
    for name, value in values.items():
        # NaN is not equal to itself, and infinity minus itself is NaN.
        if value - value != 0:
            kept = (
                f"checkpoint {latest} is kept"
                if latest
                else "there is no checkpoint yet"
            )
            raise UserError(
                f"{name} is {value} at step {step}; lower the learning_rate ({kept})"
            )
    return values
