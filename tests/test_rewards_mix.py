"""Mixes of reward terms: normalisation, placement, what is logged, what is refused, and
terms from a file.
"""

import dataclasses

import numpy as np
import pytest
from reward_batches import GROUP, ROWS, TOKENS, batch, trajectory

from fr.config import Config, RewardsConfig, as_dict, freeze
from fr.errors import UserError
from fr.rewards import TERMS, RewardMix, register_term
from fr.rewards.mix import standardise
from fr.types import RIGHT, WRONG, Truth

ONE = {"terms": (("x", 1.0),)}


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Terms that a test registers are gone after it."""
    monkeypatch.setattr(TERMS, "_entries", dict(TERMS._entries))


def read(of=None, **config):
    """A mix's rewards of a batch."""
    return RewardMix(RewardsConfig(**config)).read(of or batch())


def constant(name, values, **declared):
    """A term that gives these values."""
    register_term(name, **declared)(lambda batch, config: values)


def refused(*words, of=None, **config):
    """Asserts that a mix or a batch is refused with one line that has all of these
    words.
    """
    with pytest.raises(UserError) as error:
        read(of, **config)
    assert "\n" not in str(error.value) and all(
        word in str(error.value) for word in words
    ), error.value


def test_a_mix_by_hand():
    a, b, dense = (
        np.arange(8.0),
        np.array([1, 1, 1, 0, 0, 0, 0, 0.0]),
        np.ones((ROWS, TOKENS)) * np.arange(TOKENS),
    )
    constant("a", a)
    constant("b", b, placement="advantage")
    constant("dense", dense, placement="advantage")
    one = batch()
    mixed = read(
        one, terms=(("a", 2.0), ("b", 3.0), ("dense", 0.5), ("correctness", 1.0))
    )
    np.testing.assert_allclose(mixed.reward, 2 * a + [1, 0, 0, 1, 0, 0, 1 / 3, 1])
    np.testing.assert_allclose(
        mixed.advantage, (3 * b[:, None] + 0.5 * dense) * one.mask
    )
    assert mixed.reward.dtype == mixed.advantage.dtype == np.float32
    assert list(mixed.terms) == ["a", "b", "dense", "correctness"]
    np.testing.assert_array_equal(mixed.terms["dense"], dense * one.mask)
    means = [(row * mask).sum() / mask.sum() for row, mask in zip(dense, one.mask)]
    assert mixed.metrics["reward/a"] == 3.5 and mixed.metrics[
        "reward/dense"
    ] == pytest.approx(np.mean(means))
    assert mixed.metrics["reward"] == pytest.approx(7 + 10 / 24)


def test_a_term_goes_where_the_config_puts_it():
    terms = (("correctness", 1.0), ("pcs", 1.0))
    plain, own = read(terms=terms[:1]), read(terms=terms)
    moved = read(terms=terms, placement=(("pcs", "reward"),))
    shaped = own.terms["pcs"]
    np.testing.assert_array_equal(own.reward, plain.reward)
    np.testing.assert_allclose(own.advantage, shaped[:, None] * batch().mask, atol=1e-6)
    np.testing.assert_allclose(moved.reward, plain.reward + shaped, atol=1e-6)
    assert not moved.advantage.any() and not plain.advantage.any()


def test_a_value_for_each_token_counts_as_a_reward_with_its_mean():
    dense = np.random.default_rng(0).random((ROWS, TOKENS))
    constant("x", dense)
    one = batch()
    np.testing.assert_allclose(
        read(one, **ONE).reward,
        [d[m].mean() for d, m in zip(dense, one.mask)],
        rtol=1e-6,
    )


def test_a_weight_of_nothing_only_logs():
    plain = read()
    logged = read(terms=(("correctness", 1.0), ("pcs", 0.0), ("entropy", 0.0)))
    np.testing.assert_array_equal(plain.reward, logged.reward)
    assert (
        not logged.advantage.any()
        and logged.terms["pcs"].any()
        and logged.metrics["reward/entropy"] < 0
    )
    assert RewardMix(RewardsConfig(terms=(("pcs", 0.0),))).sets == ("gold",)


def test_seven_against_one():
    values = np.array([1.0] * 7 + [0.0])
    for given in (values, 1e6 + values, 5 * values):
        got = standardise(given, np.ones(8, bool), 8)
        np.testing.assert_allclose(got, [1 / np.sqrt(7)] * 7 + [-np.sqrt(7)], rtol=1e-6)
    # What is almost the same is not stretched: by the plain quotient it would look like
    # the above.
    assert np.abs(standardise(1e-5 * values, np.ones(8, bool), 8)).max() < 0.01


