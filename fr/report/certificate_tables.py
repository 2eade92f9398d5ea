"""The report of a certificate: the verdict first, then what it rests on."""

from collections.abc import Sequence

from fr.layout.tables import Block, Record, number, register_report, table, words

_ROUTERS = {
    "posterior": "the router in closed form, learned in other folds",
    "given": "the given router",
}


@register_report("certificate")
def _certificate(found: Record) -> list[Block]:
    """Content of certificate.json."""
    return [
        *verdict(found),
        *to_route(found["cells"], found["interaction"]),
        *table("leaks", found["leaks"]),
        f"  {found['declared']}",
    ]


def verdict(found: Record) -> list[Block]:
    """Say the verdict in words, and what it rests on.

    Args:
        found: Record of `verdict_of`; the columns read may be among it.

    Returns:
        Two blocks of sentences.
    """
    return [f"  {_sentence(found)}", "\n".join(f"  {line}" for line in _lines(found))]


def to_route(cells: Sequence[Record], interactions: Sequence[Record]) -> list[Block]:
    """Say whether there is anything to route, before any policy.

    Args:
        cells: Records of `describe_cells`.
        interactions: Records of `describe_interaction`, of the same cells.

    Returns:
        A table with a row per cell, why a test was not made, and operators without one.
    """
    by_cell = {record["cell"]: record for record in interactions}
    rows = [cell | {"interaction": by_cell[cell["cell"]]} for cell in cells]
    notes = [f"{r['cell']}: {r['why']}" for r in interactions if r["why"]]
    if left := sorted({name for r in interactions for name in r["left_out"]}):
        notes.append(words("certificate_left", names=", ".join(left)))
    return [*table("certificate", rows), "\n".join(f"  {note}" for note in notes)]


def _sentence(found: Record) -> str:
    kind, left = found["verdict"], found["left"]
    if kind == "lift":
        return words("verdict_lift", value=found["lift"]["interval"])
    if kind == "none":
        return words("verdict_none", left=left)
    if kind == "leaked":
        which = dict.fromkeys(leak["column"] for leak in found["leaks"])
        return words("verdict_leaked", columns=", ".join(which))
    why = found["why"]
    if why is None and left is not None:
        why = words("certificate_few", left=left, smallest=found["smallest"])
    return words("verdict_few", why=why or "attempts are unknown")


def _lines(found: Record) -> list[str]:
    lines = []
    if judged := found["lift"]:
        p, null_p = judged.get("p"), found["null_p"]
        lines.append(
            words(
                "certificate_lift",
                router=_ROUTERS[found["router"]],
                gap=judged["interval"],
                p="" if p is None else f", one-sided p = {number(p / 2, 3)}",
                questions=judged["questions"],
            )
        )
        if null_p is not None:
            shown = number(null_p, 3)
            lines.append(words("certificate_null", null=found["null"], p=shown))
        if "kept" in found:
            lines.append(words("certificate_kept", **found))
    if found["headroom"] is not None:
        lines.append(words("certificate_perfect", headroom=found["headroom"]))
    if "columns" in found:
        names = ", ".join(found["columns"]) or "none"
        lines.append(words("certificate_reads", columns=names))
    for key in ("not_read", "like_rates", "uncounted"):
        if names := ", ".join(found.get(key, ())):
            lines.append(words(f"certificate_{key}", names=names))
    return lines
