"""Evaluation of all policies by all protocols: one row type, one interval."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.comparison.comparison_row import Row, adjust, entropy_of, row_of_difference
from fr.comparison.in_sample import in_sample_rows
from fr.routing.baselines import (
    random_operator,
    resampled_look_up,
    shuffled,
    values_of,
)
from fr.routing.dataset import EVERYWHERE, IN_SAMPLE, OUT_OF_FOLD, Fold, RoutingData
from fr.routing.policies import FAMILY, LOOK_UPS, Choice, Policy
from fr.stats.bootstrap import Estimate, effective, estimate, fold_correction, percent

TRANSFER = "transfer"  # protocol of what was learned elsewhere
Values = Float[np.ndarray, "N"]


@dataclasses.dataclass(frozen=True)
class Judged:
    """Choices of all policies on all failed problems under one protocol.

    Attributes:
        protocol: of OUT_OF_FOLD.
        choices: by policy, in the order of the tables.
    """

    protocol: str
    choices: dict[Policy, Choice]

    def named(self, name: str) -> Choice:
        """Look up a policy's choice.

        Args:
            name: of the policy.

        Returns:
            Its choice.
        """
        return next(c for policy, c in self.choices.items() if policy.name == name)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        rows: rates and differences.
        judged: the choices on the population "all", by protocol.
        unsupported: {"protocol", "cell", "why"} of what could not be judged.
    """

    rows: list[Row]
    judged: list[Judged]
    unsupported: list[dict]


def evaluate(
    policies: Sequence[Policy],
    data: RoutingData,
    protocols: Sequence[str] = (*IN_SAMPLE, *OUT_OF_FOLD),
) -> Evaluation:
    """Judge policies, cell by cell and pooled, on every population.

    Look-ups are chosen again in every resample; learned routers are not trained again:
    their basis moves, their departures from it are held fixed, as are the choices of
    the rule and of frozen routers. Intervals are over problems; measured on tables
    without any effect, intervals of a difference from a look-up cover 0 in 99 %. Rows
    of a cell depend on other cells by Holm's adjustment and by what is learned.

    Args:
        policies: what is judged.
        data: the failed problems.
        protocols: of IN_SAMPLE and OUT_OF_FOLD.

    Returns:
        Rows, choices and reasons.
    """
    found = Evaluation([], [], [])
    for protocol in protocols:
        if protocol in IN_SAMPLE:
            rows, unsupported = in_sample_rows(data, protocol)
            found.rows.extend(rows)
            found.unsupported.extend(unsupported)
            continue
        folds = data.folds(protocol)
        # A frozen policy learns from no fold: every protocol would give the same rows.
        here = [p for p in policies if protocol == "kfold" or not p.frozen]
        frozen = any(policy.frozen for policy in here)
        if isinstance(folds, str):
            for name in (protocol, *((TRANSFER,) if frozen else ())):
                reason = {"protocol": name, "cell": EVERYWHERE, "why": folds}
                found.unsupported.append(reason)
            continue
        for population in data.populations:
            view = data.under(population)
            stream = data.stream(f"{protocol} {population}")
            choices = choose_out_of_fold(here, view, folds, stream)
            if population == "all":
                found.judged.append(Judged(protocol, choices))
            rows = _rows(view, choices, folds, protocol, population)
            for name in (protocol, TRANSFER):
                pooled = [
                    row
                    for row in rows
                    if (row.protocol, row.cell) == (name, EVERYWHERE)
                    and (row.policy, row.reference) in FAMILY
                ]
                adjust(pooled)
            found.rows.extend(rows)
    return found


def choose_out_of_fold(
    policies: Sequence[Policy],
    data: RoutingData,
    folds: Sequence[Fold],
    rng: np.random.Generator,
) -> dict[Policy, Choice]:
    """Choose for every row by what the other folds teach.

    Args:
        policies: their `fit` sees only the columns that they may read.
        data: failed problems of a population.
        folds: they judge every row once.
        rng: random stream.

    Returns:
        Choice by policy, and the rescue rates that it expects.
    """
    permuted = data.permuted(rng)
    routes = {policy: np.full(len(data), -1) for policy in policies}
    expected: dict[Policy, np.ndarray] = {}
    reading = {}
    for policy in policies:
        table = permuted if policy.permuted else data
        reading[policy] = table.reading(policy.feature_groups)
    for fold in folds:
        # The same stream for all: they differ by what they read, not by inner folds.
        seed, fitted = rng.integers(2**32), {}
        for policy in policies:
            given = reading[policy]
            key = (policy.fit, policy.permuted, given.prompt, given.known_columns)
            if key not in fitted:  # else another policy learns the same
                stream = np.random.default_rng(seed)
                fitted[key] = policy.fit(given, fold.train, stream)(given)
            choice = fitted[key]
            routes[policy][fold.test] = choice.operator[fold.test]
            if choice.expected is not None:
                rates = expected.setdefault(policy, np.full(data.rates.shape, np.nan))
                rates[fold.test] = choice.expected[fold.test]
    return {policy: Choice(routes[policy], expected.get(policy)) for policy in policies}


