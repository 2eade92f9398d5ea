"""The registry of measures: sums over the attempts at one problem, from which shares
are made."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from fr.config import Config
from fr.errors import UserError
from fr.registry import Registry, suggest
from fr.store import Attempt
from fr.tasks.formats import Codec
from fr.types import RIGHT, Cost, Problem


def _packaged() -> None:
    """Import the modules of measures, which register themselves."""
    from fr.evaluation import (  # noqa: F401
        measures_branches,
        measures_plans,
        measures_underthinking,
        measures_votes,
        measures_wandering,
        trace_measures,
    )


MEASURES = Registry("measure", _packaged)
GROUPS = Registry("group of problems")
# Numerator and denominator of each metric.
Sums = dict[str, tuple[float, float]]
_PLAIN = {"length"}  # metrics that are not shares, without their group


@dataclasses.dataclass(frozen=True)
class MeasureContext:
    """Settings and tokenizer, for measures that need them.

    Attributes:
        config: All settings.
        codec: The model's tokenizer and stop tokens.
        prepared: What a measure's `prepare` found in all attempts, by its name.
    """

    config: Config
    codec: Codec
    prepared: dict[str, Any] = dataclasses.field(default_factory=dict)


Measure = Callable[[Problem, Sequence[Attempt], MeasureContext], Sums]
Asked = Sequence[tuple[Problem, Sequence[Attempt]]]  # problems and attempts at them
_PREPARE: dict[str, Callable[[Asked], Any]] = {}


def register_measure(
    name: str,
    plain: Sequence[str] = (),
    prepare: Callable[[Asked], Any] | None = None,
) -> Callable:
    """Decorator that registers a measure, `f(problem, attempts, context) -> Sums`.

    The attempts are all of one problem. A metric is the sum of its numerators over the
    sum of its denominators, so a problem without a case has the denominator 0.
    Intervals resample problems and, for a study, seeds. The attempts hold the token
    statistics that `STATISTICS` names, and no others.

        @register_measure("cut_off")
        def cut_off(problem, attempts, context):
            return {"cut_off": (sum(a.truncated for a in attempts), len(attempts))}

    Args:
        name: Name in `config.evaluation.measures`.
        plain: Its metrics that are not shares and keep their own unit.
        prepare: Reads all attempts at all problems first; its result is
            `context.prepared[name]`. Intervals take it as given.

    Returns:
        The decorator, which returns the function unchanged.
    """
    _PLAIN.update(plain)
    if prepare is not None:
        _PREPARE[name] = prepare
    return MEASURES.register(name)


def prepare_measures(names: Sequence[str], asked: Asked) -> dict[str, Any]:
    """Results of what measures read in all attempts, before each problem's own.

    Args:
        names: Names of measures.
        asked: Problems and all attempts at each.

    Returns:
        Results of `prepare` by name, of the measures that have one.
    """
    return {name: _PREPARE[name](asked) for name in names if name in _PREPARE}


# Statistics of tokens that an evaluation's attempts hold.
STATISTICS = ("margin", "logp", "entropy")


def register_group(name: str) -> Callable:
    """Decorator that registers a property of problems, `f(problem) -> int or str`.

    Args:
        name: Name in `config.evaluation.by`.

    Returns:
        The decorator, which returns the function unchanged.
    """
    return GROUPS.register(name)


def is_share(metric: str) -> bool:
    """True if a metric is a share, which is printed in percent.

    Args:
        metric: Its name, with or without the name of a test and a group, as
            `hard:length[terms=4]`.

    Returns:
        False for quantities in a unit of their own, such as tokens.
    """
    return metric.rpartition(":")[2].partition("[")[0] not in _PLAIN


def group_of(problem: Problem, name: str) -> int | str:
    """The group of a problem by one of its properties.

    Args:
        problem: The problem.
        name: A registered group, or a key of `problem.meta`.

    Returns:
        The value.

    Raises:
        UserError: The problem has no such property.
    """
    if name in GROUPS:
        return GROUPS[name](problem)
    if name in problem.meta:
        return problem.meta[name]
    known = [*GROUPS, *problem.meta]
    raise UserError(
        f"config.evaluation.by: problems of {problem.task!r} have no {name!r}"
        f"{suggest(name, known)}"
    )


def sums_of(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Every further metric of the config, of the attempts at one problem.

    Args:
        problem: The problem.
        attempts: All attempts at it.
        context: Settings and codec.

    Returns:
        Sums by metric: the config's measures, and the accuracy by group.
    """
    c = context.config.evaluation
    found: Sums = {}
    for name in c.measures:
        found |= MEASURES[name](problem, attempts, context)
    right = float(sum(attempt.grade == RIGHT for attempt in attempts))
    for name in c.by:
        tag = f"[{name}={group_of(problem, name)}]"
        split = {
            metric + tag: sums for metric, sums in found.items() if "[" not in metric
        }
        found |= {f"accuracy{tag}": (right, float(len(attempts)))} | split
    return found


@register_measure("cost", plain=("cost",))
def cost(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Mean forward tokens of an attempt: read, drawn, cut off, pushed, and scored.

    The ancestor's count, too. Probes, by which the evaluation measures confidence, are
    left out.
    """
    kinds = {kind for kind in dataclasses.asdict(Cost()) if kind != "probe"}
    total = sum(getattr(a.cost, kind) for a in attempts for kind in kinds)
    return {"cost": (float(total), float(len(attempts)))}
