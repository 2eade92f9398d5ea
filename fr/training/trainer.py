"""The training loop: steps in, checkpoints and metrics out; killed at any moment, it ends with the same."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
from etils import epath
from tqdm import tqdm

from fr import distributed
from fr.errors import UserError
from fr.interrupts import check
from fr.metrics import Board, Clock, MetricsWriter, Stages
from fr.training.checkpoints import Checkpoints
from fr.training.update import TrainState
from fr.workdir import PathLike, write_json


@runtime_checkable
class Pace(Protocol):
    """How long a run is and what it leaves on its way: a part of TrainingConfig and of PolicyConfig."""

    steps: int
    checkpoint_every: int
    keep: int
    log_every: int
    export: str  # last, or best by an exam's score


@dataclasses.dataclass(frozen=True)
class Step:
    """What one step hands back: the state behind it, scalars by name, and what no two runs have in common."""

    state: TrainState
    metrics: dict  # on the device or not; fetched only for a line of metrics.jsonl
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # of its stages
    alarms: tuple[str, ...] = ()  # lines for whoever watches


@dataclasses.dataclass(frozen=True)
class Exam:
    """What is measured on held-out problems before the first step, every so many steps, and behind the last."""

    every: int
    measure: Callable[[TrainState], dict]
    score: str  # which of its values tells the best checkpoint
    lower: bool = False  # the least is the best


# The step's index from 0, the state and the lines that metrics.jsonl has so far.
Advance = Callable[[int, TrainState, Sequence[dict]], Step]


def fit(
    state: TrainState,
    advance: Advance,
    pace: Pace,
    folder: PathLike,
    exam: Exam | None = None,
) -> TrainState:
    """Make all steps from the newest checkpoint in `folder` on; without one, from `state` (which may be donated).

    A step must depend on its arguments alone. Leaves `checkpoints/`, `metrics.jsonl` (the same bytes however
    often the run was interrupted) and `timings.jsonl`; with an exam also `export.json`, the scores of the last
    and of the best checkpoint. Returns the state of the one that `pace.export` names. Raises UserError when a
    metric is no longer finite; the checkpoints before it stay. Several processes train one state together, step by
    step; the first one writes.
    """
    folder = epath.Path(folder)
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(folder / "checkpoints", pace.keep)
        )
        first = checkpoints.latest
        state = checkpoints.restore(state)
        # A checkpoint of step n is written after the lines up to n: truncation at n loses none. Line 0 has no
        # checkpoint.
        journal = stack.enter_context(contextlib.closing(_Journal(folder, first or -1)))
        shown = {
            "desc": folder.name,
            "unit": "step",
            "mininterval": 1.0,
            "disable": not distributed.is_first(),
        }
        bar = stack.enter_context(tqdm(initial=first, total=pace.steps, **shown))
        if exam and not first:
            journal.write(0, _fetch(exam.measure(state), 0, 0), {})
        for done in range(first + 1, pace.steps + 1):
            check()
            step = advance(done - 1, state, journal.lines)
            distributed.beat()
            state, last = step.state, done == pace.steps
            for line in step.alarms if distributed.is_first() else ():
                bar.write(f"step {done}: {line}")
            stages, held_out = Stages(), {}
            if exam and (last or done % exam.every == 0):
                with stages.time("held out"):
                    held_out = exam.measure(state)
            saves = last or held_out or done % pace.checkpoint_every == 0
            if saves or done % pace.log_every == 0:
                values = _fetch(step.metrics | held_out, done, checkpoints.latest)
                if held_out or last or done % pace.log_every == 0:
                    journal.write(done, values, step.seconds | stages.seconds)
                shown = {
                    name: f"{values[name]:.3f}"
                    for name in ("loss", "accuracy")
                    if name in values
                }
                bar.set_postfix(shown, refresh=False)
            if saves:
                score = (
                    held_out[exam.score] * (-1 if exam.lower else 1)
                    if held_out
                    else None
                )
                checkpoints.save(done, state, score)
            bar.update()
        return (
            _chosen(state, checkpoints, exam, pace, journal.lines, folder)
            if exam
            else state
        )


def _chosen(
    state: TrainState,
    checkpoints: Checkpoints,
    exam: Exam,
    pace: Pace,
    lines: Sequence[dict],
    folder: epath.Path,
) -> TrainState:
    """The state to export, of the last or of the best checkpoint; `export.json` says which, and both scores."""
    seen = {line["step"]: line[exam.score] for line in lines if exam.score in line}
    steps = {"first": min(seen), "last": max(seen), "best": checkpoints.best}
    held = {name: {"step": step, "value": seen[step]} for name, step in steps.items()}
    record = {
        "exported": pace.export,
        "metric": exam.score,
        "lower_is_better": exam.lower,
        **held,
    }
    if distributed.is_first():
        write_json(folder / "export.json", record)
    return checkpoints.restore(state, steps["best"]) if pace.export == "best" else state


class _Journal:
    """What a run writes of its steps: what repeats to the byte, what does not, and a board to look at.

    The first process writes, and all have the lines, because a step depends on them.
    """

    def __init__(self, folder: epath.Path, after: int):
        self._files, self._clock, kept = (), Clock(), []
        if distributed.is_first():
            metrics = MetricsWriter(folder / "metrics.jsonl", after)
            timings = MetricsWriter(folder / "timings.jsonl", after)
            self._files, kept = (
                (metrics, timings, Board(folder / "board", after)),
                metrics.lines,
            )
        self.lines: list[dict] = list(distributed.gather(kept)[0])  # of metrics.jsonl

    def write(
        self, step: int, values: dict[str, float], seconds: dict[str, float]
    ) -> None:
        """A line in each file."""
        self.lines.append({"step": step, **values})
        if self._files:
            metrics, timings, board = self._files
            metrics.write(step, **values)
            live = sum(x.nbytes for x in jax.live_arrays()) / 2**20
            timings.write(
                step, **self._clock.read(), buffers_mib=round(live, 1), **seconds
            )
            board.write(step, values)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
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
