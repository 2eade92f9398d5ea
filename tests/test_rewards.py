"""Every reward term: by hand on small rows, blind to what it must not see, deaf to
pads.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from reward_batches import GROUP, ROWS, TOKENS, batch, trajectory

from fr.config import RewardsConfig
from fr.rewards import TERMS
from fr.rewards.terms import without_gold
from fr.sampling import token_stats
from fr.types import GRADER_ERROR, RIGHT, UNPARSED, WRONG, Problem, Truth

CONFIG = RewardsConfig(switch_words=("no", "up"))
EARLY, LATE = [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]


def value(name, of, config=CONFIG):
    """Values of a term for a batch."""
    return np.asarray(TERMS[name].fn(of, config))


def gold(confidence, **fields):
    """A batch whose right answers have this confidence."""
    return batch(
        truth=dataclasses.replace(batch().truth, confidence=confidence), **fields
    )


def row_of(name, row, mask=None, **config):
    """The first row's value of a term, where a statistic of it is `row`: the other rows
    are empty.
    """
    values, where = np.zeros((ROWS, TOKENS)), np.zeros((ROWS, TOKENS), bool)
    values[0, : len(row)], where[0, : len(row)] = row, True if mask is None else mask
    statistic = {"rlsf": "margin"}.get(
        name, "top20_confidence" if "deepconf" in name else name
    )
    one = batch(stats={statistic: values}, mask=where)
    given = value(name, one, dataclasses.replace(CONFIG, **config))
    assert not given[1:].any()  # a row without sampled tokens gives 0
    return given[0]


@pytest.mark.parametrize("name", list(TERMS))
def test_gold_is_withheld(name):
    """A term that declares no gold gives the same without it, and with another one."""
    entry, seen = TERMS[name], batch()
    assert entry.fn.__doc__.splitlines()[0].endswith(".")
    other = Truth((WRONG,) * ROWS, ("?",) * ROWS, trajectory(np.full((ROWS, 6), 0.5)))
    problems = tuple(dataclasses.replace(p, answer="?", meta={}) for p in seen.problems)
    changed = dataclasses.replace(seen, truth=other, problems=problems)
    if entry.needs_gold:
        assert not np.array_equal(value(name, seen), value(name, changed))
    else:
        assert np.array_equal(value(name, seen), value(name, without_gold(seen)))
        assert np.array_equal(value(name, seen), value(name, changed))


@pytest.mark.parametrize("name", list(TERMS))
def test_pads_and_forced_tokens_say_nothing(name):
    one = batch()
    noisy = {
        field: np.where(one.mask, values, 9e9) for field, values in one.stats.items()
    }
    tokens = np.where(one.mask, one.tokens, 0)
    wide = dataclasses.replace(one, stats=noisy, tokens=tokens)
    config = dataclasses.replace(CONFIG, window=4, ngram=2, length_free=4)
    before, after = value(name, one, config), value(name, wide, config)
    if before.ndim == 2:
        before, after = (np.where(one.mask, values, 0) for values in (before, after))
    assert before.any() and np.array_equal(before, after)


@pytest.mark.parametrize("name", list(TERMS))
def test_a_group_alone_is_the_group_in_a_batch(name):
    one = batch()
    half = lambda x: (
        dataclasses.replace(
            x, **{f.name: half(getattr(x, f.name)) for f in dataclasses.fields(x)}
        )
        if dataclasses.is_dataclass(x) and not isinstance(x, Problem)
        else {k: half(v) for k, v in x.items()}
        if isinstance(x, dict)
        else x
        if isinstance(x, (int, Problem))
        else x[GROUP:]
    )
    assert np.array_equal(value(name, half(one)), value(name, one)[GROUP:])


@pytest.mark.parametrize("name", ["pcs", "pcs_own"])
def test_shaping_by_hand(name):
    rows = [
        [0.3] * 6,
        LATE,
        EARLY,
        [0, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1],
        [0, 0, 0.5, 1, 1, 1],
        LATE,
        EARLY,
    ]
    seen = trajectory(rows, known=[True] * 6 + [False] * 2)
    one = gold(seen) if name == "pcs" else batch(own=seen)
    # A jump at the first cut and one at the last are worth the same; one in the middle
    # most.
    np.testing.assert_allclose(
        value(name, one), [0, 0.9, -0.9, 0.5, 0.5, 0.85, 0, 0], atol=1e-6
    )


def test_the_control_has_the_weights_of_shaping_in_one_other_order():
    one = gold(trajectory([*np.eye(6), LATE, EARLY]))
    weights, other = -value("pcs", one)[:6], -value("pcs_shuffled", one)[:6]
    assert (
        sorted(other) == sorted(weights)
        and abs(np.corrcoef(weights, other)[0, 1]) < 0.3
    )
    assert np.array_equal(value("pcs_shuffled", one), value("pcs_shuffled", one))
    changed = dataclasses.replace(CONFIG, shuffle_seed=CONFIG.shuffle_seed + 1)
    assert not np.array_equal(
        value("pcs_shuffled", one), value("pcs_shuffled", one, changed)
    )
    assert (
        not value("pcs_shuffled", gold(trajectory(np.full((ROWS, 6), 0.4))))
        .round(6)
        .any()
    )


def test_late_confidence_by_hand():
    seen = trajectory([LATE, EARLY, [0.25, 1, 0, 1, 0, 0.75], *[[0.5] * 6] * 5])
    np.testing.assert_allclose(
        value("late_confidence", batch(own=seen)), [1, -1, 0.5, 0, 0, 0, 0, 0]
    )


def progress(logps, cuts, name="pacr", **config):
    """PACR of one group of rows of eight tokens, all of them sampled."""
    logps, cuts = np.array(logps, np.float32), np.array(cuts)
    tokens = np.zeros((len(logps), 8), int)
    known = np.isfinite(logps).all(axis=1)
    seen = dataclasses.replace(
        trajectory(np.zeros(logps.shape), known), mean_logp=logps
    )
    truth = Truth((WRONG,) * len(logps), ("",) * len(logps), seen)
    one = batch(
        tokens=tokens, mask=tokens == 0, cuts=cuts, truth=truth, group=len(logps)
    )
    return value(name, one, dataclasses.replace(CONFIG, **config))


def test_progress_by_hand():
    # Gains 2, -1, 1 and 0, 0, 4: returns 2, 0, 1 and 4, 4, 4, of which 0 is the
    # smallest and 4 the largest.
    dense = progress([[-4, -2, -3, -2], [-5, -5, -5, -1]], [[0, 2, 3, 6], [0, 1, 2, 4]])
    assert dense.tolist() == [
        [0.5, 0.5, 0, 0.25, 0.25, 0.25, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
    ]
    # Later gains count half: 2 - 0.5 + 0.25, -1 + 0.5, 1, and 1, 2, 4.
    half = progress(
        [[-4, -2, -3, -2], [-5, -5, -5, -1]], [[0, 2, 3, 6], [0, 1, 2, 4]], discount=0.5
    )
    returns = (np.array([[1.75, -0.5, 1.0], [1, 2, 4]]) + 0.5) / 4.5
    np.testing.assert_allclose(
        half[:, [0, 2, 3]], [returns[0], [*returns[1, [0, 2, 2]]]], rtol=1e-6
    )


def test_a_cut_that_is_there_twice_makes_no_step():
    once, twice = [[-4, -1, -2]], [[-4, -1, -1, -2]]
    assert (
        progress(once, [[0, 3, 7]]).tolist() == progress(twice, [[0, 3, 3, 7]]).tolist()
    )
    # A repeated cut is not a step: its return of 0 would be the smallest, and a
    # discount would show.
    assert progress([[-4, -1, 0, 0]], [[0, 3, 7, 7]]).tolist() == [[1] * 3 + [0] * 5]
    assert not progress([[-8, -6, -6, -2]], [[0, 3, 3, 7]], discount=0.5).any()
    assert progress(twice, [[0, 3, 3, 7]], "pacr_sparse").tolist() == [0.5]


def test_progress_is_not_made_of_noise():
    flat = progress([[-2, -2 + 1e-6, -2], [-2, -2, -2 - 1e-6]], [[0, 3, 7], [0, 3, 7]])
    assert np.abs(flat).max() < 0.01
    assert progress([[-2, -2 + 1e-6, -1]], [[0, 3, 7]], "pacr_sparse").tolist() == [0.5]


def test_progress_of_rows_that_were_not_asked():
    logps, cuts = [[-4, -2, -3, -2], [np.nan] * 4], [[0, 2, 3, 6], [0, 0, 0, 0]]
    assert not progress(logps, cuts)[1].any() and progress(logps, cuts)[0].tolist() == [
        1,
        1,
        0,
        *[0.5] * 3,
        0,
        0,
    ]
    assert progress(logps, cuts, "pacr_sparse").tolist() == [2 / 3, 0]
    assert not progress([[np.nan] * 4] * 2, [[0, 2, 3, 6]] * 2).any()


def test_known_statistics():
    """Self-certainty of a uniform p is log V, its entropy too; DeepConf of twenty equal
    tokens is log 20.
    """
    logits = jnp.stack([jnp.zeros(50), jnp.where(jnp.arange(50) < 20, 0.0, -100.0)])
    seen = token_stats.token_stats(
        token_stats.logit_moments(logits, jnp.float32(0.6), 50), jnp.zeros(2, int)
    )
    assert row_of("self_certainty", [seen.self_certainty[0]] * 3) == pytest.approx(
        math.log(50), rel=1e-5
    )
    assert row_of("entropy", [seen.entropy[0]] * 3) == pytest.approx(
        -math.log(50), rel=1e-5
    )
    for form in ("lowest", "bottom", "tail"):
        assert row_of(
            f"deepconf_{form}", [seen.top20_confidence[1]] * 9
        ) == pytest.approx(math.log(20), rel=1e-5)


def test_means_run_over_sampled_tokens():
    assert row_of("self_certainty", [1, 100, 3], mask=[True, False, True]) == 2
    assert row_of("entropy", [1, 100, 3], mask=[True, False, True]) == -2


def test_deepconf_by_hand():
    rising = list(range(12))
    # Windows of two: 0.5, 1.5, ... 10.5.
    assert row_of("deepconf_lowest", rising, window=2) == 0.5
    assert row_of("deepconf_tail", rising, window=2) == 10.5
    assert row_of("deepconf_bottom", rising[::-1], window=2) == 0.5
    # Twelve windows of one; a tenth of them is one, and never none.
    assert row_of("deepconf_bottom", rising, window=1) == 0
    # A row that is shorter than the window is one window; a forced token is in none.
    assert (
        row_of("deepconf_lowest", [1, 2, 6], window=5)
        == row_of("deepconf_tail", [1, 2, 6], window=5)
        == 3
    )
    assert row_of("deepconf_lowest", [5, 0, 7], mask=[True, False, True], window=2) == 6


def test_bottom_tenth():
    assert row_of("deepconf_bottom", [4, 2, 9] * 4, window=1) == 2
    wide = np.tile(np.arange(20.0), (ROWS, 1))
    many = batch(stats={"top20_confidence": wide}, mask=np.ones(wide.shape, bool))
    assert (
        value("deepconf_bottom", many, dataclasses.replace(CONFIG, window=1))[0] == 0.5
    )


def test_answer_confidence_by_hand():
    margin = np.tile(np.arange(TOKENS) / 10, (ROWS, 1))
    answer = np.array([[2, 5], [0, 0], [9, 10], [5, 9], *[[0, 0]] * 4])
    mask = np.ones(margin.shape, bool)
    mask[3, 5:7] = False
    given = value("rlsf", batch(stats={"margin": margin}, answer=answer, mask=mask))
    np.testing.assert_allclose(given, [0.3, 0, 0.9, 0.75, 0, 0, 0, 0])


def test_correctness():
    grades = (RIGHT, WRONG, UNPARSED, WRONG) + (RIGHT, RIGHT, WRONG, GRADER_ERROR)
    given = value("correctness", batch(truth=Truth(grades, ("",) * ROWS)))
    assert given.tolist() == [1, 0, 0, 0, 1, 1, 0, None]
    strict = dataclasses.replace(CONFIG, ungraded="wrong")
    assert (
        value("correctness", batch(truth=Truth(grades, ("",) * ROWS)), strict).tolist()[
            -1
        ]
        == 0
    )


def test_format_wants_an_answer_and_an_end():
    answer = np.array([[2, 5], [2, 5], [0, 0], [0, 0], *[[3, 4]] * 4])
    truncated = np.array([False, True, False, True] + [False] * 4)
    assert value("format", batch(answer=answer, truncated=truncated)).tolist() == [
        1,
        0,
        0,
        0,
        1,
        1,
        1,
        1,
    ]


def test_format_is_paid_instead_of_correctness():
    """Weight 0.1: a right row is paid 1, not 1.1, and a wrong one 0.1 for its form."""
    grades = (RIGHT, RIGHT, WRONG, WRONG, UNPARSED, GRADER_ERROR, WRONG, RIGHT)
    answer = np.array([[2, 5], [0, 0], [2, 5], [0, 0], [0, 0], *[[3, 4]] * 3])
    truncated = np.array([False] * 6 + [True, False])
    one = batch(answer=answer, truncated=truncated, truth=Truth(grades, ("",) * ROWS))
    given = value("format_instead", one)
    assert list(given) == [0, 0, 1, 0, 0, None, 0, 0]


def test_late_gold_is_the_last_confidence():
    rows = [LATE, EARLY, [0.25, 1, 0, 1, 0, 0.75], *[[0.5] * 6] * 5]
    seen = trajectory(rows, known=[True] * 7 + [False])
    np.testing.assert_allclose(
        value("late_gold", gold(seen)), [1, 0, 0.75, *[0.5] * 4, 0]
    )


def test_length_by_hand():
    config = dataclasses.replace(CONFIG, length_free=8, length_span=4)
    length, cut = (
        np.array([1, 8, 9, 11, 12, 13, 8, 1]),
        np.array([False] * 6 + [True] * 2),
    )
    given = value("length", batch(length=length, truncated=cut), config)
    assert given.tolist() == [0, 0, -0.25, -0.75, -1, -1, -1, -1]


def test_repetition_by_hand():
    rows = ["abcdefgh", "aaaaaaaa", "abababab", "abcabcab", "ab", "abc", "", "abcxabcy"]
    tokens = np.full((ROWS, 8), -1)
    for row, text in enumerate(rows):
        tokens[row, : len(text)] = [ord(c) for c in text]
    given = value(
        "repetition",
        batch(tokens=tokens, mask=tokens >= 0),
        dataclasses.replace(CONFIG, ngram=3),
    )
    np.testing.assert_allclose(given, [0, -5 / 6, -4 / 6, -3 / 6, 0, 0, 0, -1 / 6])


def test_thought_switch_by_hand():
    texts = (
        # 11, 5 and a last one
        "10 + 7 = 17 , 17 * 3 = 51 no 17 - 3 = 14 no up 10 - 3 = 7 , 7 * 7 = 49 yes "
        "answer 1",
        "1 + 2 = 3 yes answer 1 + 2",  # one thought
        "1 no 2 no 3 no",  # all of them early, and none after the last
        "",
        "no up no",
        "nothing is up-to-date",  # no switch words
        "a b c d e f g h No. i",  # eight words are enough
        "a b c d e f g, no, i",
    )
    given = value("thought_switch", batch(texts=texts))
    np.testing.assert_allclose(given, [-1 / 3, 0, -1, 0, 0, 0, 0, -1 / 2])
