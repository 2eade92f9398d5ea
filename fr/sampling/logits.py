"""From logits to one token per row: temperature, filters, and an exact draw."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from fr.sampling import vocab_reductions
from fr.sampling.vocab_reductions import column_sums, first_of, gather_token, summable

# Smaller positive temperatures count as this one: 1 / T and logits / T stay finite and
# far above OFF.
COLDEST = 1e-6
OFF = -1e30  # finite, so that a filtered row never makes NaN
_GROUP = 64  # columns whose mass is summed together first
_FEW = 1024  # largest logits to search for an edge before the whole row is sorted


def apply_temperature(
    logits: Float[Array, "B V"], temperature: Float[Array, "B"]
) -> Float[Array, "B V"]:
    """Divide logits by the temperature.

    Args:
        logits: Float32 logits.
        temperature: Temperature per row. 0 (greedy) divides by 1, since the argmax is
            the same; positive values below COLDEST count as COLDEST, where a token more
            than 1e-4 below the largest logit has no mass.

    Returns:
        Logits at the temperature.
    """
    return logits / _divisor(temperature)[:, None]


def _divisor(temperature):
    temperature = jnp.asarray(temperature, jnp.float32)
    # Compare bits: a denormal is larger than 0, and arithmetic may flush it to 0.
    positive = jax.lax.bitcast_convert_type(temperature, jnp.int32) > 0
    return jnp.where(positive, jnp.maximum(temperature, COLDEST), 1.0)


def filter_top_k_top_p(
    logits: Float[Array, "B V"],
    top_p: Float[Array, "B"],
    top_k: Int[Array, "B"],
    min_p: Float[Array, "B"] | float = 0.0,
) -> Float[Array, "B V"]:
    """Keep the likeliest tokens and set the other logits to OFF.

    Keeps first the `top_k` likeliest tokens, then the smallest set of them with mass >=
    `top_p`, then the tokens of that set with p >= `min_p` max p (arXiv 2407.01082).
    Ties at an edge stay together. A filter that no row of the batch uses costs nothing.

    Args:
        logits: Float32 logits at the temperature to draw from.
        top_p: Mass to keep, in (0, 1]; 1 keeps all.
        top_k: Number of tokens to keep; 0 keeps all.
        min_p: Smallest probability relative to the largest; 0 keeps all.

    Returns:
        Logits with OFF at dropped tokens.
    """
    wanted = jnp.any(top_k > 0) | jnp.any(top_p < 1)
    logits = jax.lax.cond(wanted, _restrict, lambda z, p, k: z, logits, top_p, top_k)
    min_p = jnp.broadcast_to(min_p, top_p.shape)
    return jax.lax.cond(jnp.any(min_p > 0), filter_min_p, lambda z, p: z, logits, min_p)


def filter_min_p(
    logits: Float[Array, "B V"],
    share: Float[Array, "B"],
    of: Float[Array, "B V"] | None = None,
) -> Float[Array, "B V"]:
    """Keep the tokens with p >= share * max p, where p = softmax(of).

    Args:
        logits: Logits to filter.
        share: Smallest probability relative to the largest; 0 keeps all.
        of: Logits that decide; None: `logits`.

    Returns:
        Logits with OFF at dropped tokens.
    """
    of = logits if of is None else of
    edge = jnp.max(of, axis=-1) + jnp.log(share)  # log 0 = -inf keeps all
    return jnp.where(of >= edge[:, None], logits, OFF)


def _restrict(logits, top_p, top_k):
    size = logits.shape[-1]
    count = jnp.where(top_k > 0, jnp.minimum(top_k, size), size)
    whole, (few, _) = count == size, vocab_reductions.top_k(logits, _FEW)
    total = jax.nn.logsumexp(logits, axis=-1)
    covered = (top_p >= 1) | (jax.nn.logsumexp(few, axis=-1) - total > jnp.log(top_p))
    # A sort of 32 rows of 49,152 takes as long as a whole step of a small model, and is
    # hardly ever needed.
    edge = jax.lax.cond(
        jnp.all((count <= few.shape[-1]) | (whole & covered)),
        lambda: _edge(few, count, whole, total, top_p),
        lambda: _edge(-jnp.sort(-logits, axis=-1), count, whole, total, top_p),
    )
    everything = whole & (top_p >= 1)
    return jnp.where((logits >= edge) | everything[:, None], logits, OFF)


def _edge(ordered, count, whole, total, top_p):
    """The smallest logit [B, 1] that stays. `ordered` are the largest logits in
    descending order, `total` is the logsumexp of all.
    """
    kept = jnp.arange(ordered.shape[-1]) < count[:, None]
    of_kept = jax.nn.logsumexp(jnp.where(kept, ordered, OFF), axis=-1)
    p = jnp.exp(ordered - jnp.where(whole, total, of_kept)[:, None])
    # A token stays while the mass before it is below top_p: the likeliest always stays.
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
    """Draw one token per row from softmax(logits / temperature), by inversion of one
    uniform.

    Tokens are ordered by columns and found at three levels (groups of columns, columns,
    entries), so that no row needs a cumulative sum over the vocabulary.

    Args:
        logits: Float32 logits.
        uniform: One uniform in [0, 1) per row.
        greedy: Rows that take the first argmax instead.
        temperature: Temperature, as `apply_temperature` reads it.

    Returns:
        Token ids, and their log-probs at the temperature.
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
    return token, (gather_token(logits, token) - peak) * scale - jnp.log(total)


def other_log_prob(
    logits: Float[Array, "B V"],
    temperature: Float[Array, "B"],
    token: Int[Array, "B"],
    logp: Float[Array, "B"],
    other: Int[Array, "B"],
) -> Float[Array, "B"]:
    """Log-prob of another token under the distribution that a token was drawn from.

    Args:
        logits: Logits that were drawn from.
        temperature: Their temperature.
        token: The token drawn.
        logp: Its log-prob.
        other: The other token; ids outside the vocabulary give meaningless values.

    Returns:
        Log-prob of the other token.
    """
    return logp + (
        gather_token(logits, other) - gather_token(logits, token)
    ) / _divisor(temperature)


def _invert(mass, target):
    """The entry [B] in which a cumulative target falls, and the rest of the target in
    it.
    """
    edges = jnp.cumsum(mass, axis=-1)
    chosen = _first_above(edges, target, mass)
    return chosen, target - jnp.where(chosen > 0, gather_token(edges, chosen - 1), 0.0)


def _first_above(edges, target, mass):
    """First index with mass whose cumulative mass exceeds the target, or the last with
    mass.

    An index needs mass of its own because a parallel cumulative sum may step up by an
    ulp where nothing was added.
    """
    index = jnp.arange(edges.shape[-1])
    above = (edges > target[:, None]) & (mass > 0)
    first = jnp.min(jnp.where(above, index, edges.shape[-1]), axis=-1)
    return jnp.minimum(first, jnp.max(jnp.where(mass > 0, index, 0), axis=-1))


def uniforms(key: UInt[Array, "B 2"], index: Int[Array, "B"]) -> Float[Array, "B 2"]:
    """Two uniforms in [0, 1) per row, from the row's key and its own token index.

    They do not depend on the batch. The second is for a token that replaces the first:
    the choice to replace depends on the first uniform.

    Args:
        key: Raw threefry key data of each row.
        index: Index of the token among the row's emitted tokens.

    Returns:
        The uniforms.
    """

    def two(data, i):
        own = jax.random.fold_in(jax.random.wrap_key_data(data, impl="threefry2x32"), i)
        return jax.random.uniform(own, (2,))

    return jax.vmap(two)(key, index)
