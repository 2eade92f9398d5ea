"""What an evaluation counts at every problem, and the figures, with their resamples, that are made of the counts."""

import dataclasses
import json

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import store
from fr.config import Config
from fr.errors import UserError
from fr.runs.run import Run
from fr.stats.bootstrap import Estimate, Interval, estimate, resample_weights
from fr.stats.calibration import answer_confidence, bin_sums, error_of, premature
from fr.stats.pass_at_k import pass_at_k
from fr.tasks.countdown_rules import step_errors
from fr.tasks.formats import answer_span
from fr.types import GRADER_ERROR, RIGHT, Problem
from fr.workdir import PathLike, write_json

_FILE = "evaluation_problems.json"
_NO_SHARES = ("length",)
_COLUMNS = (
    "problem",
    "text",
    "grade",
    "truncated",
    "tokens",
    "margin",
    "own_probability",
)


@dataclasses.dataclass(frozen=True)
class Measures:
    """Sums over the attempts at each problem: every figure is a function of them, and so is every resample of it."""

    problems: tuple[str, ...]
    ratios: dict[
        str, Float[np.ndarray, "N 2"]
    ]  # by figure: what is counted, and among how much
    bins: dict[str, Float[np.ndarray, "N K 3"]]  # by confidence: those of `bin_sums`

    def figures(self, config: Config) -> dict[str, Estimate]:
        """Every figure; resamples are the same for all models that one config asks the same problems.

        Those of a calibration error lean upwards: the difference of a bin counts whatever its sign.
        """
        draw = np.random.default_rng(config.seed)
        weights = resample_weights(len(self.problems), config.routing.bootstrap, draw)
        found = {}
        with np.errstate(invalid="ignore"):
            for name, sums in self.ratios.items():
                counted, among = (weights @ sums).T
                found[name] = estimate(counted / among, np.count_nonzero(sums[:, 1]))
        for name, sums in self.bins.items():
            errors = error_of(np.einsum("rn,nks->rks", weights, sums))
            found[f"ece_{name}"] = estimate(
                errors, np.count_nonzero(sums[:, :, 0].sum(axis=1))
            )
        return found

    def values(self) -> dict[str, float]:
        """Every figure without its resamples; NaN where there is nothing to count."""
        found = {}
        with np.errstate(invalid="ignore"):
            for name, sums in self.ratios.items():
                counted, among = sums.sum(axis=0)
                found[name] = float(counted / among)
            for name, sums in self.bins.items():
                found[f"ece_{name}"] = float(error_of(sums.sum(axis=0)))
        return found

    def write(self, workdir: epath.Path) -> None:
        """Keep the sums in `workdir`, for other evaluations to be compared with."""
        write_json(workdir / _FILE, dataclasses.asdict(self))


def interval_of(name: str, value: Estimate, share: bool = False) -> Interval:
    """A figure, or a difference of two, in percent; the length of attempts in tokens.

    Args:
        name: Name of the figure.
        value: The figure and its resamples, a share unless it is a length.
        share: Keep the ends within 0 and 100.

    Returns:
        Value and ends, None where they are unknown.
    """
    if name in _NO_SHARES:
        return value.plain()
    found = value.percent()
    if not share or found.low is None:
        return found
    return Interval(found.value, max(found.low, 0.0), min(found.high, 100.0))


def read_measures(workdir: PathLike) -> Measures:
    """The sums that an evaluation has left in `workdir`; raises UserError if there are none."""
    path = epath.Path(workdir) / _FILE
    if not path.exists():
        raise UserError(
            f"{path} is missing; run scripts/evaluate.py with --workdir={workdir} first"
        )
    found = json.loads(path.read_text())
    arrays = lambda group: {name: np.array(sums, float) for name, sums in group.items()}
    return Measures(
        tuple(found["problems"]), arrays(found["ratios"]), arrays(found["bins"])
    )


def measure(run: Run, folder: epath.Path) -> Measures:
    """Count what the attempts in `folder` did at every problem of the run.

    Shares are among all attempts, but `premature` and `flat` among those with an own answer, `flawed` (a wrong
    step of arithmetic, Countdown only) among the right ones, and `step_errors` among all steps. The confidences
    are `own`, the probability of the own answer behind the whole chain, and `span`, the mean margin of its tokens.
    """
    c, ids = run.config.evaluation, [problem.id for problem in run.problems]
    seen = _attempts(run, folder)
    at = np.array([ids.index(problem) for problem in seen["problem"]])
    total = lambda values: np.bincount(at, values, minlength=len(ids))
    ratio = lambda counted, among: np.stack(
        [total(counted * among), total(among)], axis=1
    )
    every, right = np.ones(len(at)), seen["right"].astype(float)
    known = ~np.isnan(seen["own"]).any(axis=1)
    rho, flat = premature(np.where(known[:, None], seen["own"], 0.0))
    ratios = {"accuracy": ratio(right, every)}
    for k in (k for k in c.ks if 1 < k <= c.samples):  # pass@1 is the accuracy
        share = pass_at_k(total(right).astype(int), c.samples, k)
        ratios[f"pass@{k}"] = np.stack([share, np.ones(len(ids))], axis=1)
    ratios["premature"] = ratio(~flat & (rho < c.premature), known * 1.0)
    ratios["flat"] = ratio(flat, known * 1.0)
    if "wrong_steps" in seen:
        ratios["flawed"] = ratio(seen["wrong_steps"] > 0, right)
        ratios["step_errors"] = np.stack(
            [total(seen["wrong_steps"]), total(seen["steps"])], axis=1
        )
    ratios |= {
        name: ratio(seen[name], every) for name in ("answered", "truncated", "length")
    }
    bins = {}
    for name, confidence in (("own", seen["own"][:, -1]), ("span", seen["span"])):
        use = ~np.isnan(confidence) & seen["judged"]
        bins[name] = bin_sums(confidence[use], right[use], c.bins, at[use], len(ids))
    return Measures(tuple(ids), ratios, bins)


def _attempts(run: Run, folder: epath.Path) -> dict[str, np.ndarray]:
    """What is counted of every attempt, by column; a shard at a time, since their tokens fill memory."""
    problems = {problem.id: problem for problem in run.problems}
    seen = []
    for shard in sorted(store.finished(folder)):
        rows = store.read_table(folder, list(_COLUMNS), [shard]).to_pylist()
        seen += [_seen(run, problems[row["problem"]], row) for row in rows]
    return {name: np.array([row[name] for row in seen]) for name in seen[0]}


def _seen(run: Run, problem: Problem, row: dict) -> dict:
    span = answer_span(problem, row["tokens"], run.specialist)
    unknown = [np.nan] * run.config.evaluation.cuts
    found = {
        "problem": problem.id,
        "right": row["grade"] == RIGHT,
        "judged": row["grade"] != GRADER_ERROR,
        "truncated": row["truncated"],
        "answered": span != (0, 0),
        "length": len(row["tokens"]),
        "own": row["own_probability"] or unknown,
        "span": answer_confidence(row["margin"], span),
    }
    if run.parts == ("countdown",):
        count = step_errors(row["text"])
        found |= {"wrong_steps": float(count.wrong), "steps": float(sum(count))}
    return found
