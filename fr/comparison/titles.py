"""Names that people read, and the choice of rows of `routing.json`."""

from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]  # a row of the file

ALL = "all cells"
PROTOCOLS = {
    "kfold": "k-fold by problem",
    "leave_cell_out": "leave one cell out",
    "leave_family_out": "leave one family out",
    "transfer": "transfer",
    "source": "source's protocol",
    "split_halves": "split halves",
}
TITLES = {  # of policies that are not routers
    "permuted": "its choices shuffled",
    "oracle": "oracle",
    "best_in_hindsight": "best operator in hindsight",
    "one_order": "one order",
    "one_order_per_model": "one order per model",
    "schedule": "learned orders",
    "schedule_free": "learned orders, free signals",
}


def titled(rows: Iterable[Record], routing: Record) -> list[dict]:
    """Rows with the names that people read.

    Args:
        rows: Records with `policy`, and perhaps `protocol` and `reference`.
        routing: Content of the file, for the titles of its policies.

    Returns:
        Copies with `title`, `minus` (the reference) and `by` (the protocol).
    """
    titles = TITLES | {p["name"]: p["title"] for p in routing.get("policies", ())}
    named = lambda names, name: names.get(name, name)
    return [
        row
        | {"title": named(titles, row.get("policy"))}
        | {"minus": named(titles, row.get("reference"))}
        | {"by": named(PROTOCOLS, row.get("protocol"))}
        for row in map(dict, rows)
    ]


def in_order(rows: Iterable[Record], routing: Record) -> list[dict]:
    """Rates with the names that people read, in the order of the tables.

    Args:
        rows: Rows of `routing.json`.
        routing: Content of the file, for the order of its policies.

    Returns:
        What `titled` gives of the rows without a reference.
    """
    order = [p["name"] for p in routing["policies"]] + ["permuted", "oracle"]
    place = {name: i for i, name in enumerate(order)}
    rates = select(titled(rows, routing), reference=None)
    return sorted(rates, key=lambda row: place.get(row["policy"], len(order)))


def select(rows: Iterable[Record], **where) -> list:
    """Rows with the given values.

    Args:
        rows: Records.
        **where: Value by key; None where the key must be absent or null.

    Returns:
        The rows, in their order.
    """
    return [row for row in rows if all(row.get(k) == v for k, v in where.items())]
