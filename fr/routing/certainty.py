"""How far a cell's rates and labels can be trusted, and how much data a claim about them would need."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri

from fr.config import RoutingConfig
from fr.diagnosis.labels import LABELS, label
from fr.routing.attempts import deterministic, recover_attempts, successes
from fr.routing.bootstrap import percent
from fr.routing.profiles import Profiles
from fr.routing.true_rates import (
    draw_rates,
    fit_beta_binomial,
    fit_hierarchy,
    label_posterior,
    label_stability,
)

LIFTS = (0.02, 0.05, 0.10)
ATTEMPTS = (10, 30, 100)
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


def certainty(profiles: Profiles, routing: RoutingConfig, rng: np.random.Generator) -> Certainty | None:
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
                "posterior": percent(sure[given == code].mean()) if (given == code).any() else None,
                "sure": int((sure[given == code] >= _SURE).sum()),
            }
            for code, name in enumerate(LABELS)
        },
        "stability": [
            {name: percent(share) if name != "attempts" else share for name, share in row.items()}
            for row in label_stability(rates, *rule, _STABILITY, rng)
        ],
        "power": power(rates, int(np.median(attempts))),
        "headroom": headroom(rates, profiles.operators, drawn),
    }
    return Certainty(oracle, rates[..., drawn].max(axis=-1).mean(axis=0), record)


def headroom(
    rates: Float[np.ndarray, "D N O"], operators: tuple[str, ...], drawn: Bool[np.ndarray, "O"]
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
    found = {"all": every, "without_deterministic": without, "of_deterministic": every - without}
    spread = lambda values: dict(zip(("low", "high"), map(percent, np.quantile(values, (0.025, 0.975)))))
    told = {name: {"mean": percent(values.mean()), **spread(values)} for name, values in found.items()}
    return told | {"deterministic": [name for name, random in zip(operators, drawn) if not random]}


def power(rates: Float[np.ndarray, "D N O"], tried: int) -> dict:
    """Problems needed to see each lift with 80 % power at 5 %, by attempts an operator, and the lift that the
    problems at hand would show.

    The lift is that of a router that departs from the fixed choice everywhere; one that departs on a share s of
    the problems needs about s times as many. The variance of a difference of two operators is what their true
    rates have over problems, and what the attempts add.
    """
    fixed = int(rates.mean(axis=(0, 1)).argmax())
    others = [o for o in range(rates.shape[-1]) if o != fixed]
    gap = rates[..., others] - rates[..., [fixed]]
    true = float(gap.var(axis=1).mean())
    each = rates * (1 - rates)
    noise = float((each[..., others] + each[..., [fixed]]).mean())
    reach = ndtri(0.975) + ndtri(0.8)

    def needed(lift: float, attempts: int) -> int:
        return math.ceil((reach / lift) ** 2 * (true + noise / attempts))

    problems = rates.shape[1]
    return {
        "problems": problems,
        "attempts": tried,
        "detectable": percent(reach * math.sqrt((true + noise / tried) / problems)),
        "needed": [{"lift": percent(lift), **{str(n): needed(lift, n) for n in ATTEMPTS}} for lift in LIFTS],
    }
