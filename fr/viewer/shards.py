"""The store shards below a workdir: the only files of a run that hold attempts."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fr.buckets import is_local
from fr.errors import UserError, first_line
from fr.store_columns import SCHEMA, VERSION

SCORES = "scores"  # rollouts that failed, with other statistics; no attempts of its own
_NAME = re.compile(r"shard-(\d{6})\.parquet")
_DEEPEST = 5  # folders below the workdir
# Folders of models and of compiled programs, which hold many files and no attempts.
_OTHERS = {"checkpoints", "board", "outline", "plots", "programs", "router", "schedule"}


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of attempts.

    Attributes:
      folder: of the shard, relative to the workdir, such as `rollouts`.
      index: number of the shard in its folder.
      path: of the file.
      stamp: size and time of the last change, which tell a file that was replaced.
    """

    folder: str
    index: int
    path: Path
    stamp: tuple[int, int]


def local_folder(workdir: str) -> Path:
    """The folder of a run on this machine.

    Args:
      workdir: as given on the command line.

    Returns:
      The absolute path.

    Raises:
      UserError: it is not a local folder.
    """
    if not is_local(workdir):
        raise UserError(
            f"--workdir={workdir}: the viewer reads local folders; copy the run first"
        )
    if not Path(workdir).is_dir():
        raise UserError(f"--workdir={workdir}: there is no such folder")
    return Path(workdir).resolve()


def find_shards(workdir: Path) -> list[Shard]:
    """Find the shards of a run, of the arms of a study too.

    Args:
      workdir: the folder.

    Returns:
      Shards by folder and number; scores are left out.
    """
    found = []
    for folder in _folders(workdir, _DEEPEST):
        if folder.name == SCORES:
            continue
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                state = path.stat()
                stamp = (state.st_size, state.st_mtime_ns)
                name = folder.relative_to(workdir).as_posix()
                found.append(Shard(name, int(match[1]), path, stamp))
    order = {"rollouts": 0, "attempts": 1}  # of the stages of a run
    rank = lambda s: (order.get(s.folder, 2), s.folder, s.index)
    return sorted(found, key=rank)


def _folders(folder: Path, deep: int) -> Iterator[Path]:
    yield folder
    if deep:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and path.name not in _OTHERS and path.name[0] != ".":
                yield from _folders(path, deep - 1)


def check_shard(path: Path) -> None:
    """Check that a file is a shard that this code reads.

    Args:
      path: of the file.

    Raises:
      UserError: it is damaged, or of another version.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is damaged or is not a Parquet file ({first_line(error)[:80]})"
        ) from error
    version = (schema.metadata or {}).get(b"fr_store_version", b"none").decode()
    if version != str(VERSION):
        raise UserError(
            f"{path} has schema version {version}, this code reads {VERSION}"
        )
    if missing := set(SCHEMA.names) - set(schema.names):
        raise UserError(f"{path} lacks the column {min(missing)}")


def root_of(workdir: Path, folder: str) -> Path:
    """The run that a folder of attempts belongs to: itself or the arm of a study.

    Args:
      workdir: the folder that is viewed.
      folder: of attempts, relative to it.

    Returns:
      The nearest folder above with `config.json`; the workdir if none has one.
    """
    here = workdir / folder
    while here != workdir and not (here / "config.json").exists():
        here = here.parent
    return here
