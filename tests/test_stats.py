"""Every statistic against plain float64 numpy, and values that follow by definition."""

import dataclasses

import jax
import numpy as np
import pytest

from fr.sampling import token_stats
from fr.sampling.structs import LineageStats, TokenStats
from fr.sampling.vocab_reductions import top_k

TAU = np.float32(0.6)
stats_of = jax.jit(
    lambda z, token, tau: token_stats.token_stats(
        token_stats.logit_moments(z, tau), token
    )
)
lineage_of = jax.jit(
    lambda s, a, token, tau: token_stats.lineage_stats(
        token_stats.logit_moments(s, tau), token_stats.logit_moments(a, tau), token
    )
)
NAMES = {
    cls: [f.name for f in dataclasses.fields(cls)] for cls in (TokenStats, LineageStats)
}


def log_softmax(z):
    return z - np.logaddexp.reduce(z)


def reference_token(z, token):
    """TokenStats of one row."""
    z = z.astype(np.float64)
    logp, logp_tau = log_softmax(z), log_softmax(z / TAU)
    p, largest = np.exp(logp), np.sort(z)[::-1]
    top = largest[:100]
    q = np.exp(log_softmax(top / TAU))
    return {
        "logp": logp[token],
        "entropy": -np.sum(p * logp),
        "varentropy": np.sum(p * logp**2) - np.sum(p * logp) ** 2,
        "margin": np.sort(p)[-1] - np.sort(p)[-2],
        "top20_confidence": -np.sort(logp)[::-1][:20].mean(),
        "self_certainty": -np.mean(np.log(len(z) * p)) + np.log(len(z)),
        "logit_var": np.sum(q * top**2) - np.sum(q * top) ** 2,
        "entropy_tau": -np.sum(np.exp(logp_tau) * logp_tau),
    }


def reference_lineage(s, a, token):
    """LineageStats of one row; ids that only one side has are cut."""
    size = min(len(s), len(a))
    s, a = (log_softmax(z[:size].astype(np.float64) / TAU) for z in (s, a))
    covered = np.argsort(-a)[:20]
    top = np.argsort(-s)[:100]
    ratio = (s - a)[top]
    p, q = (np.exp(log_softmax(z[top])) for z in (s, a))
    delta = s[token] - a[token] if token < size else 0.0
    g_cov = np.log(np.exp(a[covered]).sum() / np.exp(s[covered]).sum())
    mean = np.sum(p * ratio)
    sd = np.sqrt(np.sum(p * (ratio - mean) ** 2))
    return {
        "delta_path": delta,
        "g_cov": g_cov,
        "demotion": max(0, delta) + max(0, g_cov),
        "kl": np.sum(p * np.log(p / q)),
        "z_path": max(0, (delta - mean) / (sd + 1e-6)),
        "path_mean": mean,
        "path_sd": sd,
    }


def compare(given, wanted, names):
    for name in names:
        expected = [row[name] for row in wanted]
        np.testing.assert_allclose(
            getattr(given, name), expected, rtol=2e-4, atol=2e-5, err_msg=name
        )


@pytest.mark.parametrize(
    "vocab", [300, 50]
)  # the top 100 and the top 20 cut; only the top 20 does
def test_token_stats(vocab):
    rng = np.random.default_rng(vocab)
    z = (rng.normal(size=(16, vocab)) * np.linspace(0.1, 8, 16)[:, None] + 5).astype(
        np.float32
    )
    token = rng.integers(vocab, size=16)
    wanted = [reference_token(row, t) for row, t in zip(z, token)]
    compare(stats_of(z, token, TAU), wanted, NAMES[TokenStats])


def hard_rows(vocab):
    """Peaked, flat, spread and two-sided rows, each with and without a large offset."""
    rng = np.random.default_rng(vocab)
    noise = rng.normal(size=vocab)
    below = lambda depth: np.where(
        np.arange(vocab) == vocab // 3, 0.0, -depth
    )  # one token above all others
    rows = [
        noise * 0.01,
        noise,
        noise * 4,
        noise * 30,
        below(0.1),
        below(3),
        below(np.log(vocab)),
        below(40),
    ]
    return np.concatenate([rows, np.add(rows, 1e4), np.add(rows, -1e4)]).astype(
        np.float32
    )


@pytest.mark.parametrize("vocab", [300, 4999, 5000])
def test_moments_of_hard_rows_keep_their_digits(vocab):
    z = hard_rows(vocab)
    token = np.random.default_rng(0).integers(vocab, size=len(z))
    given = stats_of(z, token, TAU)
    # The reference squares before it subtracts: float64, without the offset.
    wanted = [
        reference_token(row.astype(np.float64) - row.max(), t)
        for row, t in zip(z, token)
    ]
    for name in NAMES[TokenStats]:
        expected = np.array([row[name] for row in wanted])
        # A mean over the vocabulary is not relative to the peak: at 1e4 it has three
        # decimals.
        atol = np.where(
            np.arange(len(z)) < 8, 1e-5, 5e-3 if name == "self_certainty" else 1e-5
        )
        error = np.abs(getattr(given, name) - expected)
        assert (error <= atol + 1e-5 * np.abs(expected)).all(), (name, error)


