"""Write the attempts of a run for other tools, without the model."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr import store
from fr.errors import UserError
from fr.exchange.sampled import Row
from fr.exchange.tool_formats import format_of
from fr.files import open_regular
from fr.profiles import read_cells, write_profiles
from fr.viewer.pieces import Pieces
from fr.workdir import PathLike, replacing

FOLDERS = ("rollouts", "attempts", "evaluation", "online")
_BATCH = 256  # rows that are Python objects at one time
_COLUMNS = (
    "problem",
    "attempt",
    "operator",
    "task",
    "specialist",
    "question",
    "reference",
    "prompt",
    "tokens",
    "logp",
    "text",
    "truncated",
    "grade",
    "answer",
    "temperature",
    "top_p",
)


def export_attempts(
    workdir: PathLike, path: PathLike, name: str = "fr", folder: str = "rollouts"
) -> int:
    """Write stored attempts in the format of a tool, as a stream.

    Args:
        workdir: Folder of a run.
        path: File to write; it appears when it is whole.
        name: Name of the format.
        folder: One of FOLDERS, a folder of the run.

    Returns:
        Number of attempts.

    Raises:
        UserError: There are no attempts, the ending is not the format's, the format
            needs a tokenizer that is not here, or the file cannot be written.
    """
    if folder not in FOLDERS:
        raise UserError(f"--stage={folder} is not in {', '.join(FOLDERS)}")
    form = format_of(name, (str(path),))
    if str(path).endswith(".gz") or form.texts and str(path).endswith(".json"):
        raise UserError(f"{path}: write {form.suffixes[0]}")
    found = _Attempts(epath.Path(workdir), folder, form.prompts)
    if not store.finished(found.folder):
        raise UserError(f"{found.folder} has no attempts to export")
    with replacing(path) as file:
        form.write(found, file)
    return found.count


class _Attempts:
    """The attempts of a folder in the order of its shards."""

    def __init__(self, workdir: epath.Path, folder: str, prompts: bool):
        self.folder, self.count = workdir / folder, 0
        self._pieces, self._prompts = Pieces(workdir), prompts
        self._name = folder

    def __iter__(self) -> Iterator[Row]:
        for index in sorted(store.finished(self.folder)):
            path = store.shard_path(self.folder, index)
            with open_regular(path, store.MAX_SHARD) as source:
                try:
                    for batch in pq.ParquetFile(source).iter_batches(
                        _BATCH, columns=list(_COLUMNS), use_threads=False
                    ):
                        yield from map(self._row, batch.to_pylist())
                except pa.ArrowException as error:
                    raise UserError(f"{path}: is damaged ({error})") from error

    def _row(self, found: dict[str, Any]) -> Row:
        self.count += 1
        tokens = found["tokens"]
        asked, why = self._pieces.split(self._name, found["prompt"])
        if why and self._prompts:
            raise UserError(
                f"{self.folder}: this format has prompts as text, and {why}; use "
                "--format=fr, vllm, openai or prime"
            )
        return Row(
            **{
                name: found[name]
                for name in _COLUMNS
                if name not in ("specialist", "logp")
            },
            model=found["specialist"],
            prompt_text=None if why else "".join(asked),
            pieces=None if why else self._pieces.split(self._name, tokens)[0],
            logp=found["logp"] or [None] * len(tokens),
        )


def export_profiles(workdir: PathLike, path: PathLike) -> int:
    """Write the profiles of a run for scripts/certify.py, with their attempts.

    Args:
        workdir: Folder of a run with `profiles.csv`.
        path: CSV file to write; its attempts lie beside it.

    Returns:
        Number of failed problems.

    Raises:
        UserError: The run has no profiles, or the file cannot be written.
    """
    table = epath.Path(workdir) / "profiles.csv"
    if not table.exists():
        raise UserError(f"{table}: is missing; scripts/diagnose.py makes it")
    if not str(path).endswith(".csv"):
        raise UserError(f"{path}: profiles are written as .csv")
    cells = read_cells([table])
    write_profiles(path, cells)
    return sum(map(len, cells))
