"""Power of a cell: how far its rates and labels can be trusted."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from fr.config import RoutingConfig
from fr.diagnosis.labels import LABELS, STEERABLE, counted, label
from fr.profiles.profile import Profiles
from fr.stats.binomial import draw_rates, fit_beta_binomial, fit_hierarchy, power
from fr.stats.bootstrap import Interval, percent, rounded
from fr.stats.paired import apart_within

_STABILITY = (5, 10, 30, 100, 300)  # attempts per operator
_SURE = 0.9
_SPLITS = 20  # of the indices over the operators, where they share random keys


@dataclasses.dataclass(frozen=True)
class Power:
    """True rates of a cell, as far as its attempts tell.

    Attributes:
        oracle: [N] E[max_o p_o] of each problem.
        drawn: [N] the same without the deterministic operators.
        record: of the tables, as plain values in percent.
    """

    oracle: Float[np.ndarray, "N"]
    drawn: Float[np.ndarray, "N"]
    record: dict


def measure_power(
    profiles: Profiles, routing: RoutingConfig, rng: np.random.Generator
) -> Power | None:
    """Fit the hierarchical binomial model and read rates, labels and power from it.

    Attempts of a deterministic operator are not draws: its rates stay as observed,
    outside of the model. Where operators share random keys, each index is given to one
    operator: the model is fitted to all of several splits together, and each split has
    a part of the draws.

    Args:
        profiles: the cell.
        routing: draws of the posterior, margin and hardness of a label.
        rng: random stream.

    Returns:
        The power; None if attempts are unknown.
    """
    attempts, drawn = profiles.tried, ~profiles.repeats_itself
    # 0 stands for an unknown number: true rates are not drawn around a guess.
    if (attempts[:, drawn] == 0).any():
        return None
    correct, draws = profiles.successes, routing.posterior
    splits = [(correct[:, drawn], attempts[:, drawn])]
    if (own := profiles.paired) is not None:
        pair = own.right[:, drawn], own.made[:, drawn]
        splits = [apart_within(*pair, rng) for _ in range(min(_SPLITS, draws))]
    model = fit_hierarchy(*map(np.concatenate, zip(*splits)))
    # Only what is drawn again has a true rate apart from the seen one.
    rates = np.repeat(profiles.rates[None], draws, axis=0)
    shares = np.array_split(np.arange(draws), len(splits))
    for share, counts in zip(shares, splits):
        found = draw_rates(model, *counts, len(share), rng)
        rates[share[0] : share[-1] + 1, :, drawn] = found
    rule = profiles.operators, routing.margin, routing.hard
    posterior = label_posterior(rates, *rule)
    given = label(profiles.rates, *rule)
    sure = posterior[np.arange(len(given)), given]
    oracle = rates.max(axis=-1).mean(axis=0)
    operators = {}
    for o, name in enumerate(profiles.operators):
        if drawn[o]:
            beta = fit_beta_binomial(correct[:, o], attempts[:, o])
            mean, sd = beta.mean, beta.sd
        else:
            mean, sd = profiles.rates[:, o].mean(), profiles.rates[:, o].std()
        operators[name] = {"mean": percent(mean), "sd": percent(sd)}
    shown = power(rates, int(np.median(attempts)))
    labels = {}
    for code, name in enumerate(LABELS):
        own = sure[given == code]
        labels[name] = {
            "expected": rounded(posterior[:, code].sum()),
            "posterior": percent(own.mean()) if len(own) else None,
            "sure": int((own >= _SURE).sum()),
        }
    record = {
        "problems": shown["problems"],
        "attempts": shown["attempts"],
        "detectable": percent(shown["detectable"]),
        "needed": [row | {"lift": percent(row["lift"])} for row in shown["needed"]],
        "operators": operators,
        "problem_sd": rounded(model.problem_sd),
        "pair_sd": rounded(model.pair_sd),
        "perfect_router": percent(oracle.mean()),
        "best_fixed": percent(rates.mean(axis=(0, 1)).max()),
        "labels": labels,
        "stability": [
            {
                name: share if name == "attempts" else percent(share)
                for name, share in row
            }
            for row in map(dict.items, label_stability(rates, *rule, _STABILITY, rng))
        ],
        "headroom": headroom(rates, drawn),
        "deterministic": [
            name for name, random in zip(profiles.operators, drawn) if not random
        ],
    }
    return Power(oracle, rates[..., drawn].max(axis=-1).mean(axis=0), record)


def headroom(
    rates: Float[np.ndarray, "D N O"], drawn: Bool[np.ndarray, "O"]
) -> dict[str, dict]:
    """Compute the points of a perfect router over the best fixed operator.

    A deterministic operator is right or not, so that its best problems are known
    without noise: a perfect choice between it and others does not show that failures
    can be told apart.

    Args:
        rates: draws of true rates.
        drawn: operators that are not deterministic.

    Returns:
        Intervals over the draws: of all operators, without the deterministic ones, and
        of those alone.
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
    records = {}
    for name, values in found.items():
        ends = values.mean(), *np.quantile(values, (0.025, 0.975))
        records[name] = Interval(*map(percent, ends)).as_dict()
    return records


def label_posterior(
    rates: Float[np.ndarray, "D N O"],
    operators: tuple[str, ...],
    margin: float,
    hard: float,
) -> Float[np.ndarray, "N L"]:
    """Compute the probability of each label for the true rates.

    Args:
        rates: draws of true rates; best < margin counts as beyond reach, since no true
            rate is 0 [ours].
        operators: names.
        margin: of a label.
        hard: of a label.

    Returns:
        Probabilities of LABELS.
    """
    best = rates[..., counted(operators)].max(axis=-1, keepdims=True)
    codes = label(np.where(best < margin, 0.0, rates), operators, margin, hard)
    shares = [(codes == code).mean(axis=0) for code in range(len(LABELS))]
    return np.stack(shares, axis=-1)


def label_stability(
    rates: Float[np.ndarray, "D N O"],
    operators: tuple[str, ...],
    margin: float,
    hard: float,
    numbers: tuple[int, ...],
    rng: np.random.Generator,
) -> list[dict[str, float]]:
    """Draw two new sets of attempts and compare their labels.

    Args:
        rates: draws of true rates.
        operators: names.
        margin: of a label.
        hard: of a label.
        numbers: attempts per operator of a set.
        rng: random stream.

    Returns:
        Per number of attempts, shares: the two labels are the `same`, a label is
        `steerable`, and a steerable label is `right` by the true rates.
    """
    true = label(rates, operators, margin, hard) == STEERABLE
    found = []
    for n in numbers:
        one, other = (
            label(rng.binomial(n, rates) / n, operators, margin, hard) for _ in range(2)
        )
        called = one == STEERABLE
        right = float((called & true).sum() / max(1, called.sum()))
        same, steerable = float((one == other).mean()), float(called.mean())
        row = {"attempts": n, "same": same, "steerable": steerable, "right": right}
        found.append(row)
    return found