@pytest.mark.parametrize("vocab", [40, 128, 1999, 49_152, 50_021])
@pytest.mark.parametrize("count", [20, 100])
def test_the_top_k_equals_the_head_of_a_sort(vocab, count):
    rng = np.random.default_rng(vocab)
    normal = rng.normal(size=vocab)
    few = np.where(
        np.arange(vocab) % 1000 == 39, 1.0, -1e30
    )  # fewer than are asked for
    z = np.stack([normal, np.round(normal), 0 * normal, few, np.sort(normal)]).astype(
        np.float32
    )
    top, ids = jax.jit(top_k, static_argnums=1)(z, count)
    np.testing.assert_array_equal(top, np.sort(z, axis=-1)[:, ::-1][:, :count])
    np.testing.assert_array_equal(np.take_along_axis(z, np.asarray(ids), axis=-1), top)
    assert all(len(set(row)) == len(row) for row in ids.tolist())


@pytest.mark.parametrize(
    "vocab, other",
    [(300, 300), (50, 50), (300, 130), (50, 300), (5000, 5000), (4999, 4800)],
)
def test_lineage_stats(vocab, other):
    rng = np.random.default_rng(vocab + other)
    s = (rng.normal(size=(16, vocab)) * 3).astype(np.float32)
    a = (rng.normal(size=(16, other)) * 2).astype(np.float32)
    size = min(vocab, other)  # half the rows sharpen their ancestor: g_cov < 0
    a[:8, :size] = 0.1 * a[:8, :size] + 0.5 * s[:8, :size]
    token = np.where(
        np.arange(16) % 2, rng.integers(vocab, size=16), s[:, :size].argmax(-1)
    )
    wanted = [reference_lineage(*row) for row in zip(s, a, token)]
    assert (
        {row["g_cov"] > 0 for row in wanted}
        == {row["delta_path"] > 0 for row in wanted}
        == {False, True}
    )
    given = lineage_of(s, a, token, TAU)
    compare(given, wanted, NAMES[LineageStats])


def test_another_token_of_the_same_position():
    rng = np.random.default_rng(1)
    s, a = rng.normal(size=(2, 8, 300)).astype(np.float32) * 3
    drawn, emitted = rng.integers(300, size=(2, 8))
    moved = token_stats.for_token(
        lineage_of(s, a, drawn, TAU),
        token_stats.delta_path(
            token_stats.logit_moments(s, TAU),
            token_stats.logit_moments(a, TAU),
            emitted,
        ),
    )
    fresh = lineage_of(s, a, emitted, TAU)
    for name in NAMES[LineageStats]:
        np.testing.assert_allclose(
            getattr(moved, name),
            getattr(fresh, name),
            rtol=1e-4,
            atol=1e-5,
            err_msg=name,
        )


def test_uniform_distributions():
    flat = stats_of(np.full((1, 300), 3.0, np.float32), np.array([7]), TAU)
    np.testing.assert_allclose(flat.self_certainty, np.log(300), rtol=1e-6)
    np.testing.assert_allclose(flat.entropy, np.log(300), rtol=1e-6)
    np.testing.assert_allclose(
        [flat.margin, flat.varentropy, flat.logit_var], 0, atol=1e-6
    )
    twenty = np.full((1, 300), -40.0, np.float32)
    twenty[:, 100:120] = 2.0
    np.testing.assert_allclose(
        stats_of(twenty, np.array([100]), TAU).top20_confidence,
        np.log(20),
        rtol=1e-6,
    )


def test_a_model_does_not_depart_from_itself():
    z = (np.random.default_rng(2).normal(size=(64, 300)) * 4).astype(np.float32)
    same = lineage_of(z, z, np.arange(64), TAU)
    for name in ("demotion", "delta_path", "g_cov", "z_path", "path_sd"):
        np.testing.assert_array_equal(getattr(same, name), 0.0, err_msg=name)
    np.testing.assert_allclose(same.kl, 0, atol=1e-6)


def test_logit_variance_is_the_fisher_information_of_the_temperature():
    # d/db of E_b[z], b = 1/tau, is Var(z): the derivative uses neither of the two
    # passes of the code.
    z = np.random.default_rng(4).normal(size=80).astype(np.float32) * 2
    mean = lambda b: jax.nn.softmax(b * z) @ z
    given = stats_of(z[None], np.array([0]), TAU).logit_var[0]
    np.testing.assert_allclose(given, jax.grad(mean)(1 / TAU), rtol=1e-4)
