"""Checkpoints of a training run, by Orbax: written beside the running steps, seen only when whole."""

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from fr.errors import UserError
from fr.training.state import TrainState
from fr.workdir import PathLike

_SCORE, _UNSCORED = "score", -1.0  # scores are shares


class Checkpoints:
    """The newest `keep` states of a run and the one with the highest score, a folder each, named by their step."""

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
            # The process that trains saves alone: others would have to meet it at barriers of Orbax's own.
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    @property
    def latest(self) -> int:
        """The step of the newest whole state; 0 without one."""
        return self._manager.latest_step() or 0

    def restore(self, state: TrainState) -> TrainState:
        """The newest whole state, in the shapes, types and places of `state`; without one, `state` itself.

        Raises UserError for the state of another model or optimiser.
        """
        if not self.latest:
            return state
        try:
            return self._manager.restore(self.latest, args=ocp.args.StandardRestore(state))
        except (KeyError, TypeError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise UserError(
                f"{self._folder / str(self.latest)} is no checkpoint of this model ({why}); use another --workdir"
            ) from error

    def save(self, step: int, state: TrainState, score: float | None = None) -> None:
        """Copy the state and write it in the background; waits for the write before it."""
        if step != self.latest:
            # Always a score: without one Orbax warns at every step.
            metrics = {_SCORE: _UNSCORED if score is None else score}
            # From the host: of several processes, Orbax refuses what lies on the devices of one. It copies at once.
            self._manager.save(step, args=ocp.args.StandardSave(jax.device_get(state)), metrics=metrics)

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.close()
