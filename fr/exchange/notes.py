"""Reports of imports, and notes of the stages that read imported rollouts."""

from typing import Any

import pyarrow.parquet as pq
from etils import epath

from fr import distributed, store
from fr.errors import printable
from fr.exchange.token_ids import LOST
from fr.files import open_regular
from fr.layout.tables import REPORTS, Block, Record, register_report, words
from fr.layout.text import to_text
from fr.runs.imported import imported
from fr.workdir import PathLike

_LISTED = ("truncated", "with log-probs")
_LONGEST = 200  # characters of names of models


@register_report("imported")
def _imported(found: Record) -> list[Block]:
    blocks: list[Block] = [words("imported", **found, **_known(found))]
    marks = {k: n for k, n in found["marks"].items() if k not in _LISTED and n}
    lines = [f"  {n} {mark}" for mark, n in marks.items()]
    for out in found["left_out"]:
        lines.append(f"  {out['n']} left out: {out['why']}: {', '.join(out['names'])}")
    if found["other_prompts"]:
        lines.append(words("imported_prompts", n=found["other_prompts"]))
    if marks.get(LOST):
        lines.append(words("imported_lost"))
    if found["settings"]:
        lines.append(words("imported_settings", names=", ".join(found["settings"])))
    if found["marks"].get("retokenised"):
        lines.append(words("imported_texts"))
    return [*blocks, "\n".join(lines)] if lines else blocks


def _known(found: Record) -> dict[str, Any]:
    marks = found["marks"]
    return {
        "model": printable(", ".join(found["models"])[:_LONGEST])
        or "a model without a name",
        "cut": marks.get("truncated", 0),
        "known": marks.get("with log-probs", 0),
    }


@register_report("engine")
def _engine(found: Record) -> list[Block]:
    if not found["tokens"]:
        first = words("engine_unknown", **found)
    else:
        digits = {k: f"{found[k]:.2g}" for k in ("size", "p99")}
        first = words("engine", **found | digits | {"mean": f"{found['mean']:+.2g}"})
    lines = [first]
    if found["tokens"] and found["wide"] > 1.0:
        lines.append(words("engine_wide"))
    if found["retokenised"]:
        lines.append(words("engine_texts", **found))
    if found["filtered"]:
        lines.append(words("engine_filtered", **found))
    return ["\n".join(lines)]


def shown(name: str, found: Record) -> str:
    """One of this file's reports as text.

    Args:
        name: `imported` or `engine`.
        found: Its record.

    Returns:
        Text for a terminal.
    """
    return to_text(REPORTS[name](found))


def print_note(workdir: PathLike, stage: str) -> bool:
    """Print what a stage does with imported rollouts.

    Args:
        workdir: Folder of the run.
        stage: `rollouts` or `attempts`.

    Returns:
        True if the rollouts were imported.
    """
    made = imported(workdir)
    if made is None:
        return False
    distributed.print0(words(f"imported_{stage}", format=made["format"]))
    return True


def retokenised(folder: epath.Path, index: int) -> set[str]:
    """Rows of a shard whose ids were made from a text.

    Args:
        folder: `rollouts/` of a run whose rollouts were imported.
        index: Number of the shard.

    Returns:
        Their names.
    """
    with open_regular(store.shard_path(folder, index), store.MAX_SHARD) as source:
        rows = pq.read_table(source, columns=["row", "retokenised"]).to_pylist()
    return {row["row"] for row in rows if row["retokenised"]}
