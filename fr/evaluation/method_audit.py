"""Audit of failures: training methods and runs predicted from features of failures.

A method with one training run, or one that was not run on every task, is confounded
with the run or the task; the records name what is.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from fr.config import ALGORITHMS, Config
from fr.diagnosis.classifiers import CLASSIFIERS, fold_accuracy, leave_run_out
from fr.profiles import FEATURES, Profiles
from fr.routing.columns import COLUMNS
from fr.routing.dataset import RoutingData
from fr.stats.bootstrap import Interval, percent

EVERYWHERE = "all tasks"


def training_run(profiles: Profiles) -> str:
    """The training run that a cell's model comes from.

    Args:
        profiles: One cell.

    Returns:
        Column `run` or `model`, or the part of the cell's name `model|task` before the
        bar.
    """
    for name in ("run", "model"):
        if any(profiles.extras.get(name, ())):
            return profiles.extras[name][0]
    return profiles.cell.rsplit("|", 1)[0]


def training_method(profiles: Profiles) -> str:
    """The training method of a cell's model.

    Args:
        profiles: One cell.

    Returns:
        Column `method`, or the algorithm that the run's name begins with; "" if neither
        is there.
    """
    if any(profiles.extras.get("method", ())):
        return profiles.extras["method"][0]
    name = training_run(profiles).lower()
    return next(
        (known for known in ALGORITHMS if re.match(rf"{known}(?![a-z])", name)), ""
    )


def audit(cells: Sequence[Profiles], config: Config) -> list[dict]:
    """Measure how well classifiers tell methods apart, per task and over all tasks.

    Over all tasks they tell the runs apart too. They read the three features, and for
    comparison the nuisances, which are known without a diagnosis.

    Args:
        cells: Profiles of the failed problems, one table per cell.
        config: `routing.folds` and `routing.permutations` are read.

    Returns:
        One record per question: `target` (method or run), `scope` (a task or all
        tasks), numbers of `failures` and `runs` by answer, `majority` (percent, a
        constant answer), `confounded` (what goes together with the answer: accuracy
        then shows that these failures differ, not that the method makes them differ),
        `folds` (accuracy in percent and its sd over folds that divide no problem),
        `leave_run_out` (of methods: accuracy on runs that were not learned from) and
        `why` (null, or the reason that a number is missing).
    """
    pool = RoutingData.build(cells, config, compared=False)
    columns = pool.columns
    method, run = (
        np.array([of(p) for p in cells])[pool.cell]
        for of in (training_method, training_run)
    )
    known = method != ""
    questions = [
        ("method", name, method, known & (pool.family == f))
        for f, name in enumerate(pool.families)
    ]
    scope = EVERYWHERE if len(pool.families) > 1 else pool.families[0]
    if scope == EVERYWHERE:
        questions.append(("method", scope, method, known))
    if len(set(run)) > len(set(method[known])):
        questions.append(("run", scope, run, np.ones(len(pool), bool)))
    records = []
    for target, scope, answer, rows in questions:
        if len(set(answer[rows])) > 1:
            rng = np.random.default_rng(config.seed)
            fold = pool.assign(rows, config.routing.folds, rng)[rows]
            asked = _Question(
                target, scope, answer[rows], run[rows], pool.family[rows], fold
            )
            records.append(_record(asked, _tables(columns, rows), config))
    return records


@dataclasses.dataclass(frozen=True)
class _Question:
    target: str  # method or run
    scope: str  # a task, or EVERYWHERE
    answer: Shaped[np.ndarray, "N"]  # the method or run of each failure
    run: Shaped[np.ndarray, "N"]
    family: Int[np.ndarray, "N"]  # the task of each failure
    fold: Int[np.ndarray, "N"]

    def runs(self) -> Counter:
        """Number of training runs, by answer."""
        return Counter(
            answer for answer, _ in set(zip(self.answer.tolist(), self.run.tolist()))
        )

    def confounded(self) -> list[str]:
        """Names of what cannot be told apart from the answer."""
        found = (
            ["training run"]
            if self.target == "method" and min(self.runs().values()) < 2
            else []
        )
        every = set(self.answer)
        if any(
            set(self.answer[self.family == f]) != every for f in np.unique(self.family)
        ):
            found.append("task")
        return found


def _record(asked: _Question, tables: dict[str, np.ndarray], config: Config) -> dict:
    failures, runs = Counter(asked.answer.tolist()), asked.runs()
    record = {
        "target": asked.target,
        "scope": asked.scope,
        "failures": dict(sorted(failures.items())),
        "runs": dict(sorted(runs.items())),
        "majority": percent(max(failures.values()) / failures.total()),
        "confounded": asked.confounded(),
        "folds": None,
        "leave_run_out": None,
        "why": None,
    }
    folds = config.routing.folds
    if min(failures.values()) < 2 * folds:
        return record | {
            "why": f"needs {2 * folds} failed problems of each for {folds} folds"
        }
    record["folds"] = {
        name: {
            classifier: _mean(fold_accuracy(x, asked.answer, asked.fold, classifier))
            for classifier in CLASSIFIERS
        }
        for name, x in tables.items()
    }
    if asked.target == "run":
        return record
    single = sorted(name for name, count in runs.items() if count < 2)
    if single:
        return record | {
            "why": f"there is one training run of {' and of '.join(single)}"
        }
    return record | {
        "leave_run_out": {
            n: _leave_run_out(asked, x, config) for n, x in tables.items()
        }
    }


def _leave_run_out(
    asked: _Question, x: Float[np.ndarray, "N F"], config: Config
) -> dict:
    names, run = np.unique(asked.run, return_inverse=True)
    methods = [str(asked.answer[run == r][0]) for r in range(len(names))]
    rng = np.random.default_rng(config.seed)
    left = leave_run_out(x, run, methods, asked.fold, config.routing.permutations, rng)
    return {
        **_mean(left.accuracy),
        "chance": Interval(*map(percent, (left.null, left.low, left.high))).as_dict(),
        "p": round(left.p, 6),
        "labellings": left.labellings,
        "by_run": {
            str(name): percent(accuracy) for name, accuracy in zip(names, left.accuracy)
        },
    }


def _tables(
    columns: dict[str, Float[np.ndarray, "N"]], rows: Bool[np.ndarray, "N"]
) -> dict[str, np.ndarray]:
    """The three features, and the nuisances: the columns that all of `rows` have."""
    here = {
        name: values[rows]
        for name, values in columns.items()
        if not np.isnan(values[rows]).any()
    }
    chosen = {
        "features": [name for name in FEATURES if name in here],
        "nuisances": [name for name in here if COLUMNS[name].kind == "nuisance"],
    }
    return {
        title: np.stack([here[n] for n in names], axis=1)
        for title, names in chosen.items()
        if names
    }


def _mean(accuracy: Float[np.ndarray, "K"]) -> dict:
    return {"accuracy": percent(accuracy.mean()), "sd": percent(accuracy.std(ddof=1))}
