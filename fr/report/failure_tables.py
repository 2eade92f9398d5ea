"""Regimes of failures, and who wrote them, as a person reads it in a terminal."""

from fr.report.tables import Block, Table, number, span, text

_ALGORITHMS = {"kmeans": "k-means", "mixture": "Gaussian mixture"}
_NULLS = {"shuffled": "shuffled columns", "cloud": "one cloud"}
_COLUMNS = {"features": "features of the diagnosis", "nuisances": "what is known without it"}


def render_regimes(records: list[dict]) -> str:
    """The text of `regime_blocks`."""
    return text(regime_blocks(records))


def regime_blocks(records: list[dict]) -> list[Block]:
    """Stability of each cell's clusters against both nulls, what it means, and the k-means regimes."""
    rows, words = [], []
    for record in records:
        if record["why"]:
            words.append(f"  {record['cell']}: n/a ({record['why']})")
            continue
        for algorithm, title in _ALGORITHMS.items():
            rows.append(_stability(record["cell"], title, record[algorithm]))
            words.append(f"  {record['cell']}, {title}: {_verdict(record[algorithm])}")
    header = ["regimes", "", "k", "silhouette", "stability", "95 %", "seeds"]
    for name in _NULLS.values():
        header += [name, "95 %", "Holm p"]
    parts: list[Block] = [Table(header, rows, left=(0, 1))] if rows else ["regimes"]
    parts.append(
        "  stability: agreement with the clusters of resamples, adjusted for chance (1: always the same).\n"
        "  shuffled columns: features made independent; one cloud: their correlations kept, too"
    )
    parts.append("\n".join(words))
    return parts + [_regimes(record) for record in records if not record["why"]]


def render_audit(records: list[dict]) -> str:
    """The text of `audit_blocks`."""
    return text(audit_blocks(records))


def audit_blocks(records: list[dict]) -> list[Block]:
    """Accuracy of telling methods and runs apart, by folds and by runs left out, and what confounds it."""
    if not records:
        return [
            "audit: n/a (needs failures of two methods: column `method`, or models named by theirs, as sft1p7b)"
        ]
    rows, words = [], []
    for record in records:
        what = f"{record['target']} within {record['scope']}"
        rows += [[]] if rows else []
        for name in record["folds"] or ():
            rows.append([what if name == "features" else "", *_accuracies(record, name)])
        words.append(f"  {what}: {_counts(record)}{_warning(record)}")
    header = [
        "audit, accuracy in %",
        "from",
        "majority",
        "logistic",
        "trees",
        "a run left out",
        "chance",
        "p",
    ]
    return [Table(header, rows, left=(0, 1)) if rows else "audit", "\n".join(words)]


def _stability(cell: str, title: str, found: dict) -> list[str]:
    row = [cell, title, str(found["k"]), number(found["silhouettes"][str(found["k"])], 2)]
    row += [number(found["stability"], 2), span(found["low"], found["high"], 2), number(found["seeds"], 2)]
    for name in _NULLS:
        null = found["nulls"][name]
        row += [number(null["mean"], 2), span(null["low"], null["high"], 2), f"{null['p_holm']:.3f}"]
    return row


def _verdict(found: dict) -> str:
    if found["beaten"] == list(_NULLS):
        return "more stable than both nulls"
    if "shuffled" in found["beaten"]:
        return "NO more stable than one cloud: features that depend on each other; regimes are not established"
    return "NO more stable than shuffled columns: regimes are not established"


def _regimes(record: dict) -> Table:
    regimes = record["kmeans"]["regimes"]
    operators = list(regimes[0]["rescue"])
    rows = []
    for i, regime in enumerate(regimes):
        rates = [regime["rescue"][name] for name in operators]
        centre = [number(regime["centre"][name], 1, sign=True) for name in record["features"]]
        row = [str(i + 1), str(regime["n"]), *centre]
        rows.append([*row, *(f"{number(r['mean'], 0)} {span(r['low'], r['high'], 0)}" for r in rates)])
    established = record["kmeans"]["beaten"] == list(_NULLS)
    header = [f"{record['cell']}, k-means", "n", *(f"{name}, z" for name in record["features"]), *operators]
    note = "  rescued, % [95 %]: exploratory, for the clusters were found on these failures"
    if not established:
        note += "; they are NOT established as regimes (see above)"
    return Table(header, rows, note=note)


def _accuracies(record: dict, name: str) -> list[str]:
    folds, left = record["folds"][name], (record["leave_run_out"] or {}).get(name)
    row = [_COLUMNS[name], number(record["majority"]), *(_with_sd(folds[c]) for c in ("logistic", "trees"))]
    if left is None:
        return [*row, "n/a", "", ""]
    chance = f"{number(left['null'])} {span(left['low'], left['high'])}"
    return [*row, _with_sd(left), chance, f"{left['p']:.3f}"]


def _with_sd(found: dict) -> str:
    return f"{number(found['accuracy'])} ± {number(found['sd'])}"


def _counts(record: dict) -> str:
    runs = record["runs"]
    if record["target"] == "run":
        return ", ".join(f"{name} {n}" for name, n in record["failures"].items())
    return ", ".join(
        f"{name} {n} failed problems of {runs[name]} run{'s' * (runs[name] > 1)}"
        for name, n in record["failures"].items()
    )


def _warning(record: dict) -> str:
    text = f"; no run left out: {record['why']}" if record["why"] else ""
    ways = {left["labellings"] for left in (record["leave_run_out"] or {}).values()}
    text += "".join(f"; {n} ways to deal the methods to the runs" for n in ways)
    if record["confounded"]:
        text += f"\n    CONFOUNDED with the {' and with the '.join(record['confounded'])}"
        text += ": accuracy over folds is no evidence about the " + record["target"]
    return text
