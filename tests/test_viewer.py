"""The viewer's answers against the store that they are read from."""

import http.client
import itertools
import json
import math
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import viewer_runs

from fr import store
from fr.diagnosis import trace_regimes
from fr.diagnosis.junction import Trace, junction
from fr.diagnosis.labels import LABELS, label
from fr.errors import UserError

pytest.importorskip("duckdb")
from fr.viewer import attempt_filter, lists
from fr.viewer.attempts_index import AttemptsIndex
from fr.viewer.export_page import export_page
from fr.viewer.lists import Viewer
from fr.viewer.one_trace import trace_name
from fr.viewer.page_server import PageServer

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of Countdown."""
    return viewer_runs.write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def viewer(run, tmp_path_factory):
    """The viewer of the run, with a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FR_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = Viewer(AttemptsIndex(run))
        yield made
        made.scans.close()


@pytest.fixture(scope="module")
def attempts(run):
    """All attempts as the store reads them, with the names of their traces."""
    found = {}
    for folder in ("rollouts", "attempts"):
        for shard in sorted(store.finished(run / folder)):
            for row, one in enumerate(store.read(run / folder, [shard])):
                found[trace_name(folder, shard, row)] = one
    return found


# --------------------------------------------------------------------------- lists
def test_names_are_those_of_the_diagnosis():
    assert attempt_filter.LABELS == LABELS
    assert attempt_filter.REGIMES == trace_regimes.REGIMES


def test_labels_are_those_of_the_diagnosis(viewer, attempts):
    rows = viewer.problems({"limit": "500"})["rows"]
    for row in rows:
        own = [a for a in attempts.values() if a.problem == row["name"]]
        rates = [
            np.mean([a.grade == "right" for a in own if a.operator == name])
            for name in viewer_runs.OPERATORS
        ]
        code = label(np.array([rates]), viewer_runs.OPERATORS, 0.05, 0.5)[0]
        assert row["label"] == LABELS[code]
    assert len({row["label"] for row in rows}) > 1


CHOICES = {
    "grade": ("", "right", "wrong", "unparsed", "failed"),
    "operator": ("", "rollout", "sparse_steer"),
    "failed": ("", "2", "2-3", "1-"),
    "fired": ("", "1"),
    "text": ("", "= 5 NO", "3 7 ->", "nowhere"),
    "folder": ("", "attempts"),
}


def passes(one, folder, given) -> bool:
    """A filter on an attempt, in plain Python."""
    failed = one.grade in ("wrong", "unparsed")
    text = given["text"].lower()
    return (
        given["grade"] in ("", one.grade, "failed" if failed else "")
        and given["operator"] in ("", one.operator)
        and (not given["fired"] or one.fired.any())
        and (text in one.text.lower() or text in one.question.lower())
        and given["folder"] in ("", folder)
    )


def test_filters_choose_as_plain_loops_do(viewer, attempts):
    sizes = set()
    # A few of all combinations, and each choice alone.
    every = list(itertools.product(*CHOICES.values()))
    alone = [values for values in every if sum(map(bool, values)) < 2]
    for values in [*alone, *random.Random(0).sample(every, 30)]:
        given = dict(zip(CHOICES, values))
        expected = {}
        for name, one in attempts.items():
            if passes(one, name.partition("/")[0], given):
                expected[one.problem] = expected.get(one.problem, 0) + 1
        if given["failed"]:
            low, _, high = given["failed"].partition("-")
            top = math.inf if given["failed"].endswith("-") else int(high or low)
            count = lambda p: sum(
                a.problem == p and a.operator == "rollout" and a.grade != "right"
                for n, a in attempts.items()
                if given["folder"] in ("", n.partition("/")[0])
            )
            expected = {
                p: n for p, n in expected.items() if int(low) <= count(p) <= top
            }
        found = viewer.problems({**given, "limit": "500"})
        assert {r["name"]: r["matches"] for r in found["rows"]} == expected, given
        assert found["total"] == len(expected) and not found["scans"]
        sizes.add(len(expected))
    assert len(sizes) > 5


