"""Damaged files of a run are read as they were, or refused in one line: tables, heads,
orders, plans, records.

The seed of a case is in its name. Formats of our own carry a checksum, so that any
other content is refused; of a table, a config or metrics a changed digit is another
valid value, and only the manner of the answer counts.
"""

import dataclasses
import json
import pathlib
import random
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from test_data_fuzz import mutated
from test_plans import asked, make
from test_stages import BASE

from fr import workdir
from fr.errors import UserError
from fr.metrics import MetricsWriter, read_lines
from fr.orders.routers import _read_orders, write_orders
from fr.profiles import OPERATORS, Profiles, read_profiles, write_profiles
from fr.routing.learned import LearnedRouter
from fr.routing.posterior import ANYWHERE
from fr.runs import plans, stages
from fr.stats.safe_deviation import SafeDeviation

# processor time and bytes that reading a small file may take
SECONDS, ROOM = (20.0, 64 << 20)


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file: its maker, place and reader, and whether it has a checksum."""

    write: Callable[[pathlib.Path], None]
    name: str
    read: Callable[[pathlib.Path], object]
    sealed: bool


def _table(folder: pathlib.Path) -> None:
    draw = np.random.default_rng(0)
    rates = draw.binomial(8, 0.4, (12, 5)) / 8
    names = tuple(f"p{i}" for i in range(12))
    cell = Profiles(
        "m|t",
        names,
        np.full(12, 4),
        draw.normal(size=(12, 3)),
        OPERATORS,
        rates,
        np.full((12, 5), 8),
        {"entropy_mean": tuple(f"{i / 7:.6g}" for i in range(12))},
    )
    write_profiles(folder / "profiles.csv", [cell])


def _router(folder: pathlib.Path) -> None:
    params = {
        "params": {
            "rates": {
                "kernel": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 4, 3)
            }
        }
    }
    known = {"spread": (0.1, 0.2), "logit_dispersion": (None, None)}
    LearnedRouter(
        operators=("retry", "hot"),
        columns=("spread", "logit_dispersion"),
        prompt=(("cell m|t", 0.5), ("family t", 0.5)),
        statistics={"m|t": known, ANYWHERE: known},
        families={"m|t": "t"},
        gains={"m|t": (0.1, 0.2, 0.0), ANYWHERE: (0.1, None, 0.0)},
        prices=(0.0, 0.0, 0.0),
        deviation=SafeDeviation(np.array([0.5, 0.25]), np.inf, 1),
        hidden=0,
        questions=("a", "b"),
        params=params,
    ).save(folder)


def _with_orders(folder: pathlib.Path) -> None:
    _router(folder)
    write_orders(folder, {ANYWHERE: {"one_order": ["hot", "retry"]}})


def _stages(folder: pathlib.Path) -> None:
    inputs = {"questions": ["a1", "b2"], "specialist": "w", "grader": {"fr": "1"}}
    stages.begin(folder, "rollouts", BASE, inputs)


def _metrics(folder: pathlib.Path) -> None:
    writer = MetricsWriter(folder / "metrics.jsonl", 0)
    for step in range(1, 30):
        writer.write(step, loss=1 / step, accuracy=step / 30)
    writer.close()


def _claimed(folder: pathlib.Path) -> object:
    workdir.claim_workdir(folder, BASE)
    return "claimed"


FORMATS = {
    "table": Format(
        _table, "profiles.csv", lambda f: read_profiles(f / "profiles.csv"), False
    ),
    "router": Format(_router, "router.json", LearnedRouter.restore, True),
    "orders": Format(_with_orders, "orders.json", _read_orders, True),
    "router under orders": Format(_with_orders, "router.json", _read_orders, True),
    "stages": Format(_stages, stages.FILE, stages.read_stages, True),
    "plan": Format(
        lambda f: make(f / "rows", asked(*"abcdefg")),
        plans.plan_path("rows").name,
        lambda f: plans.read_plan(f / "rows"),
        True,
    ),
    "config": Format(
        lambda f: workdir.claim_workdir(f, BASE), "config.json", _claimed, True
    ),
    "summary": Format(
        lambda f: workdir.write_json(
            f / "summary.json", {"a": [1, {"b": 0.5}], "c": "x"}
        ),
        "summary.json",
        lambda f: workdir.read_object(f / "summary.json"),
        False,
    ),
    "metrics": Format(
        _metrics, "metrics.jsonl", lambda f: read_lines(f / "metrics.jsonl"), False
    ),
}


def outcome(format: Format, folder: pathlib.Path, data: bytes, right: str) -> str:
    """refused, same or other; raises AssertionError for what a reader must not do."""
    (folder / format.name).write_bytes(data)
    tracemalloc.start()
    began = time.process_time()
    try:
        found = repr(format.read(folder))
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return "refused"
    finally:
        spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert spent < SECONDS and peak < 2 * len(data) + ROOM
    return "same" if found == right else "other"


def run(kind: str, folder: pathlib.Path, seeds: range) -> dict[str, int]:
    """Outcomes of one mutation a seed; the seed stands in what fails."""
    format = FORMATS[kind]
    format.write(folder)
    good = (folder / format.name).read_bytes()
    right = repr(format.read(folder))
    counts = {"refused": 0, "same": 0, "other": 0}
    for seed in seeds:
        data = mutated(good, random.Random(f"{kind}/{seed}"))
        try:
            found = outcome(format, folder, data, right)
        except Exception as error:
            raise AssertionError(
                f"{kind}, seed {seed}: {type(error).__name__}: {error}"
            ) from error
        assert found != "other" or not format.sealed, (
            f"{kind}, seed {seed}: other content is accepted"
        )
        counts[found] += 1
    (folder / format.name).write_bytes(good)
    assert repr(format.read(folder)) == right
    return counts


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_of_a_run(tmp_path, kind):
    assert sum(run(kind, tmp_path, range(8)).values()) == 8


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_a_thousand_damaged_files_of_a_run(tmp_path, kind):
    counts = run(kind, tmp_path, range(100, 100 + 1000 // len(FORMATS) + 1))
    print(json.dumps({kind: counts}))
