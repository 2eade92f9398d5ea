"""Records of routing of schema 1, as schema 2."""

from collections.abc import Mapping, Sequence

from fr.stats.bootstrap import Interval

_TITLES = {
    "posterior": ("posterior mean", "posterior"),
    "posterior_nuisances": ("posterior mean, nuisances only", "posterior"),
    "posterior_permuted": ("posterior mean, columns permuted", "posterior"),
    "learned": ("learned router, gated", "learned"),
    "learned_free": ("learned router, free signals", "learned"),
    "learned_signals": ("learned router, no nuisances", "learned"),
    "learned_nuisances": ("learned router, nuisances only", "learned"),
    "learned_question": ("learned router, question only", "learned"),
    "learned_prompt": ("learned router, prompt only", "learned"),
    "learned_intercept": ("learned router, nothing", "learned"),
    "learned_permuted": ("learned router, columns permuted", "learned"),
    "rule": ("rule", "rule"),
    "rule_no_fallback": ("rule, no fallback", "rule"),
    "rule_z_population": ("rule, z over the cell", "rule"),
    "rule_subset": ("rule, z over the steerable", "rule"),
    "rule_subset_no_fallback": ("the same, no fallback", "rule"),
    "best_fixed_per_model": ("best fixed, per model and task", "baseline"),
    "best_fixed_per_cell": ("best fixed, per cell", "baseline"),
    "best_fixed_per_task": ("best fixed, per family", "baseline"),
    "best_fixed": ("best fixed, one for all", "baseline"),
    "random_operator": ("random operator", "baseline"),
    "retry": ("retry", "baseline"),
    "frozen_learned": ("frozen learned router", "transfer"),
    "frozen_learned_fresh_z": ("frozen learned router, fresh z", "transfer"),
    "frozen_rule": ("frozen rule", "transfer"),
    "frozen_fixed": ("source's best fixed", "transfer"),
}
_IN_SAMPLE = {
    "routed": "rule",
    "no_fallback": "rule_no_fallback",
    "z_population": "rule_z_population",
    "best_fixed": "best_fixed_per_cell",
}
_IN_CURVES = {"routed": "rule_z_population", "best_fixed": "best_in_hindsight"}
_PLAIN = {"permuted", "random_operator", "retry", "oracle"}


def upgrade(old: Mapping) -> Mapping:
    """The content of `routing.json` as schema 2."""
    if old.get("schema") == 2:
        return old
    operators = [
        name for cell in old["cells"] for name in cell["attempts"]["operators"]
    ]
    operators = list(dict.fromkeys(operators))
    policies = [
        {"name": name, "title": title, "block": block}
        | {"main": name in ("posterior", "learned", "rule")}
        for name, (title, block) in _TITLES.items()
    ]
    policies += [
        {
            "name": f"always_{o}",
            "title": f"always {o}",
            "block": "operator",
            "main": False,
        }
        for o in operators
    ]
    found = {key: old[key] for key in ("without", "regimes", "audit")}
    found |= {"schema": 2, "policies": policies, "rows": _rows(old), "curves": []}
    found["interaction"] = [
        upgrade_interaction(record) for record in old["interaction"]
    ]
    found["cells"] = [_cell(cell) for cell in old["cells"]]
    found["protocols"], found["oracle"] = [], []
    for cell in old["cells"]:
        _in_sample(cell, found)
    found["unsupported"] = [{"cell": "all cells"} | r for r in old["unsupported"]]
    found["certified"] = [
        {k: v for k, v in r.items() if k not in ("lift", "told")}
        | {"policy": _renamed(r["policy"]), "columns_p": r.get("told")}
        | {"interval": _interval(r["lift"]), "p": r["lift"].get("p")}
        | {"p_holm": r["lift"].get("p_holm"), "certified": r.get("certified")}
        | {"every": r["every"] and r["every"] | {"interval": _interval(r["every"])}}
        for r in old["certified"]
    ]
    found["calibration"] = [_calibration(row) for row in old["calibration"]]
    found["ablation"] = [upgrade_ablation(row) for row in old["ablation"]]
    found["schedules"], found["transfer"] = old["schedules"], old["transfer"]
    if old["schedules"]:
        found |= upgrade_schedules(old["schedules"], found["curves"])
    if old["transfer"]:
        for row in old["transfer"].get("oracle", ()):
            ends = {"at_least": "low", "by_model": "expected", "at_most": "high"}
            here = {"cell": row["cell"], "population": "all"}
            here |= {"best_fixed": row["best_fixed"]}
            found["oracle"].append(here | {k: row[v] for k, v in ends.items()})
        for row in old["transfer"]["unsupported"]:
            named = row | {"protocol": "transfer", "policy": _renamed(row["policy"])}
            found["unsupported"].append(named)
    return found


