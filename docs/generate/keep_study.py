"""Keep what a finished study found in docs/results/data.

    python docs/generate/keep_study.py runs/signal configs/studies/signal.py

Writes docs/results/data/study_NAME.json: the declared comparisons, every arm's metrics
that they or failure_modes.toml name, its tokens, and the analyses. Then run render.py.
"""

import json
import sys
import tomllib
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "results" / "data"


def kept(study: dict, declaration: dict, also: list[str]) -> dict:
    """The part of a study that the pages show.

    Args:
        study: Content of study.json.
        declaration: Content of declaration.json.
        also: Further metrics to keep, with all their groups.

    Returns:
        Content of the data file.
    """
    rows = [r for r in study["differences"] if r["declared"] or r["arm"] == "contrast"]
    named = {row["metric"] for row in rows}
    show = lambda metric: (
        metric in named
        or metric.partition("[")[0] in also
        or _base(metric) in ("accuracy", "cost")
    )
    fields = ("schema", "unit", "level", "seeds", "problems", "primary", "analyses")
    return {
        **{name: study[name] for name in fields},
        "declared_at": declaration["declared"],
        "declared_first": declaration["outcomes"] is None
        or declaration["declared"] < declaration["outcomes"],
        "differences": rows,
        "arms": {
            name: {
                "metrics": {k: v for k, v in arm["metrics"].items() if show(k)},
                "tokens": arm["tokens"],
                "tested": arm["tested"],
            }
            for name, arm in study["arms"].items()
        },
    }


def _base(metric: str) -> str:
    return metric.rpartition(":")[2].partition("[")[0]


def main() -> None:
    """Keep one study."""
    run, config = map(Path, sys.argv[1:])
    read = lambda name: json.loads((run / name).read_text())
    words = tomllib.loads((DATA / "failure_modes.toml").read_text())[config.stem]
    also = words.get("groups", []) + words.get("also", [])
    found = kept(read("study.json"), read("declaration.json"), also)
    path = DATA / f"study_{config.stem}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
