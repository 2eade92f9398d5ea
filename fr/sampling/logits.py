"""From logits to one token a row: temperature, nucleus and top-k filters, and an exact draw from one uniform."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from fr.sampling.vocab_reductions import (
    column_sums,
    first_of,
    likeliest,
    pick,
    summable,
)

COLDEST = 1e-6  # smaller temperatures are this one: 1 / T and logits / T stay finite, and far above OFF
OFF = -1e30  # finite, so that a filtered row never makes NaN
_GROUP = 64  # columns whose mass is first taken together
_FEW = 1024  # tokens among which an edge is looked for before the whole vocabulary is sorted


def temper(
    logits: Float[Array, "B V"], temperature: Float[Array, "B"]
) -> Float[Array, "B V"]:
    """Logits over temperature; a greedy row (temperature 0) keeps temperature 1, its argmax being the same.

    Temperatures below COLDEST count as that: what is not within 1e-4 of the largest logit then has no mass.
    """
    return logits / _divisor(temperature)[:, None]


def _divisor(temperature):
    temperature = jnp.asarray(temperature, jnp.float32)
    # By its bits: a denormal is larger than 0, and arithmetic may flush it to 0.
    positive = jax.lax.bitcast_convert_type(temperature, jnp.int32) > 0
    return jnp.where(positive, jnp.maximum(temperature, COLDEST), 1.0)


def restrict(
    logits: Float[Array, "B V"],
    top_p: Float[Array, "B"],
    top_k: Int[Array, "B"],
    min_p: Float[Array, "B"] | float = 0.0,
) -> Float[Array, "B V"]:
    """Keep the top_k likeliest tokens (0: all), then the smallest set of those with mass >= top_p (1: all).

    Then those with p >= min_p max p (0: all; arXiv 2407.01082). Ties at an edge stay in together. Costs
    nothing while no row of the batch filters.
    """
    wanted = jnp.any(top_k > 0) | jnp.any(top_p < 1)
    logits = jax.lax.cond(wanted, _restrict, lambda z, p, k: z, logits, top_p, top_k)
    min_p = jnp.broadcast_to(min_p, top_p.shape)
    return jax.lax.cond(jnp.any(min_p > 0), likely, lambda z, p: z, logits, min_p)


def likely(
    logits: Float[Array, "B V"],
    share: Float[Array, "B"],
    of: Float[Array, "B V"] | None = None,
) -> Float[Array, "B V"]:
    """Keep the tokens with p >= share max p, p = softmax(of); `of` is the logits themselves if not given."""
    of = logits if of is None else of
    edge = jnp.max(of, axis=-1) + jnp.log(share)  # log 0 = -inf keeps all
    return jnp.where(of >= edge[:, None], logits, OFF)


def _restrict(logits, top_p, top_k):
    size = logits.shape[-1]
    count = jnp.where(top_k > 0, jnp.minimum(top_k, size), size)
    whole, (few, _) = count == size, likeliest(logits, _FEW)
    total = jax.nn.logsumexp(logits, axis=-1)
    covered = (top_p >= 1) | (jax.nn.logsumexp(few, axis=-1) - total > jnp.log(top_p))
    # A sort of 32 rows of 49,152 takes as long as a whole step of a small model, and is hardly ever needed.
    edge = jax.lax.cond(
        jnp.all((count <= few.shape[-1]) | (whole & covered)),
        lambda: _edge(few, count, whole, total, top_p),
        lambda: _edge(-jnp.sort(-logits, axis=-1), count, whole, total, top_p),
    )
    everything = whole & (top_p >= 1)
    return jnp.where((logits >= edge) | everything[:, None], logits, OFF)


def _edge(ordered, count, whole, total, top_p):
    """The smallest logit [B, 1] that stays, from the largest ones in order; `total`: logsumexp of all of them."""
    kept = jnp.arange(ordered.shape[-1]) < count[:, None]
    of_kept = jax.nn.logsumexp(jnp.where(kept, ordered, OFF), axis=-1)
    p = jnp.exp(ordered - jnp.where(whole, total, of_kept)[:, None])
    # A token stays while the mass before it is short of top_p: the likeliest one always does.
    kept &= (jnp.cumsum(p, axis=-1) - p < top_p[:, None]) | (top_p[:, None] >= 1)
    return jnp.take_along_axis(
        ordered, jnp.maximum(jnp.sum(kept, axis=-1, keepdims=True), 1) - 1, axis=-1
    )


def draw(
    logits: Float[Array, "B V"],
    uniform: Float[Array, "B"],
    greedy: Bool[Array, "B"],
    temperature: Float[Array, "B"] | float = 1.0,
) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """A token a row from softmax(logits / temperature) by inversion of one uniform, and its log-prob.

    Where greedy: the first argmax, at the temperature as `temper` has it. Tokens are in the order of columns; three
    levels (groups of columns, columns, entries), so that no row pays for a cumulative sum over the vocabulary.
    """
    z = summable(logits)
    peak = jnp.max(z, axis=(1, 2))
    divisor = jnp.broadcast_to(_divisor(temperature), peak.shape)
    scale = jax.lax.reduce_precision(1 / divisor, 8, 23)
    above = jax.lax.reduce_precision(peak, 8, 23)
    mass = lambda z: jnp.exp((z - above[:, None, None]) * scale[:, None, None])
    of_columns = column_sums(mass(z))
    width = of_columns.shape[-1]
    grouped = jnp.pad(of_columns, ((0, 0), (0, -width % _GROUP))).reshape(
        len(logits), -1, _GROUP
    )
    of_groups = jnp.sum(grouped, axis=-1)
    total = jnp.sum(of_groups, axis=-1)

    group, target = _invert(of_groups, uniform * total)
    inside = jnp.take_along_axis(grouped, group[:, None, None], axis=1)[:, 0]
    place, target = _invert(inside, target)
    column = group * _GROUP + place
    entries = mass(jnp.take_along_axis(z, column[:, None, None], axis=2))[:, :, 0]
    run, _ = _invert(entries, target)
    best = lambda: first_of(logits, peak)
    token = jnp.where(
        greedy,
        jax.lax.cond(jnp.any(greedy), best, lambda: column),
        run * width + column,
    )
    token = token.astype(jnp.int32)
    return token, (pick(logits, token) - peak) * scale - jnp.log(total)


def other_log_prob(
    logits: Float[Array, "B V"],
    temperature: Float[Array, "B"],
    token: Int[Array, "B"],
    logp: Float[Array, "B"],
    other: Int[Array, "B"],
) -> Float[Array, "B"]:
    """Log-prob of another token of the distribution that `token` was drawn from with log-prob `logp`."""
    return logp + (pick(logits, other) - pick(logits, token)) / _divisor(temperature)


def _invert(mass, target):
    """The entry [B] in which a target falls that is counted along the row, and what is left of the target there."""
    edges = jnp.cumsum(mass, axis=-1)
    chosen = _first_above(edges, target, mass)
    return chosen, target - jnp.where(chosen > 0, pick(edges, chosen - 1), 0.0)


def _first_above(edges, target, mass):
    """First index with mass whose cumulative mass exceeds the target; the last with mass if there is none.

    Mass is asked for because a parallel cumulative sum may step up by an ulp where nothing was added.
    """
    index = jnp.arange(edges.shape[-1])
    above = (edges > target[:, None]) & (mass > 0)
    first = jnp.min(jnp.where(above, index, edges.shape[-1]), axis=-1)
    return jnp.minimum(first, jnp.max(jnp.where(mass > 0, index, 0), axis=-1))


def uniforms(key: UInt[Array, "B 2"], index: Int[Array, "B"]) -> Float[Array, "B 2"]:
    """Two uniforms in [0, 1) a row: the row's key folded with its own token index, whatever the batch.

    The second is for a token that replaces the first: whether it is replaced depends on the first uniform.
    """

    def two(data, i):
        own = jax.random.fold_in(jax.random.wrap_key_data(data, impl="threefry2x32"), i)
        return jax.random.uniform(own, (2,))

    return jax.vmap(two)(key, index)
