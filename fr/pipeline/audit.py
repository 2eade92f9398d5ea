"""Who wrote this failure? Post-training methods and runs told from features, with what confounds them by name."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from fr.config import ALGORITHMS, Config
from fr.diagnosis.classifiers import CLASSIFIERS, fold_accuracy, leave_run_out
from fr.routing.columns import COLUMNS, read_columns
from fr.routing.folds import assign
from fr.routing.pool import make_pool
from fr.routing.profiles import FEATURES, Profiles
from fr.stats.bootstrap import Interval, percent

EVERYWHERE = "all tasks"


def run_of(profiles: Profiles) -> str:
    """The training run: column `run` or `model`, or what stands before the bar of `model|task`."""
    for name in ("run", "model"):
        if any(profiles.extras.get(name, ())):
            return profiles.extras[name][0]
    return profiles.cell.rsplit("|", 1)[0]


def method_of(profiles: Profiles) -> str:
    """How the run was trained: column `method`, or the algorithm that its name begins with; "" if neither says."""
    if any(profiles.extras.get("method", ())):
        return profiles.extras["method"][0]
    name = run_of(profiles).lower()
    return next(
        (known for known in ALGORITHMS if re.match(rf"{known}(?![a-z])", name)), ""
    )


def audit(cells: Sequence[Profiles], config: Config) -> list[dict]:
    """How well classifiers tell methods apart, within each task and over all, and over all tasks the runs.

    `folds` is accuracy and its sd over folds that divide no problem, from the three features and from what is
    known without a diagnosis; `leave_run_out` is of failures of runs that were not learned from: of methods
    only, for a run that is left out is an answer that nobody has learned. `why` is a plain word where there is
    none. `confounded` names what goes together with the answer: then `folds` shows that these failures differ,
    and not that the method makes them differ.
    """
    pool, columns = make_pool(cells), read_columns(cells)
    method, run = (
        np.array([of(p) for p in cells])[pool.cell] for of in (method_of, run_of)
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
            fold = assign(
                pool, rows, config.routing.folds, np.random.default_rng(config.seed)
            )[rows]
            asked = _Question(
                target, scope, answer[rows], run[rows], pool.family[rows], fold
            )
            records.append(_record(asked, _tables(columns, rows), config))
    return records


@dataclasses.dataclass(frozen=True)
class _Question:
    target: str  # method or run
    scope: str  # a task, or EVERYWHERE
    answer: Shaped[np.ndarray, "N"]
    run: Shaped[np.ndarray, "N"]
    family: Int[np.ndarray, "N"]
    fold: Int[np.ndarray, "N"]

    def runs(self) -> Counter:
        """Training runs of every answer."""
        return Counter(
            answer for answer, _ in set(zip(self.answer.tolist(), self.run.tolist()))
        )

    def confounded(self) -> list[str]:
        """What cannot be told from the answer."""
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
    columns: dict[str, np.ndarray], rows: Bool[np.ndarray, "N"]
) -> dict[str, np.ndarray]:
    """The three features, and what is known without a diagnosis, as far as all of `rows` have it."""
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
