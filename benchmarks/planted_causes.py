"""Planted causes: lineages whose defect is known, as one table of failures; what it
says of cause and operator.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fr.comparison.summary import UNITS
from fr.config import Config
from fr.diagnosis.classifiers import confusion, tell_causes
from fr.errors import UserError
from fr.evaluation.study import arm_folder
from fr.interventions import OPERATORS
from fr.profiles import AXES, MODEL, QUESTION, Profiles, Recorded, read_profiles
from fr.routing.columns import FREE, readable
from fr.routing.dataset import RoutingData
from fr.stats.bootstrap import (
    Estimate,
    Interval,
    clopper_pearson,
    estimate,
    percent,
    resample_weights,
)
from fr.workdir import PathLike

CAUSE = "cause"  # column of a profile table
# What a diagnosis may read, kinds and groups of columns; what a checker says is the
# bound on the others.
DIAGNOSES = {
    "nuisances": ("nuisance",),
    "three features": ("lineage",),
    "what is free": (FREE,),
    "signals": ("signal",),
    "signals and nuisances": ("signal", "nuisance"),
    "outside truth": ("outside",),
}


def gather(
    config: Config, workdir: PathLike, table: str = "profiles.csv"
) -> list[Profiles]:
    """Read the profiles of all causes, one cell per seed.

    Leaving a cell out leaves out one training run of each cause, and a router judged in
    such a cell must tell the cause from the failure. A lineage without the table,
    having no problem for it, is skipped.

    Args:
        config: names the causes and seeds in `study`.
        workdir: folder of the lineages.
        table: file name of the profiles in each lineage.

    Returns:
        One table per seed.

    Raises:
        UserError: if causes were tried with different operators.
    """
    causes, cells = [name for name, _ in config.study.arms], []
    for seed in config.study.seeds:
        files = {cause: arm_folder(workdir, cause, seed) / table for cause in causes}
        parts = {
            cause: read_profiles(file)[0]
            for cause, file in files.items()
            if file.exists()
        }
        cells += [_join(parts, seed)] if parts else []
    return cells


def as_runs(config: Config, workdir: PathLike) -> list[Profiles]:
    """Read the profiles of all lineages, one cell each, for the audit.

    Args:
        config: names the causes and seeds in `study`.
        workdir: folder of the lineages.

    Returns:
        One table per lineage; its cause is the `method` of its training run.
    """
    cells = []
    for seed in config.study.seeds:
        for cause, _ in config.study.arms:
            one, name = (
                read_profiles(arm_folder(workdir, cause, seed) / "profiles.csv")[0],
                f"{cause}-{seed}",
            )
            said = {
                "method": (cause,) * len(one),
                "run": (name,) * len(one),
                QUESTION: one.problems,
            }
            task = one.cell.rsplit("|", 1)[-1]
            cells.append(
                dataclasses.replace(
                    one, cell=f"{name}|{task}", extras=one.extras | said
                )
            )
    return cells


def _join(parts: dict[str, Profiles], seed: int) -> Profiles:
    first = next(iter(parts.values()))
    for cause, part in parts.items():
        if part.operators != first.operators:
            raise UserError(
                f"cause {cause!r}, seed {seed}: was tried with "
                f"{', '.join(part.operators)}"
            )
    names = sorted({name for part in parts.values() for name in part.extras})
    text = lambda part, name: part.extras.get(name, ("",) * len(part))
    extras = {
        name: sum((text(part, name) for part in parts.values()), ()) for name in names
    }
    extras[CAUSE] = sum(((cause,) * len(part) for cause, part in parts.items()), ())
    extras[QUESTION] = sum((part.problems for part in parts.values()), ())
    # What a look-up by model knows without reading a failure: which specialist failed.
    extras[MODEL] = sum(
        ((f"{cause}-{seed}",) * len(part) for cause, part in parts.items()), ()
    )
    recorded = [part.recorded for part in parts.values()]
    stack = lambda name: np.concatenate(
        [getattr(part, name) for part in parts.values()]
    )
    return dataclasses.replace(
        first,
        cell=f"planted seed {seed}|{first.cell.rsplit('|', 1)[-1]}",
        problems=tuple(
            f"{cause} {problem}"
            for cause, part in parts.items()
            for problem in part.problems
        ),
        **{name: stack(name) for name in ("n_failed", "features", "rates", "attempts")},
        extras=extras,
        excluded=sum(part.excluded for part in parts.values()),
        recorded=None if None in recorded else _join_attempts(recorded),
    )


def _join_attempts(parts: Sequence[Recorded]) -> Recorded:
    most = max(part.made.shape[2] for part in parts)

    def stack(pick, fill):
        wide = lambda values: np.pad(
            values,
            ((0, 0), (0, 0), (0, most - values.shape[2])),
            constant_values=fill,
        )
        return np.concatenate([wide(pick(part)) for part in parts])

    costs = {axis: stack(lambda p, a=axis: p.costs[a], np.nan) for axis in AXES}
    made, right = (
        stack(lambda p, n=name: getattr(p, n), False) for name in ("made", "right")
    )
    return Recorded(made, right, costs, all(part.paired for part in parts))


def summarise_causes(cells: Sequence[Profiles], config: Config) -> dict:
    """Compute rescue rates by cause, and how well failures tell the causes.

    Intervals resample seeds and questions; rates and shares are in percent. Diagnosis
    is out of fold: a seed is judged by what was learned from other seeds on other
    questions.

    Args:
        cells: one table per seed.
        config: settings of the study and of routing.

    Returns:
        {causes, seeds, operators, uses_oracle, failed, rescue, diagnosis}.
    """
    data = RoutingData.build(cells, config)
    draw = np.random.default_rng(config.seed)
    causes = [name for name, _ in config.study.arms]
    cause = np.array([causes.index(name) for p in cells for name in p.extras[CAUSE]])
    seeds = resample_weights(len(cells), config.routing.bootstrap, draw)
    questions = resample_weights(data.problem.max() + 1, config.routing.bootstrap, draw)
    weights = seeds[:, data.cell] * questions[:, data.problem]
    return {
        **UNITS,
        "causes": causes,
        "seeds": list(config.study.seeds),
        "operators": list(data.operators),
        "uses_oracle": [
            name
            for name in data.operators
            if name in OPERATORS and OPERATORS[name].uses_oracle
        ],
        "failed": {name: int((cause == i).sum()) for i, name in enumerate(causes)},
        "rescue": [
            row
            for i in range(len(causes))
            for row in _rescue(data, causes[i], cause == i, weights)
        ],
        "diagnosis": _diagnoses(data, cause, causes, weights, config),
    }


def told_early(cells: Sequence[Profiles], config: Config) -> dict:
    """Compute how well the first failures alone tell the causes.

    Args:
        cells: one table per seed, of first failures.
        config: settings of the study and of routing.

    Returns:
        {problems, diagnosis}.
    """
    told = summarise_causes(cells, config)
    return {"problems": sum(map(len, cells)), "diagnosis": told["diagnosis"]}


def _rescue(
    data: RoutingData, name: str, here: np.ndarray, weights: Float[np.ndarray, "R N"]
) -> list[dict]:
    """Rates of every operator on the failures of one cause, and their paired
    differences from retry.
    """
    carried = len(data.cells)
    with np.errstate(invalid="ignore"):
        rates = (weights[:, here] @ data.rates[here]) / weights[:, here].sum(
            axis=1, keepdims=True
        )
    found = [estimate(rates[:, o], carried) for o in range(len(data.operators))]
    retry = found[data.operators.index("retry")]
    attempts = data.attempts[here].sum(axis=0)
    questions = len(np.unique(data.problem[here]))
    return [
        {
            "cause": name,
            "operator": operator,
            "attempts": int(attempts[o]),
            "interval": _share(found[o], questions),
            "minus_retry": None
            if operator == "retry"
            else (found[o] - retry).percent().as_dict(),
        }
        for o, operator in enumerate(data.operators)
    ]


def _diagnoses(
    data: RoutingData,
    cause,
    causes: list[str],
    weights: Float[np.ndarray, "R N"],
    config: Config,
) -> list[dict]:
    """Balanced accuracy and confusion by the columns read; needs two seeds."""
    columns = data.columns
    every, rng = np.ones(len(data), bool), np.random.default_rng(config.seed)
    fold = data.assign(every, config.routing.folds, rng)
    rows = []
    for title, reads in DIAGNOSES.items():
        names = [name for name in columns if readable(name, reads)]
        if not names or len(data.cells) < 2:
            continue
        told = tell_causes(
            np.column_stack([columns[n] for n in names]), cause, data.cell, fold
        )
        shares = confusion(told, cause, len(causes), weights)
        accuracy = np.nanmean(np.diagonal(shares, axis1=1, axis2=2), axis=1)
        by_seed = confusion(
            told,
            cause,
            len(causes),
            (data.cell == np.arange(len(data.cells))[:, None]) * 1.0,
        )
        rows.append(
            {
                "reads": title,
                "columns": names,
                "accuracy": estimate(accuracy, len(data.cells)).percent().as_dict(),
                "by_seed": [
                    percent(np.nanmean(np.diagonal(share))) for share in by_seed
                ],
                "chance": percent(1 / len(causes)),
                "confusion": [[percent(share) for share in row] for row in shares[0]],
            }
        )
    return rows


def _share(found: Estimate, questions: int) -> dict:
    """A rate; Clopper and Pearson's interval where no resample differs, as with 0 of
    12.
    """
    if questions and np.ptp(found.samples) == 0:
        ends = clopper_pearson(found.value, questions)
        return Interval(*map(percent, (found.value, *ends))).as_dict()
    return found.percent().as_dict()
