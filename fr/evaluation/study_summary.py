"""Arms of a study compared, with seeds and problems resampled."""

import itertools

import numpy as np

from fr import store
from fr.config import Config
from fr.config.studies import CONTRAST, MAKES
from fr.errors import UserError
from fr.evaluation.analyses import known_analyses
from fr.evaluation.eval_metrics import interval_of
from fr.evaluation.study import arm_folder, arms_of, chain, is_made
from fr.evaluation.tested_sums import TestedSums
from fr.metrics import read_lines
from fr.stats.bootstrap import HEADER, Estimate, holm
from fr.training.rlsf import CANDIDATES
from fr.workdir import PathLike, read_object

# Tokens of a training by the kind of cost that the store names.
SPENT = {
    "prompt_tokens": "prefill",
    "rollout_tokens": "generated",
    "probe_tokens": "probe",
    "scored_tokens": "scored",
    "update_tokens": "",
}


def summarise(config: Config, workdir: PathLike) -> dict:
    """Compare the arms of a study.

    Intervals are over seeds and problems, both resampled, arms paired by both. The
    primary comparison is declared before anything runs; Holm's adjustment is over it
    and the other declared ones, and apart over all that is exploratory.

    Args:
        config: Settings of the study.
        workdir: Folder of the study, all of whose models are tested.

    Returns:
        The content of study.json: metrics and tokens by arm, comparisons, contrasts and
        the results of the analyses.
    """
    study, tested = config.study, TestedSums(config, workdir)
    arms = tested.arms
    _check(tested)
    metrics = {arm: _metrics(tested, arm) for arm in arms}
    counts = {
        test: len(tested.read(arm, test)[0].problems)
        for arm in arms
        for test in tested.tests(arm)
    }
    return {
        **HEADER,
        "seeds": list(study.seeds),
        "problems": counts[""] if list(counts) == [""] else counts,
        "primary": list(study.primary),
        "arms": {
            arm: {
                "settings": dict(dict(study.arms).get(arm, ())),
                "metrics": {
                    name: interval_of(name, value).as_dict()
                    for name, value in metrics[arm].items()
                },
                "by_seed": _by_seed(tested, arm),
                "tokens": spent(config, workdir, arm),
                "tested": _costs(tested, arm),
            }
            for arm in arms
        },
        "differences": _comparisons(config, metrics),
        "analyses": {
            name: known_analyses()[name](config, workdir) for name in study.analyses
        },
    }


def _check(tested: TestedSums) -> None:
    first: dict[str, tuple[str, ...]] = {}
    for arm in tested.arms:
        for test in tested.tests(arm):
            for measures in tested.read(arm, test):
                same = first.setdefault(test, measures.problems)
                if measures.problems != same:
                    raise UserError(
                        f"arm {arm!r} was not asked the same problems with every seed"
                        + (f" in test {test!r}" if test else "")
                    )


def _metrics(tested: TestedSums, arm: str) -> dict[str, Estimate]:
    """Every metric of an arm, under the same resamples of seeds and problems."""
    found = {}
    for test in tested.tests(arm):
        each = tested.read(arm, test)
        for name in dict.fromkeys(n for measures in each for n in measures.ratios):
            found[full_name(test, name)] = tested.estimate(arm, test, name)
        for name in each[0].bins:
            found[full_name(test, f"ece_{name}")] = tested.error(arm, test, name)
    return found


def full_name(test: str, metric: str) -> str:
    """Name of a metric of a test.

    Args:
        test: Name of the test, or "".
        metric: Name of the metric.

    Returns:
        `TEST:METRIC`, or the metric's own name.
    """
    return f"{test}:{metric}" if test else metric


def _comparisons(config: Config, metrics: dict[str, dict[str, Estimate]]) -> list[dict]:
    """Declared comparisons, contrasts, and every metric of every other arm."""
    study = config.study
    declared = [*([study.primary] if study.primary else []), *study.declared]
    contrasts = [(CONTRAST, name, "") for name, _ in study.contrasts]
    first = study.primary[1] if study.primary and study.primary[0] != CONTRAST else ""
    reference = first or next(iter(metrics))
    every = [
        (arm, reference, metric)
        for arm in metrics
        if arm != reference
        for metric in metrics[reference]
        if metric in metrics[arm]
    ]
    keys = list(dict.fromkeys(map(tuple, [*declared, *contrasts, *every])))
    rows = [_row(config, metrics, key) for key in keys]
    for row, key in zip(rows, keys):
        row["primary"] = key == tuple(study.primary)
        row["declared"] = key in set(map(tuple, declared))
    for family in (True, False):
        known = [r for r in rows if r["p"] is not None and r["declared"] == family]
        for row, p in zip(known, holm([row["p"] for row in known])):
            row["p_holm"] = p
    return rows


