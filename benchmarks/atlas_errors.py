r"""Errors of points of no return, drops and intervals, where V along a trace is known.

    python -m benchmarks.atlas_errors --traces=10000 \
        --out=docs/results/data/atlas_errors.json

atlas_traces.py simulates atlases of 60 traces. A part that --out holds for as many
traces is not simulated again, so a killed run goes on. All shares are in percent.
"""

import functools
import json
import pathlib

import numpy as np
from absl import app, flags
from tqdm import tqdm

from benchmarks.atlas_claims import LEVEL, MIXTURES, SHARE, claims, falls, part_of
from benchmarks.atlas_traces import MIXED, SHARING, TRACES, simulate
from benchmarks.atlas_variance import keys, shares
from fr.stats.bootstrap import HEADER, estimate, percent, resample_weights
from fr.stats.drops import cliff_test
from fr.stats.shares import wilson

COUNT = flags.DEFINE_integer("traces", 10_000, "Simulated traces of each part.", 120)
OUT = flags.DEFINE_string("out", None, "JSON file.", required=True)
BRANCHES = (16, 64)
_NULLS = 4  # times as many traces without anything to claim
_MORE = 12  # times as many atlases for the coverage of means
_RESAMPLES = 999
_TRUTH = 120_000  # traces that tell the true means
_TOKENS = 250  # of a trace, each of them a cut, for the test of cliffs


def coverage(traces: int, branches: int, rng: np.random.Generator) -> dict:
    """Count how often intervals of V hold the truth.

    Args:
        traces: their number; means are covered over `_MORE` times as many atlases.
        branches: of each cell.
        rng: random stream.

    Returns:
        Coverage of intervals over problems for the mean V at a cut and for the mean
        paired difference to a better operator (mean, smallest and largest over the
        cuts), and of Wilson's interval for V of one trace at one cut.
    """
    better = lambda v: 1 - (1 - v) ** 1.3
    large = simulate(MIXED, _TRUTH, 2, rng).chance
    true = np.stack([large.mean(axis=0), (better(large) - large).mean(axis=0)])
    atlases = _MORE * traces // TRACES
    problems, hits = TRACES // SHARING, np.zeros((atlases, *true.shape), bool)
    for i in range(atlases):
        drawn = simulate(MIXED, TRACES, branches, rng)
        v, right = drawn.chance, drawn.right
        more = rng.binomial(branches - right, (better(v) - v) / (1 - v))
        more[:, 0] = more[::SHARING, 0][drawn.problem]
        weights = resample_weights(problems, _RESAMPLES, rng) / (problems * SHARING)
        for j, values in enumerate((right / branches, more / branches)):
            of = values.reshape(problems, SHARING, -1).sum(axis=1)
            ends = [estimate(w, problems).interval() for w in (weights @ of).T]
            low, high = np.array(ends).T
            hits[i, j] = (low <= true[j]) & (true[j] <= high)
    drawn = simulate(MIXED, traces, branches, rng)
    _, low, high = wilson(drawn.right, drawn.made(2))
    one = (low <= drawn.chance) & (drawn.chance <= high)
    return {
        "atlases": atlases,
        "mean": _spread(hits[:, 0]),
        "difference": _spread(hits[:, 1]),
        "trace": percent(one.mean()),
    }


def _spread(hits: np.ndarray) -> dict[str, float | None]:
    each = hits.mean(axis=0)
    ends = {"all": each.mean(), "lowest": each.min(), "highest": each.max()}
    return {name: percent(share) for name, share in ends.items()}


def tokens(traces: int, branches: int, rng: np.random.Generator) -> dict:
    """Apply the uncorrected test of cliffs at every token of flat traces.

    Args:
        traces: their number.
        branches: of each token.
        rng: random stream.

    Returns:
        Share of traces with a cliff, by V.
    """
    found = {}
    for v in (0.1, 0.3, 0.5):
        right = rng.binomial(branches, v, (traces, _TOKENS))
        made = np.full(right.shape, branches)
        found[f"{v:g}"] = part_of(cliff_test(right, made).any(axis=1))
    return found


def parts() -> dict:
    """List what is simulated.

    Returns:
        By name: a function of (traces, branches, random stream), the branches, and by
        what the number of traces is multiplied.
    """
    found: dict = {}
    for n in BRANCHES:
        for mixture in MIXTURES:
            times = 1 if mixture == "mixed" else _NULLS
            for part in (claims, falls):
                name = f"{part.__name__}, {mixture}, {n}"
                found[name] = functools.partial(part, mixture), n, times
        for part in (coverage, tokens, shares, keys):
            found[f"{part.__name__}, {n}"] = part, n, 1
    # A drop to the half is a drop.
    return {k: v for k, v in found.items() if not k.startswith("falls, to the half")}


def main(_) -> None:
    """Simulate each part, and write after each."""
    path = pathlib.Path(OUT.value)
    report = json.loads(path.read_text()) if path.exists() else {}
    traces = -(-COUNT.value // TRACES) * TRACES
    stored = report.get("parts", {}) if report.get("traces") == traces else {}
    report = {**HEADER, "traces": traces, "false": 100 * LEVEL, "share": SHARE}
    report["parts"] = stored
    for name, (part, branches, times) in tqdm(parts().items(), unit="part"):
        if name in stored:
            continue
        rng = np.random.default_rng([*name.encode()])
        stored[name] = part(times * traces, branches, rng)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
