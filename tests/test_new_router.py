"""A router that a user adds: one `Policy`, and it stands in every table."""

import numpy as np
from synthetic_profiles import make, routing_data, rows_of

from fr.comparison.cell_summary import describe_interaction
from fr.comparison.summary import summarise
from fr.comparison.verdict import verdict_of
from fr.config import RoutingConfig
from fr.profiles import OPERATORS
from fr.report.render import render
from fr.routing.policies import Choice, Policy, all_policies

QUICK = RoutingConfig(
    bootstrap=50, splits=4, permutations=20, posterior=20, folds=3, splittings=1
)
COSTS = {f"{name}_cost": 50.0 for name in (*OPERATORS, "diagnosis")}


def by_length(data, rows, rng):
    """Retry failures that are shorter than those learned from, restart the others."""
    assert not any(  # nothing but what the policy may read
        np.isfinite(values).any()
        for name, values in data.columns.items()
        if name != "mean_length"
    )
    typical = np.nanmedian(data.columns["mean_length"][rows])
    rates = np.nanmean(np.where(data.available, data.rates, np.nan)[rows], axis=0)

    def choose(data):
        long = data.columns["mean_length"] > typical
        other = np.where(data.available[:, 3], 3, 0)
        expected = np.broadcast_to(np.nan_to_num(rates), data.rates.shape)
        return Choice(np.where(long, other, 0), expected)

    return choose


MINE = Policy(
    "by_length",
    "by length",
    by_length,
    feature_groups=("length",),
    cost="rollouts",
    block="mine",
)


def summary():
    cells = [
        make(problems=30, cell=f"m|{name}", seed=i, **COSTS)
        for i, name in enumerate("ab")
    ]
    for i, cell in enumerate(cells):
        lengths = np.random.default_rng(i).integers(10, 99, len(cell))
        cell.extras["mean_length"] = tuple(map(str, lengths))
    data = routing_data(*cells, routing=QUICK)
    found = summarise(data, [*all_policies(data, learned=False), MINE])
    found |= {"without": [], "clusters": [], "audit": []}
    found["verdict"] = verdict_of(data, [None, None], 3.0)
    return found | {"interaction": describe_interaction(data)}


def test_a_router_is_one_policy_and_stands_in_every_table():
    found = summary()
    mine = {"policy": "by_length"}
    for protocol in ("kfold", "leave_cell_out", "leave_family_out"):
        for cell in ("all cells", "m|a", "m|b"):
            rows = rows_of(
                found["rows"], protocol=protocol, cell=cell, population="all", **mine
            )
            references = {row.get("reference") for row in rows}
            assert references == {None, *MINE.references}, (protocol, cell)
            (rate,) = [row for row in rows if "reference" not in row]
            assert (
                set(rate["routes"]) <= {"retry", "local_temp"} and rate["cost"] == 100
            )
    assert {row["cell"] for row in rows_of(found["calibration"], **mine)} == {
        "all cells",
        "m|a",
        "m|b",
    }
    curve = rows_of(found["curves"], cell="m|a", **mine)
    assert {row["diagnosis"] for row in curve} == {"paid", "done"}
    assert {row.get("reference") for row in curve} == {
        None,
        "retry",
        "best_in_hindsight",
    }
    (described,) = [row for row in found["policies"] if row["name"] == "by_length"]
    assert described["title"] == "by length" and described["block"] == "mine"
    for html in (False, True):
        assert render("routing", found, html=html).count("by length") > 8
