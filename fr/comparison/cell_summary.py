"""Description of each cell before any policy: labels, power, what there is to route."""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, Int

from fr.comparison.power import Power
from fr.config import RoutingConfig
from fr.diagnosis.labels import count_labels, label, permutation_null, unreached
from fr.profiles.profile import FEATURES, OPERATORS, WEIGHT, Profiles
from fr.routing.dataset import IN_SAMPLE, RoutingData
from fr.routing.rule import FALLBACK, RULE
from fr.stats.bootstrap import Interval, holm, percent
from fr.stats.interaction import interaction, interaction_apart

_FEWEST = 5  # problems of a test


def describe_cells(data: RoutingData, powers: Iterable[Power | None]) -> list[dict]:
    """Describe labels, chance, attempts, population and power of each cell.

    Args:
        data: the failed problems.
        powers: of each cell.

    Returns:
        One record per cell.
    """
    records = []
    for profiles, power in zip(data.cells, powers):
        routing = data.config
        labels = label(profiles.rates, profiles.operators, routing.margin, routing.hard)
        records.append(
            {
                "cell": profiles.cell,
                "n": len(profiles),
                "excluded": profiles.excluded,
                "single_failure": int((profiles.n_failed == 1).sum()),
                "attempts": _attempts(profiles),
                "labels": count_labels(labels),
                "label_null": _null(
                    profiles, routing, data.stream("null", profiles.cell)
                ),
                "unreached": _unreached(profiles),
                "population": describe_population(profiles),
                "notes": _notes(profiles),
                "power": power.record if power else None,
            }
        )
    return records


def describe_population(profiles: Profiles) -> dict | None:
    """Count the problems in the table, and those that a deployed router meets.

    Args:
        profiles: the cell.

    Returns:
        {"share", "deployed"} in percent of all problems; None if the table does not
        say how often each is met.
    """
    if profiles.numbers(WEIGHT) is None:
        return None
    asked = len(profiles) + profiles.excluded
    met = profiles.weights.sum()
    return {"share": percent(len(profiles) / asked), "deployed": percent(met / asked)}


def describe_interaction(
    data: RoutingData, wrap: Callable[[Iterable], Iterable] = iter
) -> list[dict]:
    """Test in each cell whether operators differ alike on every problem.

    Deterministic operators and those without a second attempt anywhere are left out:
    all that they do differently on a problem would be called an interaction. So are
    problems with unknown attempts. Where operators share random keys and are too many
    for each to have an index of its own, all attempts are tested together, which is
    conservative.

    Args:
        data: the failed problems.
        wrap: of the loop over cells, such as a progress bar.

    Returns:
        One record per cell: p with Holm's over the cells, sd in logits, headroom in
        points; `why` is the reason without a test.
    """
    records = []
    for profiles in wrap(data.cells):
        attempts = profiles.tried
        kept = ~profiles.repeats_itself & (attempts.max(axis=0) > 1)
        known = (attempts[:, kept] > 0).all(axis=1)
        names = np.array(profiles.operators, object)
        record: dict = {
            "cell": profiles.cell,
            "problems": int(known.sum()),
            "operators": names[kept].tolist(),
            "left_out": names[~kept].tolist(),
            "why": None,
        }
        records.append(record)
        if kept.sum() < 2:
            record["why"] = "needs two operators of several attempts"
            continue
        if known.sum() < _FEWEST:
            record["why"] = f"needs {_FEWEST} problems of known attempts"
            continue
        rows = np.ix_(known, kept)
        rest = data.config.nulls, data.stream("interaction", profiles.cell)
        found, own = None, profiles.paired
        if own is not None:
            found = interaction_apart(own.right[rows], own.made[rows], *rest)
        if found is None:
            found = interaction(profiles.successes[rows], attempts[rows], *rest)
        excess = found.statistic / found.null - 1 if found.null else np.nan
        record |= {"excess": percent(excess), "p": round(found.p, 6)}
        record["sd"] = {k: round(v, 6) for k, v in vars(found.sd).items()}
        record["headroom"] = {k: percent(v) for k, v in vars(found.headroom).items()}
    tested = [record for record in records if record["why"] is None]
    for record, p in zip(tested, holm([record["p"] for record in tested])):
        record["p_holm"] = round(p, 6)
    return records


