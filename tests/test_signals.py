"""Signals of failed rollouts: known values on hand-made traces, what must not matter,
what a file keeps of them.
"""

import dataclasses
import itertools
import random

import numpy as np
import pytest
from synthetic_profiles import make

from fr.config import Config
from fr.diagnosis.features import loop_length, repeated_end, running_confidence
from fr.diagnosis.signals import KINDS, SIGNALS, Failures, read_signals, register_signal
from fr.profiles import read_profiles, write_profiles
from fr.routing.columns import COLUMNS, read_columns, register_column
from fr.store import Attempt
from fr.tasks.canonical import canonical_answer
from fr.tasks.countdown import Countdown
from fr.tasks.countdown_rules import trace_steps
from fr.tasks.countdown_solver import replay
from fr.tasks.countdown_traces import TRACES
from fr.types import Cost

CONFIG = Config()
# groups of how sure it was of them
OF_TOKENS = ("deepconf", "self_certainty", "varentropy", "logp", "fork")


def attempt(
    length=10, text="", tokens=None, truncated=False, forced=None, own=None, **stats
) -> Attempt:
    """An attempt; a statistic is a curve, or one number for all tokens."""
    tokens = np.arange(length) if tokens is None else np.array(tokens)
    curves = {
        name: np.broadcast_to(np.asarray(value, np.float32), len(tokens))
        for name, value in stats.items()
    }
    nothing = np.zeros(len(tokens), bool)
    return Attempt(
        row="r",
        problem="p",
        attempt=0,
        task="countdown",
        specialist="s",
        ancestor="",
        operator="rollout",
        seed=0,
        text=text,
        grade="wrong",
        truncated=truncated,
        params={},
        cost=Cost(),
        key=np.zeros(2, np.uint32),
        question="q",
        reference="1",
        meta="{}",
        read=None,
        answer=None,
        grader="",
        prompt=np.arange(3),
        tokens=tokens,
        forced=nothing if forced is None else np.array(forced),
        fired=nothing,
        sample_logp=np.zeros(len(tokens)),
        stats=curves,
        confidence={}
        if own is None
        else {"own_probability": np.array(own, np.float32)},
    )


def read(*attempts, answers=None, rollouts=8, searches=None) -> dict[str, float]:
    answers = answers or (None,) * len(attempts)
    return read_signals(
        Failures(attempts, tuple(answers), rollouts, ("up",), searches), CONFIG
    )


def test_curves_of_a_straight_line():
    found = read(attempt(entropy=np.linspace(2, 1, 10), margin=np.linspace(0, 0.9, 10)))
    assert found["entropy_mean"] == pytest.approx(1.5) and found[
        "entropy_slope"
    ] == pytest.approx(-1)
    assert found["entropy_end"] == pytest.approx(1) and found[
        "margin_end"
    ] == pytest.approx(0.9)
    # From one fifth to the next a line falls by two of its nine steps.
    assert found["entropy_drop"] == pytest.approx(2 / 9)
    assert found["margin_slope"] == pytest.approx(0.9)


def test_a_mind_made_up_at_once_is_a_drop_and_no_slope_alone():
    stepped = read(attempt(20, entropy=[1.0] * 8 + [0.0] * 12))
    assert stepped["entropy_drop"] == pytest.approx(1) and stepped["entropy_end"] == 0
    assert read(attempt(20, entropy=np.linspace(0, 1, 20)))["entropy_drop"] < 0


def test_where_demotion_lies():
    early = read(attempt(9, demotion=[3, 0, 0, 0, 0, 0, 0, 0, 1], kl=0.5))
    assert (
        early["junction_at"] == 0
        and early["demotion_early"] == 0.75
        and early["demotion_late"] == 0.25
    )
    assert early["demotion_mean"] == pytest.approx(4 / 9) and early["kl_mean"] == 0.5
    assert read(attempt(9, demotion=[0, 0, 0, 0, 0, 0, 0, 0, 1]))["junction_at"] == 1
    none = read(attempt(9, demotion=0.0))
    assert np.isnan(none["demotion_early"]) and none["demotion_mean"] == 0


