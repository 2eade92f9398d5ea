"""Checkpoints of a training run, by Orbax: written beside the running steps, seen only when whole."""

import contextlib

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from fr.errors import UserError
from fr.training.update import TrainState
from fr.workdir import PathLike

_SCORE, _UNSCORED = "score", -1e300  # below every score; JSON has no infinity


class Checkpoints:
    """The newest `keep` states of a run and the one with the highest score, a folder each, named by their step.

    Of several processes each writes what its devices hold, and all make, save, restore and close together.
    """

    def __init__(self, folder: PathLike, keep: int):
        # Orbax takes absolute paths only, and makes no folder for a part of the processes.
        self._folder = epath.Path(folder).resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        score = lambda metrics: metrics[_SCORE]
        best = BestN(get_metric_fn=score, n=1)
        options = ocp.CheckpointManagerOptions(
            best_fn=score,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            create=False,
            # What a killed run left half-written has a temporary name: it is never a step, and goes now.
            cleanup_tmp_directories=True,
            # Named, they meet at barriers of the host; else in a collective, beside those of the training.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                active_processes=set(range(jax.process_count()))
            ),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Close; where an error is on its way, what fails too is a part of it, and Orbax's account would bury it."""
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
        """The step of the newest whole state; 0 without one."""
        return self._manager.latest_step() or 0

    @property
    def best(self) -> int:
        """The step of the state with the highest score."""
        self._manager.wait_until_finished()
        return self._manager.best_step()

    def restore(self, state: TrainState, step: int = 0) -> TrainState:
        """The newest whole state, or that of `step`, in the shapes, types and places of `state`.

        Without one, `state` itself.

        Raises UserError for the state of another model or optimiser.
        """
        step = step or self.latest
        if not step:
            return state
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(state))
        except (KeyError, TypeError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise UserError(
                f"{self._folder / str(step)} is no checkpoint of this model ({why}); use another --workdir"
            ) from error

    def save(self, step: int, state: TrainState, score: float | None = None) -> None:
        """Copy the state and write it in the background; waits for the write before it."""
        if step != self.latest:
            # Always a score: without one Orbax warns at every step.
            metrics = {_SCORE: _UNSCORED if score is None else score}
            # What a CPU device holds is not copied; jax donates no buffer that somebody looks at.
            self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.close()
