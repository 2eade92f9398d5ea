"""Confidence scored from the cache, and shares of sampled answers (arXiv 2605.24396).

C cuts of an attempt's reasoning. The scored probability of an answer after a cut should
be the share of sampled answers that give it.
"""

import dataclasses

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import store
from fr.interventions.vectors import vector_params
from fr.runs.attempts import make_attempts
from fr.runs.planned import Planned
from fr.runs.run import Run
from fr.sampling.probes import forced_requests
from fr.stats.bootstrap import Interval, estimate, percent, resample_weights, rounded
from fr.tasks.formats import ANSWER_SETS, build_probe
from fr.types import RIGHT, Probe, Problem, Request, Rollout

_FOLDER = "answers"


@dataclasses.dataclass(frozen=True)
class _Case:
    """A probed attempt, and its probe with every cut once."""

    attempt: store.Attempt
    problem: Problem
    probe: Probe  # scoring a cut twice costs nothing, sampling after it twice does

    def scored(self, name: str) -> Float[np.ndarray, "C"]:
        """Probability of an answer set after each cut of the probe."""
        first = [
            self.attempt.confidence["cuts"].tolist().index(cut)
            for cut in self.probe.cuts
        ]
        return self.attempt.confidence[f"{name}_probability"][first].astype(np.float64)


def compare_signals(run: Run, folder: epath.Path) -> dict:
    """Sample `evaluation.answers` answers after cuts of some attempts into `answers/`.

    Args:
        run: The run.
        folder: Folder of the probed attempts.

    Returns:
        `attempts`, `tokens` of both methods, and for own and gold answers the
        correlation of scored and sampled confidence over all cuts, the largest
        correlation that the sampling noise allows, and both means in percent.
    """
    c, problems = (
        run.config.evaluation,
        {problem.id: problem for problem in run.problems},
    )
    cases = []
    for shard in sorted(store.finished(folder)):
        chosen = (
            a
            for a in store.read(folder, [shard])
            if a.attempt < c.sampled_attempts and a.confidence
        )
        cases += [_case(run, a, problems[a.problem]) for a in chosen]
    plan = [planned for case in cases for planned in _plan(run, case)]
    make_attempts(run, plan, _FOLDER)
    columns = ["text", "grade", "truncated", "cost_prefill", "cost_generated"]
    answers = store.read_table(run.workdir / _FOLDER, columns).to_pylist()
    # Shards follow the plan, so the answers of a cut are neighbours.
    sampled = {name: _shares(run, cases, answers, name) for name in ANSWER_SETS}
    prompts = sum(row["cost_prefill"] for row in answers[:: c.answers])
    tokens = {
        "scored": sum(case.attempt.cost.probe for case in cases),
        "sampled": prompts + sum(row["cost_generated"] for row in answers),
    }
    found = {
        name: _agreement(run, cases, shares, name) for name, shares in sampled.items()
    }
    return {"attempts": len(cases), "tokens": tokens} | {
        n: value for n, value in found.items() if value
    }


def _case(run: Run, attempt: store.Attempt, problem: Problem) -> _Case:
    c = run.config.evaluation
    asked = build_probe(
        problem, attempt.tokens, run.specialist, c.cuts, cuts_at=c.cuts_at
    )
    assert asked is not None  # an attempt with confidence has been probed
    once = dataclasses.replace(asked, cuts=tuple(dict.fromkeys(asked.cuts)))
    return _Case(attempt, problem, once)


def _plan(run: Run, case: _Case) -> list[Planned]:
    """The rows that answer after each cut."""
    a, c = case.attempt, run.config.evaluation
    steer = vector_params(run.config, a.operator, a.attempt)
    params = {"stop": run.specialist.stop_tokens, **steer}
    row = Request(a.row, tuple(a.prompt.tolist()), a.key, params)
    rollout = Rollout(
        row,
        a.tokens,
        a.forced,
        a.fired,
        a.sample_logp,
        a.stats,
        a.truncated,
        len(a.tokens),
    )
    rows, cue = (
        forced_requests(rollout, case.probe, run.config.seed, c.answers),
        len(case.probe.cue),
    )
    return [
        Planned(row, case.problem, "forced_answer", i, False, cue)
        for i, row in enumerate(rows)
    ]


def _shares(
    run: Run, cases: list[_Case], answers: list[dict], name: str
) -> list[Float[np.ndarray, "_"]]:
    """Share of the sampled answers that count, after each cut of each case.

    A gold answer is one that the grader calls right, in any form. An own answer has the
    words of the attempt's own answer.
    """
    size, at, shares = run.config.evaluation.answers, 0, []
    for case in cases:
        given = answers[at : at + size * len(case.probe.cuts)]
        at += len(given)
        if name == "gold":
            accepted = [row["grade"] == RIGHT for row in given]
        else:
            own = {
                run.specialist.decode(ids[:-1]).strip()
                for ids in case.probe.answers.get("own", ())
            }
            accepted = [
                row["text"].strip() in own and not row["truncated"] for row in given
            ]
        shares.append(np.reshape(accepted, (-1, size)).mean(axis=1))
    return shares


def _agreement(
    run: Run, cases: list[_Case], shares: list[np.ndarray], name: str
) -> dict | None:
    """Pearson's r over (attempt, cut), its interval over problems, and its upper limit.

    A share of m samples of probability p has variance p (1 - p) / m, which limits r.
    """
    pairs = [
        (case, share)
        for case, share in zip(cases, shares)
        if name in case.probe.answers
    ]
    if not pairs:
        return None
    scored = np.concatenate([case.scored(name) for case, _ in pairs])
    sampled = np.concatenate([share for _, share in pairs])
    names, at = np.unique(
        [case.problem.id for case, share in pairs for _ in share], return_inverse=True
    )
    moments = np.stack(
        [np.ones(len(at)), scored, sampled, scored**2, sampled**2, scored * sampled],
        axis=1,
    )
    sums = np.stack(
        [np.bincount(at, column, minlength=len(names)) for column in moments.T], axis=1
    )
    draw = np.random.default_rng(run.config.seed)
    weights = resample_weights(len(names), run.config.routing.bootstrap, draw)
    found = estimate(_pearson(weights @ sums), len(names))
    noise = np.mean(scored * (1 - scored)) / run.config.evaluation.answers
    low, high = found.interval()
    correlation = Interval(*map(rounded, (found.value, max(low, -1.0), min(high, 1.0))))
    with np.errstate(invalid="ignore"):
        largest = np.sqrt(scored.var() / (scored.var() + noise))
    return {
        "cuts": len(at),
        "correlation": correlation.as_dict(),
        "largest_possible": rounded(largest),
        "scored": percent(scored.mean()),
        "sampled": percent(sampled.mean()),
    }


def _pearson(moments: Float[np.ndarray, "R 6"]) -> Float[np.ndarray, "R"]:
    count, x, y, xx, yy, xy = moments.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return (count * xy - x * y) / np.sqrt((count * xx - x**2) * (count * yy - y**2))
