"""How far a cell's rates and labels can be trusted, and how much data a claim about them would need."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from fr.config import RoutingConfig
from fr.diagnosis.labels import LABELS, label
from fr.routing.attempts import recover_attempts, successes
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
    """What the attempts of a cell say about its true rates: `oracle` [N] is E[max_o p_o], `record` JSON."""

    oracle: Float[np.ndarray, "N"]
    record: dict


def certainty(profiles: Profiles, routing: RoutingConfig, rng: np.random.Generator) -> Certainty | None:
    """Rates, labels and power under the hierarchical binomial model; None where attempts are unknown."""
    attempts = recover_attempts(profiles)
    if (attempts == 0).any():
        return None
    correct = successes(profiles.rates, attempts)
    model = fit_hierarchy(correct, attempts)
    rates = draw_rates(model, correct, attempts, routing.posterior, rng)
    rule = profiles.operators, routing.margin, routing.hard
    posterior = label_posterior(rates, *rule)
    given = label(profiles.rates, *rule)
    sure = posterior[np.arange(len(given)), given]
    oracle = rates.max(axis=-1).mean(axis=0)
    operators = {}
    for o, name in enumerate(profiles.operators):
        beta = fit_beta_binomial(correct[:, o], attempts[:, o])
        operators[name] = {"mean": percent(beta.mean), "sd": percent(beta.sd)}
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
    }
    return Certainty(oracle, record)


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