def test_pages_of_the_list_join_to_the_whole(viewer):
    whole = viewer.problems({"limit": "500", "order": "failed"})["rows"]
    parts = [
        row
        for offset in range(0, 12, 5)
        for row in viewer.problems(
            {"limit": "5", "offset": str(offset), "order": "failed"}
        )["rows"]
    ]
    assert parts == whole and len(whole) == 12
    shares = [row["failed"] / row["rollouts"] for row in whole]
    assert shares == sorted(shares, reverse=True)


def exported(viewer, path, *given):
    """The data of an exported file, without regimes, which take a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewer.scans.pool, "tell", lambda *_: [])
        export_page(viewer, str(path), *given)
    held = re.search(r'id="data">(.*?)</script>', path.read_text())[1]
    return json.loads(held)


def test_a_cut_table_counts_all_attempts(viewer, attempts, monkeypatch, tmp_path):
    asked = {"task": "countdown", "name": "countdown-3"}
    own = {n: a for n, a in attempts.items() if a.problem == "countdown-3"}
    expected = {
        name: [sum(a.operator == name for a in own.values()),
               sum(a.operator == name and a.grade == "right" for a in own.values())]
        for name in ("rollout", *viewer_runs.OPERATORS)
    }  # fmt: skip
    counts = lambda found: {
        c["operator"]: [c["made"], c["right"]] for c in found["columns"]
    }
    for cells, rows in ((9, [8, 5]), (1, [4, 4, 4, 1]), (99, [13])):
        monkeypatch.setattr(lists, "_CELLS", cells)
        parts, at = [], 0
        while at is not None:
            parts.append(viewer.attempts(asked | {"from": str(at)}))
            assert counts(parts[-1]) == expected
            at = parts[-1]["next"]
        assert [len(part["rows"]) for part in parts] == rows
        seen = [row["trace"] for part in parts for row in part["rows"]]
        assert sorted(seen) == sorted(own)
    monkeypatch.setattr(lists, "_CELLS", 4)
    held = exported(viewer, tmp_path / "x.html", ["countdown-3"], 1, 2)
    (found,) = held["attempts"].values()
    assert counts(found) == expected and len(found["rows"]) == 8


def test_long_names_are_cut_and_stay_apart(viewer, tmp_path):
    some = viewer.traces.index.workdir / "rollouts"
    one = store.read(some)[0]
    long = ["p" * 100_000 + end for end in ("1", "2")]
    made = [
        store.Attempt(**{**vars(one), "problem": name, "operator": operator})
        for name in long
        for operator in ("o" * 300, "retry")
    ]
    store.write_shard(tmp_path / "attempts", 0, made)
    own = Viewer(AttemptsIndex(tmp_path))
    names = [row["name"] for row in own.problems({})["rows"]]
    assert len(set(names)) == 2 and {len(name) for name in names} == {97}
    (operator,) = set(own.run({})["operators"]) - {"retry"}
    assert own.problems({"operator": operator})["total"] == 2
    asked = {"task": "countdown", "name": names[1]}
    first, retry = (row["trace"] for row in own.attempts(asked)["rows"])
    head = own.trace({"trace": first})
    assert head["retry"] == retry and head["operator"] == operator
    held = exported(own, tmp_path / "x.html", long[1:], 1, 9)
    assert [row["name"] for row in held["problems"]] == names[1:]
    assert (tmp_path / "x.html").stat().st_size < 200_000
    with pytest.raises(UserError, match="no such problem"):
        export_page(own, str(tmp_path / "y.html"), ["pp"], 1, 1)


@pytest.mark.parametrize(
    "routing", ['{"margin": "x"}', '{"hard": null}', '{"margin": -1, "hard": []}', "3",
                '{"margin": 1e999}', f'{{"hard": {10**300}}}', '{"hard": true}']
)  # fmt: skip
def test_odd_thresholds_are_the_defaults_and_said(run, tmp_path, routing):
    (tmp_path / "attempts").symlink_to(run / "attempts")
    found = {}
    for text in ("{}", f'{{"routing": {routing}}}'):
        (tmp_path / "config.json").write_text(text)
        own = Viewer(AttemptsIndex(tmp_path))
        labels = {row["name"]: row["label"] for row in own.problems({})["rows"]}
        found[text] = labels, own.run({})["notes"]
    (usual, none), (labels, notes) = found.values()
    assert labels == usual and not none and notes
    assert all(note.startswith("config.json: routing.") for note in notes)


def test_a_config_with_a_number_beyond_float64_is_refused_by_its_field(run, tmp_path):
    (tmp_path / "attempts").symlink_to(run / "attempts")
    (tmp_path / "config.json").write_text(f'{{"routing": {{"hard": {10**400}}}}}')
    with pytest.raises(UserError, match="config.json: is not JSON .field 'hard': "):
        Viewer(AttemptsIndex(tmp_path))


def test_regimes_are_those_of_the_diagnosis(viewer, attempts):
    told = viewer.regimes({"traces": ",".join(attempts)})
    for name, one in attempts.items():
        switches = viewer_switches()
        expected = trace_regimes.regime_of(
            one.text, one.answer, one.truncated, switches
        )
        assert told.get(name) == (None if one.grade == "right" else expected)
    regime = next(iter(told.values()))
    viewer.scans.regimes().wait(60)
    rows = viewer.problems({"regime": regime, "limit": "500"})["rows"]
    named = {attempts[n].problem for n, one in told.items() if one == regime}
    assert {row["name"] for row in rows} == named


def viewer_switches():
    from fr.tasks.formats import format_of

    return format_of("countdown").switches


@pytest.mark.parametrize(
    "given", [{"grade": "good"}, {"failed": "x"}, {"order": "1; DROP"}, {"limit": "-1"}]
)
def test_other_values_are_refused(viewer, given):
    with pytest.raises(UserError, match=next(iter(given))):
        viewer.problems(given)


# -------------------------------------------------------------------------- traces
@pytest.fixture(scope="module")
def some(attempts):
    """A part of the attempts of every kind."""
    return dict(list(attempts.items())[::4])


def test_a_trace_is_the_stored_attempt(viewer, some):
    for name, one in some.items():
        head = viewer.trace({"trace": name, "by": "margin"})
        assert head["tokens"] == one.tokens.tolist()
        assert "".join(head["pieces"]) == one.text
        assert head["fired"] == one.fired.tolist()
        assert head["prompt_text"] == "2 3 -> 6 :"
        np.testing.assert_allclose(head["stats"]["margin"], one.stats["margin"], 1e-4)
        assert head["rewound"] == (2 if one.operator == "sparse_steer" else 0)


def test_the_junction_is_the_one_of_the_diagnosis(viewer, some, run):
    scores = {a.row: a for a in store.read(run / "scores")}
    seen = set()
    for name, one in some.items():
        source = scores.get(one.row, one)
        expected = junction(Trace(source.stats, ~one.forced))
        assert viewer.trace({"trace": name})["junction"] == expected
        seen.add((one.operator, "demotion" in source.stats))
    assert {("rollout", True), ("rollout", False), ("retry", False)} <= seen


def test_scores_complete_a_rollout(viewer, some, run):
    scores = {a.row: a for a in store.read(run / "scores")}
    for name, one in some.items():
        if name.startswith("rollouts"):
            found = viewer.statistics({"trace": name, "names": "kl,entropy"})
            np.testing.assert_allclose(found["entropy"], one.stats["entropy"], 1e-4)
            if one.row in scores:
                kl = scores[one.row].stats["kl"]
                np.testing.assert_allclose(found["kl"], kl, 1e-4)
            else:
                assert found["kl"] is None


def test_a_trace_of_the_atlas_has_its_rates(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    row = store.read_table(folder / "rollouts", ["row", "tokens"]).to_pylist()[0]
    count = len(row["tokens"])
    trace = {
        "row": row["row"],
        "tokens": count,
        "cuts": [1, 3],
        "right": {"retry": [3, 0], "hot@0.5": [0, 1], "a, b": [1, 1]},
        "made": {"retry": [4, 4], "hot@0.5": [0, 2], "a, b": [1, 1]},
    }
    own = Viewer(AttemptsIndex(folder))

    def ask(trace, operator):
        name = f"value:{operator}"
        return own.statistics({"trace": trace, "names": f"entropy,{name}"})[name]

    assert ask("rollouts/0/0", "retry") is None
    assert own.trace({"trace": "rollouts/0/0"})["values"] == []
    (folder / "atlas.json").write_text(json.dumps({"traces": [trace]}))
    assert ask("rollouts/0/0", "retry") == [None, 0.75, 0.75] + [0.0] * (count - 3)
    assert ask("rollouts/0/0", "hot@0.5") == [None] * 3 + [0.5] * (count - 3)
    assert own.trace({"trace": "rollouts/0/0"})["values"] == ["retry", "hot@0.5"]
    assert ask("rollouts/0/0", "none") is None
    assert ask("rollouts/0/1", "retry") is None
    assert ask("attempts/0/0", "retry") is None
    whole = exported(own, tmp_path / "x.html", [], 1, 1)["traces"]["rollouts/0/0"]
    assert whole["stats"]["value:retry"] == ask("rollouts/0/0", "retry")
    for odd in (
        {},
        {"traces": 3},
        {"traces": [{}]},
        {"traces": [trace | {"cuts": [3, 1]}]},
        {"traces": [trace | {"cuts": [1]}]},
        {"traces": [trace | {"cuts": ["1", 2]}]},
        {"traces": [trace | {"tokens": 10**9}]},
        {"traces": [trace | {"tokens": "9"}]},
        {"traces": [trace | {"right": {"retry": [10**400, 0]}}]},
        {"traces": [trace | {"made": []}]},
    ):
        (folder / "atlas.json").write_text(json.dumps(odd))
        with pytest.raises(UserError, match="atlas.json is damaged"):
            ask("rollouts/0/0", "retry")
        head = own.trace({"trace": "rollouts/0/0"})
        assert head["values"] == [] and "damaged" in head["no_values"]


def test_rollouts_of_a_policy_optimisation_are_listed(run, tmp_path):
    drawn = [a for a in store.read(run / "rollouts") if a.problem == "countdown-0"]
    for step in (4, 12):
        rewards = [step + i / 4 for i in range(len(drawn) - 1)]
        more = {
            "step": pa.array([step] * len(drawn), pa.int32()),
            "reward": pa.array([*rewards, None], pa.float32()),
            "advantage": pa.array([[0.5] * len(a.tokens) for a in drawn]),
        }
        folder = tmp_path / "specialist" / "rollouts-train"
        store.write_shard(folder, step, drawn, more)
    own = Viewer(AttemptsIndex(tmp_path))
    assert own.run({})["folders"] == ["specialist/rollouts-train"]
    rows = own.attempts({"task": "countdown", "name": "countdown-0"})["rows"]
    assert len(rows) == 2 * len(drawn)
    found = [own.trace({"trace": row["trace"]})["more"] for row in rows]
    assert found[1] == {"step": 4, "reward": 4.25}
    assert found[-2:] == [{"step": 12, "reward": 12.5}, {"step": 12, "reward": None}]


def test_an_attempt_names_the_retry_of_its_number(viewer, some, attempts):
    for name, one in some.items():
        retry = viewer.trace({"trace": name})["retry"]
        if one.operator in ("rollout", "retry"):
            assert retry is None
        else:
            other = attempts[retry]
            assert (other.operator, other.problem, other.attempt) == (
                "retry",
                one.problem,
                one.attempt,
            )


def test_without_a_tokenizer_the_reason_is_said(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    for name in ("rollouts", "attempts"):
        (tmp_path / name).symlink_to(run / name)
    (tmp_path / "config.json").write_text(json.dumps({**config, "specialist": "a/b"}))
    head = Viewer(AttemptsIndex(tmp_path)).trace({"trace": "rollouts/0/0"})
    assert head["pieces"] == [] and "tokenizer" in head["no_pieces"]
    assert head["text"]


@pytest.mark.parametrize("name", ["", "rollouts/0/999", "rollouts/9/0", "../x/0/0"])
def test_another_trace_is_refused(viewer, name):
    with pytest.raises(UserError, match="such"):
        viewer.trace({"trace": name})


# ------------------------------------------------------------------- files and server
def test_new_shards_are_seen(run, tmp_path):
    (tmp_path / "rollouts").mkdir()
    first = run / "rollouts" / "shard-000000.parquet"
    (tmp_path / "rollouts" / first.name).write_bytes(first.read_bytes())
    viewer = Viewer(AttemptsIndex(tmp_path))
    assert viewer.run({})["attempts"] == 48
    assert viewer.problems({"text": "answer"})["total"]
    more = tmp_path / "attempts" / "shard-000001.parquet"
    more.parent.mkdir()
    more.write_bytes((run / "attempts" / more.name).read_bytes())
    assert viewer.run({})["attempts"] == 48 + 54
    assert len(viewer.problems({"text": "answer", "folder": "attempts"})["rows"])
    more.unlink()
    assert viewer.run({})["attempts"] == 48


def test_a_damaged_shard_is_one_line(run, tmp_path):
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "shard-000000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="damaged"):
        AttemptsIndex(tmp_path)
    table = pq.read_table(run / "rollouts")
    path = tmp_path / "rollouts" / "shard-000000.parquet"
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(UserError, match="schema version none"):
        AttemptsIndex(tmp_path)


@pytest.fixture
def server(viewer):
    """The viewer's server on a free port."""
    with PageServer(viewer, "127.0.0.1", 0) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def asked(server, path, method="GET", **headers):
    """Status, headers and body of an answer."""
    link = http.client.HTTPConnection("127.0.0.1", server.server_port)
    link.request(method, path, headers=headers)
    answer = link.getresponse()
    body = answer.read()
    link.close()
    return answer.status, dict(answer.headers), body


