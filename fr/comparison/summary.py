"""The tables of routing.json that need no pipeline."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.comparison.cell_summary import describe_cells, describe_oracle
from fr.comparison.certify import certify
from fr.comparison.evaluate import Judged, evaluate
from fr.comparison.in_sample import describe_protocol
from fr.comparison.power import Power, measure_power
from fr.comparison.transfer import describe_transfer, frozen_policies
from fr.orders.budgets import cell_curves
from fr.orders.schedules import judge_schedules
from fr.routing.baselines import values_of
from fr.routing.columns import COLUMNS
from fr.routing.dataset import EVERYWHERE, IN_SAMPLE, RoutingData
from fr.routing.learned import LearnedRouter
from fr.routing.policies import Choice, Policy, all_policies
from fr.routing.rule import ZStatistics, rule_or_retry
from fr.stats.bootstrap import (
    HEADER,
    Estimate,
    difference_record,
    effective,
    estimate,
    percent,
)
from fr.stats.calibration import bin_sums, error_of

UNITS = {**HEADER, "cost_unit": "forward tokens"}
_FLAT = 0.01  # sd of expected rates, below which they draw no line


def measure_powers(
    data: RoutingData, cells: Sequence | None = None
) -> list[Power | None]:
    """Measure the power of each cell, before any policy is judged.

    Args:
        data: the failed problems.
        cells: `data.cells`, such as in a progress bar.

    Returns:
        The power of each cell; None where attempts are unknown.
    """
    return [
        measure_power(profiles, data.config, data.stream("certainty", profiles.cell))
        for profiles in (data.cells if cells is None else cells)
    ]


def summarise(
    data: RoutingData,
    policies: Sequence[Policy] | None = None,
    powers: Sequence[Power | None] | None = None,
    source: LearnedRouter | None = None,
    bins: int = 10,
) -> dict:
    """Judge all policies and describe the cells.

    Args:
        data: the failed problems.
        policies: what is judged; None: all of `all_policies`.
        powers: of `measure_powers`, if they were measured before.
        source: a router that learned elsewhere, to judge as it is.
        bins: of the calibration.

    Returns:
        Strict JSON values; rates in percent, differences in points, costs in forward
        tokens.
    """
    policies = list(all_policies(data) if policies is None else policies)
    powers = measure_powers(data) if powers is None else powers
    frozen: list[Policy] = []
    missing: list[dict] = []
    transfer = None
    if source is not None:
        frozen = frozen_policies(source)
        transfer, missing = describe_transfer(data, source)
    found = evaluate([*policies, *frozen], data)
    curves, costs = cell_curves(data, _curve_choices(data, found.judged))
    schedules, scheduled = judge_schedules(data, policies)
    cells = describe_cells(data, powers)
    certified = [policy for policy in policies if policy.fold_corrected]
    return {
        **UNITS,
        "policies": describe_policies([*policies, *frozen]),
        "cells": [cell | {"cost": cost} for cell, cost in zip(cells, costs)],
        "protocols": [
            row for name in IN_SAMPLE for row in describe_protocol(data, name)
        ],
        "rows": [row.as_dict() for row in found.rows],
        "unsupported": found.unsupported + missing,
        "certified": certify([p for p in certified if not p.permuted], data),
        "calibration": calibrate_routers(data, found.judged, bins),
        "curves": curves + scheduled,
        "schedules": schedules,
        "ablation": ablate(data, policies),
        "oracle": describe_oracle(data, powers),
        "transfer": transfer,
    }


def calibrate_routers(
    data: RoutingData, judged: Sequence[Judged], bins: int
) -> list[dict]:
    """Compare rescue rates that routers expect of their choices with observed ones.

    Args:
        data: the failed problems.
        judged: choices on all of them, by protocol.
        bins: of the calibration error.

    Returns:
        One row per protocol, main router that expects rates, and cell.
    """
    rows = []
    places = {EVERYWHERE: np.ones(len(data), bool)}
    places |= {profiles.cell: data.cell == c for c, profiles in enumerate(data.cells)}
    for one in judged:
        for policy, choice in one.choices.items():
            if choice.expected is None or not policy.main:
                continue
            basis = one.named(policy.departs_from).operator
            for cell, here in places.items():
                routes = choice.operator
                # A stop expects nothing.
                held = np.flatnonzero(here & (routes < len(data.operators)))
                if (routes[here] < 0).any() or not len(held):
                    continue
                protocol = "transfer" if policy.frozen else one.protocol
                row: dict = {"protocol": protocol, "policy": policy.name}
                row["cell"] = cell
                expected, rates = choice.expected[held], data.rates[held]
                weights = data.resamples[:, held]
                said, gave = (values_of(t, routes[held]) for t in (expected, rates))
                row |= {"n": len(held), **_calibration(said, gave, weights, bins)}
                promised = said - values_of(expected, basis[held])
                gained = gave - values_of(rates, basis[held])
                departs = routes[held] != basis[held]
                left = _departures(promised, gained, departs, weights)
                rows.append(row | {"departures": left})
    return rows


def ablate(data: RoutingData, policies: Sequence[Policy]) -> list[dict]:
    """Measure what groups of signals add to the learned router, k-fold by problem.

    `added` is what a router on the nuisances gains by the group, `left_out` what the
    router on everything loses without it. Routers of a fold share their inner folds;
    differences are paired, and exploratory: no family of them was declared.

    Args:
        data: the failed problems.
        policies: the one named "learned" is trained on fewer columns.

    Returns:
        Rows, the first of all signals together; none with a single group, which the
        comparisons show already, without k folds or a learned router.
    """
    groups: dict[str, int] = {}
    for name in data.columns:
        if COLUMNS[name].kind == "signal":
            group = COLUMNS[name].group
            groups[group] = groups.get(group, 0) + 1
    folds = data.folds("kfold")
    learned = next((policy for policy in policies if policy.name == "learned"), None)
    if len(groups) < 2 or isinstance(folds, str) or learned is None:
        return []
    total = data.resamples @ data.mass

    def rescued(*signals: str) -> Estimate:
        table = data.reading(("nuisance", "prompt", *signals))
        choice = np.full(len(data), -1)
        for k, fold in enumerate(folds):
            # The same stream for all: they differ by what they read.
            fitted = learned.fit(table, fold.train, data.stream(f"ablation {k}"))
            choice[fold.test] = fitted(table).operator[fold.test]
        sums = data.resamples @ values_of(data.values, choice)
        return estimate(sums / total, effective(data.mass))

    def described(name: str, gap: Estimate) -> dict:
        record = difference_record(gap)
        p = {f"{name}_p": record["p"]} if "p" in record else {}
        return {name: record["interval"], **p}

    nothing, everything = rescued(), rescued("signal")
    n, columns = {"n": int((data.mass > 0).sum())}, sum(groups.values())
    whole = described("added", everything - nothing)
    rows = [{"group": "all signals", "columns": columns, **whole, **n}]
    for group, columns in groups.items():
        row = {"group": group, "columns": columns}
        row |= described("added", rescued(group) - nothing)
        others = (other for other in groups if other != group)
        rows.append(row | described("left_out", everything - rescued(*others)) | n)
    return rows


def describe_policies(policies: Sequence[Policy]) -> list[dict]:
    """Describe the policies of all rows, in the order of the printed tables.

    Args:
        policies: what is judged.

    Returns:
        Names, titles and blocks.
    """
    fields = ("name", "title", "block", "cost", "main")
    rows = [{field: getattr(policy, field) for field in fields} for policy in policies]
    # Judged without a choice of their own out of fold.
    more = (
        ("rule_z_population", "rule, z over the cell", "rule", "diagnosis", False),
        ("random_operator", "random operator", "baseline", "none", False),
    )
    for row in (dict(zip(fields, values)) for values in more):
        same = (i for i, other in enumerate(rows) if other["block"] == row["block"])
        rows.insert(max(same, default=len(rows) - 1) + 1, row)
    return rows


def _curve_choices(
    data: RoutingData, judged: Sequence[Judged]
) -> dict[Policy, Int[np.ndarray, "N"]]:
    """The rule with z-scores over each cell, and the main routers out of k folds."""

    def choose(data: RoutingData) -> Choice:
        operator = np.full(len(data), -1)
        for c, p in enumerate(data.cells):
            statistics = ZStatistics.fit(p.features)
            own = np.array([data.operators.index(name) for name in p.operators])
            chosen = rule_or_retry(p.operators, statistics, p.features)
            operator[data.cell == c] = own[chosen]
        return Choice(operator)

    rule = Policy(
        "rule_z_population", "rule, z over the cell", lambda data, rows, rng: choose
    )
    choices = {rule: choose(data).operator}
    kfold = next((one for one in judged if one.protocol == "kfold"), None)
    for policy, choice in kfold.choices.items() if kfold else ():
        if policy.main and not policy.frozen and policy.name != "rule":
            choices[policy] = choice.operator
    return choices


def _calibration(
    said: Float[np.ndarray, "N"],
    gave: Float[np.ndarray, "N"],
    weights: Float[np.ndarray, "R N"],
    bins: int,
) -> dict:
    """Error over equal-width bins, and the line of observed by expected rates.

    `ece_noise` is the mean error of a calibrated router on as many problems: the mean
    size of a normal deviation in each bin. A calibrated line has slope 1 and intercept
    0; there is none if all expected rates are alike.
    """
    n, total = len(said), weights.sum(axis=1)
    each = bin_sums(said, gave, bins, np.arange(n), n)  # a rate is a mean of attempts
    sums = np.tensordot(weights, each, axes=1)
    error = estimate(error_of(sums), n)

    def mean(values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "R"]:
        return weights @ values / total

    with np.errstate(invalid="ignore", divide="ignore"):
        variance = mean(said**2) - mean(said) ** 2
        spread = np.where(variance > _FLAT**2, variance, np.nan)
        slope = (mean(said * gave) - mean(said) * mean(gave)) / spread
    count, expected, observed = sums[0].T
    means = (observed - expected) / np.maximum(count, 1)
    gap = gave - said - means[each[..., 0].argmax(axis=1)]
    noise = np.sqrt(2 / np.pi) * gap.std() * np.sqrt(count).sum() / n
    difference = difference_record(estimate(mean(gave - said), n))
    return {
        "expected": percent(said.mean()),
        "observed": percent(gave.mean()),
        "gap": difference["interval"],
        "gap_p": difference.get("p"),
        "ece": error.percent().as_dict(),
        "ece_noise": percent(noise),
        "slope": estimate(slope, n).plain().as_dict(),
        "intercept": estimate(mean(gave) - slope * mean(said), n).percent().as_dict(),
        "bins": [
            {
                "from": round(float(b / bins), 6),
                "to": round(float((b + 1) / bins), 6),
                "n": int(count[b]),
                "expected": percent(expected[b] / count[b]),
                "observed": percent(observed[b] / count[b]),
            }
            for b in np.flatnonzero(count)
        ],
    }


def _departures(
    promised: Float[np.ndarray, "N"],
    gained: Float[np.ndarray, "N"],
    departs: Bool[np.ndarray, "N"],
    weights: Float[np.ndarray, "R N"],
) -> dict:
    """Expected and observed lift of the choices that were not the fixed one."""
    n = int(departs.sum())
    if not n:
        return {"n": 0, "expected_lift": None, "observed_lift": None}
    each = weights[:, departs]
    with np.errstate(invalid="ignore"):
        means = each @ gained[departs] / each.sum(axis=1)
    observed = estimate(means, n).percent().as_dict()
    expected = percent(promised[departs].mean())
    return {"n": n, "expected_lift": expected, "observed_lift": observed}
