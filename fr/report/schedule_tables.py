"""What a budget buys when one operator follows another, as a person reads it in a terminal."""

import itertools

from fr.report.tables import Block, Table, difference, number, text

_TITLES = {
    "best_fixed": "best fixed",
    "retry": "retry",
    "one_order": "one order",
    "one_order_per_model": "one order a model",
    "head": "head",
    "head_free": "free head",
}


def render_schedules(found: dict | None) -> str:
    """The text of `schedule_blocks`."""
    return text(schedule_blocks(found))


def schedule_blocks(found: dict | None) -> list[Block]:
    """Shares solved within each budget by every order, what choosing one by the failure adds, and the orders."""
    if not found:
        return []
    routers = list(found["orders"])
    shown = list(found["curve"][0]["solved"])
    header = ["positions", *(_TITLES[name] for name in shown), "one order − best fixed"]
    against = {
        "one_order_per_model": "one order a model",
        "one_order": "one order",
        "best": "best fixed",
        "permuted": "exchanged",
    }
    for name in routers:
        header += [f"{_TITLES[name]} − {other}" for other in against.values()]
    rows = []
    for point in found["curve"]:
        shares = [number(point["solved"][name]) for name in shown]
        row = [f"{point['budget']:,.0f}", *shares, difference(point["one_order"]["minus_best"])]
        for name in routers:
            row += [difference(point[name][f"minus_{other}"]) for other in against]
        rows.append(row)
    lead = (
        f"at equal cost, one operator after the other: of {found['problems']} failed problems, % solved within a "
        "budget; out of fold"
    )
    note = (
        "  an order served a fold's training problems best: all of a task (one order), or those with the same choice "
        "of a head, whose reading is paid\n  first; one order a model: of a model on a task, which is known without "
        "reading a failure; free head: reads what comes with the rollouts; best fixed: of "
        "each cell, in hindsight; exchanged: the same orders, handed to\n  each other's problems\n"
        + f"  {price_words(found)}"
    )
    return [Table(header, rows, left=(), lead=lead, note=note), _orders(found["orders"])]


def price_words(found: dict) -> str:
    """How attempts were charged, and the error that drawing their order leaves."""
    if found["recorded"]:
        error = number(found["error"], 2)
        return (
            "prices: every recorded attempt with its own cost, drawn without replacement; "
            f"standard error of the draws at most {error} points"
        )
    return (
        "prices: APPROXIMATE, every attempt at the mean price of its operator at its problem (the table has no "
        "attempts beside it); right and wrong attempts cost differently, which has moved such shares by 8 points"
    )


def _orders(orders: dict[str, dict[str, dict[str, list[str]]]]) -> Table:
    rows = [
        [family, "one order" if choice == "one_order" else f"{_TITLES[name]}: {choice}", _runs(order)]
        for name, by_family in orders.items()
        for family, by_choice in by_family.items()
        for choice, order in by_choice.items()
        if family and (choice != "one_order" or name == next(iter(orders)))
    ]
    return Table(["task", "order", "operators, with their attempts in a row"], rows, left=(0, 1, 2))


def _runs(order: list[str], most: int = 8) -> str:
    runs = [f"{name} {len(list(group))}" for name, group in itertools.groupby(order)]
    return ", ".join(runs[:most]) + (", …" if len(runs) > most else "")
