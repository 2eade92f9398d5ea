"""The problems that another evaluation never solved: what a start does not reach."""

import dataclasses

import numpy as np
from etils import epath

from fr.errors import UserError
from fr.evaluation.eval_metrics import EvalMetrics, read_metrics
from fr.runs.run import Run
from fr.workdir import read_object


def only_unsolved(run: Run) -> Run:
    """The run with the problems alone that `evaluation.unsolved` never solved.

    {p : c_p = 0 of n attempts}. The problems are chosen by attempts that the new ones
    do not repeat: with shared draws a model would be chosen and judged by the same
    luck, and one that changed nothing would still seem to have stayed at 0.

    Args:
        run: The run; without `evaluation.unsolved` it is returned as it is.

    Returns:
        The run with fewer problems, in their order.

    Raises:
        UserError: The other evaluation has the same seed, lacks a problem, or solved
            all of them.
    """
    config = run.config
    folder, name = config.evaluation.unsolved, "config.evaluation.unsolved"
    if not folder:
        return run
    found = read_metrics(folder)
    seed = read_object(epath.Path(folder) / "config.json").get("seed")
    if seed == config.seed:
        raise UserError(
            f"{name} = {folder!r} was made with config.seed = {seed} too: its attempts "
            "are the same draws; evaluate the start with another seed"
        )
    right = dict(zip(found.problems, found.ratios["accuracy"][:, 0]))
    asked = {problem.id for problem in run.problems}
    if missing := asked - right.keys():
        raise UserError(
            f"{name} = {folder!r} was not asked {len(missing)} of {len(asked)} "
            f"problems (as {min(missing)!r}); evaluate both with the same config.task"
        )
    left = [problem for problem in run.problems if not right[problem.id]]
    if not left:
        raise UserError(
            f"{name} = {folder!r} solved each of {len(asked)} problems at least once; "
            "ask harder ones, or make it with fewer config.evaluation.samples"
        )
    return dataclasses.replace(run, problems=left)


def spread(found: EvalMetrics, run: Run) -> EvalMetrics:
    """Sums over the problems that were asked as sums over all problems of a run.

    A problem that was not asked has numerators and denominators of 0. Evaluations that
    ask other problems for every seed can then be compared, and a resample of problems
    is one of all problems.

    Args:
        found: Sums over some of the problems, in their order.
        run: The run with all problems.

    Returns:
        The sums over all of them.
    """
    asked = set(found.problems)
    at = np.array([problem.id in asked for problem in run.problems])

    def wide(sums: np.ndarray) -> np.ndarray:
        table = np.zeros((len(at), *sums.shape[1:]))
        table[at] = sums
        return table

    every = lambda group: {name: wide(sums) for name, sums in group.items()}
    ids = tuple(problem.id for problem in run.problems)
    return EvalMetrics(ids, every(found.ratios), every(found.bins))
