"""Sums of a study's tests by arm and seed, under one set of resamples."""

import functools

import numpy as np
from etils import epath
from jaxtyping import Float

from fr.config import Config
from fr.config.studies import MAKES
from fr.evaluation.eval_metrics import EvalMetrics, read_metrics
from fr.evaluation.study import (
    arm_folder,
    arms_of,
    evaluated_folder,
    is_made,
    made_with,
    takes_test,
    tests_of,
)
from fr.stats.bootstrap import Estimate, estimate, resample_weights
from fr.stats.calibration import error_of
from fr.workdir import PathLike


class TestedSums:
    """The tests of a study, all finished; seeds and problems are resampled together.

    S seeds, N problems, R resamples after the sample itself.

    Args:
        config: Settings of the study.
        workdir: Folder of the study.
    """

    __test__ = False  # for pytest

    def __init__(self, config: Config, workdir: PathLike):
        self.config, self.workdir = config, epath.Path(workdir)
        self._draw = np.random.default_rng(config.seed)
        self._problems: dict[tuple[str, ...], np.ndarray] = {}
        count = len(config.study.seeds)
        self.seeds: Float[np.ndarray, "R S"] = resample_weights(
            count, config.routing.bootstrap, self._draw
        )

    @property
    def arms(self) -> list[str]:
        """Arms with a model that is tested."""
        arms = arms_of(self.config)
        return [arm for arm, changes in arms.items() if MAKES not in changes]

    def made(self, arm: str) -> bool:
        """True if an arm is trained, once with every seed.

        Args:
            arm: Name of the arm.

        Returns:
            False for a model that is tested unchanged.
        """
        return is_made(arms_of(self.config)[arm])

    def taken(self, arm: str, test: str) -> bool:
        """True if a test is made of an arm.

        Args:
            arm: Name of the arm.
            test: Name of the test.

        Returns:
            True or False.
        """
        return takes_test(arm, arms_of(self.config)[arm], tests_of(self.config)[test])

    def tests(self, arm: str) -> list[str]:
        """Names of the tests that are made of an arm.

        Args:
            arm: Name of the arm.

        Returns:
            Names, in the order of the settings.
        """
        return [test for test in tests_of(self.config) if self.taken(arm, test)]

    def folders(self, arm: str, test: str) -> list[epath.Path]:
        """Folders of a test of an arm.

        Args:
            arm: Name of the arm.
            test: Name of the test.

        Returns:
            One per seed, or one if the arm is not trained.
        """
        seeds = made_with(self.config, arm)
        return [
            evaluated_folder(arm_folder(self.workdir, arm, seed), test)
            for seed in seeds
        ]

    @functools.cache  # noqa: B019  (one object per analysis)
    def read(self, arm: str, test: str) -> list[EvalMetrics]:
        """The sums of a test of an arm, one per seed.

        Args:
            arm: Name of the arm.
            test: Name of the test.

        Returns:
            Metrics by seed; the same for all seeds if the arm is not trained.
        """
        each = [read_metrics(folder) for folder in self.folders(arm, test)]
        return each if self.made(arm) else each * len(self.config.study.seeds)

    def problems(self, arm: str, test: str) -> Float[np.ndarray, "R N"]:
        """Weights of the problems of a test; tests of the same problems share them.

        Args:
            arm: Name of the arm.
            test: Name of the test.

        Returns:
            Weights, the sample itself first.
        """
        ids = self.read(arm, test)[0].problems
        if ids not in self._problems:
            resamples = self.config.routing.bootstrap
            self._problems[ids] = resample_weights(len(ids), resamples, self._draw)
        return self._problems[ids]

    def sums(self, arm: str, test: str, metric: str) -> Float[np.ndarray, "S N 2"]:
        """Numerators and denominators of a metric.

        Args:
            arm: Name of the arm.
            test: Name of the test.
            metric: Name of the metric.

        Returns:
            Sums by seed and problem; 0 of a seed that has no such metric, since a group
            or a kind of failure may be missing there.
        """
        each, nothing = self.read(arm, test), np.zeros((1, 2))
        return np.stack(
            [
                np.broadcast_to(
                    found.ratios.get(metric, nothing), (len(found.problems), 2)
                )
                for found in each
            ]
        )

    def has(self, arm: str, test: str, metric: str) -> bool:
        """True if every seed of an arm has a metric of a test.

        Args:
            arm: Name of the arm.
            test: Name of the test.
            metric: Name of the metric.

        Returns:
            True or False.
        """
        return self.taken(arm, test) and all(
            metric in found.ratios for found in self.read(arm, test)
        )

    def estimate(self, arm: str, test: str, metric: str) -> Estimate:
        """A metric with its resamples over seeds and problems.

        Args:
            arm: Name of the arm.
            test: Name of the test.
            metric: Name of the metric, a ratio of sums.

        Returns:
            The estimate; few seeds carry its tails.
        """
        sums, at = self.sums(arm, test, metric), self.problems(arm, test)
        counted, among = np.einsum("rs,rn,snk->kr", self.seeds, at, sums, optimize=True)
        carried = len(sums) if self.made(arm) else np.count_nonzero(sums[0, :, 1])
        with np.errstate(invalid="ignore"):
            return estimate(counted / among, int(carried))

    def error(self, arm: str, test: str, kind: str) -> Estimate:
        """A calibration error with its resamples, the mean of each model's own.

        Two models that err on opposite sides would seem calibrated together.

        Args:
            arm: Name of the arm.
            test: Name of the test.
            kind: Kind of confidence, of `EvalMetrics.bins`.

        Returns:
            The estimate.
        """
        each, at = self.read(arm, test), self.problems(arm, test)
        sums: Float[np.ndarray, "S N K 3"] = np.stack([m.bins[kind] for m in each])
        errors = error_of(np.einsum("rn,snkc->rskc", at, sums, optimize=True))
        mean = (self.seeds * errors).sum(axis=1) / self.seeds.sum(axis=1)
        carried = len(each) if self.made(arm) else len(each[0].problems)
        return estimate(mean, carried)