def test_normalisation_among_a_group_and_a_batch():
    values = np.array([1, 2, 3, 4, 10, 10, 10, 10.0])
    constant("x", values)
    by_group = read(**ONE, normalise=(("x", "group"),)).reward
    np.testing.assert_allclose(
        by_group,
        [*(np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25)), 0, 0, 0, 0],
        rtol=1e-6,
    )
    by_batch = read(**ONE, normalise=(("x", "batch"),)).reward
    np.testing.assert_allclose(
        by_batch, (values - values.mean()) / values.std(), rtol=1e-6
    )


def test_normalisation_of_tokens_counts_sampled_ones():
    one, dense = batch(), np.random.default_rng(0).random((ROWS, TOKENS))
    constant("x", np.where(one.mask, dense, 7), placement="advantage")
    got = read(one, **ONE, normalise=(("x", "group"),)).advantage
    for rows in (slice(0, GROUP), slice(GROUP, None)):
        inside = got[rows][one.mask[rows]]
        assert inside.mean() == pytest.approx(
            0, abs=1e-6
        ) and inside.std() == pytest.approx(1, rel=1e-5)
    assert not got[~one.mask].any()


@pytest.mark.parametrize(
    "grades, confidence, flat, confidence_only",
    [
        ((RIGHT,) * 8, [0.5] * 8, 1.0, 0.0),
        ((WRONG,) * 8, [0.5, 0.4] * 4, 0.0, 1.0),
        (
            (WRONG,) * 8,
            [0.5, 0.5 + 1e-5] * 4,
            1.0,
            0.0,
        ),  # numerical noise does not count
        ((WRONG,) * 4 + (RIGHT, WRONG) * 2, [0.5, 0.4] * 4, 0.0, 0.5),
        ((WRONG,) * 4 + (RIGHT, WRONG) * 2, [0.5] * 8, 0.5, 0.0),
    ],
)
@pytest.mark.parametrize("placement", ["reward", "advantage"])
def test_groups_that_teach_nothing_or_confidence_alone(
    grades, confidence, flat, confidence_only, placement
):
    late = np.array([[0, 0, 0, 0, 0, c] for c in confidence])
    one = batch(truth=Truth(grades, ("",) * ROWS, trajectory(late)))
    seen = read(
        one, terms=(("correctness", 1.0), ("pcs", 1.0)), placement=(("pcs", placement),)
    ).metrics
    assert (seen["groups/flat"], seen["groups/confidence_only"]) == (
        flat,
        confidence_only,
    )


def test_which_confidence_must_be_measured():
    sets = lambda *names: (
        RewardMix(RewardsConfig(terms=tuple((name, 1.0) for name in names))).sets
    )
    assert sets("correctness", "rlsf") == ()
    assert sets("pcs", "pacr") == ("gold",) and sets("pcs", "late_confidence") == (
        "own",
        "gold",
    )
    with pytest.raises(ValueError, match="pcs: the batch has no confidence in gold"):
        read(
            batch(truth=dataclasses.replace(batch().truth, confidence=None)),
            terms=(("pcs", 1.0),),
        )


def test_terms_see_what_they_declare():
    seen = {}
    for name, declared in (("blind", False), ("x", True)):
        look = lambda batch, config, name=name: (
            seen.update({name: batch}) or np.zeros(ROWS)
        )
        register_term(name, needs_gold=declared)(look)
    read(terms=(("blind", 1.0), ("x", 1.0)))
    assert seen["blind"].truth is None and seen["x"].truth is not None
    assert "gold" not in repr(seen["blind"].problems) and "gold" in repr(
        seen["x"].problems
    )
    assert [p.question for p in seen["blind"].problems] == [
        p.question for p in seen["x"].problems
    ]


def test_mixes_that_are_refused():
    refused("'pcs_golden'", *TERMS, terms=(("pcs_golden", 1.0),))
    refused("rewards.normalise", "'pcs'", normalise=(("pcs", "group"),))
    refused("rewards.placement", "'pcs'", placement=(("pcs", "reward"),))
    refused("'pacr'", "scored", terms=(("pacr", 1.0),), confidence="sampled")
    assert RewardMix(
        RewardsConfig(terms=(("pcs", 1.0),), confidence="sampled")
    ).sets == ("gold",)


@pytest.mark.parametrize(
    "field, value",
    [
        ("terms", ()),
        ("terms", (("pcs", 1.0), ("pcs", 2.0))),
        ("terms", (("pcs", -1.0),)),
        ("terms", (("pcs", float("nan")),)),
        ("normalise", (("pcs", "rank"),)),
        ("placement", (("pcs", "loss"),)),
        ("confidence", "guessed"),
        ("cuts", 1),
        ("window", 0),
        ("discount", 1.5),
    ],
)
def test_settings_that_are_refused(field, value):
    given = as_dict(Config())
    given["rewards"][field] = value
    with pytest.raises(UserError, match=f"config.rewards.{field}"):
        freeze(given)


