"""Everything that routing says about some cells, as one plain record."""

import functools
from collections.abc import Sequence

import numpy as np

from fr.config import Config
from fr.routing.ablation import ablate
from fr.routing.cells import describe_cell, describe_cost, difference, stream
from fr.routing.certainty import Certainty, certainty
from fr.routing.certify import certify
from fr.routing.compare import TRANSFER, Judged, compare
from fr.routing.evaluate import FAMILY, adjust, evaluate, route_entropy, rule_routes
from fr.routing.folds import resample_problems
from fr.routing.interaction import describe_interaction
from fr.routing.pool import make_pool, make_populations
from fr.routing.profiles import OPERATORS, Profiles
from fr.routing.promises import calibration
from fr.routing.protocols import View, halves_view, repeats, source_view
from fr.routing.rule import ZStatistics
from fr.routing.schedule_curves import judge_schedules
from fr.routing.trained import Head
from fr.routing.transfer import freeze, oracle_bracket
from fr.stats.bootstrap import Estimate, percent

PROTOCOLS = ("source", "split_halves")


def measure_certainty(
    cells: Sequence[Profiles], config: Config
) -> list[Certainty | None]:
    """What the attempts of each cell can show: before any policy is judged."""
    return [
        certainty(p, config.routing, stream(p.cell, config, "certainty")) for p in cells
    ]


def summarise(
    cells: Sequence[Profiles],
    config: Config,
    heads: bool = False,
    known: Sequence[Certainty | None] | None = None,
    source: Head | None = None,
    interaction: list[dict] | None = None,
) -> dict:
    """What routing.json holds, in strict JSON values; rates and differences in percent.

    `cells` have the source's protocol and split halves; `rates`, `comparisons` and `unsupported` are of every
    policy out of fold, the learned heads among them if `heads` (needs jax), `calibration` of what those expect and
    `ablation` of what they read, `schedules` of what they solve at equal cost. A `source` is a head that was
    trained on other failures: `transfer` says what it shares with these, and its policies are rows of that
    protocol. `known` is `measure_certainty`'s, `interaction` that of `describe_interaction`: it comes first.
    A cell's own numbers, its Holm adjustment aside, do not depend on the other cells.
    """
    known = measure_certainty(cells, config) if known is None else known
    views = [_views(profiles, config) for profiles in cells]
    tables = [
        {
            name: _evaluate(profiles, name, view, config) if view else None
            for name, view in zip(PROTOCOLS, pair)
        }
        for profiles, pair in zip(cells, views)
    ]
    for name in PROTOCOLS:
        present = [table[name] for table in tables if table[name]]
        for table, adjusted in zip(present, adjust([t["estimates"] for t in present])):
            table["holm"] = adjusted
    pool = make_pool(cells)
    populations = make_populations(
        pool, [halves for _, halves in views], config.routing
    )
    generator = functools.partial(stream, "", config)
    frozen = freeze(pool, source) if source else None
    compared, judged = compare(
        pool,
        populations,
        config.routing,
        generator,
        heads,
        frozen.routes if frozen else None,
    )
    judged = [one for one in judged if one.population == "all"]
    chosen = next((one.routes for one in judged if one.protocol == "kfold"), {})
    found = []
    for c, (profiles, pair, table, sure) in enumerate(zip(cells, views, tables, known)):
        protocols = {
            name: _protocol(profiles, view, sure, **table[name]) if view else None
            for name, view in zip(PROTOCOLS, pair)
        }
        own = [
            *(pool.operators.index(name) for name in profiles.operators),
            len(pool.operators),
        ]
        routes = {
            name: np.array(
                [own.index(choice) for choice in chosen[name][pool.cell == c]]
            )
            for name in ("head", "head_free")
            if name in chosen
        }
        record = {
            "cost": describe_cost(profiles, config, routes),
            "protocols": protocols,
        }
        found.append(
            {
                **describe_cell(profiles, config),
                "certainty": sure.record if sure else None,
                **record,
            }
        )
    compared["comparisons"] = _as_rows(found) + compared["comparisons"]
    if frozen:
        judged.append(Judged(TRANSFER, "all", frozen.routes, frozen.expected))
        brackets = [
            oracle_bracket(p, halves, sure)
            for p, (_, halves), sure in zip(cells, views, known)
        ]
    weights = resample_problems(
        pool, np.arange(len(pool)), config.routing.bootstrap, generator("rows")
    )
    return {
        "interaction": describe_interaction(cells, config)
        if interaction is None
        else interaction,
        "cells": found,
        **compared,
        "certified": certify(pool, populations["all"], config.routing, generator),
        "calibration": calibration(pool, judged, weights, config.evaluation.bins),
        "schedules": judge_schedules(pool, config.routing, generator, weights)
        if heads
        else None,
        "ablation": ablate(pool, populations["all"], config.routing, generator)
        if heads
        else [],
        "transfer": {**frozen.record, "oracle": brackets} if frozen else None,
    }


