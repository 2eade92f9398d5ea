"""Checkpoints of a training run, by Orbax: written beside the running steps, seen only when whole."""

import orbax.checkpoint as ocp
from etils import epath

from fr.training.sft import TrainState
from fr.workdir import PathLike


class Checkpoints:
    """The newest `keep` states of a run, one folder each, named by their step."""

    def __init__(self, folder: PathLike, keep: int):
        # What a killed run left half-written has a temporary name: it is never a step, and goes now.
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        # Orbax takes absolute paths only.
        self._manager = ocp.CheckpointManager(epath.Path(folder).resolve(), options=options)

    def restore(self, state: TrainState) -> TrainState:
        """The newest whole state, in the shapes, types and places of `state`; without one, `state` itself."""
        if self._manager.latest_step() is None:
            return state
        return self._manager.restore(self._manager.latest_step(), args=ocp.args.StandardRestore(state))

    def save(self, step: int, state: TrainState) -> None:
        """Copy the state and write it in the background; waits for the write before it."""
        if step != self._manager.latest_step():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.close()
