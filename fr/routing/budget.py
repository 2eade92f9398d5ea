"""What the same money buys: the share of failed problems solved within a budget of forward positions."""

import numpy as np
from jaxtyping import Float, Int

from fr.errors import UserError
from fr.routing.attempts import fixed_rates, recover_attempts, successes
from fr.routing.bootstrap import Estimate, estimate, resample_weights
from fr.routing.profiles import Profiles

_POINTS = 8  # of the curve
_BEFORE = ("diagnosis", "failures")  # what is spent on a problem before it is routed
BEST = "best_fixed"  # of a curve: the operator that solves most within a budget


def solved_within(
    correct: Int[np.ndarray, "N"], attempts: Int[np.ndarray, "N"], tries: int
) -> Float[np.ndarray, "N"]:
    """Chance that one of `tries` attempts is correct, unbiased from `attempts` >= tries of them: the pass@k
    estimator.

    1 − C(n − k, a) / C(n, a), arXiv 2107.03374.
    """
    wrong = np.ones(len(correct))
    for i in range(tries):
        wrong *= np.maximum(attempts - correct - i, 0) / (attempts - i)
    return 1 - wrong


def costs(profiles: Profiles) -> dict[str, float] | None:
    """Mean forward positions of one attempt of every operator, under `diagnosis` of diagnosing one problem, and
    under `failures` of its rollouts alone.

    From the columns `<operator>_cost`, `diagnosis_cost` and `failures_cost` (where a table lacks that, all of the
    diagnosis): prompt, generated, forced, scored and probe positions, the ancestor's weighted by its share of
    the specialist's parameters. None where another column is missing.
    """
    columns = {name: profiles.numbers(f"{name}_cost") for name in (*profiles.operators, *_BEFORE)}
    if columns["failures"] is None:
        columns["failures"] = columns["diagnosis"]
    if any(column is None for column in columns.values()):
        return None
    for name, column in columns.items():
        if column.min() < 0 or (name not in _BEFORE and column.min() == 0):
            raise UserError(
                f"cell {profiles.cell}: {name}_cost = {column.min():g} is not a number of positions"
            )
    return {name: float(column.mean()) for name, column in columns.items()}


def budget_curve(
    profiles: Profiles,
    routes: dict[str, Int[np.ndarray, "N"]],
    cost: dict[str, float],
    charges: dict[str, float],
    resamples: int,
    rng: np.random.Generator,
) -> list[tuple[float, dict[str, Estimate]]]:
    """Share of all failed problems solved within each budget, by policy; with a verifier, outcomes in [0, 1].

    A policy of `routes` (an operator a problem, O for stop) pays its share of `charges` before its first attempt, as
    `<name>_sunk` it finds that done; every other policy repeats one operator and pays its attempts alone. BEST is the
    operator that solves most, in hindsight: chosen by the outcomes that it is scored on, anew in every resample
    and at every budget. Nothing else here is selected on outcomes.
    Budgets run, in equal ratios, from the cheapest attempt to where some policy's recorded attempts run out;
    the list is empty where attempts are unknown.
    """
    attempts = recover_attempts(profiles)
    if (attempts == 0).any():
        return []
    correct = successes(profiles.rates, attempts)
    fixed = fixed_rates(profiles.operators, profiles.rates, attempts)
    weights = resample_weights(len(profiles), resamples, rng)
    weights /= weights.sum(axis=1, keepdims=True)
    prices = np.array([cost[name] for name in profiles.operators])
    # One more attempt than were recorded is where the estimator ends.
    ends = [price * (attempts[:, o].min() + 1) for o, price in enumerate(prices) if not fixed[o]]
    curve = []
    for budget in np.geomspace(prices.min(), np.nextafter(min(ends, default=2 * prices.max()), 0), _POINTS):
        solved = _solved(correct, attempts, fixed, budget // prices)
        outcomes = {name: solved[:, o] for o, name in enumerate(profiles.operators)}
        for name, route in routes.items():
            after = _solved(correct, attempts, fixed, (budget - charges[name]) // prices)
            outcomes |= {name: _along(after, route), f"{name}_sunk": _along(solved, route)}
        shares = {name: weights @ value for name, value in outcomes.items()}
        shares[BEST] = np.max([shares[name] for name in profiles.operators], axis=0)
        curve.append((float(budget), {n: estimate(share, len(profiles)) for n, share in shares.items()}))
    return curve


def _along(solved: Float[np.ndarray, "N O"], route: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    padded = np.pad(solved, ((0, 0), (0, 1)))  # stop solves nothing
    return np.take_along_axis(padded, route[:, None], axis=1)[:, 0]


def _solved(correct, attempts, fixed, tries: Float[np.ndarray, "O"]) -> Float[np.ndarray, "N O"]:
    solved = np.empty(correct.shape)
    for o, affordable in enumerate(np.maximum(tries, 0).astype(int)):
        # A second attempt of a deterministic operator would be the same attempt.
        affordable = min(affordable, 1) if fixed[o] else affordable
        solved[:, o] = solved_within(correct[:, o], attempts[:, o], affordable)
    return solved