def test_confidence_that_grows_is_not_premature():
    grows, falls, flat = [0, 0.2, 0.4, 0.9], [0.9, 0.5, 0.4, 0.3], [0.5] * 4
    found = read(attempt(own=grows), attempt(own=falls), attempt(own=flat), attempt())
    assert found["confidence_first"] == pytest.approx((0 + 0.9 + 0.5) / 3)
    assert found["confidence_last"] == pytest.approx((0.9 + 0.3 + 0.5) / 3)
    assert found["confidence_rho"] == pytest.approx(0)
    assert found["premature_share"] == pytest.approx(1 / 3) and found[
        "flat_share"
    ] == pytest.approx(1 / 3)


def test_dispersion_of_answers():
    found = read(*[attempt()] * 5, answers=("a", "a", "a", "b", None))
    assert (
        found["answer_agreement"] == pytest.approx(3 / 6)
        and found["answer_plurality"] == 0.75
    )
    assert found["answer_entropy"] == pytest.approx(
        -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    )
    assert found["answer_kinds"] == 2 and found["unparsed_share"] == pytest.approx(0.2)
    one = read(attempt(), attempt(), answers=("a", None))
    assert (
        np.isnan(one["answer_agreement"])
        and np.isnan(one["answer_entropy"])
        and one["answer_kinds"] == 1
    )


def test_agreement_does_not_depend_on_how_many_rollouts_there_are():
    rng = np.random.default_rng(0)
    for count in (3, 12):
        drawn = [tuple(rng.choice(list("aab"), count)) for _ in range(2000)]
        agreement, failed = SIGNALS["answer_agreement"], (attempt(),) * count
        told = (Failures(failed, answers, 8, ("up",), None) for answers in drawn)
        seen = [agreement.read(each, CONFIG) for each in told]
        assert np.mean(seen) == pytest.approx(5 / 9, abs=0.02)


def test_how_often_and_how_long():
    found = read(attempt(4), attempt(8, truncated=True), rollouts=8)
    assert (found["failed_share"], found["mean_length"], found["length_sd"]) == (
        0.25,
        6,
        2,
    )
    assert found["truncated_share"] == 0.5 and np.isnan(read(attempt())["length_sd"])


def test_repetition_and_thoughts():
    again = attempt(tokens=[*range(12), *range(12)])
    assert read(again)["repetition"] == pytest.approx(1 - 12 / 17)
    # `no` is a verdict: the first thought has 17 words.
    text = "3 + 4 = 7 , 7 * 7 = 49 no 7 - 7 = 0 up up 1 + 1 = 2 up 4 - 1 = 3 ,"
    found = read(attempt(text=text))
    assert found["thought_switches"] == 2 and found[
        "left_early_share"
    ] == pytest.approx(1 / 3)


def test_deepconf_of_windows():
    """Against sums by hand: 16 tokens a window, the least sure tenth of windows, the
    last one.
    """
    c = np.random.default_rng(2).gamma(2.0, size=60).astype(np.float32)
    windows = np.array([c[i : i + 16].mean(dtype=np.float64) for i in range(45)])
    found = read(attempt(60, top20_confidence=c))
    assert found["deepconf_mean"] == pytest.approx(c.mean(dtype=np.float64))
    assert found["deepconf_lowest"] == pytest.approx(windows.min())
    assert found["deepconf_bottom"] == pytest.approx(np.sort(windows)[:4].mean())
    assert found["deepconf_tail"] == pytest.approx(windows[-1])
    short = read(attempt(5, top20_confidence=c[:5]))
    assert (
        short["deepconf_lowest"]
        == short["deepconf_tail"]
        == pytest.approx(c[:5].mean())
    )


