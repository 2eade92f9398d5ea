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


def outcomes(workdir: str) -> dict[str, Float[np.ndarray, "N A"]]:
    """Read which attempts were right, by operator.

    Args:
        workdir: folder of the run.

    Returns:
        By operator with as many attempts as retry: right attempts by problem and index.
    """
    columns = ["problem", "operator", "attempt", "grade"]
    table = store.read_table(pathlib.Path(workdir) / "attempts", columns)
    found: dict[str, dict[str, dict[int, bool]]] = {}
    for row in table.to_pylist():
        own = found.setdefault(row["operator"], {}).setdefault(row["problem"], {})
        own[row["attempt"]] = row["grade"] == RIGHT
    most = max(len(own) for own in found[RETRY].values())
    return {
        name: np.array([[own[i] for i in range(most)] for own in problems.values()])
        for name, problems in found.items()
        if all(len(own) == most for own in problems.values())
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
    one, other = one.astype(float), other.astype(float)
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
        the ratio of the variances, and the share of attempts with retry's outcome.
    """
    tables, found = (outcomes(shared), outcomes(own)), {}
    for name in tables[0]:
        if name == RETRY or name not in tables[1]:
            continue
        record: dict[str, float] = {}
        for keys, table, paired in zip(("shared", "own"), tables, (True, False)):
            difference, variance = noise(table[name], table[RETRY], paired)
            record |= {keys: difference, f"{keys}_error": variance**0.5}
        ratio = (record["own_error"] / max(record["shared_error"], 1e-9)) ** 2
        same = float((tables[0][name] == tables[0][RETRY]).mean())
        found[name] = record | {"variance_ratio": ratio, "same_outcome": same}
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
