"""Profile tables: what is read, what is refused, and the attempts that a printed rate
stands for.
"""

import dataclasses
import os

import numpy as np
import pytest
from synthetic_profiles import cell_of, make, routing_data

from fr.comparison.certify import training_runs
from fr.comparison.power import measure_power
from fr.comparison.unread import rate_columns, unread_columns
from fr.config import RoutingConfig
from fr.errors import UserError
from fr.profiles import (
    OPERATORS,
    Profiles,
    read_cells,
    read_profiles,
    write_profiles,
)
from fr.routing.split_half import halve, halves_view

QUICK = RoutingConfig(splits=2)
HEADER = (
    "cell,problem_id,n_failed_rollouts,spread,concentration,logit_dispersion,"
    + ",".join(OPERATORS)
)


def same(a, b) -> bool:
    """Field by field, NaN equal to NaN."""
    pairs = ((getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return all(
        np.array_equal(x, y, equal_nan=True) if isinstance(x, np.ndarray) else x == y
        for x, y in pairs
    )


def write(path, *rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_what_is_written_reads_back_exactly(tmp_path):
    cells = [
        make(problems=7, cell="a|x", retry_cost=12.5),
        make(problems=5, attempts=3, seed=1, cell="b|x"),
    ]
    write_profiles(tmp_path / "p.csv", cells)
    first, second = read_profiles(tmp_path / "p.csv")
    assert same(first, cells[0])
    assert same(dataclasses.replace(second, extras={}), cells[1])
    assert first.numbers("retry_cost").tolist() == [12.5] * 7
    assert second.numbers("retry_cost") is None and first.numbers("nothing") is None


def test_operators_are_left_out_by_name(tmp_path):
    cells = [
        make(problems=7, cell="a|x"),
        make(problems=5, operators=("retry", "local_temp"), cell="b|x"),
    ]
    write_profiles(tmp_path / "p.csv", cells)
    less, same_as_before = read_cells(
        [tmp_path / "p.csv"], ["dense_steer", "sparse_steer"]
    )
    kept = ("retry", "sparse_steer_random", "local_temp")
    assert less.operators == kept and same(same_as_before, cells[1])
    for name in kept:
        at, was = less.operators.index(name), cells[0].operators.index(name)
        np.testing.assert_array_equal(less.rates[:, at], cells[0].rates[:, was])
        np.testing.assert_array_equal(less.attempts[:, at], cells[0].attempts[:, was])
    for name, said in {
        "retry": "there are",
        "dense_ster": "did you mean 'dense_steer'",
    }.items():
        with pytest.raises(UserError, match=f"'{name}' cannot be left out; {said}"):
            read_cells([tmp_path / "p.csv"], [name])


def test_a_cell_without_ancestor_has_fewer_operators_and_features(tmp_path):
    lonely = make(problems=6, operators=("retry", "local_temp"), cell="lonely")
    features = lonely.features.copy()
    features[:, :2] = np.nan
    lonely = dataclasses.replace(lonely, features=features)
    write_profiles(tmp_path / "p.csv", [make(problems=4, cell="full"), lonely])
    assert same(read_profiles(tmp_path / "p.csv")[1], lonely)


def test_an_operator_of_our_own_is_known_by_its_attempts(tmp_path):
    cell = make(problems=4, operators=(*OPERATORS, "dense_sampled"))
    write_profiles(tmp_path / "p.csv", [cell])
    assert read_profiles(tmp_path / "p.csv")[0].operators == (
        *OPERATORS,
        "dense_sampled",
    )


def test_problems_without_failure_are_left_out_and_counted(tmp_path):
    path = write(tmp_path / "p.csv", "c,p0,0,,,,1,1,1,1,1", "c,p1,3,.1,.2,.3,0,0,0,0,0")
    (cell,) = read_profiles(path)
    assert cell.problems == ("p1",) and cell.excluded == 1
    write_profiles(path, [cell])
    assert read_profiles(path)[0].excluded == 1


GOOD = "c,p1,3,.1,.2,.3,0,0,0,0,0"


@pytest.mark.parametrize(
    "rows, header, told",
    [
        ([], HEADER, "no rows"),
        ([GOOD], HEADER.replace(",spread", ""), "'spread' is missing"),
        ([GOOD], HEADER.replace(",dense_steer", ""), "'dense_steer' is missing"),
        (
            [GOOD],
            HEADER.replace("sparse_steer,", "retry,"),
            "'sparse_steer' is missing",
        ),
        ([GOOD + ",1"], HEADER + ",cell", "'cell' appears twice"),
        (["c,p1,3,high,.2,.3,0,0,0,0,0"], HEADER, "'spread': 'high' is not a number"),
        (["c,p1,3,nan,.2,.3,0,0,0,0,0"], HEADER, "'spread': 'nan' is not finite"),
        (["c,p1,3,.1,.2,.3,0,0,0,0,1.5"], HEADER, "dense_steer = 1.5 is not a rate"),
        (["c,p1,2.5,.1,.2,.3,0,0,0,0,1"], HEADER, "'2.5' is not a count"),
        (
            ["c,p1,1e300,.1,.2,.3,0,0,0,0,1"],
            HEADER,
            "'1e300' is more than 1,000,000,000",
        ),
        ([GOOD + ",1e18"], HEADER + ",excluded_problems", "'1e18' is more than"),
        (
            [GOOD, "c,p2,3,,.2,.3,0,0,0,0,0"],
            HEADER,
            "line 3, column 'spread': '' is not a number",
        ),
        ([GOOD, GOOD], HEADER, "'p1' appears twice"),
        (["c,p1,3,.1,.2,.3,0,0,0,0"], HEADER, "has not the 11 fields"),
        (["c,p1,3,.1,.2,.3,,0,0,0,0"], HEADER, "needs rates of 'retry'"),
        (["c,p1,0,.1,.2,.3,0,0,0,0,0"], HEADER, "no problem with a failed rollout"),
        ([GOOD + ",4"], HEADER + ",retry_n", "'sparse_steer_n' is missing"),
        (['c,"p1,3,.1'], HEADER, "is not CSV"),
        (
            ["c,p1,3,.1,.2,.3,0.3,0,0,0,0,4,4,4,4,4"],
            HEADER + "".join(f",{o}_n" for o in OPERATORS),
            "retry = 0.3 is not a share of retry_n = 4",
        ),
        (
            ["c,p1,3,.1,.2,.3,0.5,0,0,0,0,1e300,4,4,4,4"],
            HEADER + "".join(f",{o}_n" for o in OPERATORS),
            "column 'retry_n': '1e300' is more than 10,000",
        ),
    ],
)
def test_bad_tables_are_refused_in_one_line_that_names_file_and_fault(
    tmp_path, rows, header, told
):
    path = write(tmp_path / "bad.csv", *rows, header=header)
    with pytest.raises(UserError) as refusal:
        read_profiles(path)
    assert (
        told in str(refusal.value)
        and "bad.csv" in str(refusal.value)
        and "\n" not in str(refusal.value)
    )


def test_gaps_and_booleans_of_a_signal_are_read():
    cell = cell_of(sig="1|NA|nan|N/A|null|-inf||2", yes="True|FALSE|true|false|1|0|NA|")
    assert unread_columns([cell]) == (["sig", "yes"], [])
    nan = np.nan
    np.testing.assert_array_equal(cell.numbers("sig", True), [1, *[nan] * 6, 2])
    np.testing.assert_array_equal(
        cell.numbers("yes", True), [1, 0, 1, 0, 1, 0, nan, nan]
    )
    assert cell_of(sig="NA|" * 7).numbers("sig", True) is None
    with pytest.raises(UserError, match="'NA' is not a number"):
        cell.numbers("sig")


def test_what_is_read_does_not_depend_on_the_order_of_cells():
    numbers, empty = cell_of(sig="1|2|3|4|5|6|7|8"), cell_of("b|t", sig="|" * 7)
    text = cell_of("c|t", sig="1|2|3|x|5|6|7|8")
    for order in ([numbers, empty], [empty, numbers]):
        assert unread_columns(order) == (["sig"], [])
    for order in ([numbers, text], [text, numbers], [empty, text]):
        assert unread_columns(order) == ([], ["sig"])
    assert unread_columns([empty]) == ([], [])


def test_rates_without_their_attempts_are_told_from_signals():
    cell = cell_of(
        cold="0|.1|.2|.3|.4|.5|NA|1",  # shares of its 10 attempts
        chance=".12|.5|.93|.3|.4|.5|.1|1",
        flag="0|1|0|1|0|1|0|1",
        length="3|4|5|6|7|8|9|1",
    )
    names, _ = unread_columns([cell])
    assert rate_columns([cell], names) == ["cold"]
    guessed = dataclasses.replace(cell, attempts=None)
    assert rate_columns([guessed], ["cold", "flag", "length"]) == ["cold"]
    priced = dataclasses.replace(cell, extras=cell.extras | {"cold_cost": ("5",) * 8})
    with pytest.raises(UserError, match="column 'cold_n' is missing"):
        rate_columns([priced], names)


def test_an_empty_question_model_or_run_is_the_rows_own():
    named = cell_of(question="a|a||||||", model="m|m||||||n", task="|t|t|t|t|t|t|t")
    assert named.questions == ["t a", "t a", *(f"t p{i}" for i in range(2, 8))]
    assert named.models == ["t m"] * 2 + ["t model|task"] * 5 + ["t n"]
    runs = cell_of(run="x|x|y|y||||", model="m|m|m|m|m|m|n|n")
    assert training_runs(routing_data(runs)).tolist() == [2, 2, 3, 3, 0, 0, 1, 1]
    assert not training_runs(routing_data(cell_of(run="|" * 7))).any()


@pytest.mark.parametrize(
    "row, told",
    [
        ("c,p1,3,.5,.5", "by a column NAME_n, its attempts"),
        (",p1,3,.5,.5", "line 2: cell is empty"),
        ("c, ,3,.5,.5", "line 2: problem_id is empty"),
    ],
)
def test_bad_tables_of_others_are_refused(row, told, tmp_path):
    header = "cell,problem_id,n_failed_rollouts,retry,hot"
    with pytest.raises(UserError, match=told):
        read_cells([write(tmp_path / "p.csv", row, header=header)], others=True)


def test_missing_empty_and_repeated_files_are_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("none.csv", "empty.csv", "binary.csv"):
        with pytest.raises(UserError, match=name):
            read_profiles(tmp_path / name)
    path = write(tmp_path / "p.csv", GOOD)
    with pytest.raises(UserError, match="is in .* already"):
        read_cells([path, path])


def test_attempts_are_recovered_from_printed_rates():
    rates = np.array([[0.444444, 0.25, 0.066667, 0.123457]])
    profiles = dataclasses.replace(
        make(problems=1, operators=("retry", "a", "b", "c")),
        rates=rates,
        attempts=None,
        n_failed=np.array([9]),
    )
    # 4/9 fits the usual count, 1/4 and 1/15 take the smallest that fits, and 0.123457
    # fits none up to 50.
    assert profiles.tried.tolist() == [[9, 4, 15, 0]]


def test_halves_are_disjoint_and_keep_every_success():
    profiles = make(problems=30, attempts=9)
    correct = profiles.successes
    fixed = np.array([False, False, False, False, True])
    one, other = halve(
        correct, profiles.attempts, fixed, splits=50, rng=np.random.default_rng(0)
    )
    here, there = np.round(one * 4), np.round(other * 5)
    assert np.array_equal(
        (here + there)[..., :4], np.broadcast_to(correct[:, :4], (50, 30, 4))
    )
    assert np.array_equal(one[..., 4], other[..., 4]) and np.array_equal(
        one[0, :, 4], profiles.rates[:, 4]
    )
    # Hypergeometric, not binomial: the mean of the first half is 4/9 of the successes.
    assert np.abs(here[..., :4].mean(axis=0) - correct[:, :4] * 4 / 9).max() < 0.6


def test_a_deterministic_operator_is_known_by_the_table_or_by_its_single_attempts():
    profiles = make(problems=12, attempts=8, operators=("retry", "hot", "greedy"))
    rates, attempts = profiles.rates.copy(), profiles.attempts.copy()
    fixed = lambda table: halves_view(table, QUICK, np.random.default_rng(0)).fixed
    assert profiles.repeats_itself.tolist() == [False] * 3 and fixed(profiles) == ()
    said = dataclasses.replace(profiles, deterministic=("greedy",))
    assert said.repeats_itself.tolist() == [False, False, True] and fixed(said) == (
        "greedy",
    )
    rates[:, 2], attempts[:, 2] = rates[:, 2] > 0.3, 1
    once = dataclasses.replace(profiles, rates=rates, attempts=attempts)
    assert once.repeats_itself.tolist() == [False, False, True]
    # One attempt of everything says that little was tried, not that every attempt would
    # be the same.
    every = dataclasses.replace(
        profiles, rates=(rates > 0.3) * 1.0, attempts=np.ones_like(attempts)
    )
    assert not every.repeats_itself.any() and fixed(every) == every.operators


def test_what_is_deterministic_is_kept_on_disk_and_known_of_released_files(tmp_path):
    profiles = dataclasses.replace(
        make(problems=6, operators=("retry", "hot", "greedy")),
        deterministic=("greedy",),
    )
    write_profiles(tmp_path / "p.csv", [profiles, make(problems=3, cell="other|task")])
    read = read_profiles(tmp_path / "p.csv")
    assert [p.deterministic for p in read] == [("greedy",), ()]
    assert read_cells([tmp_path / "p.csv"], without=["greedy"])[0].deterministic == ()
    released = dataclasses.replace(make(problems=6), attempts=None)
    write_profiles(tmp_path / "r.csv", [released])
    assert read_profiles(tmp_path / "r.csv")[0].deterministic == ("dense_steer",)


def test_a_deterministic_operator_is_no_draw_and_its_headroom_stands_apart():
    draw = np.random.default_rng(0)
    profiles = make(problems=60, attempts=20, operators=("retry", "hot", "greedy"))
    rates, attempts = profiles.rates.copy(), profiles.attempts.copy()
    rates[:, 2], attempts[:, 2] = draw.random(60) < 0.4, 1
    profiles = dataclasses.replace(profiles, rates=rates, attempts=attempts)
    found = measure_power(profiles, RoutingConfig(posterior=50), draw)
    # What it solved is known: a perfect router has at least these problems.
    assert (found.oracle[rates[:, 2] == 1] == 1).all() and (found.drawn < 1).all()
    headroom = found.record["headroom"]
    assert (
        found.record["deterministic"] == ["greedy"]
        and headroom["of_deterministic"]["low"] > 10
    )
    assert headroom["without_deterministic"]["value"] < 3


@pytest.mark.parametrize(
    "name", ["a\rb", "a\r\nb", "a\nb", 'a"b,c', " a ", "\u2028", "\x00", "", "'"]
)
def test_any_name_of_a_problem_reads_back(tmp_path, name):
    cell = dataclasses.replace(_table(), problems=(name, "other"))
    write_profiles(tmp_path / "p.csv", [cell])
    (again,) = read_profiles(tmp_path / "p.csv")
    assert again.problems == (name, "other")


def test_a_pipe_or_a_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(UserError, match="cannot be read as a profile table"):
            read_profiles(path)


def _table():
    rates = np.array([[0.5, 0.25], [0.0, 1.0]])
    features = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    attempts = np.full((2, 2), 4)
    return Profiles(
        "m|t", ("a", "b"), np.array([3, 3]), features, ("retry", "hot"), rates, attempts
    )
