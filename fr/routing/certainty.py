"""How far a cell's rates and labels can be trusted, and how much data a claim about them would need."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from fr.config import RoutingConfig
from fr.diagnosis.labels import LABELS, STEERABLE, counted, label
from fr.routing.attempts import deterministic, recover_attempts, successes
from fr.routing.profiles import Profiles
from fr.stats.binomial import draw_rates, fit_beta_binomial, fit_hierarchy, power
from fr.stats.bootstrap import percent

_STABILITY = (5, 10, 30, 100, 300)
_SURE = 0.9


@dataclasses.dataclass(frozen=True)
class Certainty:
    """What the attempts of a cell say about its true rates: `oracle` [N] is E[max_o p_o], `record` JSON.

    `drawn` [N] is the same over the operators that are not deterministic.
    """

    oracle: Float[np.ndarray, "N"]
    drawn: Float[np.ndarray, "N"]
    record: dict


def certainty(
    profiles: Profiles, routing: RoutingConfig, rng: np.random.Generator
) -> Certainty | None:
    """Rates, labels and power under the hierarchical binomial model; None where attempts are unknown.

    Attempts of a deterministic operator are no draws: its rates are as they were seen, and no part of the model.
    """
    attempts, drawn = recover_attempts(profiles), ~deterministic(profiles)
    if (attempts[:, drawn] == 0).any():
        return None
    correct = successes(profiles.rates, attempts)
    model = fit_hierarchy(correct[:, drawn], attempts[:, drawn])
    rates = np.repeat(profiles.rates[None], routing.posterior, axis=0)
    rates[..., drawn] = draw_rates(
        model, correct[:, drawn], attempts[:, drawn], routing.posterior, rng
    )
    rule = profiles.operators, routing.margin, routing.hard
    posterior = label_posterior(rates, *rule)
    given = label(profiles.rates, *rule)
    sure = posterior[np.arange(len(given)), given]
    oracle = rates.max(axis=-1).mean(axis=0)
    operators = {}
    for o, name in enumerate(profiles.operators):
        if drawn[o]:
            beta = fit_beta_binomial(correct[:, o], attempts[:, o])
            operators[name] = {"mean": percent(beta.mean), "sd": percent(beta.sd)}
        else:
            seen = profiles.rates[:, o]
            operators[name] = {"mean": percent(seen.mean()), "sd": percent(seen.std())}
    record = {
        "beta_binomial": operators,
        "problem_sd": round(float(model.problem_sd), 6),
        "pair_sd": round(float(model.pair_sd), 6),
        "oracle": percent(oracle.mean()),
        "best_fixed": percent(rates.mean(axis=(0, 1)).max()),
        "labels": {
            name: {
                "expected": round(float(posterior[:, code].sum()), 6),
                "posterior": percent(sure[given == code].mean())
                if (given == code).any()
                else None,
                "sure": int((sure[given == code] >= _SURE).sum()),
            }
            for code, name in enumerate(LABELS)
        },
        "stability": [
            {
                name: percent(share) if name != "attempts" else share
                for name, share in row.items()
            }
            for row in label_stability(rates, *rule, _STABILITY, rng)
        ],
        "power": _power(rates, int(np.median(attempts))),
        "headroom": headroom(rates, profiles.operators, drawn),
    }
    return Certainty(oracle, rates[..., drawn].max(axis=-1).mean(axis=0), record)


def headroom(
    rates: Float[np.ndarray, "D N O"],
    operators: tuple[str, ...],
    drawn: Bool[np.ndarray, "O"],
) -> dict:
    """Points that a perfect router has over the best fixed operator, mean and 95 % of the model's draws:
    of all operators, without the deterministic ones, and what those account for.

    A deterministic operator is right or not, so that its best problems are known without noise, and a perfect
    choice among others and it is no evidence that failures can be told apart.
    """

    def points(kept: Bool[np.ndarray, "O"]) -> Float[np.ndarray, "D"]:
        chosen = rates[..., kept]
        return chosen.max(axis=-1).mean(axis=1) - chosen.mean(axis=1).max(axis=-1)

    every, without = points(np.ones(len(drawn), bool)), points(drawn)
    found = {
        "all": every,
        "without_deterministic": without,
        "of_deterministic": every - without,
    }
    spread = lambda values: dict(
        zip(("low", "high"), map(percent, np.quantile(values, (0.025, 0.975))))
    )
    told = {
        name: {"mean": percent(values.mean()), **spread(values)}
        for name, values in found.items()
    }
    return told | {
        "deterministic": [name for name, random in zip(operators, drawn) if not random]
    }


def label_posterior(
    rates: Float[np.ndarray, "D N O"],
    operators: tuple[str, ...],
    margin: float,
    hard: float,
) -> Float[np.ndarray, "N 3"]:
    """Probability of each of LABELS for the true rates; best < margin counts as beyond reach, since no true
    rate is 0 [ours].
    """
    best = rates[..., counted(operators)].max(axis=-1, keepdims=True)
    codes = label(np.where(best < margin, 0.0, rates), operators, margin, hard)
    return np.stack(
        [(codes == code).mean(axis=0) for code in range(len(LABELS))], axis=-1
    )


def label_stability(
    rates: Float[np.ndarray, "D N O"],
    operators: tuple[str, ...],
    margin: float,
    hard: float,
    numbers: tuple[int, ...],
    rng: np.random.Generator,
) -> list[dict[str, float]]:
    """For each number of attempts an operator: how often two fresh sets of them give a problem the same label,
    how many of them all it calls steerable, and how many of those it calls so would be by the true rates.
    """
    true = label(rates, operators, margin, hard) == STEERABLE
    found = []
    for n in numbers:
        one, other = (
            label(rng.binomial(n, rates) / n, operators, margin, hard) for _ in range(2)
        )
        called = one == STEERABLE
        right = float((called & true).sum() / max(1, called.sum()))
        found.append({
            "attempts": n, "same": float((one == other).mean()), "steerable": float(called.mean()), "right": right
        })  # fmt: skip
    return found


def _power(rates, tried: int) -> dict:
    found = power(rates, tried)
    found["detectable"] = percent(found["detectable"])
    found["needed"] = [row | {"lift": percent(row["lift"])} for row in found["needed"]]
    return found
