"""The training loop: batches in, checkpoints and metrics out; killed at any moment, it ends with the same."""

from collections.abc import Callable

import jax
from etils import epath
from tqdm import tqdm

from fr.config import TrainingConfig
from fr.errors import UserError
from fr.metrics import Clock, MetricsWriter
from fr.training.checkpoints import Checkpoints
from fr.training.data import Batch
from fr.training.sft import TrainState, placements
from fr.workdir import PathLike


def fit(
    state: TrainState,
    step: Callable[[TrainState, Batch], tuple[TrainState, dict]],
    batch: Callable[[int], Batch],
    config: TrainingConfig,
    workdir: PathLike,
) -> TrainState:
    """Run all updates from the newest checkpoint in `workdir`; without one, from `state` (donated).

    `batch(i)` must depend on i alone. Leaves `checkpoints/`, `metrics.jsonl` (the same bytes however
    often the run was interrupted) and `timings.jsonl`. Raises UserError when the loss is no longer finite.
    """
    workdir = epath.Path(workdir)
    whole, rows = placements(config.batch)
    checkpoints = Checkpoints(workdir / "checkpoints", config.keep)
    state = checkpoints.restore(jax.device_put(state, whole))
    first = int(state.step)
    metrics = MetricsWriter(workdir / "metrics.jsonl", after=first)
    timings, clock = MetricsWriter(workdir / "timings.jsonl", after=first), Clock()
    # A checkpoint of step n is written after the metrics lines up to n: truncation at n loses none.
    with tqdm(initial=first, total=config.steps, desc=workdir.name, unit="step", mininterval=1.0) as bar:
        for i in range(first, config.steps):
            state, measured = step(state, jax.device_put(batch(i), rows))
            done = i + 1
            if done % config.log_every == 0 or done == config.steps:
                values = _fetch(measured, done)
                metrics.write(done, **values)
                timings.write(done, **clock.read())
                bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            if done % config.checkpoint_every == 0 or done == config.steps:
                checkpoints.save(done, state)
            bar.update()
    checkpoints.close()
    metrics.close()
    timings.close()
    return state


def _fetch(measured: dict, step: int) -> dict[str, float]:
    values = {name: float(value) for name, value in jax.device_get(measured).items()}
    # NaN is not equal to itself, and infinity minus itself is NaN.
    if values["loss"] - values["loss"] != 0:
        raise UserError(f"the loss is {values['loss']} at step {step}; lower config.training.learning_rate")
    return values