def upgrade_interaction(record: Mapping) -> dict:
    """A record `interaction` as schema 2."""
    found = dict(record)
    for key in ("sd", "headroom"):
        if found.get(key):
            found[key] = {k: found[key][k] for k in ("value", "low", "high")}
    return found


def upgrade_ablation(row: Mapping) -> dict:
    """A record `ablation` as schema 2."""
    keys = [key for key in ("added", "left_out") if key in row]
    return {**row, **{key: _interval(row[key]) for key in keys}}


def upgrade_online(old: Mapping) -> dict:
    """The content of `online.json` as schema 2."""
    rows = []
    for point in old["curve"]:
        where = {"cell": "all cells", "axis": "forward", "budget": point["budget"]}
        where |= {"declared": True} if point["declared"] else {}
        for policy, share in point["share"].items():
            row = where | {"policy": policy, "interval": Interval(share).as_dict()}
            rows.append(row)
        for policy, gap in point["minus"].items():
            row = where | {"policy": policy, "reference": old["reference"]}
            rows.append(row | {"interval": _interval(gap)})
    return {**old, "curves": rows, "online_after": old["after"]}


def upgrade_power(old: Mapping | None) -> dict | None:
    """A record `certainty` as record `power` of schema 2."""
    if not old or "headroom" in old and "oracle" not in old:
        return dict(old) if old else None
    names = ("all", "without_deterministic", "of_deterministic")
    headroom = {k: _interval(old["headroom"][k]) for k in names if k in old["headroom"]}
    return {
        **old["power"],
        "perfect_router": old["oracle"],
        "best_fixed": old["best_fixed"],
        "labels": old["labels"],
        "stability": old["stability"],
        "headroom": headroom,
        "deterministic": old["headroom"]["deterministic"],
    }


def _renamed(name: str) -> str:
    return name.replace("head", "learned", 1) if "head" in name else name


def _interval(old: Mapping) -> dict:
    if "value" in old:
        return {key: old.get(key) for key in ("value", "low", "high")}
    value = next((old[k] for k in ("value", "mean", "diff", "rate") if k in old), None)
    return Interval(value, old.get("low"), old.get("high")).as_dict()


def _rows(old: Mapping) -> list[dict]:
    rows = []
    for row in (*old["rates"], *old["comparisons"]):
        keep = {
            k: v for k, v in row.items() if k not in ("rate", "diff", "low", "high")
        }
        keep |= {"policy": _renamed(row["policy"]), "interval": _interval(row)}
        if "reference" in row:
            keep["reference"] = _renamed(row["reference"])
        rows.append(keep)
    return rows


def _cell(old: Mapping) -> dict:
    names = ("cell", "n", "excluded", "single_failure", "attempts", "labels")
    found = {key: old[key] for key in (*names, "unreached", "population", "notes")}
    null, cost = old["label_null"], old["cost"]
    keep = ("seen", "p", "problems", "operators")
    found["label_null"] = null and {k: null[k] for k in keep} | {
        "expected": _interval(null)
    }
    found["power"] = upgrade_power(old["certainty"])
    tokens = cost and {"forward_tokens": cost["positions"]}
    found["cost"] = cost and tokens | {k: cost.get(k) for k in ("recorded", "error")}
    return found