def test_a_row_that_a_term_leaves_out_counts_as_the_mean_of_its_group():
    constant("mine", [1.0, None, 0.0, 0.0, None, None, None, None])
    constant(
        "dense",
        [np.full(TOKENS, 3.0), *[None] * 2, np.ones(TOKENS), *[np.zeros(TOKENS)] * 4],
    )
    seen = read(terms=(("mine", 3.0),))
    np.testing.assert_allclose(seen.reward, [3, 1, 0, 0, 0, 0, 0, 0], rtol=1e-6)
    assert seen.metrics["left_out/mine"] == 5 and seen.metrics[
        "reward/mine"
    ] == pytest.approx(1 / 3)
    assert np.isnan(seen.terms["mine"]).sum() == 5
    normal = read(terms=(("mine", 1.0),), normalise=(("mine", "group"),))
    np.testing.assert_allclose(
        normal.reward[:4], [np.sqrt(2), 0, -np.sqrt(0.5), -np.sqrt(0.5)], atol=1e-6
    )
    one = batch()
    added = read(
        one, terms=(("dense", 1.0),), placement=(("dense", "advantage"),)
    ).advantage
    count = one.mask.sum(axis=1)
    mean = (3 * count[0] + count[3]) / (count[0] + count[3])
    np.testing.assert_allclose(added[1:3], np.where(one.mask[1:3], mean, 0), rtol=1e-6)
    assert read().metrics.keys() >= {
        "left_out/correctness"
    }  # the batch has a grader error


def test_a_term_may_be_centred_where_it_is_placed():
    one = batch()
    plain = read(one, terms=(("correctness", 1.0), ("pcs", 1.0))).advantage
    own = {
        "terms": (("correctness", 1.0), ("pcs", 1.0)),
        "placement": (("pcs", "advantage_centred"),),
    }
    centred = read(one, **own).advantage
    for rows in (slice(0, GROUP), slice(GROUP, None)):
        apart = (plain - centred)[rows][one.mask[rows]]
        np.testing.assert_allclose(apart, apart[0], atol=1e-6)
    assert plain.any() and RewardMix(RewardsConfig(**own)).uncentred == []
    assert RewardMix(RewardsConfig(terms=(("pcs", 1.0),))).uncentred == ["pcs"]
    assert RewardMix(RewardsConfig(terms=(("pcs", 0.0),))).uncentred == []


def at(row, found):
    """Zeros, except in one row."""
    return [found if i == row else 0.0 for i in range(ROWS)]


@pytest.mark.parametrize(
    "values, words",
    [
        (np.zeros(5), ("row 5", "p1", "(8,)", "(8, 12)", "(5,)")),
        (np.zeros((8, 11)), ("row 0", "p0", "(8, 11)")),
        (np.zeros(9), ("row 0", "(9,)")),
        (np.float64(1), ("row 0", "()")),
        (None, ("row 0",)),
        ("good", ("row 0",)),
        (at(6, "good"), ("row 6", "p1")),
        (at(6, [1.0, 2.0]), ("row 6", "p1")),
        (at(2, np.nan), ("row 2", "p0", "nan")),
        (at(5, -np.inf), ("row 5", "p1", "-inf")),
        (at(5, 1e300), ("row 5", "p1", "1e+300")),
        ([at(6, np.nan)[:8] + [0.0] * 4] * ROWS, ("row 0", "token 6", "nan")),
    ],
)
def test_values_that_are_refused_by_term_and_row(values, words):
    constant("x", values)
    refused("'x'", *words, of=batch(mask=np.ones((ROWS, TOKENS), bool)), **ONE)


def test_what_lies_off_sampled_tokens_is_not_read():
    one = batch()
    constant("x", np.where(one.mask, 1.0, np.nan), placement="advantage")
    np.testing.assert_array_equal(read(one, **ONE).advantage, one.mask)


def test_a_term_that_fails_says_where():
    register_term("x")(lambda batch, config: 1 / 0)
    refused("'x'", "test_rewards_mix.py:", "ZeroDivisionError", **ONE)
    register_term("grades")(lambda batch, config: batch.truth.right)
    refused("'grades'", "needs_gold=True", terms=(("grades", 1.0),))
    register_term("few")(lambda batch: np.zeros(ROWS))
    refused("'few'", "TypeError", terms=(("few", 1.0),))


def test_declarations_that_are_refused():
    with pytest.raises(UserError, match="needs_gold=True"):
        register_term("x", needs_confidence="gold")
    with pytest.raises(UserError, match="'truth' must be one of '', 'own', 'gold'"):
        register_term("x", needs_confidence="truth")
    with pytest.raises(UserError, match="placement = 'loss'"):
        register_term("x", placement="loss")
    with pytest.raises(ValueError, match="'pcs' is registered twice"):
        register_term("pcs")(lambda batch, config: np.zeros(ROWS))
