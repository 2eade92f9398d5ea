"""Checkpoints of a training run by Orbax, written in the background."""

import contextlib

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from fr.errors import UserError
from fr.training.update import TrainState
from fr.workdir import PathLike, absolute

_SCORE, _UNSCORED = "score", -1e300  # below every score; JSON has no infinity


class Checkpoints:
    """The newest states of a run and the best one, one folder per step.

    Every process writes what its devices hold, and all of them construct, save, restore
    and close together.

    Args:
        folder: Folder of the checkpoints.
        keep: Number of newest states to keep.
    """

    def __init__(self, folder: PathLike, keep: int):
        # Orbax takes absolute paths only, and does not make folders if only some
        # processes take part.
        self._folder = absolute(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        score = lambda metrics: metrics[_SCORE]
        best = BestN(get_metric_fn=score, n=1)
        options = ocp.CheckpointManagerOptions(
            best_fn=score,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            create=False,
            # Half-written states of a killed run have temporary names and are deleted.
            cleanup_tmp_directories=True,
            # With named processes Orbax uses barriers of the host, not collectives that
            # could interleave with the training's own.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                active_processes=set(range(jax.process_count()))
            ),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Close; after an error quietly, so that Orbax's messages do not hide it."""
        if error is None:
            self.close()
            return
        told = logging.get_verbosity()
        logging.set_verbosity(logging.FATAL)
        with contextlib.suppress(Exception):
            self.close()
        logging.set_verbosity(told)

    @property
    def latest(self) -> int:
        """Step of the newest whole state; 0 if there is none."""
        return self._manager.latest_step() or 0

    @property
    def best(self) -> int:
        """Step of the state with the highest score."""
        self._manager.wait_until_finished()
        return self._manager.best_step()

    def restore(self, state: TrainState, step: int = 0) -> TrainState:
        """Read a state, in the shapes, types and places of `state`.

        Args:
            state: A state of the same training; returned unchanged if none was saved.
            step: Step to read; 0: the newest whole state.

        Returns:
            The state that was read.

        Raises:
            UserError: The state belongs to another model or optimiser.
        """
        step = step or self.latest
        if not step:
            return state
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(state))
        except (KeyError, TypeError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise UserError(
                f"{self._folder / str(step)} is not a checkpoint of this model "
                f"({why}); use another --workdir"
            ) from error

    def save(self, step: int, state: TrainState, score: float | None = None) -> None:
        """Copy the state and write it in the background, after the write before it.

        Args:
            step: Number of steps made; the newest step is not written again.
            state: The state after it.
            score: Higher is better; None: not measured.
        """
        if step != self.latest:
            # Always a score: without one Orbax warns at every step.
            metrics = {_SCORE: _UNSCORED if score is None else score}
            # Orbax does not copy arrays on the CPU; jax does not donate buffers that
            # are referenced elsewhere.
            self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.close()
