"""Training of a learned router: its model in flax, nested folds, calibration."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from fr.config import RoutingConfig
from fr.routing.baselines import fixed_gains, look_up
from fr.routing.dataset import RoutingData
from fr.routing.learned import LearnedRouter
from fr.routing.policies import Choice
from fr.routing.posterior import ANYWHERE, standard_columns
from fr.stats.safe_deviation import choose_deviation

_ABSENT = -1e9  # score of an operator that a cell lacks
_SMOOTH = 1e-6  # keeps a norm's gradient finite at 0


class OperatorScores(nn.Module):
    """Scores of the operators: linear in the columns and, if any, hidden units.

    A score is the logit of a rescue or of being chosen, by the objective; calibration
    makes it a rate.

    Attributes:
        operators: number of operators, O.
        hidden: number of hidden units.
    """

    operators: int
    hidden: int = 0

    @nn.compact
    def __call__(self, columns: Float[Array, "N F"]) -> Float[Array, "N O"]:
        """Compute the scores.

        Args:
            columns: standard scores and prompt inputs.

        Returns:
            The score of each operator.
        """
        units = [columns]
        if self.hidden:
            units.append(nn.tanh(nn.Dense(self.hidden)(columns)))
        return nn.Dense(self.operators)(jnp.concatenate(units, axis=-1))


def expected_rescue(
    scores: Float[Array, "N O"],
    gains: Float[Array, "N O"],
    available: Bool[Array, "N O"],
    weight: Float[Array, "N"],
    entropy: float,
) -> Float[Array, ""]:
    """Loss: minus the mean gain of the soft policy, less its weighted entropy.

    Args:
        scores: of the operators; *stop* has score 0.
        gains: rescue rates less prices; stop gains 0.
        available: whether the row's cell has the operator.
        weight: of each row.
        entropy: weight of the policy's entropy, in nats.

    Returns:
        The loss.
    """
    # Operators first: a softmax along a short last axis costs twice as much on a CPU.
    logits = jnp.pad(jnp.where(available, scores, _ABSENT).T, ((0, 1), (0, 0)))
    logp = jax.nn.log_softmax(logits, axis=0)
    policy = jnp.exp(logp)
    value = (policy[:-1] * gains.T).sum(0) - entropy * (policy * logp).sum(0)
    return -(weight * value).sum() / jnp.maximum(weight.sum(), 1e-9)


def binomial_loss(
    scores: Float[Array, "N O"],
    rates: Float[Array, "N O"],
    attempts: Float[Array, "N O"] | Int[Array, "N O"],
    weight: Float[Array, "N"],
) -> Float[Array, ""]:
    """Loss: minus the mean log likelihood of one attempt.

    Args:
        scores: logits of an attempt's success.
        rates: shares of right attempts.
        attempts: of each rate; 0 where an operator is absent.
        weight: of each row.

    Returns:
        The loss, in nats.
    """
    share = weight[:, None] * attempts
    each = optax.sigmoid_binary_cross_entropy(scores, rates)
    return (share * each).sum() / jnp.maximum(share.sum(), 1e-9)


def fit_learned(
    data: RoutingData, rows: Bool[np.ndarray, "N"], rng: np.random.Generator
):
    """Fit a learned router; see `Policy.fit`.

    Args:
        data: failed problems of a population; it holds the columns to read.
        rows: rows to learn from.
        rng: random stream of the inner folds.

    Returns:
        The chooser of the rows of this data.
    """
    choice = train_router(data, rows, rng)[1]
    return lambda data: choice


def train_router(
    data: RoutingData, train: Bool[np.ndarray, "N"], rng: np.random.Generator
) -> tuple[LearnedRouter, Choice]:
    """Train a learned router.

    Penalty, minimal gain and calibration come from folds inside `train`. Outcomes of
    other rows are not read; cells outside of it get z-statistics of their own failures,
    as a deployed router would.

    Args:
        data: failed problems of a population; it holds the columns to read.
        train: rows to learn from.
        rng: random stream of the inner folds.

    Returns:
        The router, and its choice and expected rates on every row.
    """
    routing, prices = data.config, data.prices
    by = "cell" if data.prompt else "all"
    inner = data.assign(train & (data.mass > 0), routing.inner_folds, rng)
    kept = [train & (inner != k) for k in range(routing.inner_folds)]
    columns, statistics = standard_columns(data, train)
    place, prompt = _prompt(data, train)
    inputs = np.column_stack([*columns.values(), *place]).astype(np.float32)
    attempts = np.where(data.available, data.attempts, 0)
    target = data.population_rates
    # The last fit, on all training rows, is the router; the others calibrate it.
    weights = np.stack([data.mass * some for some in (*kept, train)])
    params, scores = _fit(inputs, target, attempts, prices, weights, 0, routing)
    scores = np.asarray(scores, np.float64)
    looked_up = np.stack([look_up(data, left, by) for left in kept])
    # Each training row by the router, and the look-up, of the fold that left it out.
    held = np.flatnonzero(inner >= 0)
    deviation = choose_deviation(
        scores[inner[held], :, held].swapaxes(0, 1),
        target[held],
        attempts[held],
        prices,
        data.mass[held],
        looked_up[inner[held], held],
        routing.deviation_errors,
    )
    rates = deviation.rates(scores[-1, deviation.penalty], data.available)
    fixed = fixed_gains(data, train, by)
    offered = np.where(data.available, rates - prices, -np.inf)
    names = [profiles.cell for profiles in data.cells]
    # The same for every cell, except operators that a cell lacks.
    everywhere = fixed_gains(data, train, "all").max(axis=0)
    questions = [name for p in data.cells for name in p.questions]
    learned_from = {name for name, seen in zip(questions, train) if seen}
    kept_params = lambda leaf: np.asarray(leaf[-1, deviation.penalty])
    router = LearnedRouter(
        operators=data.operators,
        columns=tuple(columns),
        prompt=prompt,
        statistics=statistics,
        families={profiles.cell: profiles.family for profiles in data.cells},
        gains={
            name: tuple(None if np.isinf(gain) else float(gain) for gain in gains)
            for name, gains in zip((*names, ANYWHERE), (*fixed, everywhere))
        },
        prices=tuple(float(price) for price in prices),
        deviation=deviation,
        hidden=routing.hidden,
        questions=tuple(sorted(learned_from)),
        params=jax.tree.map(kept_params, params),
    )
    operator = deviation.choose(offered, fixed.argmax(axis=1)[data.cell])
    return router, Choice(operator, rates)


@functools.partial(jax.jit, static_argnames="routing")
def _fit(
    columns: Float[Array, "N F"],
    rates: Float[Array, "N O"],
    attempts: Int[Array, "N O"],
    prices: Float[Array, "O"],
    weights: Float[Array, "K N"],
    seed: int,
    routing: RoutingConfig,
) -> tuple[dict, Float[Array, "K L N O"]]:
    """Train one model per weighting of the rows, penalty and seed, side by side.

    Gives parameters with leading axes K, L (penalties) and seeds, and the scores of all
    rows averaged over the seeds. Rows of weight 0 are not learned from.
    """
    model = OperatorScores(rates.shape[1], routing.hidden)
    schedule = optax.cosine_decay_schedule(routing.learning_rate, routing.steps)
    optimizer = optax.adam(schedule)

    def train(weight, penalty, key):
        def loss(params):
            scores: Any = model.apply(params, columns)
            if routing.objective == "binomial":
                value = binomial_loss(scores, rates, attempts, weight)
            else:
                gains, there = rates - prices, attempts > 0
                value = expected_rescue(scores, gains, there, weight, routing.entropy)
            return value + penalty * sum(map(_column_norms, jax.tree.leaves(params)))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        params = model.init(key, columns)
        start = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, start, length=routing.steps)
        return params, model.apply(params, columns)

    over_seeds = jax.vmap(train, (None, None, 0))
    over_penalties = jax.vmap(over_seeds, (None, 0, None))
    over_folds = jax.vmap(over_penalties, (0, None, None))
    keys = jax.random.split(jax.random.key(seed), routing.seeds)
    params, scores = over_folds(weights, jnp.asarray(routing.penalties), keys)
    return params, scores.mean(axis=2)


def _column_norms(leaf: Float[Array, "..."]) -> Float[Array, ""]:
    """Group lasso (doi 10.1111/j.1467-9868.2005.00532.x): norms of a kernel's rows.

    It drops whole columns. With squared kernels 25 columns of noise beside three of
    signal cost a router four points of rescue at 200 problems, so they cost less than
    one.
    """
    if leaf.ndim != 2:
        return jnp.zeros(())  # a bias
    return jnp.sqrt((leaf**2).sum(axis=-1) + _SMOOTH).sum()


def _prompt(
    data: RoutingData, train: Bool[np.ndarray, "N"]
) -> tuple[list[np.ndarray], tuple[tuple[str, float], ...]]:
    """Inputs for cells and families: centred one-hot, zeros for an unseen group."""
    inputs, names = [], []
    cells = [profiles.cell for profiles in data.cells]
    groups = (("cell", data.cell, cells), ("family", data.family, data.families))
    for kind, index, known in groups:
        seen = np.isin(index, index[train]) & data.prompt
        for i, name in enumerate(known):
            share = float((index[train] == i).mean()) if data.prompt else 0.0
            # Without training rows a group keeps its initial weights.
            inputs.append(seen * ((index == i) - share) * (share > 0))
            names.append((f"{kind} {name if share else '?'}", share))
    return inputs, tuple(names)