def _rows(
    data: RoutingData,
    choices: dict[Policy, Choice],
    folds: Sequence[Fold],
    protocol: str,
    population: str,
) -> list[Row]:
    values, bases = {}, {}
    for policy, choice in choices.items():
        values[policy.name] = values_of(data.values, choice.operator)
        bases[policy.name] = policy.basis
        if "permuted" in policy.references:
            other = f"{policy.name} permuted"
            values[other] = shuffled(data, choice.operator, folds)
            bases[other] = policy.basis
    values["random_operator"], bases["random_operator"] = random_operator(data), None
    weights = data.resamples
    redone = {
        n: resampled_look_up(data, folds, weights, by) for n, by in LOOK_UPS.items()
    }
    rows = []
    places = {EVERYWHERE: np.arange(len(data.cells))}
    places |= {profiles.cell: np.array([c]) for c, profiles in enumerate(data.cells)}
    for cell, numbers in places.items():
        held = np.flatnonzero(np.isin(data.cell, numbers))
        if not data.mass[held].any():
            continue
        moved = {name: sums[numbers].sum(axis=0) for name, sums in redone.items()}
        means = _means(data, held, values, bases, moved)
        for name in protocol, TRANSFER:
            where = name, population, cell
            own = {p: c for p, c in choices.items() if p.frozen == (name == TRANSFER)}
            rows += _place_rows(data, held, own, choices, means, folds, where)
    return rows


def _place_rows(
    data: RoutingData,
    held: Int[np.ndarray, "M"],
    own: Mapping[Policy, Choice],
    choices: Mapping[Policy, Choice],
    means: Mapping[str, Estimate],
    folds: Sequence[Fold],
    where: tuple[str, str, str],
) -> list[Row]:
    """Rates and differences of some policies in one place."""
    by_name = {policy.name: choice.operator for policy, choice in choices.items()}
    mass, counted_rows = data.mass[held], held[data.mass[held] > 0]
    n, rows = len(counted_rows), []
    costs = {p: _cost(data, held, p, c.operator) for p, c in own.items()}
    for policy, choice in own.items():
        if policy.name not in means:
            continue
        mean, cost = means[policy.name], costs[policy]
        chosen = choice.operator[counted_rows]
        fixed = by_name.get(policy.departs_from)
        names = (*data.operators, "stop")
        departs = None
        if fixed is not None:
            departs = percent(float((chosen != fixed[counted_rows]).mean()))
        each = None if cost is None or not mean.value > 0 else cost / mean.value
        rows.append(
            Row(
                *where,
                policy.name,
                mean.percent(),
                n,
                cost=cost,
                cost_per_rescue=None if each is None else round(each, 6),
                route_entropy=round(entropy_of(chosen), 6),
                departures=departs,
                routes={names[o]: int((chosen == o).sum()) for o in np.unique(chosen)},
            )
        )
    if where[0] != TRANSFER:
        interval = means["random_operator"].percent()
        rows.append(Row(*where, "random_operator", interval, n))
    for policy, choice in own.items():
        for reference in policy.references:
            permuted = reference == "permuted"
            other = f"{policy.name} permuted" if permuted else reference
            if policy.name not in means or other not in means:
                continue
            gap = means[policy.name] - means[other]
            if policy.fold_corrected:
                gap = gap.widened(fold_correction(len(folds)))
            kept: dict = {}
            if reference == policy.basis:
                same = choice.operator == by_name[reference]
                kept = _kept(same, folds, held[mass > 0])
            row = row_of_difference(where, policy.name, reference, gap, n)
            rows.append(dataclasses.replace(row, cost=costs[policy], **kept))
    return rows


def _means(
    data: RoutingData,
    held: Int[np.ndarray, "M"],
    values: Mapping[str, Values],
    bases: Mapping[str, str | None],
    moved: Mapping[str, Float[np.ndarray, "R"]],
) -> dict[str, Estimate]:
    """Mean of every policy with an answer on all these rows, under the same resamples.

    `moved` holds the sums of the look-ups chosen again; a learned router is the look-up
    that it departs from, and its departures.
    """
    mass, resampled = data.mass[held], data.resamples[:, held]
    known = [name for name, value in values.items() if not np.isnan(value[held]).any()]
    table = np.column_stack([values[name][held] for name in known])
    for i, name in enumerate(known):
        basis = bases[name]
        # Departures alone; the look-up itself is added below, chosen per resample.
        if basis:
            table[:, i] -= values[basis][held]
    sums = dict(zip(known, (resampled @ table).T))
    total = resampled @ mass
    with np.errstate(invalid="ignore"):
        means = {n: (sums[n] + moved.get(bases[n] or "", 0.0)) / total for n in known}
    return {name: estimate(mean, effective(mass)) for name, mean in means.items()}


def _kept(same: np.ndarray, folds: Sequence[Fold], rows: np.ndarray) -> dict[str, int]:
    """Folds that judge these rows, and folds that kept the look-up's choices."""
    judged = [here for here in (rows[fold.test[rows]] for fold in folds) if len(here)]
    kept = sum(bool(same[here].all()) for here in judged)
    return {"kept": kept, "folds": len(judged)}


def _cost(
    data: RoutingData, held: np.ndarray, policy: Policy, choice: np.ndarray
) -> float | None:
    """Mean forward tokens of the chosen attempt, and of what the policy reads."""
    total, mass = 0.0, data.mass[held]
    reads = {"none": "", "rollouts": "failures", "diagnosis": "diagnosis"}[policy.cost]
    for c in np.unique(data.cell[held]):
        known = data.costs[c]
        if known is None:
            return None
        here = data.cell[held] == c
        names = (*data.operators, "stop")
        prices = np.array([known.get(operator, 0.0) for operator in names])
        each = prices[choice[held][here]] + known.get(reads, 0.0)
        total += (mass[here] * each).sum()
    return round(float(total / mass.sum()), 6)
