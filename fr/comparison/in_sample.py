"""The rule on steerable problems: the source's protocol, and split halves."""

import numpy as np
from jaxtyping import Float, Int

from fr.comparison.comparison_row import Row, adjust, entropy_of, row_of_difference
from fr.diagnosis.labels import counted
from fr.profiles.profile import Profiles
from fr.routing.dataset import RoutingData
from fr.routing.policies import IN_SAMPLE_FAMILY
from fr.routing.rule import ZStatistics, rule_or_retry
from fr.routing.split_half import View
from fr.stats.bootstrap import Estimate, effective, estimate, percent, resample_weights

_UNKNOWN = "attempts of the rates are unknown"


def in_sample_rows(data: RoutingData, protocol: str) -> tuple[list[Row], list[dict]]:
    """Judge the rule and what needs no reading by one protocol, cell by cell.

    Args:
        data: the failed problems.
        protocol: of IN_SAMPLE.

    Returns:
        Rows, their Holm's p over the references and all cells; and the cells that the
        protocol does not support.
    """
    rows: list[Row] = []
    unsupported, family, raw = [], [], []
    for profiles, views in zip(data.cells, data.views):
        view = views[protocol]
        if view is None:
            reason = {"protocol": protocol, "cell": profiles.cell, "why": _UNKNOWN}
            unsupported.append(reason)
            continue
        routes = rule_routes(profiles, view)
        if protocol == "split_halves":
            del routes["rule_z_population"]  # its z-statistics are over all anyway
        rng = data.stream(protocol, profiles.cell)
        resamples = data.config.bootstrap
        means = in_sample_means(view, profiles.operators, routes, resamples, rng)
        n = round(float(view.steerable.sum(axis=1).mean()), 6)
        where = protocol, "steerable", profiles.cell
        chosen = routes["rule"][np.isin(view.kept, view.calibration)]
        for name, mean in means.items():
            if name == "oracle_scored":
                continue
            row = Row(*where, name, mean.percent(), n)
            if name == "rule":
                named = enumerate(profiles.operators)
                row.routes = {o: int((chosen == i).sum()) for i, o in named}
                row.route_entropy = (
                    round(entropy_of(chosen), 6) if len(chosen) else None
                )
            rows.append(row)
        references = [*IN_SAMPLE_FAMILY, "random_operator"]
        references += [name for name in means if name.startswith("always_")]
        for reference in references:
            gap = means["rule"] - means[reference]
            row = row_of_difference(where, "rule", reference, gap, n)
            rows.append(row)
            if reference in IN_SAMPLE_FAMILY:
                row.detectable = percent(gap.detectable())
                family.append(row)
                raw.append(gap.p_value())
    adjust(family, raw)
    return rows, unsupported


def describe_protocol(data: RoutingData, protocol: str) -> list[dict]:
    """Describe how each cell was read by an in-sample protocol.

    Args:
        data: the failed problems.
        protocol: of IN_SAMPLE.

    Returns:
        One record per supported cell: problems that count, problems dropped,
        deterministic operators, percent of steerable problems that the other half calls
        so too, and the z-statistics of the rule.
    """
    records = []
    for profiles, views in zip(data.cells, data.views):
        view = views[protocol]
        if view is None:
            continue
        repeats = None
        if len(view.steerable) > 1:
            seen, chance = view.repeats
            repeats = {"seen": percent(seen), "chance": percent(chance)}
        statistics = ZStatistics.fit(profiles.features[view.calibration])
        records.append(
            {
                "protocol": protocol,
                "cell": profiles.cell,
                "problems": round(float(view.steerable.sum(axis=1).mean()), 6),
                "dropped": view.dropped,
                "deterministic": list(view.fixed),
                "repeats": repeats,
                "z_statistics": statistics.to_dict(),
            }
        )
    return records


def rule_routes(profiles: Profiles, view: View) -> dict[str, Int[np.ndarray, "N"]]:
    """Choose by the rule for every kept problem.

    Args:
        profiles: the cell.
        view: how its protocol reads it.

    Returns:
        Choices of the rule, without its fallback, and with z-scores over the cell.
    """
    features = profiles.features[view.kept]
    statistics = ZStatistics.fit(profiles.features[view.calibration])
    everyone = ZStatistics.fit(profiles.features)
    operators = profiles.operators
    return {
        "rule": rule_or_retry(operators, statistics, features),
        "rule_no_fallback": rule_or_retry(operators, statistics, features, False),
        "rule_z_population": rule_or_retry(operators, everyone, features),
    }


def in_sample_means(
    view: View,
    operators: tuple[str, ...],
    routes: dict[str, Int[np.ndarray, "N"]],
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Estimate]:
    """Average rescue over the steerable problems, for every policy and baseline.

    Routes are held fixed in the resamples; the best fixed operator is chosen again in
    each. `permuted` is the exact expectation of the rule with features shuffled over
    the problems that it was calibrated on; `oracle` takes each problem's best operator
    by the deciding rates, `oracle_scored` by the scoring ones. Measured on tables
    without any effect, split halves cover a difference of 0 in 93 to 98 % (60 problems,
    five operators) and 94 % (250 problems, two), but in 87 to 91 % where only some 20
    problems are steerable.

    Args:
        view: the cell as its protocol reads it.
        operators: names.
        routes: operator of each kept problem by policy; "rule" is one.
        resamples: bootstrap resamples.
        rng: random stream.

    Returns:
        Estimates of shares.
    """
    arms = counted(operators)
    weights = resample_weights(len(view.kept), resamples, rng)
    size = weights @ view.steerable.T.astype(float)  # [R+1, H]

    def mean(scores: Float[np.ndarray, "H N"]) -> Float[np.ndarray, "R H"]:
        with np.errstate(invalid="ignore"):
            return weights @ (scores * view.steerable).T / size

    def take(choice: Int[np.ndarray, "H N"]) -> Float[np.ndarray, "H N"]:
        return np.take_along_axis(view.scoring, choice[..., None], axis=-1)[..., 0]

    always = [mean(view.scoring[..., o]) for o in range(len(operators))]
    names = [name if name == "retry" else f"always_{name}" for name in operators]
    means = dict(zip(names, always))
    for name, route in routes.items():
        means[name] = mean(take(np.broadcast_to(route, view.steerable.shape)))
    means["random_operator"] = np.sum([always[o] for o in arms], axis=0) / len(arms)
    # Retry counts as a fixed operator too: a router must beat doing nothing.
    decided = [mean(view.deciding[..., o]) for o in range(len(operators))]
    best = np.argmax(np.stack(decided, axis=-1), axis=-1)[..., None]
    scored = np.stack(always, axis=-1)
    means["best_fixed_per_cell"] = np.take_along_axis(scored, best, axis=-1)[..., 0]
    chosen = routes["rule"][np.isin(view.kept, view.calibration)]
    shares = np.bincount(chosen, minlength=len(operators)) / max(1, len(chosen))
    means["permuted"] = np.sum([s * rate for s, rate in zip(shares, always)], axis=0)
    means["oracle"] = mean(take(view.deciding.argmax(axis=-1)))
    means["oracle_scored"] = mean(view.scoring.max(axis=-1))
    carried = effective(view.steerable.mean(axis=0))
    return {name: estimate(_average(values), carried) for name, values in means.items()}


def _average(values: Float[np.ndarray, "R H"]) -> Float[np.ndarray, "R"]:
    """Mean over the halvings with a steerable problem; NaN without one."""
    called = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(called, values, 0.0).sum(axis=1) / called.sum(axis=1)