def test_a_running_mean_is_a_mean_of_what_there_is_and_then_forgets():
    c = np.random.default_rng(3).gamma(2.0, size=40)
    means = running_confidence(c, 8)
    np.testing.assert_allclose(means[:8], np.cumsum(c[:8]) / np.arange(1, 9))
    weights = np.r_[np.full(8, 0.875**32 / 8), 0.125 * 0.875 ** np.arange(31, -1, -1)]
    assert means[-1] == pytest.approx(weights @ c) and weights.sum() == pytest.approx(1)


def test_levels_and_the_largest_fork():
    line = np.linspace(0, 1, 11)
    found = read(
        attempt(
            11,
            self_certainty=line,
            varentropy=2 * line,
            logp=-line,
            entropy=line * (1 - line),
            margin=np.abs(line - 0.8),
        )
    )
    assert found["self_certainty_mean"] == pytest.approx(0.5) and found[
        "self_certainty_end"
    ] == pytest.approx(1)
    assert found["varentropy_mean"] == pytest.approx(1) and found[
        "varentropy_end"
    ] == pytest.approx(2)
    assert (
        found["logp_mean"],
        found["logp_slope"],
        found["logp_end"],
    ) == pytest.approx((-0.5, -1, -1))
    assert (found["fork_entropy"], found["fork_at"]) == pytest.approx((0.25, 0.5))
    assert (found["fork_margin"], found["fork_margin_at"]) == pytest.approx(
        (0, 0.8), abs=1e-6
    )


@pytest.mark.parametrize(
    "tokens, wanted",
    [
        ([1, 2, 3], 0),
        ([1, 2, 2], 2),
        ([5, 1, 2, 1, 2, 1], 5),
        ([1, 2, 3, 1, 2, 3], 6),
        ([1, 2, 3, 1, 2], 0),
        ([7, 8, 9, *[3, 3, 4] * 4], 12),
        ([4] * 9, 9),
        ([], 0),
        ([1], 0),
    ],
)
def test_loops_at_the_end(tokens, wanted):
    assert loop_length(tokens) == wanted
    found = read(attempt(tokens=np.array(tokens, int)))
    assert found["loop_share"] == pytest.approx(wanted / max(len(tokens), 1))


def test_repetition_of_the_tail_is_not_that_of_the_beginning():
    once, looped = list(range(40)), [*range(30), *[30, 31] * 15]
    early = [*[50, 51] * 20, *range(40)]
    assert read(attempt(tokens=once))["tail_repetition"] == 0
    assert read(attempt(tokens=looped))["tail_repetition"] == 1
    found = read(attempt(tokens=early))
    assert found["tail_repetition"] == 0 and found["repetition"] > 0.4
    # Its n-grams by hand: all that end in the last quarter, and occur before.
    row, n = np.random.default_rng(4).integers(2, size=64).tolist(), 4
    grams = [tuple(row[i : i + n]) for i in range(61)]
    late = [i for i in range(61) if i + n > 48]
    assert repeated_end(row, n) == pytest.approx(
        np.mean([grams[i] in grams[:i] for i in late])
    )


def test_common_beginnings_are_a_mean_over_pairs():
    rows = [1, 2, 3, 4], [1, 2, 9], [1, 2, 3, 4, 5, 6], [7]
    found = read(*(attempt(tokens=row) for row in rows))
    assert found["common_prefix"] == pytest.approx((2 / 3 + 1 + 0 + 2 / 3 + 0 + 0) / 6)
    assert read(attempt(), attempt())["common_prefix"] == 1 and np.isnan(
        read(attempt())["common_prefix"]
    )


