"""The learned router's model: scores of the operators from named columns, trained for the rescues they bring."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from fr.config import RoutingConfig

_ABSENT = -1e9  # score of an operator that a cell lacks
_SMOOTH = 1e-6  # keeps a norm's gradient finite at 0


class OperatorScores(nn.Module):
    """A score of every operator: linear in the columns and, if `hidden`, in that many units of them.

    What a score means, the logit of a rescue or of being chosen, is the objective's; calibration makes it a
    rate.
    """

    operators: int
    hidden: int = 0

    @nn.compact
    def __call__(self, columns: Float[Array, "N F"]) -> Float[Array, "N O"]:
        units = [
            columns,
            *([nn.tanh(nn.Dense(self.hidden)(columns))] if self.hidden else []),
        ]
        return nn.Dense(self.operators)(jnp.concatenate(units, axis=-1))


def expected_rescue(
    scores: Float[Array, "N O"],
    gains: Float[Array, "N O"],
    available: Bool[Array, "N O"],
    weight: Float[Array, "N"],
    entropy: float,
) -> Float[Array, ""]:
    """Loss: minus the mean gain of the soft policy over operators and *stop*, less `entropy` times its entropy.

    `stop` has score 0 and gain 0; `gains` are rescue rates less the price of an attempt.
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
    attempts: Float[Array, "N O"],
    weight: Float[Array, "N"],
) -> Float[Array, ""]:
    """Loss: minus the mean log likelihood of one attempt, a score being the logit of its success."""
    share = weight[:, None] * attempts
    each = optax.sigmoid_binary_cross_entropy(scores, rates)
    return (share * each).sum() / jnp.maximum(share.sum(), 1e-9)


def column_norms(leaf: Float[Array, "..."]) -> Float[Array, ""]:
    """Summed norms of what leaves each column, of a kernel; 0 of a bias: the penalty of the group lasso
    (doi 10.1111/j.1467-9868.2005.00532.x).

    It gives up whole columns. With squared kernels 25 columns of noise beside three of signal cost a head four
    points of rescue at 200 problems, so they cost less than one.
    """
    return (
        jnp.sqrt((leaf**2).sum(axis=-1) + _SMOOTH).sum()
        if leaf.ndim == 2
        else jnp.zeros(())
    )


@functools.partial(jax.jit, static_argnames="routing")
def fit(
    columns: Float[Array, "N F"],
    rates: Float[Array, "N O"],
    attempts: Float[Array, "N O"],
    prices: Float[Array, "O"],
    weights: Float[Array, "K N"],
    seed: int,
    routing: RoutingConfig,
):
    """Train one head for each of K weightings of the rows, each penalty and each seed, side by side.

    Returns (params, scores [K, L, N, O]): parameters with leading axes K, L (penalties) and seeds, and the scores
    of all rows averaged over the seeds. A row of weight 0 is not learned from; attempts 0 mark an operator
    that the row's cell lacks.
    """
    model = OperatorScores(rates.shape[1], routing.hidden)
    schedule = optax.cosine_decay_schedule(routing.learning_rate, routing.steps)
    optimizer = optax.adam(schedule)

    def train(weight, penalty, key):
        def loss(params):
            scores = model.apply(params, columns)
            if routing.objective == "binomial":
                value = binomial_loss(scores, rates, attempts, weight)
            else:
                value = expected_rescue(
                    scores, rates - prices, attempts > 0, weight, routing.entropy
                )
            return value + penalty * sum(map(column_norms, jax.tree.leaves(params)))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        params = model.init(key, columns)
        (params, _), _ = jax.lax.scan(
            step, (params, optimizer.init(params)), length=routing.steps
        )
        return params, model.apply(params, columns)

    over_seeds = jax.vmap(train, (None, None, 0))
    over_penalties = jax.vmap(over_seeds, (None, 0, None))
    over_folds = jax.vmap(over_penalties, (0, None, None))
    keys = jax.random.split(jax.random.key(seed), routing.seeds)
    params, scores = over_folds(weights, jnp.asarray(routing.penalties), keys)
    return params, scores.mean(axis=2)
