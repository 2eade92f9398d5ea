"""Boards that a training's metrics are also written to: TensorBoard and W&B.

A board changes no result, and none of them is needed. TensorBoard gets its events where
tensorboardX is installed; W&B where a script's `--wandb` names a project.
"""

import contextvars
import hashlib
import importlib.util
import pathlib
import tempfile
import time
from typing import Any, Protocol

from etils import epath

from fr.errors import UserError
from fr.workdir import PathLike, is_local, write_whole

# The W&B project of this process; "": none.
PROJECT: contextvars.ContextVar[str] = contextvars.ContextVar("project", default="")


class Board(Protocol):
    """A place that shows the metrics of a training while it runs."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the values of a step.

        Args:
          step: of the training.
          values: by name of the metric.
        """

    def close(self) -> None:
        """Write all buffered values."""


def choose_project(project: str) -> None:
    """Make later trainings of this process write to W&B too.

    Args:
      project: name of the project; "": none.

    Raises:
      UserError: wandb is not installed.
    """
    if project and not importlib.util.find_spec("wandb"):
        raise UserError(
            "--wandb needs the package wandb: pip install -e '.[wandb]', or leave the "
            "flag out"
        )
    PROJECT.set(project)


def open_boards(folder: PathLike, after: int) -> list[Board]:
    """Open the boards of a training.

    Args:
      folder: of the training; TensorBoard has `board/` in it, W&B `wandb/`.
      after: last step that a resumed training keeps.

    Returns:
      The boards.
    """
    boards: list[Board] = [TensorBoard(epath.Path(folder) / "board", after)]
    if project := PROJECT.get():
        boards.append(Wandb(folder, project))
    return boards


class Wandb:
    """The same metrics for W&B; `WANDB_MODE=offline` needs neither account nor network.

    The run has the folder's name and an id that follows from it, so that a resumed
    training goes on in the same run. Steps that a killed training makes again are kept
    as they were first written.
    """

    def __init__(self, folder: PathLike, project: str):
        """Begin or resume the run.

        Args:
          folder: of the training.
          project: name of the W&B project.
        """
        import wandb

        place = epath.Path(folder)
        self._run: Any = wandb.init(
            project=project,
            name="/".join(place.parts[-3:]),
            id=hashlib.sha256(str(place).encode()).hexdigest()[:16],
            resume="allow",
            settings={"console": "off", "silent": True},
            dir=str(place) if is_local(place) else None,
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the values of a step.

        Args:
          step: of the training.
          values: by name of the metric.
        """
        self._run.log(values, step=step)

    def close(self) -> None:
        """End the run; what is buffered is written."""
        self._run.finish()


class TensorBoard:
    """The same metrics for TensorBoard, if tensorboardX is installed."""

    def __init__(self, folder: PathLike, after: int):
        """Open the folder; later steps of a killed run are hidden.

        The events for a bucket are on the local disk, and go up every minute.

        Args:
          folder: of the event files.
          after: steps after this one are hidden.
        """
        self._writer, self._folder, self._local = None, epath.Path(folder), None
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            if not is_local(folder):
                self._local, self._next = tempfile.TemporaryDirectory(), 0.0
            place = self._local.name if self._local else str(folder)
            self._writer = SummaryWriter(place, purge_step=after + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the values of a step.

        Args:
          step: of the training.
          values: by name of the metric.
        """
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            if self._local and time.monotonic() >= self._next:
                self._writer.flush()
                self._upload()

    def close(self) -> None:
        """Write all buffered values."""
        if self._writer:
            self._writer.close()
        if self._local:
            self._upload()
            self._local.cleanup()

    def _upload(self) -> None:
        place = self._local.name if self._local else ""
        for file in pathlib.Path(place).iterdir():
            write_whole(self._folder / file.name, file.read_bytes())
        self._next = time.monotonic() + 60.0