def test_pushed_tokens_and_the_order_of_rollouts_do_not_matter():
    rng = np.random.default_rng(1)
    names = (
        "entropy",
        "margin",
        "demotion",
        "kl",
        "top20_confidence",
        "self_certainty",
        "varentropy",
        "logp",
    )
    rollouts = []
    for i in range(5):
        curves = {name: rng.random(12).astype(np.float32) for name in names}
        rollouts.append(
            attempt(12, text=f"1 + {i} = 3 no", own=rng.random(6), **curves)
        )
    first = read(*rollouts, answers="abacd")
    for order in itertools.permutations(range(5)):
        again = read(
            *(rollouts[i] for i in order), answers=tuple("abacd"[i] for i in order)
        )
        assert again == first or all(
            again[name] == first[name] or np.isnan(first[name]) for name in first
        ), order
    # A cue in front that was not drawn, with statistics of its own.
    pushed = [
        dataclasses.replace(
            a,
            tokens=np.r_[[99] * 4, a.tokens],
            forced=np.r_[[True] * 4, a.forced],
            stats={
                name: np.r_[rng.random(4).astype(np.float32), a.stats[name]]
                for name in names
            },
        )
        for a in rollouts
    ]
    assert {
        name
        for name, value in read(*pushed, answers="abacd").items()
        if not np.isnan(value) and value != first[name]
    } == {"mean_length"}


def test_what_nothing_is_known_of_says_nothing():
    found = read(attempt(1))
    groups = {name: SIGNALS[name].group for name in found}
    for name, value in found.items():
        assert np.isnan(value) == (
            groups[name]
            in ("entropy", "margin", "demotion", "confidence", "outside", *OF_TOKENS)
            or name
            in (
                "answer_agreement",
                "answer_plurality",
                "answer_entropy",
                "length_sd",
                "common_prefix",
                "probe_correct",
            )
        ), name


@pytest.mark.parametrize(
    "text, played",
    [  # (true, legal, again, thought, reaches) of every step, from 3 7 10 to 49
        ("10 - 3 = 7 , 7 * 7 = 49 yes answer x", ["tl---", "tl-tr"]),
        ("10 - 3 = 7 , 7 - 7 = 1 no 7 * 7 = 49 yes", ["tl---", "-l-t-", "tl-tr"]),
        ("10 - 3 = 8 , 8 * 7 = 49 yes", ["-l---", "-l-t-"]),  # two wrongs make no right
        ("10 - 4 = 6 , 6 + 3 = 9 no", ["t----", "t----"]),
        (
            "10 + 7 = 17 , 17 + 3 = 20 up 10 - 3 = 7 , 7 * 7 = 49 yes",
            ["tl---", "tl-t-", "tl---", "tl-tr"],
        ),
        (
            "10 + 7 = 17 , 17 + 3 = 20 up 7 + 10 = 17 , 17 * 3 = 51 no",
            ["tl---", "tl-t-", "tla--", "tl-t-"],
        ),
    ],
)
def test_a_search_played_on_a_board(text, played):
    found = replay(text, (3, 7, 10), 49)
    shown = ["".join(c if on else "-" for c, on in zip("tlatr", p[2:7])) for p in found]
    assert shown == played


def test_a_board_goes_back_as_many_levels_as_a_trace_says():
    # After `up up` the first level is open again; one `up` would have left 17 and 2 on
    # the board.
    text = "10 + 7 = 17 , 17 + 3 = 20 , 20 * 2 = 40 up up 7 - 3 = 4 ,"
    assert [p.legal for p in replay(text, (2, 3, 7, 10), 1)] == [True] * 4
    assert [p.legal for p in replay(text.replace("up up", "no"), (2, 3, 7, 10), 1)] == [
        True
    ] * 4
    board = "10 + 7 = 17 , 17 - 3 = 14 up 7 + 3 = 10 , 10 * 10 = 100 no"
    assert replay(board, (3, 7, 10), 100)[-1].solves


@pytest.mark.parametrize("kind", ["natural", "committed"])
def test_genuine_searches_are_legal_true_and_stop_at_the_first_hit(kind):
    problems = Countdown(CONFIG.task).problems("train", 120)
    rng = random.Random(3)
    for problem in problems:
        text = TRACES[kind](rng, problem)
        found = replay(text, problem.meta["numbers"], problem.meta["target"])
        assert all(p.legal and p.true for p in found) and len(found) == len(
            trace_steps(text)
        )
        assert [p.solves for p in found] == [p.step.mark == "yes" for p in found]


