"""Problems of a run by the success of sampling them again."""

from collections.abc import Iterable, Mapping

from fr.errors import UserError
from fr.types import RIGHT

RETRY = "retry"  # the operator that samples the model again and changes nothing


def rarely_reached(attempts: Iterable[Mapping], most: int) -> set[str]:
    """Problems at which at most `most` attempts of `retry` were right.

    With 12 attempts and `most` = 1, those are the problems with a retry rate of at most
    1/12: what rescued them is mostly what sampling again does not find.

    Args:
        attempts: Rows with `problem`, `operator` and `grade`.
        most: Right attempts of `retry`, at most.

    Returns:
        Ids of problems; one without an attempt of `retry` is not among them.

    Raises:
        UserError: The attempts hold none of `retry`.
    """
    right: dict[str, int] = {}
    for row in attempts:
        if row["operator"] == RETRY:
            before = right.get(row["problem"], 0)
            right[row["problem"]] = before + (row["grade"] == RIGHT)
    if not right:
        raise UserError(
            f"config.training.most_retries = {most} counts right attempts of "
            f"{RETRY!r}, and config.training.run has none; make the run with it in "
            "config.intervention.operators"
        )
    return {problem for problem, count in right.items() if count <= most}
