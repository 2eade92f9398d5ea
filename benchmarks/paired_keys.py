r"""Noise of differences between operators, with their own random keys and with shared.

    python -m benchmarks.paired_keys --shared=runs/quickstart --own=runs/own_keys \
        --out=runs/paired.json

Two finished runs of one config; the second has `--config.intervention.keys=own`. The
noise variance of operator − retry, for the mean over given problems, is
sum_n var_i(y[n, i] − retry[n, i]) / (A N^2), over the A attempts i at each of N
problems; for own keys the two variances add up.
"""

import argparse
import json
import pathlib

import numpy as np
from jaxtyping import Float

from fr import store
from fr.types import RIGHT

RETRY = "retry"


def outcomes(workdir: str) -> dict[str, dict[str, Float[np.ndarray, "A"]]]:
    """Read which attempts were right, by operator and problem.

    Args:
        workdir: folder of the run.

    Returns:
        Right attempts by index, where an operator has as many as retry.
    """
    columns = ["problem", "operator", "attempt", "grade"]
    table = store.read_table(pathlib.Path(workdir) / "attempts", columns)
    found: dict[str, dict[str, dict[int, bool]]] = {}
    for row in table.to_pylist():
        own = found.setdefault(row["operator"], {}).setdefault(row["problem"], {})
        own[row["attempt"]] = row["grade"] == RIGHT
    most = max(len(own) for own in found[RETRY].values())
    whole = lambda own: np.array([own[i] for i in range(most)], float)
    return {
        name: {p: whole(own) for p, own in problems.items() if len(own) == most}
        for name, problems in found.items()
    }


def noise(
    one: Float[np.ndarray, "N A"], other: Float[np.ndarray, "N A"], paired: bool
) -> tuple[float, float]:
    """Compute a difference of mean rates and the variance that attempts leave in it.

    Args:
        one: right attempts of an operator.
        other: of the other one, at the same problems.
        paired: attempts of an index share their key.

    Returns:
        The difference in points, and its variance in squared points.
    """
    scale = 1e4 / (one.shape[0] ** 2 * one.shape[1])
    each = lambda values: values.var(axis=1, ddof=1).sum() * scale
    variance = each(one - other) if paired else each(one) + each(other)
    return 100 * float((one - other).mean()), float(variance)


def compare(shared: str, own: str) -> dict[str, dict[str, float]]:
    """Compare the noise of two runs, operator by operator.

    Args:
        shared: workdir of the run with shared keys.
        own: workdir of the run with own keys.

    Returns:
        By operator: difference to retry (points) and its standard error in each run,
        the share of attempts with retry's outcome, and the ratio of the variances.
    """
    tables, found = (outcomes(shared), outcomes(own)), {}
    for name in tables[0].keys() - {RETRY}:
        sides = [table.get(name, {}).keys() & table[RETRY].keys() for table in tables]
        problems = sorted(sides[0] & sides[1])
        if not problems:
            continue
        record: dict[str, float] = {"problems": len(problems)}
        for keys, table, paired in zip(("shared", "own"), tables, (True, False)):
            both = [np.stack([table[o][p] for p in problems]) for o in (name, RETRY)]
            difference, variance = noise(both[0], both[1], paired)
            record |= {keys: difference, f"{keys}_error": variance**0.5}
            record[f"{keys}_same"] = float((both[0] == both[1]).mean())
        ratio = (record["own_error"] / max(record["shared_error"], 1e-9)) ** 2
        found[name] = record | {"variance_ratio": ratio}
    return found


def main() -> None:
    """Compare, print and write."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--shared", required=True, help="workdir, shared keys")
    flags.add_argument("--own", required=True, help="workdir, own keys")
    flags.add_argument("--out", help="JSON file to write")
    given = flags.parse_args()
    text = json.dumps(compare(given.shared, given.own), indent=1)
    print(text)
    if given.out:
        pathlib.Path(given.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
