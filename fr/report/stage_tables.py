"""Reports of sampling, attempts, online routing, evaluations, studies and new grades."""

from collections.abc import Mapping

from fr.report.routing_tables import curves
from fr.report.tables import Block, Column, number, table

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
_show = Column("").show


def rollouts(found: Mapping) -> list[Block]:
    """Counts and accuracy: record `rollouts` of summary.json."""
    return [
        f"  {found['rollouts']} rollouts of {found['problems']} problems: right "
        f"{_show(found['accuracy']['interval'])} %; {_counts(found['grades'])}; "
        f"{number(found['truncated'])} % truncated\n"
        f"  {found['failed_problems']} problems failed at least once"
    ]


def failures(found: Mapping) -> list[Block]:
    """Counts and mean features: record `failures` of summary.json."""
    means = ", ".join(f"{k} {number(mean, 3)}" for k, mean in found["features"].items())
    return [
        f"  {found['failed_rollouts']} failed rollouts of {found['failed_problems']} "
        f"problems scored\n  means over problems: {means}"
    ]


def attempts(found: Mapping) -> list[Block]:
    """Rescue rates by operator, and votes: record `attempts` of summary.json."""
    rows = [
        o | {"operator": name + " *" * o["outside"], "fired": o["fired"] or None}
        for name, o in found["operators"].items()
    ]
    notes = ["  * uses truth from outside of the model"]
    notes *= any(o["outside"] for o in rows)
    for why in dict.fromkeys(found["left_out"].values()):
        names = (name for name, reason in found["left_out"].items() if reason == why)
        notes.append(f"  left out, {why}: {', '.join(names)}")
    known = found["without_verifier"]
    rates = [f"{_VOTES[k]} {_show(known[k]['interval'])}" for k in _VOTES if k in known]
    notes.append(f"  right without a verifier, % of all problems: {', '.join(rates)}")
    return [*table("attempts", rows), "\n".join(notes)]


def online(found: Mapping) -> list[Block]:
    """Problems solved within each budget by a router and its reference: online.json."""
    routes = ", ".join(f"{name} {n}" for name, n in found["routes"].items()) or "none"
    head = (
        f"  {found['problems']} problems, {found['online_after']} plain attempts before a "
        f"problem is routed; routes: {routes}"
    )
    solved = "solved" if found["verifier"] else "right by vote"
    return [head, *curves(found, f"% {solved} within a cost")]


def evaluation(found: Mapping) -> list[Block]:
    """Measures, reliability, and scored against sampled confidence: evaluation.json."""
    other = found.get("against", {"workdir": "", "figures": {}})
    rows = [
        {"measure": _MEASURES.get(name, name), "here": value}
        | (other["figures"].get(name) or {})
        for name, value in found["figures"].items()
    ]
    head = (
        f"  {found['model']} on {found['task']}, {found['samples']} attempts at each of "
        f"{found['problems']} problems: {_counts(found['grades'])}"
    )
    bins = [
        dict(zip(found["reliability"], x)) for x in zip(*found["reliability"].values())
    ]
    columns = []
    for name in found["reliability"]:
        columns.append(Column(f"{name}: attempts", f"{name}.attempts"))
        columns.append(Column("mean, %", f"{name}.confidence", missing=""))
        columns.append(Column("right, %", f"{name}.right", missing=""))
    for each in bins:
        first = next(iter(each.values()))
        each["bin"] = "–".join(number(first[end], 0) for end in ("from", "to"))
    spent = ", ".join(f"{n:,} {name}" for name, n in found["tokens"].items())
    return [
        head,
        *table("evaluation", rows, model=found["model"], other=other["workdir"]),
        *table("reliability", bins, columns),
        *_signals(found.get("signals")),
        f"  tokens spent: {spent}",
    ]


def _signals(found: Mapping | None) -> list[Block]:
    if found is None:
        return []
    rows = [{"name": k} | found[k] for k in ("own", "gold") if k in found]
    n = max(found["attempts"], 1)
    spent = (f"{name} {number(tokens / n)}" for name, tokens in found["tokens"].items())
    return table("signals", rows, spent=", ".join(spent))


def study(found: Mapping) -> list[Block]:
    """Measures and tokens by arm, and differences from the reference: study.json."""
    arms = {name: arm["figures"] | arm["tokens"] for name, arm in found["arms"].items()}
    first = next(iter(found["arms"].values()))
    line = lambda title, values: {"measure": title, **dict(zip(arms, values))}
    rows = [
        line(_MEASURES.get(k, k), (arm[k] for arm in arms.values()))
        for k in first["figures"]
    ]
    spent = {name: arm["tokens"] for name, arm in found["arms"].items()}
    rows.append({})
    for kind in first["tokens"]:
        counts = (round(tokens[kind]) for tokens in spent.values())
        rows.append(line(f"{kind.replace('_', ' ')} per training", counts))
    totals = (round(sum(tokens.values())) for tokens in spent.values())
    rows.append(line("all tokens per training", totals))
    differences = [
        row
        | {
            "pair": f"{row['arm']} − {row['reference']}",
            "measure": _MEASURES.get(row["figure"], row["figure"]),
            "status": "primary" if row["primary"] else "exploratory",
        }
        for row in sorted(found["differences"], key=lambda row: not row["primary"])
    ]
    head = (
        f"  {len(found['seeds'])} seeds, {found['problems']} problems each; 95 % intervals "
        "over seeds and problems"
    )
    measures = table("study", rows, [Column(name) for name in arms])
    return [head, *measures, *table("study_differences", differences)]


def grades(found) -> list[Block]:
    """Old grades against new ones: a `fr.evaluation.regrade.Regraded`."""
    from fr.types import GRADES  # imports jax, which tables of routing must not

    groups: dict[tuple, dict] = {}
    for (*key, after), n in found.counts.items():
        groups.setdefault(tuple(key), {})[after] = n
    names = ("folder", "task", "operator", "before")
    order = sorted(groups, key=lambda key: (*key[:3], GRADES.index(key[3])))
    rows = [dict(zip(names, key)) | groups[key] for key in order]
    graders = ", ".join(f"'{name}'" for name in sorted(found.graders))
    total = found.counts.total()
    blocks: list[Block] = [
        f"  {found.changed} of {total} attempts have another grade; stored by {graders}"
    ]
    blocks += table("grades", rows, [Column(grade, missing="–") for grade in GRADES])
    for n, c in enumerate(found.changes, 1):
        blocks.append(
            f"  {n}. {c.before} → {c.after} ({c.folder}, {c.task}, {c.operator})\n"
            f"     question:  {_short(c.question)}\n"
            f"     answer:    {'none found' if c.answer is None else _short(c.answer)}\n"
            f"     reference: {_short(c.reference)}"
        )
    if found.stale:
        lines = (f"     {name}: {how}" for name, how in found.stale)
        blocks.append("\n".join(["  made from grades that have changed:", *lines]))
    if found.wrote:
        kept = "their old grades are in the column earlier_grade"
        blocks.append(f"  {found.wrote} shards were replaced; {kept}")
    elif found.changed:
        blocks.append(
            "  nothing was changed; --write replaces the grades in the shards"
        )
    return blocks


def _counts(grades: Mapping[str, int]) -> str:
    return ", ".join(
        f"{n} {grade.replace('_', ' ')}" for grade, n in grades.items() if n
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
