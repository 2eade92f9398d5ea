"""The report of a certificate: the verdict first, then what it rests on."""

from fr.layout.tables import Block, Record, number, register_report, table, words

_ROUTERS = {
    "posterior": "the router in closed form, learned in other folds",
    "given": "the given router",
}


@register_report("certificate")
def _certificate(found: Record) -> list[Block]:
    """Content of certificate.json."""
    interaction = {record["cell"]: record for record in found["interaction"]}
    cells = [
        cell | {"interaction": interaction[cell["cell"]]} for cell in found["cells"]
    ]
    return [
        f"  {_verdict(found)}",
        "\n".join(f"  {line}" for line in _lines(found)),
        *table("certificate", cells),
        *table("leaks", found["leaks"]),
        f"  {found['declared']}",
    ]


def _verdict(found: Record) -> str:
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
        p = judged.get("p")
        lines.append(
            words(
                "certificate_lift",
                router=_ROUTERS[found["router"]],
                gap=judged["interval"],
                p="n/a" if p is None else number(p / 2, 3),
                questions=judged["questions"],
                included=found["included"],
            )
        )
        null_p = found["null_p"]
        shown = "n/a" if null_p is None else number(null_p, 3)
        lines.append(words("certificate_null", null=found["null"], p=shown))
    if found["headroom"] is not None:
        lines.append(words("certificate_perfect", headroom=found["headroom"]))
    names = ", ".join(found["columns"]) or "none"
    return [*lines, words("certificate_reads", columns=names)]
