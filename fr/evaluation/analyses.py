"""The registry of analyses: functions of a whole study, for what no metric can say."""

from collections.abc import Callable

from fr.config import Config
from fr.registry import Registry
from fr.workdir import PathLike

ANALYSES = Registry("analysis")
Analysis = Callable[[Config, PathLike], dict]


def known_analyses() -> Registry:
    """The registry with the analyses of this package in it.

    Returns:
        `ANALYSES`.
    """
    # these register themselves, and read studies, which ask for them by name
    from fr.evaluation import (  # noqa: F401
        crossover_analysis,
        exploration,
        novelty,
        trained_parameters,
    )

    return ANALYSES


def register_analysis(name: str) -> Callable[[Analysis], Analysis]:
    """Decorator that registers an analysis, `f(config, workdir) -> dict`.

    It reads the finished arms and tests of a study below `workdir`
    (`fr.evaluation.study` has their paths). Its result is one entry of `analyses` in
    study.json, where intervals are written by `Interval.as_dict`.

    Args:
        name: Name in `config.study.analyses`.

    Returns:
        The decorator, which returns the function unchanged.
    """
    return ANALYSES.register(name)