def describe_oracle(data: RoutingData, powers: Iterable[Power | None]) -> list[dict]:
    """Bracket what a perfect router rescues of the steerable and of all problems.

    At least: each problem's best operator by one half of its attempts, scored by the
    other. By model: E[max_o p_o] under the model of true rates. At most: by the same
    rates that score it.

    Args:
        data: the failed problems.
        powers: of each cell.

    Returns:
        Records in percent, per cell and protocol, and of all problems of each cell.
        There `drawn` is the model's without deterministic operators.
    """
    records = []
    for profiles, views, power in zip(data.cells, data.views, powers):
        for protocol in IN_SAMPLE:
            view = views[protocol]
            if view is None:
                continue
            halved = len(view.steerable) > 1
            counted, mass = view.steerable, view.steerable.mean(axis=0)
            best = view.deciding.argmax(axis=-1)
            low = _mean_over(counted, _take(view.scoring, best)) if halved else None
            high = _mean_over(counted, view.scoring.max(axis=-1))
            model = None
            if power and mass.any():
                model = percent(float(mass @ power.oracle[view.kept]) / mass.sum())
            record = {"at_least": low, "by_model": model, "at_most": high}
            where = {"cell": profiles.cell, "population": "steerable"}
            where["protocol"] = protocol
            records.append(where | record | _outside(low, model, high))
        halves, low = views["split_halves"], None
        if halves is not None:
            best = halves.deciding.argmax(axis=-1)
            low = percent(_take(halves.scoring, best).mean())
        records.append(
            {
                "cell": profiles.cell,
                "population": "all",
                "at_least": low,
                "by_model": percent(power.oracle.mean()) if power else None,
                "at_most": percent(profiles.rates.max(axis=1).mean()),
                "drawn": percent(power.drawn.mean()) if power else None,
                "best_fixed": percent(profiles.rates.mean(axis=0).max()),
            }
        )
    return records


def _outside(low: float | None, model: float | None, high: float | None) -> dict:
    """The reason if the model is out of the bracket."""
    if model is not None and low is not None and model < low:
        return {
            "outside": "the model shrinks the rates of these problems further than "
            "their second half does"
        }
    if model is not None and high is not None and model > high:
        return {
            "outside": "the model expects more than the observed rates show: it does "
            "not fit these problems"
        }
    return {}


def _take(
    scores: Float[np.ndarray, "H N O"], best: Int[np.ndarray, "H N"]
) -> Float[np.ndarray, "H N"]:
    return np.take_along_axis(scores, best[..., None], axis=-1)[..., 0]


def _mean_over(counted: np.ndarray, scores: Float[np.ndarray, "H N"]) -> float | None:
    """Mean over the counted problems of each halving, then over halvings with any."""
    with np.errstate(invalid="ignore"):
        means = (scores * counted).sum(axis=1) / counted.sum(axis=1)
    means = means[~np.isnan(means)]
    return percent(means.mean()) if len(means) else None


def _attempts(profiles: Profiles) -> dict:
    """Attempts per problem of each operator, given or fitted (0: nothing fits)."""
    return {
        "given": profiles.attempts is not None,
        "operators": {
            name: {
                "least": int(n.min()),
                "median": float(np.median(n)),
                "most": int(n.max()),
            }
            for name, n in zip(profiles.operators, profiles.tried.T)
        },
    }


def _null(
    profiles: Profiles, routing: RoutingConfig, rng: np.random.Generator
) -> dict | None:
    attempts = profiles.tried
    drawn = ~profiles.repeats_itself & (attempts.max(axis=0) > 1)
    operators = tuple(name for name, one in zip(profiles.operators, drawn) if one)
    known = (attempts[:, drawn] > 0).all(axis=1)
    if "retry" not in operators or len(operators) < 2 or not known.any():
        return None
    rows, rule = np.ix_(known, drawn), (operators, routing.margin, routing.hard)
    correct = profiles.successes[rows]
    own, paired = profiles.paired, None
    if own is not None:
        paired = own.right[rows], own.made[rows]
    null = permutation_null(
        correct, attempts[rows], *rule, routing.permutations, rng, paired
    )
    ends = (percent(null[name]) for name in ("mean", "low", "high"))
    return {
        "seen": percent(null["seen"]),
        "expected": Interval(*ends).as_dict(),
        "p": round(null["p"], 6),
        "problems": int(known.sum()),
        "operators": list(operators),
    }


def _unreached(profiles: Profiles) -> dict:
    attempts = profiles.tried
    counted = np.maximum(attempts, 1)
    if profiles.paired is not None:
        # Attempts of one index are one draw; a deterministic operator's has no key.
        same = profiles.repeats_itself
        draws = counted[:, ~same].max(axis=1, keepdims=True, initial=0)
        counted = np.hstack([draws, counted[:, same]])
    never, bound = unreached(profiles.rates, counted)
    known = never & (attempts > 0).all(axis=1)
    limit = percent(np.median(bound[known])) if known.any() else None
    return {"n": int(never.sum()), "upper_bound": limit}


def _notes(profiles: Profiles) -> list[str]:
    notes = []
    absent = np.isnan(profiles.features).all(axis=0)
    without = [name for name, gone in zip(FEATURES, absent) if gone]
    without += [name for name in OPERATORS if name not in profiles.operators]
    if without:
        lines = [f for f, o in RULE.items() if not {f, o} & {*without}]
        spare = "; a failure without a positive z is retried"
        spare = spare if FALLBACK in without else ""
        reads = "has no line and retries every failure"
        if lines:
            reads = f"reads {', '.join(lines)} only{spare}"
        notes.append(f"without {', '.join(without)}: the rule {reads}")
    if profiles.excluded:
        notes.append(
            f"{profiles.excluded} problems had no failed rollout and are left out"
        )
    return notes