def test_outside_truth_of_searches():
    board = (3, 7, 10), 49
    right = "10 - 3 = 7 , 7 * 7 = 49 yes 7 * 7 = 49 no"
    false = "10 - 3 = 8 , 9 * 7 = 63 no"
    attempts = attempt(text=f"{right} x x x"), attempt(text=false)
    found = read(*attempts, searches=tuple(replay(a.text, *board) for a in attempts))
    assert found["true_steps"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["legal_moves"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["revisited"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["candidates"] == 1 and found["missing_operations"] == 2
    words = len(attempts[0].text.split())
    assert found["underthinking"] == pytest.approx((1 - 12 / words) / 2)
    assert np.isnan(read(attempt(text=right))["true_steps"])


def test_underthinking_of_the_source():
    """411 of 7,681 tokens (METHOD: 0.946)."""
    text = "10 - 3 = 7 , 7 * 7 = 49 yes"
    filled = " ".join(["so"] * 399 + [text] + ["and"] * (7681 - 411))
    played = replay(filled, (3, 7, 10), 49)
    found = read(attempt(text=filled), searches=(played,))
    assert played[-1].words == 411 and found["underthinking"] == pytest.approx(
        0.946, abs=5e-4
    )


def test_answers_in_one_form():
    assert canonical_answer("countdown", "answer ( 10 - 3 )  * 7") == "( 10 - 3 ) * 7"
    assert canonical_answer("countdown", "10 - 3 = 7") is None
    assert (
        canonical_answer("sums", "Answer: 1,250.")
        == canonical_answer("sums", "The answer is 1250")
        == "1250"
    )
    assert canonical_answer("questions", "Answer: The Seine.") == canonical_answer(
        "questions", "Answer: seine"
    )


def test_an_unknown_kind_and_a_second_name_are_refused():
    with pytest.raises(
        ValueError, match="kind 'hunch' is not in signal, nuisance, outside"
    ):
        register_signal("new", "group", "hunch")
    with pytest.raises(ValueError, match="kind 'hunch'"):
        register_column("new", "hunch", "group")
    with pytest.raises(ValueError, match="'mean_length' is registered twice"):
        register_signal("mean_length", "length")(lambda failures, config: 0.0)


def test_every_signal_is_a_column_of_its_kind_and_none_of_outside_is_read_by_a_router():
    from fr.routing.policies import learned_policies, posterior_policies

    assert all(
        (COLUMNS[n].kind, COLUMNS[n].group) == (SIGNALS[n].kind, SIGNALS[n].group)
        for n in SIGNALS
    )
    assert {SIGNALS[name].kind for name in SIGNALS} == set(KINDS)
    policies = [*learned_policies(fit=None), *posterior_policies()]
    assert not any("outside" in policy.feature_groups for policy in policies)
    # A group is read as a whole or not at all, so it must not have the name of a kind
    # that routers read.
    assert not {column.group for column in (COLUMNS[n] for n in COLUMNS)} & {
        "signal",
        "nuisance",
        "prompt",
    }


def test_a_file_keeps_numbers_and_gaps(tmp_path):
    profiles = make(problems=3, entropy_mean=0.0)
    profiles = dataclasses.replace(
        profiles, extras={"entropy_mean": ("0.5", "", "0.25"), "flat_share": ("",) * 3}
    )
    write_profiles(tmp_path / "p.csv", [profiles, make(problems=2, cell="other|task")])
    found = read_columns(read_profiles(tmp_path / "p.csv"))
    assert np.array_equal(
        found["entropy_mean"], [0.5, np.nan, 0.25, np.nan, np.nan], equal_nan=True
    )
    assert "flat_share" not in found
