"""Write the data of scripts/demo.py, fr/assets/demo, from a run of the quickstart.

    python scripts/reproduce.py --config=configs/quickstart.py --workdir=runs/quickstart
    python docs/generate/demo_data.py runs/quickstart

Takes the run's profile table with all operators and a few columns, its single attempts,
and the scored failures of some problems.
"""

import csv
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from fr import store  # noqa: E402
from fr.profiles.profile import FEATURES  # noqa: E402

HERE = ROOT / "fr" / "assets" / "demo"
PROBLEMS = ("countdown-3-5-8-to-23", "countdown-2-4-8-to-20")
FAILURES = 2  # of each problem
COLUMNS = (
    *("cell", "problem_id", "n_failed_rollouts", *FEATURES),
    *("excluded_problems", "deterministic_operators", "model", "rollouts"),
    *("mean_length", "answer_agreement", "demotion_mean", "entropy_mean"),
    *("failures_cost", "diagnosis_cost"),
)


def main(run: Path) -> None:
    """Write the table, the attempts, the shard and the settings."""
    HERE.mkdir(parents=True, exist_ok=True)
    with (run / "profiles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    operators = [name.removesuffix("_n") for name in rows[0] if name.endswith("_n")]
    ends = ("", "_n", "_cost")
    kept = {*COLUMNS, *(f"{name}{end}" for name in operators for end in ends)}
    with (HERE / "profiles.csv").open("w", newline="") as file:
        names = [name for name in rows[0] if name in kept]
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    shutil.copy(run / "profiles.attempts.parquet", HERE)
    scored = store.read(run / "scores")
    of = {name: [one for one in scored if one.problem == name] for name in PROBLEMS}
    failures = [one for own in of.values() for one in own[:FAILURES]]
    store.write_shard(HERE, 0, failures, again=True)
    # What the tokenizer is found by.
    settings = {"specialist": "", "ancestor": "countdown"}
    (HERE / "config.json").write_text(json.dumps(settings) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