def _row(config: Config, metrics: dict[str, dict[str, Estimate]], key: tuple) -> dict:
    arm, reference, metric = key
    if arm == CONTRAST:
        terms = dict(config.study.contrasts)[reference]
        metric = terms[0][2]
        gap = _weighted([(w, _metric(metrics, a, m)) for w, a, m in terms])
    else:
        gap = _metric(metrics, arm, metric) - _metric(metrics, reference, metric)
    interval = interval_of(metric, gap)
    return {
        "arm": arm,
        "reference": reference,
        "metric": metric,
        "difference": interval.as_dict(),
        "p": None if interval.low is None else gap.p_value(),
    }


def _metric(metrics: dict[str, dict[str, Estimate]], arm: str, name: str) -> Estimate:
    if name not in metrics[arm]:
        raise UserError(
            f"config.study: arm {arm!r} has no metric {name!r}; there are: "
            f"{', '.join(metrics[arm])}"
        )
    return metrics[arm][name]


def _weighted(terms: list[tuple[float, Estimate]]) -> Estimate:
    """Σ w_i x_i, under the same resamples."""
    value = sum(w * each.value for w, each in terms)
    samples = np.sum([w * each.samples for w, each in terms], axis=0)
    return Estimate(value, samples, min(each.problems for _, each in terms))


def _by_seed(tested: TestedSums, arm: str) -> dict[str, list[float | None]]:
    found: dict[str, list] = {}
    for test in tested.tests(arm):
        each = tested.read(arm, test)
        for place, measures in enumerate(each):
            for metric, value in measures.values().items():
                name = full_name(test, metric)
                row = found.setdefault(name, [None] * len(each))
                plain = interval_of(metric, Estimate(value, np.array([]), 1))
                row[place] = plain.value
    return found


def _costs(tested: TestedSums, arm: str) -> dict[str, float]:
    """Mean forward tokens of one attempt, of every kind, by test."""
    found = {}
    for test in tested.tests(arm):
        made = [path / "evaluation.json" for path in tested.folders(arm, test)]
        files = [read_object(path) for path in made if path.exists()]
        costs = [
            sum(each["tokens"].values()) / max(1, sum(each["grades"].values()))
            for each in files
        ]
        if costs:
            found[test or "all"] = sum(costs) / len(costs)
    return found


def spent(config: Config, workdir: PathLike, arm: str) -> dict[str, float]:
    """Tokens of one arm and of the arms that it is made from, by kind.

    Args:
        config: Settings of the study.
        workdir: Folder of the study.
        arm: Name of the arm.

    Returns:
        Means over seeds: forward tokens of prompts, rollouts, probes and scoring, and
        tokens of updates, each of which is read forwards and backwards.
    """
    total = dict.fromkeys(SPENT, 0.0)
    seeds = len(config.study.seeds)
    arms = arms_of(config)
    for name, seed in itertools.product((arm, *chain(config, arm)), config.study.seeds):
        if not is_made(arms[name]):
            continue
        folder = arm_folder(workdir, name, seed)
        for line in read_lines(folder / "specialist" / "metrics.jsonl"):
            for kind in SPENT:
                total[kind] += line.get(kind, 0) / seeds
        for stage in (
            CANDIDATES,
            *(("rollouts", "scores", "attempts") * (MAKES in arms[name])),
        ):
            if (folder / stage).exists():
                kinds = {kind: cost for kind, cost in SPENT.items() if cost}
                _add(total, folder / stage, kinds, seeds)
    return total


def _add(total: dict, folder, kinds: dict[str, str], seeds: int) -> None:
    costs = [f"cost_{name}" for name in store.COSTS]
    table = store.read_table(folder, costs)
    for kind, cost in kinds.items():
        total[kind] += sum(table[f"cost_{cost}"].to_pylist()) / seeds
    # Pushed tokens and the ancestor's reading are forward tokens too.
    for cost in ("forced", "ancestor"):
        total["prompt_tokens"] += sum(table[f"cost_{cost}"].to_pylist()) / seeds
