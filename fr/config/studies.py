"""Settings of studies: arms, tests of their models, and declared comparisons."""

import dataclasses

from fr.config.fields import Bound, one_of, setting
from fr.errors import UserError

# Keys of an arm beside the settings that it changes.
FROM = "from"  # the arm whose model of the same seed training starts from
MODEL = "model"  # a model that is tested as it is; nothing is trained
MAKES = "makes"  # "run": the arm is a run of attempts, not a training
RUN = "run"  # the arm whose run of the same seed training learns from
# Key of a test: the arms that take it, with a comma between them.
ARMS = "arms"
ANCESTOR = "ancestor"  # the arm without training
CONTRAST = "contrast"

Changes = tuple[tuple[str, str], ...]
Terms = tuple[tuple[float, str, str], ...]  # weight, arm, metric


def _distinct(values) -> bool:
    return len(values) == len(set(values))


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Arms that scripts/study.py trains with every seed, tests and compares."""

    arms: tuple[tuple[str, Changes], ...] = setting(
        (), "name, and the (setting, value) pairs that it changes (docs/studies.md)"
    )
    tests: tuple[tuple[str, Changes], ...] = setting(
        (),
        "evaluations of every arm's model: name, and the changes; metrics are then "
        "TEST:METRIC. (): one, as the config says",
    )
    seeds: tuple[int, ...] = setting(
        (0, 1, 2),
        "every arm is trained with each",
        Bound("one seed or more, each once", lambda v: 0 < len(v) == len(set(v))),
    )
    ancestor: bool = setting(True, "the ancestor is an arm too, tested once")
    primary: tuple[str, ...] = setting(
        (),
        "arm, reference and metric (or contrast, its name, ''), declared before the "
        "run; (): all is exploratory",
        Bound(
            "an arm, its reference and a metric, or empty", lambda v: len(v) in (0, 3)
        ),
    )
    declared: tuple[tuple[str, str, str], ...] = setting(
        (), "further declared comparisons, in the same form; Holm over them and primary"
    )
    contrasts: tuple[tuple[str, Terms], ...] = setting(
        (), "name, and (weight, arm, metric) of each term of a weighted sum"
    )
    analyses: tuple[str, ...] = setting((), "further analyses of the whole study")

    def check(self) -> None:
        """Check that names differ, and that arms, tests and contrasts exist.

        Raises:
          UserError: the first value that cannot be.
        """
        names = [name for name, _ in self.arms] + [ANCESTOR] * self.ancestor
        different = Bound("different names", _distinct)
        different.check("config.study.arms", names)
        different.check("config.study.tests", [name for name, _ in self.tests])
        different.check("config.study.contrasts", [name for name, _ in self.contrasts])
        self._check_arms(names)
        for name, changes in self.tests:
            for arm in filter(None, dict(changes).get(ARMS, "").split(",")):
                one_of(*names).check(f"config.study.tests: {ARMS!r} of {name!r}", arm)
        for name, terms in self.contrasts:
            for _, arm, metric in terms:
                where = f"config.study.contrasts: {name!r}"
                one_of(*names).check(where, arm)
                self._check_metric(where, metric)
        for setting_of, rows in (
            ("primary", (self.primary,) if self.primary else ()),
            ("declared", self.declared),
        ):
            for row in rows:
                self._check_comparison(f"config.study.{setting_of}", row, names)

    def _check_comparison(self, where: str, row, names: list[str]) -> None:
        if row[0] == CONTRAST:
            one_of(*(name for name, _ in self.contrasts)).check(where, row[1])
            return
        for name in row[:2]:
            one_of(*names).check(where, name)
        self._check_metric(where, row[2])

    def _check_metric(self, where: str, metric: str) -> None:
        tests, (test, colon, _) = dict(self.tests), metric.partition(":")
        if tests and (not colon or test not in tests):
            raise UserError(
                f"{where}: {metric!r} must name its test, TEST:METRIC; there are: "
                f"{', '.join(tests)}"
            )
        if colon and not tests:
            raise UserError(f"{where}: {metric!r} names a test, but there are none")

    def _check_arms(self, names: list[str]) -> None:
        for place, (name, changes) in enumerate(self.arms):
            given, earlier = dict(changes), names[:place]
            for key in (FROM, RUN):
                if key in given:
                    where = f"config.study.arms: {key!r} of {name!r}"
                    one_of(*earlier).check(where, given[key])
            if RUN in given and MAKES not in dict(dict(self.arms)[given[RUN]]):
                raise UserError(
                    f"config.study.arms: {RUN!r} of {name!r} = {given[RUN]!r} makes no "
                    f"run; give that arm the setting ({MAKES!r}, 'run')"
                )
            if MAKES in given:
                where = f"config.study.arms: {MAKES!r} of {name!r}"
                one_of("run").check(where, given[MAKES])
            if MODEL in given and len(given) > 1:
                other = next(key for key in given if key != MODEL)
                raise UserError(
                    f"config.study.arms: {name!r} is tested as it is, so {other!r} "
                    "would do nothing; leave it out"
                )
