"""`states.npz`: states of a run's rollouts, a probe of them, and the probe along a
failure.
"""

import dataclasses
import types

import numpy as np
from etils import epath
from test_store import attempt

from fr import store
from fr.config import Config, DiagnosisConfig
from fr.diagnosis.localisers import LOCALISERS
from fr.pipeline.state_means import probe_along, read_states, write_states
from fr.sampling.devices import Devices


def _run(model, tmp_path):
    rollouts = [
        dataclasses.replace(attempt(i, 1 + i % 6), grade=("wrong", "right")[i % 3 == 0])
        for i in range(20)
    ]
    store.write_shard(tmp_path / "rollouts", 0, rollouts[:9])
    store.write_shard(tmp_path / "rollouts", 1, rollouts[9:])
    run = types.SimpleNamespace(
        config=Config(diagnosis=DiagnosisConfig(states=True)),
        workdir=epath.Path(tmp_path),
        specialist=model,
        devices=Devices("one"),
    )
    return run, rollouts


def test_the_probe_along_a_failure_ends_at_the_probe_of_the_rollout(
    tiny_model, tmp_path
):
    run, rollouts = _run(tiny_model, tmp_path)
    assert probe_along(run.workdir, rollouts) == {}
    write_states(run)
    found = read_states(run.workdir)
    whole = dict(zip(found["row"], found["probe"]))
    along = probe_along(run.workdir, rollouts)
    failed = {a.row: a for a in rollouts if a.grade == "wrong"}
    assert along.keys() == failed.keys()
    for row, known in along.items():
        assert len(known) == len(failed[row].tokens)
        np.testing.assert_allclose(known[-1], whole[row], rtol=1e-5)
    row = max(failed, key=lambda row: len(failed[row].tokens))
    probed = types.SimpleNamespace(stats={"state_probe": along[row]})
    scores = LOCALISERS["state_probe"].score(probed, None, run.config)
    falls = -np.diff(along[row])
    assert scores.argmax() == 1 + falls.argmax() and len(scores) == len(along[row])


def test_states_are_read_anew_where_they_do_not_fit_the_rollouts(tiny_model, tmp_path):
    run, rollouts = _run(tiny_model, tmp_path)
    write_states(run)
    path, whole = tmp_path / "states.npz", read_states(run.workdir)
    written = path.stat().st_mtime_ns
    write_states(run)
    assert path.stat().st_mtime_ns == written
    older = {name: value for name, value in whole.items() if name != "along"}
    other = whole | {"right": ~whole["right"]}  # grades before a second grading
    for held in (older, other):
        np.savez(path, **held)
        write_states(run)
        for name, value in read_states(run.workdir).items():
            np.testing.assert_array_equal(value, whole[name])