def _as_rows(cells: list[dict]) -> list[dict]:
    """The rule's differences in the source's protocol and in split halves, as rows like the out-of-fold ones."""
    names = {
        "best_fixed": "best_fixed_per_cell",
        "sparse_steer_random": "always_sparse_steer_random",
    }
    rows = []
    for cell in cells:
        for protocol, record in cell["protocols"].items():
            for reference in (
                names | dict.fromkeys(("retry", "permuted", "random_operator"))
                if record
                else ()
            ):
                gap = record.get(f"routed_minus_{reference}")
                if gap is None:
                    continue
                row = {
                    "protocol": protocol,
                    "population": "steerable",
                    "policy": "rule",
                }
                row |= {
                    "reference": names.get(reference, reference),
                    "cell": cell["cell"],
                }
                row |= {
                    "diff": gap["mean"],
                    **{key: gap[key] for key in ("low", "high", "p")},
                }
                row |= {"n": record["problems"], "cost": None}
                rows.append(
                    row | ({"p_holm": gap["p_holm"]} if "p_holm" in gap else {})
                )
    return rows


def _views(profiles: Profiles, config: Config) -> tuple[View, View | None]:
    source = source_view(profiles, config.routing)
    return source, halves_view(
        profiles, config.routing, stream(profiles.cell, config, "halves")
    )


def _evaluate(profiles: Profiles, protocol: str, view: View, config: Config) -> dict:
    routes = rule_routes(profiles, view)
    if protocol == "split_halves":
        del routes["z_population"]  # its z-statistics are over all failures anyway
    rng = stream(profiles.cell, config, protocol)
    estimates = evaluate(
        view, profiles.operators, routes, config.routing.bootstrap, rng
    )
    return {"routes": routes, "estimates": estimates}


def _protocol(
    profiles: Profiles,
    view: View,
    known: Certainty | None,
    routes: dict,
    estimates: dict[str, Estimate],
    holm: dict,
) -> dict:
    routed = routes["routed"][np.isin(view.kept, view.calibration)]
    counts = {
        name: int((routed == o).sum()) for o, name in enumerate(profiles.operators)
    }
    rates = {
        name: percent(e.value) for name, e in estimates.items() if name != "oracle_high"
    }
    halved = len(view.steerable) > 1
    record = {
        "problems": round(float(view.steerable.sum(axis=1).mean()), 6),
        "rates": {**dict.fromkeys(OPERATORS), **rates},
        "intervals": {
            name: [percent(end) for end in estimates[name].interval()] for name in rates
        },
        "routes": counts,
        "route_entropy": round(route_entropy(routed), 6) if len(routed) else None,
        # In the source's protocol the oracle reads the rates that it is scored with: an upper end only.
        "oracle_bracket": _bracket(
            rates["oracle"] if halved else None,
            _expected(view, known),
            percent(estimates["oracle_high"].value),
        ),
        "power": {
            name: percent((estimates["routed"] - estimates[name]).detectable())
            for name in FAMILY
        },
        "z_statistics": ZStatistics.fit(profiles.features[view.calibration]).to_dict(),
    }
    if halved:
        again, chance = repeats(view)
        record |= {
            "dropped": view.dropped,
            "deterministic": list(view.fixed),
            "repeats": {"seen": percent(again), "chance": percent(chance)},
        }
    for name in (
        *FAMILY,
        "random_operator",
        *(o for o in profiles.operators if o not in FAMILY),
    ):
        gap = estimates["routed"] - estimates[name]
        record[f"routed_minus_{name}"] = difference(gap) | (
            {"p_holm": round(holm[name], 6)} if name in holm else {}
        )
    return record


def _bracket(low: float | None, expected: float | None, high: float | None) -> dict:
    """{low, expected, high, outside}: what a perfect router has; `outside` says why the model is out of bounds."""
    outside = None
    if expected is not None and low is not None and expected < low:
        outside = "the model shrinks the rates of these problems further than their second half does"
    if expected is not None and high is not None and expected > high:
        outside = "the model expects more than the very rates show: it does not fit these problems"
    return {"low": low, "expected": expected, "high": high, "outside": outside}


def _expected(view: View, known: Certainty | None) -> float | None:
    """E[max_o p_o] over the problems that count, as often as they do."""
    mass = view.steerable.mean(axis=0)
    return (
        percent(float(mass @ known.oracle[view.kept]) / mass.sum())
        if known and mass.any()
        else None
    )
