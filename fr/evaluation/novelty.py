"""Length of a search or distance from training: which of them makes answers wrong?

One logistic regression per trained model, on the problems of a test:

    logit P(right) = a + b_l · z + b_d · d + b_ld · z · d

z is the standardised logarithm of the length of the search (`LENGTHS`), d the distance
to the nearest training problem (`DISTANCES`) of the arm that left cells out. The
control is an arm that trained on those cells, with the same z and d.
"""

from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import tasks
from fr.config import Config, TaskConfig, freeze
from fr.errors import UserError
from fr.evaluation.analyses import register_analysis
from fr.evaluation.study import (
    arm_folder,
    arms_of,
    evaluated_folder,
    is_made,
    takes_test,
    tests_of,
)
from fr.evaluation.tested_sums import TestedSums
from fr.stats.bootstrap import Estimate, estimate
from fr.stats.logistic import fit_logistic
from fr.tasks.countdown_families import DISTANCES, LENGTHS
from fr.types import Problem
from fr.workdir import PathLike, read_object

COEFFICIENTS = ("level", "length", "distance", "length x distance")
_Sums = Float[np.ndarray, "S N 2"]  # right and all attempts, by seed and problem
_Values = Float[np.ndarray, "N"]


@register_analysis("novelty")
def novelty(config: Config, workdir: PathLike) -> dict:
    """Effects of length and distance on right answers, with seeds and problems
    resampled.

    The first arm with `task.hold_out` gives the training problems, and the first
    trained arm without it is the control.

    Args:
        config: Settings of the study.
        workdir: Folder of the study, finished.

    Returns:
        By test: `coefficients` by arm (logits per standard deviation of z and per unit
        of d), `differences` of arms from the control, and `cells` by arm: the share
        right by distance and by half of the lengths.

    Raises:
        UserError: No arm leaves cells out, or the task has no lengths and distances.
    """
    made = [arm for arm, changes in arms_of(config).items() if is_made(changes)]
    asked = {arm: _task(_first(config, workdir, arm)) for arm in made}
    held = [arm for arm in made if asked[arm].hold_out]
    if not held:
        raise UserError(
            "config.study.analyses: 'novelty' needs an arm that changes task.hold_out"
        )
    control = next((arm for arm in made if not asked[arm].hold_out), "")
    training = tasks.make(asked[held[0]]).problems("train")
    return {
        test or "test": _of_test(config, workdir, test, made, control, training)
        for test, own in tests_of(config).items()
        if all(takes_test(arm, arms_of(config)[arm], own) for arm in made)
    }


def covariates(
    problems: Sequence[Problem], training: Sequence[Problem]
) -> tuple[_Values, _Values]:
    """Length and distance of problems.

    Args:
        problems: Problems of one task.
        training: Training problems of the task.

    Returns:
        z, the standardised logarithm of the lengths, and d, the distances.

    Raises:
        UserError: The task has no lengths or no distances.
    """
    task = problems[0].task
    if task not in LENGTHS or task not in DISTANCES:
        raise UserError(
            f"config.study.analyses: 'novelty' knows no lengths and distances of "
            f"{task!r}; tasks with both are {', '.join(LENGTHS)}"
        )
    logs = np.log([LENGTHS[task](problem) for problem in problems])
    spread = logs.std() or 1.0
    distances = [float(DISTANCES[task](problem, training)) for problem in problems]
    return (logs - logs.mean()) / spread, np.array(distances)


def _first(config: Config, workdir: PathLike, arm: str) -> epath.Path:
    return arm_folder(workdir, arm, config.study.seeds[0])


def _task(folder: epath.Path) -> TaskConfig:
    """Settings of the task of a training or an evaluation."""
    return freeze(read_object(folder / "config.json")).task


def _of_test(
    config: Config,
    workdir: PathLike,
    test: str,
    arms: Sequence[str],
    control: str,
    training: Sequence[Problem],
) -> dict:
    settings = _task(evaluated_folder(_first(config, workdir, arms[0]), test))
    tested = TestedSums(config, workdir)
    sums = {arm: tested.sums(arm, test, "accuracy") for arm in arms}
    names = tested.read(arms[-1], test)[0].problems
    found = tasks.make(settings).problems(settings.split, settings.problems)
    by_id = {problem.id: problem for problem in found}
    z, d = covariates([by_id[name] for name in names], training)
    seeds, problems = tested.seeds, tested.problems(arms[-1], test)
    fits = {arm: _coefficients(sums[arm], z, d, seeds, problems) for arm in arms}
    others = [arm for arm in arms if control and arm != control]
    return {
        "problems": len(names),
        "control": control,
        "coefficients": {arm: _intervals(fits[arm]) for arm in arms},
        "differences": {
            arm: _intervals(
                {name: fits[arm][name] - fits[control][name] for name in COEFFICIENTS}
            )
            for arm in others
        },
        "cells": {arm: _cells(sums[arm], z, d, seeds, problems) for arm in arms},
    }


def _intervals(found: dict[str, Estimate]) -> dict[str, dict]:
    return {name: value.plain().as_dict() for name, value in found.items()}


def _coefficients(
    sums: _Sums,
    z: _Values,
    d: _Values,
    seeds: Float[np.ndarray, "R S"],
    problems: Float[np.ndarray, "R N"],
) -> dict[str, Estimate]:
    """Means over seeds of the coefficients that are fitted for each."""
    design = np.column_stack([np.ones(len(z)), z, d, z * d])
    fits = np.stack(
        [fit_logistic(design, one[:, 0], one[:, 1], problems) for one in sums], axis=1
    )
    means = (seeds[:, :, None] * fits).sum(axis=1) / seeds.sum(axis=1)[:, None]
    return {
        name: estimate(means[:, place], len(sums))
        for place, name in enumerate(COEFFICIENTS)
    }


def _cells(
    sums: _Sums,
    z: _Values,
    d: _Values,
    seeds: Float[np.ndarray, "R S"],
    problems: Float[np.ndarray, "R N"],
) -> list[dict]:
    """Share right by distance and by half of the lengths."""
    rows, middle = [], np.median(z)
    for distance in np.unique(d):
        for length, part in (("short", z <= middle), ("long", z > middle)):
            there = part & (d == distance)
            right, tried = np.einsum(
                "rs,rn,snk->kr", seeds, problems * there, sums, optimize=True
            )
            with np.errstate(invalid="ignore"):
                share = estimate(right / tried, len(sums))
            rows.append(
                {
                    "distance": float(distance),
                    "length": length,
                    "problems": int(there.sum()),
                    "right": share.percent().as_dict(),
                }
            )
    return rows
