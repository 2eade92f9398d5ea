"""Settings of the atlas: what would have rescued a failed trace, and from where."""

import dataclasses

from fr.config.fields import (
    INNER_SHARE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    TWO_OR_MORE,
    each,
    setting,
)


@dataclasses.dataclass(frozen=True)
class AtlasConfig:
    """Failed traces, their cuts, and the branches of each operator at each cut."""

    traces: int = setting(60, "failed traces", POSITIVE)
    per_problem: int = setting(1, "failed traces of a problem, at most", POSITIVE)
    cuts: int = setting(
        12, "cuts of a trace, at equal shares of its reasoning", TWO_OR_MORE
    )
    more_cuts: int = setting(
        0, "further cuts, where the rate of retry changes most", NOT_NEGATIVE
    )
    operators: tuple[str, ...] = setting(
        (
            "retry",
            "hot",
            "dense_sampled",
            "steer_here",
            "heat_here",
            "wait_here",
        ),
        "operators that go on from every cut; retry is the plain one",
    )
    branches: int = setting(
        64,
        "branches of an operator at a cut; the first half detects, the second "
        "estimates",
        TWO_OR_MORE,
    )
    statistics: bool = setting(
        False, "keep the token statistics of branches that do not need them"
    )
    share: float = setting(
        0.5,
        "a remedy is lost where its rate stays below this share of the rate at the "
        "start",
        POSITIVE_SHARE,
    )
    level: float = setting(
        0.1, "largest share of false places among those that are claimed", INNER_SHARE
    )
    restarts: tuple[float, ...] = setting(
        (0.25, 0.5, 0.75),
        "places of the planner's table, shares of the reasoning that is kept, beside 0",
        each(INNER_SHARE, "in (0, 1)"),
    )