def _in_sample(cell: Mapping, found: dict) -> None:
    """Rows, protocols, perfect routers and curves of one cell."""
    name = lambda n: _IN_SAMPLE.get(n, n if n in _PLAIN else f"always_{n}")
    for protocol, old in cell["protocols"].items():
        if not old:
            continue
        where = {"cell": cell["cell"], "protocol": protocol}
        found["protocols"].append(
            where
            | {"problems": old["problems"], "dropped": old.get("dropped", 0)}
            | {"deterministic": old.get("deterministic", [])}
            | {"repeats": old.get("repeats")}
        )
        bracket = old["oracle_bracket"]
        ends = {"at_least": "low", "by_model": "expected", "at_most": "high"}
        oracle = where | {"population": "steerable", "outside": bracket.get("outside")}
        found["oracle"].append(oracle | {k: bracket.get(v) for k, v in ends.items()})
        where |= {"population": "steerable", "n": old["problems"]}
        for policy, rate in old["rates"].items():
            low, high = old["intervals"].get(policy, (None, None))
            row = where | {"policy": name(policy)}
            row["interval"] = Interval(rate, low, high).as_dict()
            row |= {"routes": old["routes"]} if policy == "routed" else {}
            found["rows"].append(row)
        for key, gap in old.items():
            if key.startswith("routed_minus_"):
                policy = key.removeprefix("routed_minus_")
                row = where | {"policy": "rule", "reference": name(policy)}
                row |= {"interval": _interval(gap), "p": gap.get("p")}
                row |= {"p_holm": gap["p_holm"]} if "p_holm" in gap else {}
                found["rows"].append(row | {"detectable": old["power"].get(policy)})
    known, cost = cell["certainty"], cell["cost"]
    if known:
        found["oracle"].append(
            {"cell": cell["cell"], "population": "all", "by_model": known["oracle"]}
            | {"best_fixed": known["best_fixed"]}
        )
    for point in (cost or {}).get("curve", ()):
        where = {"cell": cell["cell"], "axis": "forward", "budget": point["budget"]}
        for policy, rate in point["solved"].items():
            row = where | _in_curve(policy)
            found["curves"].append(row | {"interval": Interval(rate).as_dict()})
        for key, gap in point.items():
            if key.endswith("_minus_best") and gap:
                row = where | _in_curve(key.removesuffix("_minus_best"))
                row |= {"reference": "best_in_hindsight", "interval": _interval(gap)}
                found["curves"].append(row)


def _in_curve(policy: str) -> dict:
    paid = {"diagnosis": "paid"} if policy in ("routed", "head") else {}
    paid = {"diagnosis": "done"} if policy.endswith("_sunk") else paid
    policy = policy.removesuffix("_sunk")
    return {"policy": _IN_CURVES.get(policy, _renamed(policy))} | paid


def _calibration(old: Mapping) -> dict:
    keep = ("protocol", "cell", "n", "expected", "observed", "bins")
    gone = old["departures"]
    gained = gone.get("gained")
    return {
        **{key: old[key] for key in keep},
        "policy": _renamed(old["policy"]),
        **{key: _interval(old[key]) for key in ("gap", "ece", "slope", "intercept")},
        "ece_noise": old["ece"]["noise"],
        "departures": {
            "n": gone["n"],
            "expected_lift": gone.get("promised"),
            "observed_lift": gained and _interval(gained),
        },
    }


def upgrade_schedules(old: Mapping, before: Sequence[Mapping] = ()) -> dict:
    """A record `schedules` as that of schema 2 and the curves after those `before`."""
    curves = list(before)
    name = lambda n: {
        "head": "schedule",
        "head_free": "schedule_free",
        "best_fixed": "best_in_hindsight",
        "best": "best_in_hindsight",
    }.get(n, n)
    orders = {name(policy): families for policy, families in old["orders"].items()}
    for point in old["curve"]:
        where = {"cell": "all cells", "axis": "forward", "budget": point["budget"]}
        for policy, rate in point["solved"].items():
            row = where | {"policy": name(policy)}
            curves.append(row | {"interval": Interval(rate).as_dict()})
        for policy, gaps in point.items():
            if isinstance(gaps, Mapping) and policy != "solved":
                for key, gap in gaps.items():
                    row = where | {"policy": name(policy), "interval": _interval(gap)}
                    row["reference"] = name(key.removeprefix("minus_"))
                    curves.append(row)
    return {"schedules": {**old, "orders": orders}, "curves": curves}
