"""Checkpoints of a training run, by Orbax: written beside the running steps, seen only when whole."""

import jax
import orbax.checkpoint as ocp
from etils import epath

from fr.training.sft import TrainState
from fr.workdir import PathLike


class Checkpoints:
    """The newest `keep` states of a run, one folder each, named by their step."""

    def __init__(self, folder: PathLike, keep: int):
        # Orbax takes absolute paths only, and makes no folder for a part of the processes.
        folder = epath.Path(folder).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            # What a killed run left half-written has a temporary name: it is never a step, and goes now.
            cleanup_tmp_directories=True,
            # The process that trains saves alone: others would have to meet it at barriers of Orbax's own.
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
        )
        self._manager = ocp.CheckpointManager(folder, options=options)

    def restore(self, state: TrainState) -> TrainState:
        """The newest whole state, in the shapes, types and places of `state`; without one, `state` itself."""
        if self._manager.latest_step() is None:
            return state
        return self._manager.restore(self._manager.latest_step(), args=ocp.args.StandardRestore(state))

    def save(self, step: int, state: TrainState) -> None:
        """Copy the state and write it in the background; waits for the write before it."""
        if step != self._manager.latest_step():
            # From the host: of several processes, Orbax refuses what lies on the devices of one. It copies at once.
            self._manager.save(step, args=ocp.args.StandardSave(jax.device_get(state)))

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.close()
