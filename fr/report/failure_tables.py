"""Reports of what failures are: their clusters, and classifiers of their origin."""

from collections.abc import Sequence

from fr.layout.tables import (
    Block,
    Column,
    Record,
    number,
    register_report,
    table,
    words,
)

_ALGORITHMS = {"kmeans": "k-means", "mixture": "Gaussian mixture"}
_NULLS = {"shuffled", "cloud"}
_COLUMNS = {"features": "features of the diagnosis", "nuisances": "known without it"}


@register_report("clusters")
def _clusters(records: Sequence[Record]) -> list[Block]:
    """Stability against nulls, and rescue by cluster: `clusters` of routing.json."""
    rows, lines, each = [], [], []
    for record in records:
        if record["why"]:
            lines.append(f"{record['cell']}: left out ({record['why']})")
            continue
        for key, title in _ALGORITHMS.items():
            found, beaten = record[key], set(record[key]["beaten"])
            silhouette = found["silhouettes"][str(found["k"])]
            rows.append({"cell": record["cell"], "by": title} | found)
            rows[-1]["silhouette"] = silhouette
            verdict = "cloud" if "shuffled" in beaten else "shuffled"
            verdict = words("clear" if beaten == _NULLS else verdict)
            lines.append(f"{record['cell']}, {title}: {verdict}")
        each += _rescue_by_cluster(record)
    return [*table("clusters", rows), "\n".join(lines), *each]


def _rescue_by_cluster(record: Record) -> list[Block]:
    found = record["kmeans"]["clusters"]
    rows = [{"cluster": str(i)} | cluster for i, cluster in enumerate(found, 1)]
    columns = [Column(f"{k}, z", f"centre.{k}", sign=True) for k in record["features"]]
    columns += [Column(name, f"rescue.{name}", 0) for name in found[0]["rescue"]]
    doubt = "; they are NOT established (see above)"
    doubt *= set(record["kmeans"]["beaten"]) != _NULLS
    return table("cluster", rows, columns, cell=record["cell"], doubt=doubt)


@register_report("audit")
def _audit(records: Sequence[Record]) -> list[Block]:
    """Accuracy of classifiers of methods and runs: `audit` of routing.json."""
    rows: list[Record] = []
    lines: list[str] = []
    sd = lambda r: r and f"{number(r['accuracy'])} ± {number(r['sd'])}"
    for record in records:
        what = f"{record['target']} within {record['scope']}"
        rows += [{}] if rows else []
        left = record["leave_run_out"] or {}
        for name, folds in (record["folds"] or {}).items():
            row = record | {
                "what": what,
                "from": _COLUMNS[name],
                "left": left.get(name),
            }
            shown = {key: sd(found) for key, found in folds.items()}
            rows.append(row | shown | {"left_out": sd(left.get(name))})
        said = [_counts(record)]
        said += [f"no run left out: {record['why']}"] * bool(record["why"])
        for n in {each["labellings"] for each in left.values()}:
            said.append(words("labellings", n=n))
        if names := " and with the ".join(record["confounded"]):
            said.append(words("confounded", names=names, target=record["target"]))
        lines.append(f"{what}: {'; '.join(said)}")
    blocks = table("audit", rows) if any(rows) or not records else []
    return [*blocks, "\n".join(lines)]


def _counts(record: Record) -> str:
    failures, runs = record["failures"].items(), record["runs"]
    if record["target"] == "run":
        return ", ".join(f"{name} {n}" for name, n in failures)
    return ", ".join(
        f"{name} {n} failed problems of {runs[name]} run{'s' * (runs[name] > 1)}"
        for name, n in failures
    )