def test_the_server_gives_the_page_and_nothing_else(server):
    status, headers, body = asked(server, "/")
    assert status == 200 and b"app.js" in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/../setup.py", "/api/close", "/api/index", "/%2e%2e/x", "/x.js"):
        assert asked(server, path)[0] == 404
    assert asked(server, "/", Host="evil.example")[0] == 403
    assert asked(server, "/", Host=f"localhost:{server.server_port}")[0] == 200
    for method in ("POST", "PUT", "DELETE"):
        assert asked(server, "/api/run", method)[0] == 501
    status, _, body = asked(server, "/api/problems?grade=%00%1b")
    assert status == 400 and "␛" in json.loads(body)["error"]


def test_the_server_answers_as_the_viewer(server, viewer):
    status, _, body = asked(server, "/api/problems?order=name&limit=3")
    assert status == 200
    assert json.loads(body) == viewer.problems({"order": "name", "limit": "3"})
    query = urllib.parse.urlencode({"trace": "attempts/0/1"})
    found = json.loads(asked(server, f"/api/trace?{query}")[2])
    assert found == viewer.trace({"trace": "attempts/0/1"})


# -------------------------------------------------------------------------- script
def script(*given, cwd=ROOT):
    """The script in a process."""
    command = [sys.executable, str(ROOT / "scripts" / "view.py"), *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment
    )


def test_bad_input_is_one_line(tmp_path):
    for given, said in (
        (["--workdir=none"], "there is no such folder"),
        ([f"--workdir={tmp_path}"], "holds no attempts"),
    ):
        done = script(*given)
        assert done.returncode == 2 and said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_script_imports_no_jax_and_changes_nothing(run, tmp_path):
    files = lambda: {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    before = files()
    given = [f"--workdir={run}", f"--export={tmp_path}/x.html", "--count=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FR_CACHE": str(tmp_path)}
    command = [sys.executable, "-X", "importtime", str(ROOT / "scripts" / "view.py")]
    done = subprocess.run(
        [*command, *given], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-1000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "duckdb" in imported and not imported & {"jax", "flax", "transformers"}
    assert (tmp_path / "x.html").exists() and files() == before
