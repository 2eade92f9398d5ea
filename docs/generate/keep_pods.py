"""Keep what scripts/compile.py said about pod configs in docs/results/data/pods.json.

    python docs/generate/keep_pods.py 'configs/studies/triage.py:pod' Qwen3-1.7B \
        runs/compiled/compile.json

The config's row is added, or takes the place of the one with the same config and slice.
Then run render.py.
"""

import json
import sys
from pathlib import Path

PODS = Path(__file__).resolve().parent.parent / "results" / "data" / "pods.json"
_FIELDS = (
    *("program", "shape", "used_by", "trace_seconds", "seconds", "argument", "output"),
    *("temporary", "beside", "held", "flops", "moved", "roofline", "bound"),
    *("open_loops", "copies", "problem"),
)


def kept(record: dict, config: str, model: str) -> dict:
    """The part of a record that the page shows.

    Args:
        record: Content of compile.json.
        config: The config and its form.
        model: The models whose shapes were taken.

    Returns:
        Content of the config's entry.
    """
    rows = [{name: row[name] for name in _FIELDS} for row in record["programs"]]
    more = ("topology", "devices", "memory", "jax", "prompt", "effort", "seconds")
    about = {name: record[name] for name in more}
    return {"config": config, "model": model, **about, "programs": rows}


def main() -> None:
    """Keep one config."""
    config, model, path = sys.argv[1:]
    entry = kept(json.loads(Path(path).read_text()), config, model)
    there = json.loads(PODS.read_text()) if PODS.exists() else []
    same = lambda one: all(one[k] == entry[k] for k in ("config", "topology"))
    found = [*(one for one in there if not same(one)), entry]
    found.sort(key=lambda one: (one["config"], one["topology"]))
    PODS.write_text(json.dumps(found, indent=1) + "\n")
    print(PODS)


if __name__ == "__main__":
    main()
