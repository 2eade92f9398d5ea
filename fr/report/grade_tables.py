"""Old grades of a stored run beside new ones, in a terminal."""

from fr.report.tables import Block, Table, text
from fr.types import GRADES

_LONGEST = 200  # characters of a text that are shown


def render_regraded(found, wrote: bool) -> str:
    """The text of `regraded_blocks`; `found` is a `fr.pipeline.regrade.Regraded`."""
    return text(regraded_blocks(found, wrote))


def regraded_blocks(found, wrote: bool) -> list[Block]:
    """Old × new grade by folder, task and operator; changed attempts; what was made of the old grades."""
    total = found.counts.total()
    head = f"  {found.changed} of {total} attempts have another grade; stored by {_listed(found.graders)}"
    blocks: list[Block] = [head, _table(found)]
    for n, c in enumerate(found.changes, 1):
        blocks.append(
            f"  {n}. {c.before} → {c.after} ({c.folder}, {c.task}, {c.operator})\n"
            f"     question:  {_short(c.question)}\n"
            f"     answer:    {'none found' if c.answer is None else _short(c.answer)}\n"
            f"     reference: {_short(c.reference)}"
        )
    if found.stale:
        lines = [f"     {name}: {how}" for name, how in found.stale]
        blocks.append("\n".join(["  made of grades that are others now:", *lines]))
    if wrote:
        blocks.append(f"  {found.wrote} shards were replaced; their old grades are in the column earlier_grade")
    elif found.changed:
        blocks.append("  nothing was changed; --write replaces the grades in the shards")
    return blocks


def _table(found) -> Table:
    rows, groups = [], {}
    for (folder, task, operator, before, after), count in found.counts.items():
        groups.setdefault((folder, task, operator, before), {})[after] = count
    for key in sorted(groups, key=lambda key: (*key[:3], GRADES.index(key[3]))):
        folder, task, operator, before = key
        counts = [groups[key].get(grade, 0) for grade in GRADES]
        rows.append([folder, task, operator, before, *(str(count) if count else "–" for count in counts)])
    header = ["folder", "task", "operator", "old grade", *GRADES]
    return Table(header, rows, left=(0, 1, 2, 3), lead="  attempts by old grade (rows) and new grade (columns)")


def _listed(names) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def _short(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
