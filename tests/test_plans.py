"""The plan of a folder: larger runs add shards, and a shard that does not hold its rows
is refused by name.
"""

import dataclasses
import shutil

import numpy as np
import pandas
import pytest
from test_store import ATTEMPTS

from fr import store
from fr.errors import UserError
from fr.runs import plans
from fr.runs.plans import PlannedRow


def asked(*names, group=0):
    return [
        PlannedRow(
            n, np.array([1, len(n)], np.int32), np.array([3, 4], np.uint32), group
        )
        for n in names
    ]


def make(folder, rows, size=2):
    """Settle a plan and make the shards that are missing."""
    shards = plans.extend_plan(folder, rows, size)
    for i, places in enumerate(shards):
        if i not in store.finished(folder):
            made = [
                dataclasses.replace(
                    ATTEMPTS[0], row=rows[p].row, prompt=rows[p].prompt, key=rows[p].key
                )
                for p in places
            ]
            store.write_shard(folder, i, made)
    return shards


def rows_of(folder):
    return store.read_table(folder, ["row"])["row"].to_pylist()


def files(folder):
    return {p.name: p.read_bytes() for p in folder.glob("shard-*")}


def test_a_larger_plan_adds_shards_and_changes_none(tmp_path):
    assert make(tmp_path, asked("a", "b", "c")) == [[0, 1], [2]]
    before = files(tmp_path)
    # One row comes between, one before: those that are there keep their places.
    assert make(tmp_path, asked("x", "a", "b", "y", "c"), size=8) == [
        [1, 2],
        [4],
        [0, 3],
    ]
    assert rows_of(tmp_path) == ["a", "b", "c", "x", "y"]
    assert before.items() <= files(tmp_path).items()
    assert make(tmp_path, asked("x", "a", "b", "y", "c"), size=1) == [
        [1, 2],
        [4],
        [0, 3],
    ]


def test_an_interrupted_run_makes_the_shards_that_it_would_have_made(tmp_path):
    rows = [*asked("a", "b", "c"), *asked("d", "e", group=1)]
    make(tmp_path / "whole", rows)
    plans.extend_plan(tmp_path / "killed", rows, 2)
    (tmp_path / "killed").mkdir()
    shutil.copy(
        store.shard_path(tmp_path / "whole", 2),
        store.shard_path(tmp_path / "killed", 2),
    )
    make(tmp_path / "killed", rows)
    assert (
        files(tmp_path / "whole") == files(tmp_path / "killed")
        and len(files(tmp_path / "whole")) == 3
    )


def test_rows_that_are_asked_something_else_or_are_gone(tmp_path):
    rows = asked("a", "b", "c")
    make(tmp_path, rows)
    with pytest.raises(UserError, match="b was asked something else"):
        plans.extend_plan(
            tmp_path,
            [rows[0], dataclasses.replace(rows[1], prompt=np.array([9])), rows[2]],
            2,
        )
    with pytest.raises(
        UserError, match="holds c, which this run does not plan.*--redo="
    ):
        plans.extend_plan(tmp_path, rows[:2], 2)


def damage_copy(folder):
    shutil.copy(store.shard_path(folder, 0), store.shard_path(folder, 1))


def damage_extra(folder):
    shutil.copy(store.shard_path(folder, 0), store.shard_path(folder, 7))


def damage_swap(folder):
    one, two = (store.shard_path(folder, i) for i in (0, 1))
    one.rename(folder / "x"), two.rename(one), (folder / "x").rename(two)


def rewrite(folder, change):
    attempts = change(store.read(folder, [0]))
    store.shard_path(folder, 0).unlink()
    store.write_shard(folder, 0, attempts)


def damage_order(folder):
    rewrite(folder, lambda attempts: attempts[::-1])


def damage_rows(folder):
    rewrite(folder, lambda attempts: attempts[:1])


def damage_doubled(folder):
    rewrite(folder, lambda attempts: [attempts[0], attempts[0]])


def damage_prompt(folder):
    long = np.zeros(10**6, np.int32)
    rewrite(folder, lambda a: [a[0], dataclasses.replace(a[1], prompt=long)])


def damage_cut(folder):
    path = store.shard_path(folder, 0)
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_copy, "shard-000001.parquet holds the rows of shard 0"),
        (damage_extra, "shard-000007.parquet is of another run"),
        (damage_swap, "shard-000000.parquet holds"),
        (damage_order, "in another order"),
        (damage_rows, "holds 1 rows that are not the 2"),
        (damage_doubled, "rows that are not the 2"),
        (damage_prompt, "another prompt for b"),
        (damage_cut, "shard-000000.parquet is"),
    ],
)
def test_a_shard_that_does_not_hold_its_rows(tmp_path, damage, said):
    rows = asked("a", "b", "c")
    make(tmp_path, rows)
    damage(tmp_path)
    for reader in (
        lambda: plans.extend_plan(tmp_path, rows, 2),
        lambda: plans.complete(tmp_path, "sample.py"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            reader()
        assert "remove it" in str(refused.value) and "\n" not in str(refused.value)


def test_a_missing_shard_is_named_before_a_stage_reads_the_others(tmp_path):
    make(tmp_path, asked("a", "b", "c"))
    store.shard_path(tmp_path, 1).unlink()
    with pytest.raises(
        UserError, match="shard-000001.parquet is missing; run sample.py again"
    ):
        plans.complete(tmp_path, "sample.py")


def test_a_folder_from_before_there_were_plans(tmp_path):
    make(tmp_path, asked("a", "b", "c"))
    plans.plan_path(tmp_path).unlink()
    assert plans.complete(tmp_path, "sample.py") == [0, 1]
    assert make(tmp_path, asked("a", "b", "c", "d")) == [[0, 1], [2], [3]]


def test_a_damaged_plan_is_refused(tmp_path):
    make(tmp_path, asked("a", "b", "c"))
    data = plans.plan_path(tmp_path).read_bytes()
    for end in (0, 5, len(data) // 2, len(data) - 1):
        plans.plan_path(tmp_path).write_bytes(data[:end])
        with pytest.raises(UserError, match="is damaged"):
            plans.read_plan(tmp_path)


def test_a_folder_of_attempts_is_read_as_a_whole(tmp_path):
    make(tmp_path / "rollouts", asked("a", "b", "c"))
    assert pandas.read_parquet(tmp_path / "rollouts").row.tolist() == ["a", "b", "c"]
