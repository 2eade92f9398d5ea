"""Attempts at one problem with one prompt: one record in several formats."""

from collections.abc import Iterable, Iterator

from fr.exchange.sampled import Row


def by_problem(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Group attempts that follow each other.

    Args:
        rows: Stored attempts.

    Yields:
        Attempts of one problem, operator and prompt.
    """
    group: list[Row] = []
    for row in rows:
        if group and _asked(group[0]) != _asked(row):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _asked(row: Row) -> tuple[str, str, list[int]]:
    return row.problem, row.operator, row.prompt
