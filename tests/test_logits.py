"""Draws and filters against plain numpy: an exact inversion of one uniform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fr.sampling import logits
from fr.sampling.sampling_params import row_key
from fr.sampling.vocab_reductions import summable

draw, filter_top_k_top_p, apply_temperature = (
    jax.jit(logits.draw),
    jax.jit(logits.filter_top_k_top_p),
    jax.jit(logits.apply_temperature),
)
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def reference(logits, temperature, top_p, top_k):
    """Log-probs of the filtered distribution in float64; -inf at dropped tokens."""
    z = logits.astype(np.float64) / (temperature or 1.0)
    ordered = np.sort(z)[::-1]
    if top_k:
        z = np.where(z >= ordered[min(top_k, len(z)) - 1], z, -np.inf)
    if top_p < 1:
        # Top-k first, by rank: ties with the last of the k add no mass here, but stay.
        ordered = ordered[: top_k or None]
        p = np.exp(ordered - ordered[0])
        before = np.concatenate([[0.0], np.cumsum(p / p.sum())[:-1]])
        z = np.where(z >= ordered[before < top_p][-1], z, -np.inf)
    return z - np.logaddexp.reduce(z)


def alike(logits, uniform):
    """The same logits in as many rows as there are uniforms."""
    return np.broadcast_to(logits, (len(uniform), len(logits))), np.asarray(
        uniform, np.float32
    )


def tokens_at(logits, uniform):
    """Sampled tokens of one distribution at many uniforms."""
    z, u = alike(logits, uniform)
    return np.asarray(draw(z, u, np.zeros(len(u), bool))[0])


def order(vocab):
    """Ids in the order in which their mass is counted: column by column."""
    ids = np.asarray(summable(jnp.arange(vocab)[None])[0]).T.ravel()
    return ids[ids >= 0]


@pytest.mark.parametrize(
    "vocab", [2, 5, 300, 4999, 5000]
)  # one run, a last run that is padded, full runs
def test_a_uniform_is_inverted(vocab):
    z = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32) * 2
    ids = order(vocab)
    assert sorted(ids) == list(range(vocab))
    p = np.exp(reference(z, 1.0, 1.0, 0))[ids]
    some = p > 1e-5  # wider than the rounding of a float32 sum
    some[some] &= np.arange(some.sum()) % -(-vocab // 200) == 0
    np.testing.assert_array_equal(tokens_at(z, (np.cumsum(p) - p / 2)[some]), ids[some])


@pytest.mark.parametrize("vocab", [2, 300, 5000])
def test_draws_pass_chi_squared(vocab):
    z = np.random.default_rng(7).normal(size=vocab).astype(np.float32)
    keys = np.stack([row_key(0, i) for i in range(100)])
    u = np.concatenate(
        [
            logits.uniforms(jnp.asarray(keys), jnp.full(100, step))[:, 0]
            for step in range(200)
        ]
    )
    seen = np.concatenate([tokens_at(z, part) for part in u.reshape(-1, 2000)])
    # Classes of tokens, so that each of a large vocabulary's expects enough draws.
    expected, seen = (
        20_000 * np.exp(reference(z, 1.0, 1.0, 0)),
        np.bincount(seen, minlength=vocab),
    )
    expected, seen = (
        np.add.reduceat(x, np.arange(0, vocab, -(-vocab // 500)))
        for x in (expected, seen)
    )
    chi2, freedom = np.sum((seen - expected) ** 2 / expected), len(expected) - 1
    assert abs(chi2 - freedom) < 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("vocab", [40, 128, 49_152, 50_021, 151_936, 262_144])
def test_mass_at_one_end_of_any_vocabulary(vocab):
    u = np.array([0.0, 0.5, BELOW_ONE], np.float32)
    for only in (0, vocab - 1):
        z = np.full((3, vocab), -1e30, np.float32)
        z[:, only] = 1e4
        token, logp = draw(z, u, np.zeros(3, bool))
        assert token.tolist() == [only] * 3 and logp.tolist() == [0.0] * 3
    token, logp = draw(
        np.zeros((3, vocab), np.float32), u, np.array([False, False, True])
    )
    ids = order(vocab)
    assert (
        token[0] == ids[0]
        and abs(np.flatnonzero(ids == token[1])[0] - vocab / 2) < 2
        and token[2] == 0
    )
    np.testing.assert_allclose(logp, -np.log(vocab), rtol=1e-6)
    last = int(
        draw(np.zeros((3, vocab), np.float32), u[[2, 2, 2]], np.zeros(3, bool))[0][0]
    )
    assert np.flatnonzero(ids == last)[0] >= vocab - 1 - vocab // 2**20


def test_a_temperature_is_that_of_the_logits_divided_by_it():
    z = np.random.default_rng(8).normal(size=(64, 5000)).astype(np.float32) * 3 + 100
    u, t = np.random.default_rng(9).random((2, 64), np.float32)
    t = np.where(np.arange(64) % 8, 0.3 + t, 0.0).astype(np.float32)
    token, logp = draw(z, u, t <= 0, t)
    wanted = np.stack([reference(row, own, 1.0, 0) for row, own in zip(z, t)])
    np.testing.assert_allclose(logp, wanted[np.arange(64), token], atol=5e-5)
    np.testing.assert_array_equal(token[::8], z[::8].argmax(-1))
    other = np.random.default_rng(10).integers(5000, size=64)
    given = logits.other_log_prob(z, t, token, logp, other)
    np.testing.assert_allclose(given, wanted[np.arange(64), other], atol=1e-4)


def test_the_two_uniforms_are_independent():
    keys = np.stack([row_key(1, i) for i in range(4000)])
    u = np.asarray(logits.uniforms(jnp.asarray(keys), jnp.zeros(4000, jnp.int32)))
    assert abs(np.corrcoef(u.T)[0, 1]) < 4 / np.sqrt(4000)
    assert ((0 <= u) & (u < 1)).all()


def test_ends_of_the_unit_interval_fall_on_tokens_with_mass():
    z = np.full(300, -1e30, np.float32)
    z[[17, 40, 211]] = 0.0, 1.0, -1.0
    np.testing.assert_array_equal(tokens_at(z, [0.0, 0.5, BELOW_ONE]), [17, 40, 211])
    full = np.zeros(300, np.float32)
    np.testing.assert_array_equal(tokens_at(full, [0.0, BELOW_ONE]), [0, 299])


def test_no_token_without_mass_is_drawn_at_any_edge():
    rng = np.random.default_rng(0)
    z = np.where(rng.random(300) < 0.3, rng.normal(size=300), -1e30).astype(np.float32)
    edges = np.cumsum(np.exp(reference(z, 1.0, 1.0, 0))).astype(np.float32)
    near = [
        edges,
        np.nextafter(edges, np.float32(2)),
        np.nextafter(edges, np.float32(-1)),
    ]
    u = np.clip(np.concatenate(near), 0, BELOW_ONE)
    assert (z[tokens_at(z, u)] > -1e29).all()


def test_a_step_of_rounding_is_not_mass():
    # A parallel cumulative sum may rise by an ulp where nothing was added.
    edges = jnp.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1)), 1.0]])
    mass = jnp.array([[0.5, 0.0, 0.5]])
    assert logits._first_above(edges, jnp.array([0.5]), mass) == 2


def test_greedy_takes_the_first_of_equal_tokens():
    z = np.random.default_rng(11).integers(0, 4, size=(50, 5000)).astype(np.float32)
    token, _ = draw(z, np.zeros(50, np.float32), np.ones(50, bool))
    np.testing.assert_array_equal(token, z.argmax(-1))


def test_greedy_takes_the_first_argmax_and_reports_its_log_prob():
    z = np.array([[0.0, 3.0, 3.0, 1.0]], np.float32)
    token, logp = draw(z, np.array([0.99], np.float32), np.array([True]))
    assert token == 1
    np.testing.assert_allclose(logp, reference(z[0], 1.0, 1.0, 0)[1], atol=1e-6)


FILTERS = [(0.6, 1.0, 0), (1.7, 0.9, 0), (1.0, 1.0, 5), (0.5, 0.8, 12), (0.0, 0.5, 3),
           (1.0, 1e-6, 0), (1.0, 1.0, 10_000), (2.0, 0.999, 1)]  # fmt: skip


def test_log_prob_is_that_of_the_tempered_filtered_distribution():
    z = np.random.default_rng(3).normal(size=(len(FILTERS), 300)).astype(np.float32) * 3
    temperature, top_p, top_k = (np.array(column) for column in zip(*FILTERS))
    ready = filter_top_k_top_p(
        apply_temperature(z, temperature.astype(np.float32)),
        top_p.astype(np.float32),
        top_k,
    )
    wanted = np.stack([reference(row, *given) for row, given in zip(z, FILTERS)])
    np.testing.assert_array_equal(np.asarray(ready) > -1e29, wanted > -np.inf)
    for u in (0.01, 0.37, 0.93):
        token, logp = draw(ready, np.full(len(z), u, np.float32), temperature <= 0)
        np.testing.assert_allclose(logp, wanted[np.arange(len(z)), token], atol=2e-5)


@pytest.mark.parametrize(
    "spread", [3.0, 0.1]
)  # an edge among the likeliest 1,024, and one after them
def test_filters_of_a_large_vocabulary(spread):
    z = np.random.default_rng(6).normal(size=(6, 5000)).astype(np.float32) * spread
    given = [
        (1.0, 0.9, 0),
        (1.0, 1.0, 0),
        (1.0, 0.7, 40),
        (1.0, 0.5, 0),
        (1.0, 1.0, 1024),
        (1.0, 0.9, 1500),
    ]
    for some in (slice(0, 5), slice(0, 6)):  # the last row always needs the whole order
        _, top_p, top_k = (np.array(column) for column in zip(*given[some]))
        ready = np.asarray(filter_top_k_top_p(z[some], top_p.astype(np.float32), top_k))
        for row, out, one in zip(z[some], ready, given[some]):
            assert (
                abs((out > -1e29).sum() - (reference(row, *one) > -np.inf).sum()) <= 1
            )  # float32 mass
            assert (out == np.where(out > -1e29, row, np.float32(-1e30))).all()
            assert row[out > -1e29].min() > row[out < -1e29].max(initial=-np.inf)


def kept(logits, top_p=1.0, top_k=0):
    """Ids that a filter leaves."""
    out = filter_top_k_top_p(
        np.array([logits], np.float32), np.array([top_p], np.float32), np.array([top_k])
    )
    return np.flatnonzero(np.asarray(out)[0] > -1e29).tolist()


def test_filter_edges():
    tied = [1.0, 2.0, 2.0, 0.0]
    assert kept(tied, top_k=1) == [1, 2]  # ties at the edge stay in together
    assert kept(tied, top_p=1e-9) == [1, 2]
    assert kept(tied, top_p=0.0) == [1, 2]  # never empty
    assert kept(tied, top_k=3) == [0, 1, 2]
    assert kept(tied, top_k=4) == kept(tied, top_k=99) == kept(tied) == [0, 1, 2, 3]
    assert kept([3.0, 1.0, 2.0, 0.0], top_p=1.0, top_k=2) == [0, 2]
    # p = (.5, .3, .2): mass is taken until it reaches top_p of the tokens that top_k
    # kept.
    three = np.log([0.5, 0.3, 0.2])
    assert (
        kept(three, top_p=0.49) == [0]
        and kept(three, top_p=0.51) == [0, 1]
        and kept(three, top_p=0.81) == [0, 1, 2]
    )
    assert kept(three, top_p=0.6, top_k=2) == [0] and kept(
        three, top_p=0.63, top_k=2
    ) == [0, 1]


COLD = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-12, 1e-30, 1e-40)


@pytest.mark.parametrize("vocab", [300, 5000])
def test_cold_rows_take_the_likeliest_token_with_a_finite_log_prob(vocab):
    z = (
        np.random.default_rng(12).normal(size=(len(COLD), vocab)).astype(np.float32)
        * 40
    )
    t, u = np.array(COLD, np.float32), np.full(len(COLD), 0.99, np.float32)
    # Alone, and by the way of filters: edges of top-p, top-k of one, of all and beyond.
    ways = [draw(z, u, np.zeros(len(t), bool), t)]
    for top_p, top_k in (
        (1.0, 0),
        (1e-9, 0),
        (0.5, 5),
        (1.0, 1),
        (1.0, vocab),
        (1.0, vocab + 9),
        (0.999999, 0),
    ):
        ready = filter_top_k_top_p(
            apply_temperature(z, t),
            np.full(len(t), top_p, np.float32),
            np.full(len(t), top_k),
        )
        ways.append(draw(ready, u, np.zeros(len(t), bool)))
    for token, logp in ways:
        np.testing.assert_array_equal(token, z.argmax(axis=1))
        np.testing.assert_allclose(logp, 0, atol=1e-6)


def test_ties_share_the_mass_of_a_cold_row_and_tokens_at_minus_infinity_have_none():
    z = np.array([[5.0, 5.0, -np.inf, 1.0]] * 3, np.float32)
    t = np.full(3, 1e-6, np.float32)
    token, logp = draw(
        z, np.array([0.0, 0.6, BELOW_ONE], np.float32), np.zeros(3, bool), t
    )
    assert token.tolist() == [0, 1, 1]
    np.testing.assert_allclose(logp, -np.log(2), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_give_no_log_prob(bad):
    z = np.random.default_rng(13).normal(size=(2, 5000)).astype(np.float32)
    z[0, 77] = bad
    for t in (0.0, 1.0):
        token, logp = draw(
            z,
            np.full(2, 0.4, np.float32),
            np.full(2, t == 0),
            np.full(2, t, np.float32),
        )
        assert np.isnan(logp[0]) and np.isfinite(logp[1]) and 0 <= token[0] < 5000
    nothing = np.full((1, 5000), -np.inf, np.float32)
    assert np.isnan(draw(nothing, np.zeros(1, np.float32), np.zeros(1, bool))[1][0])


def test_a_row_without_filters_keeps_its_bits_beside_one_that_filters():
    z = np.random.default_rng(5).normal(size=(2, 300)).astype(np.float32)
    out = filter_top_k_top_p(z, np.array([1.0, 0.5], np.float32), np.array([0, 0]))
    np.testing.assert_array_equal(out[0], z[0])
    assert (np.asarray(out[1]) < -1e29).any()


def test_filters_hide_behind_a_branch():
    # A sort over the vocabulary must not run while no row filters: it may only be
    # inside the conditional.
    z = jnp.zeros((2, 300))
    outer = jax.make_jaxpr(logits.filter_top_k_top_p)(
        z, jnp.ones(2), jnp.zeros(2, jnp.int32)
    )
    names = {equation.primitive.name for equation in outer.eqns}
    assert "cond" in names and "sort" not in names
