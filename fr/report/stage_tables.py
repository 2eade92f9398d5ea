"""Reports of sampling, attempts, online routing, evaluations, studies, new grades."""

from fr.layout.tables import (
    Block,
    Column,
    Record,
    number,
    register_report,
    table,
    words,
)
from fr.report.routing_tables import curves

_MEASURES = {
    "premature": "premature confidence",
    "flat": "flat confidence",
    "flawed": "right after a wrong step",
    "step_errors": "wrong steps",
    "answered": "with an answer",
    "length": "tokens",
    "ece_own": "calibration error, own answer",
    "ece_span": "calibration error, answer span",
}
_VOTES = {
    "rollout": "a single rollout",
    "majority": "the most frequent answer",
    "weighted": "the vote weighted by confidence",
    "surest": "the most confident rollout",
}
_LONGEST = 200  # characters of a quoted text


@register_report("rollouts")
def _rollouts(found: Record) -> list[Block]:
    right, counts = found["accuracy"]["interval"], _counts(found["grades"])
    return [words("rollouts", **found, right=right, counts=counts)]


@register_report("failures")
def _failures(found: Record) -> list[Block]:
    means = ", ".join(f"{k} {number(mean, 3)}" for k, mean in found["features"].items())
    return [words("failures", **found, means=means)]


@register_report("attempts")
def _attempts(found: Record) -> list[Block]:
    rows = [
        o | {"name": name + " *" * o["uses_oracle"], "fired": o["fired"] or None}
        for name, o in found["operators"].items()
    ]
    notes = [words("uses_oracle")] * any(o["uses_oracle"] for o in rows)
    for why in dict.fromkeys(found["left_out"].values()):
        names = (name for name, reason in found["left_out"].items() if reason == why)
        notes.append(words("left_out", why=why, names=", ".join(names)))
    known, show = found["without_verifier"], Column("").show
    rates = [f"{_VOTES[k]} {show(known[k]['interval'])}" for k in _VOTES if k in known]
    notes.append(words("votes", rates=", ".join(rates)))
    return [*table("attempts", rows), "\n".join(notes)]


@register_report("online")
def _online(found: Record) -> list[Block]:
    chosen = ", ".join(f"{name} {n}" for name, n in found["routes"].items()) or "none"
    solved = "solved" if found["verifier"] else "right by vote"
    head = words("online", **found, chosen=chosen)
    drawn = found.get("logged") or {"problems": 0, "values": []}
    values = table("online_values", drawn["values"], problems=drawn["problems"])
    return [head, *curves(found, words("within", solved=solved)), *values]


@register_report("evaluation")
def _evaluation(found: Record) -> list[Block]:
    other = found.get("against", {"workdir": "", "metrics": {}})
    rows = [
        {"measure": _MEASURES.get(k, k), "here": value} | other["metrics"].get(k, {})
        for k, value in found["metrics"].items()
    ]
    columns, bins = [], []
    for name in found["reliability"]:
        columns.append(Column(f"{name}: attempts", f"{name}.attempts"))
        columns.append(Column("mean, %", f"{name}.confidence"))
        columns.append(Column("right, %", f"{name}.right"))
    for each in zip(*found["reliability"].values()):
        ends = "–".join(number(each[0][end], 0) for end in ("from", "to"))
        bins.append(dict(zip(found["reliability"], each)) | {"bin": ends})
    spent = ", ".join(f"{n:,} {name}" for name, n in found["tokens"].items())
    return [
        words("evaluation", **found, counts=_counts(found["grades"]), spent=spent),
        *table("evaluation", rows, model=found["model"], other=other["workdir"]),
        *table("reliability", bins, columns),
        *_signals(found.get("signals", {"attempts": 0, "tokens": {}})),
    ]


def _signals(found: Record) -> list[Block]:
    rows = [{"name": k} | found[k] for k in ("own", "gold") if k in found]
    n = max(found["attempts"], 1)
    spent = (f"{name} {number(tokens / n)}" for name, tokens in found["tokens"].items())
    return table("signals", rows, spent=", ".join(spent))


