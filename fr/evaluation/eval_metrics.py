"""Metrics of an evaluation: sums by problem, and estimates with resamples."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import store
from fr.config import Config
from fr.errors import UserError
from fr.evaluation.measures import (
    STATISTICS,
    MeasureContext,
    is_share,
    prepare_measures,
    sums_of,
)
from fr.runs.run import Run
from fr.stats.bootstrap import Estimate, Interval, estimate, resample_weights
from fr.stats.calibration import answer_confidence, bin_sums, error_of, premature
from fr.stats.pass_at_k import pass_at_k
from fr.tasks.countdown_rules import step_errors
from fr.tasks.formats import answer_span
from fr.types import GRADER_ERROR, RIGHT, Problem
from fr.workdir import PathLike, write_json

_FILE = "evaluation_problems.json"


@dataclasses.dataclass(frozen=True)
class EvalMetrics:
    """Sums over the attempts at each problem, from which every metric is computed.

    N problems, K bins of confidence. A resample of the problems weighs the same sums.
    """

    problems: tuple[str, ...]  # ids
    # Numerator and denominator, by metric.
    ratios: dict[str, Float[np.ndarray, "N 2"]]
    # Sums of `fr.stats.calibration.bin_sums`, by kind of confidence.
    bins: dict[str, Float[np.ndarray, "N K 3"]]

    def estimates(self, config: Config) -> dict[str, Estimate]:
        """Every metric with its resamples over problems.

        Models that one config asks the same problems have the same resamples. Resamples
        of a calibration error lean upwards, because differences of bins count by their
        size.

        Args:
            config: Seed and `routing.bootstrap` are read.

        Returns:
            Estimates by name; shares in [0, 1], `length` in tokens.
        """
        draw = np.random.default_rng(config.seed)
        weights = resample_weights(len(self.problems), config.routing.bootstrap, draw)
        found = {}
        with np.errstate(invalid="ignore"):
            for name, sums in self.ratios.items():
                counted, among = (weights @ sums).T
                problems = int(np.count_nonzero(sums[:, 1]))
                found[name] = estimate(counted / among, problems)
        for name, sums in self.bins.items():
            errors = error_of(np.einsum("rn,nks->rks", weights, sums))
            problems = int(np.count_nonzero(sums[:, :, 0].sum(axis=1)))
            found[f"ece_{name}"] = estimate(errors, problems)
        return found

    def values(self) -> dict[str, float]:
        """Every metric without resamples, by name; NaN where its denominator is 0."""
        found = {}
        with np.errstate(invalid="ignore"):
            for name, sums in self.ratios.items():
                counted, among = sums.sum(axis=0)
                found[name] = float(counted / among)
            for name, sums in self.bins.items():
                found[f"ece_{name}"] = float(error_of(sums.sum(axis=0)))
        return found

    def write(self, workdir: epath.Path) -> None:
        """Write the sums, so that other evaluations can be compared with this one.

        Args:
            workdir: Folder of the run.
        """
        write_json(workdir / _FILE, dataclasses.asdict(self))


def interval_of(name: str, value: Estimate, share: bool = False) -> Interval:
    """Convert a metric, or a difference of two, to an interval in percent.

    Args:
        name: Name of the metric; a quantity that is not a share keeps its unit.
        value: The metric and its resamples.
        share: Keep the ends within 0 and 100.

    Returns:
        Value and ends, None where they are unknown.
    """
    if not is_share(name):
        return value.plain()
    found = value.percent()
    if not share or found.low is None or found.high is None:
        return found
    return Interval(found.value, max(found.low, 0.0), min(found.high, 100.0))


def read_metrics(workdir: PathLike) -> EvalMetrics:
    """Read the sums of an evaluation.

    Args:
        workdir: Folder of the run.

    Returns:
        The sums.

    Raises:
        UserError: The folder holds no evaluation.
    """
    path = epath.Path(workdir) / _FILE
    if not path.exists():
        raise UserError(
            f"{path} is missing; run scripts/evaluate.py with --workdir={workdir} first"
        )
    found = json.loads(path.read_text())
    arrays = lambda group: {name: np.array(sums, float) for name, sums in group.items()}
    return EvalMetrics(
        tuple(found["problems"]), arrays(found["ratios"]), arrays(found["bins"])
    )


def measure_attempts(run: Run, folder: epath.Path) -> EvalMetrics:
    """Sum the attempts of a folder by problem.

    A metric is a share of all attempts, with these exceptions: `premature` and `flat`
    are shares of the attempts with an own answer, `flawed` (a wrong step of arithmetic,
    Countdown only) of the right ones, and `step_errors` of all steps. The confidences
    are `own`, the probability of the own answer after the whole chain, and `span`, the
    mean margin of the answer's tokens. Then follow the measures of the config, and its
    groups of problems. With `evaluation.cuts_at` = thoughts there is no `premature` and
    no `flat`, since the cuts differ in number.

    Args:
        run: The run, whose problems and settings are read.
        folder: Folder of attempts, finished.

    Returns:
        The sums, in the order of the run's problems.
    """
    c, ids = run.config.evaluation, [problem.id for problem in run.problems]
    # One shard at a time, since tokens fill the memory; measures need all of a problem.
    rows, attempts = [], []
    problems = {problem.id: problem for problem in run.problems}
    for shard in sorted(store.finished(folder)):
        some = store.read(folder, [shard], STATISTICS)
        rows += [_seen(run, problems[attempt.problem], attempt) for attempt in some]
        attempts += some * bool(c.measures or c.by)
    seen = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    at = np.array([ids.index(problem) for problem in seen["problem"]])
    total = lambda values: np.bincount(at, values, minlength=len(ids))
    ratio = lambda counted, among: np.stack(
        [total(counted * among), total(among)], axis=1
    )
    every, right = np.ones(len(at)), seen["right"].astype(float)
    ratios = {"accuracy": ratio(right, every)}
    for k in (k for k in c.ks if 1 < k <= c.samples):  # pass@1 is the accuracy
        share = pass_at_k(total(right).astype(int), c.samples, k)
        ratios[f"pass@{k}"] = np.stack([share, np.ones(len(ids))], axis=1)
    if c.cuts_at == "shares":
        known = ~np.isnan(seen["own"]).any(axis=1)
        rho, flat = premature(np.where(known[:, None], seen["own"], 0.0))
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
    ratios |= _further(run, attempts) if attempts else {}
    bins = {}
    for name, confidence in (("own", seen["own"][:, -1]), ("span", seen["span"])):
        use = ~np.isnan(confidence) & seen["judged"]
        bins[name] = bin_sums(confidence[use], right[use], c.bins, at[use], len(ids))
    return EvalMetrics(tuple(ids), ratios, bins)


def _further(
    run: Run, attempts: Sequence[store.Attempt]
) -> dict[str, Float[np.ndarray, "N 2"]]:
    """Sums of the config's measures and groups, by problem."""
    own: dict[str, list[store.Attempt]] = {problem.id: [] for problem in run.problems}
    for attempt in attempts:
        own[attempt.problem].append(attempt)
    asked = [(problem, own[problem.id]) for problem in run.problems]
    prepared = prepare_measures(run.config.evaluation.measures, asked)
    context = MeasureContext(run.config, run.specialist, prepared)
    found: dict[str, np.ndarray] = {}
    for i, (problem, made) in enumerate(asked):
        for name, sums in sums_of(problem, made, context).items():
            found.setdefault(name, np.zeros((len(run.problems), 2)))[i] = sums
    return found


def _seen(run: Run, problem: Problem, attempt: store.Attempt) -> dict:
    """The numbers of one attempt."""
    span = answer_span(problem, attempt.tokens.tolist(), run.specialist)
    c = run.config.evaluation
    own = attempt.confidence.get("own_probability", np.full(c.cuts, np.nan))
    found = {
        "problem": problem.id,
        "right": attempt.grade == RIGHT,
        "judged": attempt.grade != GRADER_ERROR,
        "truncated": attempt.truncated,
        "answered": span != (0, 0),
        "length": len(attempt.tokens),
        "own": own if c.cuts_at == "shares" else own[-1:],
        "span": answer_confidence(attempt.stats["margin"], span),
    }
    if run.parts == ("countdown",):
        count = step_errors(attempt.text)
        found |= {"wrong_steps": float(count.wrong), "steps": float(sum(count))}
    return found
