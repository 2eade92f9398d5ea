"""The record of a run's rollouts that another engine made, in `stages.json`."""

from typing import Any

from fr.runs.stages import read_stages
from fr.workdir import PathLike

IMPORTED, FILES = "imported", "imported_files"  # keys of `rollouts`
RAW, PROCESSED = "raw", "processed"  # the distribution of an engine's log-probs


def imported(workdir: PathLike) -> dict[str, Any] | None:
    """The record of an import, if the rollouts of a folder were imported.

    Args:
        workdir: Folder of the run.

    Returns:
        `format`, `logprobs` and `files` (place and name by hash); None: they were
        sampled here.
    """
    made = read_stages(workdir).get("rollouts", {})
    if IMPORTED not in made:
        return None
    return {**made[IMPORTED], "files": made.get(FILES, {})}
