"""Keep what an atlas found in docs/results/data.

    python docs/generate/keep_atlas.py runs/atlas lineage runs/atlas_route

Writes docs/results/data/atlas_NAME.json: atlas.json without its traces, and of the
folder in which its table was routed (the third, if it is given) the certified lifts
and the rates out of fold. Then run render.py.
"""

import json
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "results" / "data"


def planned(routing: dict) -> dict:
    """The part of routing.json that the pages show of the planner.

    Args:
        routing: Content of routing.json.

    Returns:
        Certified lifts, rates of the policies out of fold over all failures, and the
        test of operator x problem of each cell.
    """
    place = ("kfold", "all", "all cells")
    rates = {
        row["policy"]: row["interval"] | {"cost": row.get("cost")}
        for row in routing["rows"]
        if (row["protocol"], row["population"], row["cell"]) == place
        and "reference" not in row
        and not row["policy"].startswith("always_")
    }
    headroom = [own["headroom"] for own in routing["interaction"]]
    return {
        "certified": routing["certified"],
        "rates": rates,
        "headroom": headroom,
    }


def main() -> None:
    """Keep one atlas."""
    run, name, *routed = sys.argv[1:]
    found = json.loads((Path(run) / "atlas.json").read_text())
    found.pop("traces")
    if routed:
        found["planner"] = planned(
            json.loads((Path(routed[0]) / "routing.json").read_text())
        )
    path = DATA / f"atlas_{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
