"""The report of an atlas for a terminal and a page."""

from fr.layout.tables import (
    Block,
    Column,
    Record,
    number,
    register_report,
    table,
    words,
)

_PLACES = 5  # columns of places in a table; atlas.json has all


def interval_of(found: Record) -> Record:
    """The interval of a number of `values` of `atlas.json`.

    Args:
        found: An interval, or a difference that has one.

    Returns:
        The interval.
    """
    return found.get("interval", found)


@register_report("atlas")
def atlas_blocks(found: Record) -> list[Block]:
    """Build the tables of an atlas.

    Args:
        found: Content of `atlas.json`.

    Returns:
        Values, advantages, points of no return, variance, noise and referee.
    """
    places = sorted({row["place"] for row in found["values"]})
    shown = places if len(places) <= _PLACES else places[:: -(-len(places) // _PLACES)]
    blocks: list[Block] = []
    for key, name in (("rate", "atlas_rates"), ("advantage", "atlas_advantages")):
        rows = [
            {"operator": operator}
            | {
                f"{row['place']:.2f}": interval_of(row[key])
                for row in found["values"]
                if row["operator"] == operator
            }
            for operator in found["operators"]
            if key == "rate" or operator != found["operators"][0]
        ]
        columns = [Column(f"{p:.2f}", sign=key != "rate") for p in shown]
        blocks += table(name, rows, columns)
    blocks += table("atlas_no_return", found["no_return"])
    if found.get("defects"):
        blocks.append(words("atlas_defects", **found["defects"]))
    drops = found["drops"]
    blocks.append(words("atlas_drops", **drops | {"size": number(drops["size"])}))
    shares = found["variance"]["shares"]
    rows = [{"part": part, "share": share} for part, share in shares.items()]
    blocks += table("atlas_variance", rows)
    if rows:
        blocks.append(words("atlas_verdict", **found["variance"]))
    blocks += table("atlas_paired", found["paired"]["operators"])
    return [*blocks, *table("atlas_referee", found["referee"])]
