"""Reports of what failures are: their clusters, their origin, planted causes."""

from collections.abc import Mapping, Sequence

from fr.report.tables import Block, Column, number, table

_ALGORITHMS = {"kmeans": "k-means", "mixture": "Gaussian mixture"}
_NULLS = {"shuffled", "cloud"}
_COLUMNS = {"features": "features of the diagnosis", "nuisances": "known without it"}


def clusters(records: Sequence[Mapping]) -> list[Block]:
    """Stability against two nulls, and rescue by cluster: `regimes` of routing.json."""
    rows, words, each = [], [], []
    for record in records:
        if record["why"]:
            words.append(f"  {record['cell']}: n/a ({record['why']})")
            continue
        for key, title in _ALGORITHMS.items():
            found = record[key]
            silhouette = found["silhouettes"][str(found["k"])]
            rows.append({"cell": record["cell"], "by": title} | found)
            rows[-1]["silhouette"] = silhouette
            words.append(f"  {record['cell']}, {title}: {_verdict(found['beaten'])}")
        each += _rescue_by_cluster(record)
    return [*table("clusters", rows), "\n".join(words), *each]


def _verdict(beaten: Sequence[str]) -> str:
    if set(beaten) == _NULLS:
        return "more stable than both nulls"
    than = "one cloud: features that depend on each other;"
    than = than if "shuffled" in beaten else "shuffled columns:"
    return f"NO more stable than {than} clusters are not established"


def _rescue_by_cluster(record: Mapping) -> list[Block]:
    found = record["kmeans"]["regimes"]
    rows = [{"cluster": str(i)} | cluster for i, cluster in enumerate(found, 1)]
    columns = [Column(f"{k}, z", f"centre.{k}", sign=True) for k in record["features"]]
    columns += [Column(name, f"rescue.{name}", 0) for name in found[0]["rescue"]]
    doubt = "; they are NOT established (see above)"
    doubt *= set(record["kmeans"]["beaten"]) != _NULLS
    return table("cluster", rows, columns, cell=record["cell"], doubt=doubt)


def audit(records: Sequence[Mapping]) -> list[Block]:
    """Accuracy of classifiers of methods and runs: `audit` of routing.json."""
    rows, words = [], []
    sd = lambda r: r and f"{number(r['accuracy'])} ± {number(r['sd'])}"
    for record in records:
        what = f"{record['target']} within {record['scope']}"
        rows += [{}] if rows else []
        for name, folds in (record["folds"] or {}).items():
            left = (record["leave_run_out"] or {}).get(name)
            row = record | {"what": what, "from": _COLUMNS[name], "left": left}
            shown = {key: sd(found) for key, found in folds.items()}
            rows.append(row | shown | {"left_out": sd(left)})
        words.append(f"  {what}: {_counts(record)}{_warnings(record)}")
    blocks = table("audit", rows) if any(rows) or not records else []
    return [*blocks, "\n".join(words)]


def _counts(record: Mapping) -> str:
    failures, runs = record["failures"].items(), record["runs"]
    if record["target"] == "run":
        return ", ".join(f"{name} {n}" for name, n in failures)
    return ", ".join(
        f"{name} {n} failed problems of {runs[name]} run{'s' * (runs[name] > 1)}"
        for name, n in failures
    )


def _warnings(record: Mapping) -> str:
    words = f"; no run left out: {record['why']}" if record["why"] else ""
    ways = {left["labellings"] for left in (record["leave_run_out"] or {}).values()}
    words += "".join(f"; {n} ways to deal the methods to the runs" for n in ways)
    if record["confounded"]:
        words += (
            f"\n    CONFOUNDED with the {' and with the '.join(record['confounded'])}: "
            f"accuracy over folds is no evidence about the {record['target']}"
        )
    return words