_MOST = 24  # metrics and comparisons of a study that are printed without a choice


@register_report("study")
def _study(found: Record) -> list[Block]:
    arms, gaps = found["arms"], found["differences"]
    names = list(dict.fromkeys(k for arm in arms.values() for k in arm["metrics"]))
    chosen = [row for row in gaps if row["declared"] or row["arm"] == "contrast"]
    notes = []
    if len(names) > _MOST:
        wanted = {row["metric"] for row in chosen}
        names = [k for k in names if k in wanted or _metric(k) == "accuracy"]
    if len(gaps) > _MOST:
        notes.append(words("study_more", count=len(gaps) - len(chosen)))
        gaps = chosen
    rows: list[dict] = [
        {"measure": _named(k)} | {a: arms[a]["metrics"].get(k) for a in arms}
        for k in names
    ]
    rows.append({})
    spent = {name: arm["tokens"] for name, arm in arms.items()}
    for kind in next(iter(spent.values())):
        counts = {name: round(tokens[kind]) for name, tokens in spent.items()}
        if any(counts.values()):
            label = f"{kind.replace('_', ' ')} per training"
            rows.append({"measure": label} | counts)
    totals = {name: round(sum(tokens.values())) for name, tokens in spent.items()}
    rows.append({"measure": "all tokens per training"} | totals)
    differences = [
        row
        | {"pair": _pair(row), "measure": _named(row["metric"])}
        | {"status": _status(row)}
        for row in sorted(gaps, key=lambda r: (not r["primary"], not r["declared"]))
    ]
    counts = found["problems"]
    problems = counts if isinstance(counts, int) else max(counts.values())
    head = words("study", seeds=len(found["seeds"]), problems=problems)
    measures = table("study", rows, [Column(name) for name in arms])
    return [head, *measures, *table("study_differences", differences), *notes]


def _metric(name: str) -> str:
    """A metric without the name of its test and its group."""
    return name.rpartition(":")[2].partition("[")[0]


def _named(name: str) -> str:
    metric = _metric(name)
    return name.replace(metric, _MEASURES.get(metric, metric))


def _pair(row: dict) -> str:
    if row["arm"] == "contrast":
        return row["reference"]
    return f"{row['arm']} − {row['reference']}"


def _status(row: dict) -> str:
    if row["primary"]:
        return "primary"
    return "declared" if row["declared"] else "exploratory"


@register_report("grades")
def _grades(found) -> list[Block]:
    """Old grades against new ones, of a `fr.evaluation.regrade.Regraded`."""
    from fr.types import GRADES  # imports jax, which tables of routing must not

    groups: dict[tuple, dict] = {}
    for (*key, after), n in found.counts.items():
        groups.setdefault(tuple(key), {})[after] = n
    names = ("folder", "task", "operator", "before")
    order = sorted(groups, key=lambda key: (*key[:3], GRADES.index(key[3])))
    rows = [dict(zip(names, key)) | groups[key] for key in order]
    graders = ", ".join(f"'{name}'" for name in sorted(found.graders))
    counts = {"changed": found.changed, "total": found.counts.total()}
    blocks: list[Block] = [words("grades", **counts, graders=graders)]
    blocks += table("grades", rows, [Column(grade, missing="–") for grade in GRADES])
    for n, change in enumerate(found.changes, 1):
        texts = {k: _short(v) for k, v in vars(change).items()}
        blocks.append(words("change", **texts, n=n))
    if found.stale:
        lines = (f"   {name}: {how}" for name, how in found.stale)
        blocks.append("\n".join(["made from grades that have changed:", *lines]))
    if found.wrote or found.changed:
        blocks.append(words("wrote" if found.wrote else "unchanged", wrote=found.wrote))
    return blocks


def _counts(grades: dict[str, int]) -> str:
    return ", ".join(
        f"{n} {grade.replace('_', ' ')}" for grade, n in grades.items() if n
    )


def _short(text: str | None) -> str:
    line = "none found" if text is None else " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
