"""Training: packed batches, a loss checked by hand, and runs that end with the same
bytes when killed.
"""

import dataclasses
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fr.config import ArchitectureConfig, Config, TaskConfig, TrainingConfig
from fr.errors import UserError
from fr.metrics import MetricsWriter
from fr.models import Model, ModelConfig, load
from fr.models.transformer import Transformer, init_params
from fr.sampling import chunked_lm_head
from fr.tasks.countdown import countdown_tokenizer
from fr.training.data import PackedData, pack, pack_all, visits
from fr.training.examples import examples_of
from fr.training.lineage import train_ancestor, train_lineage
from fr.training.supervised import make_supervised_update
from fr.training.update import init_state

TINY = ModelConfig(
    vocab=128, width=16, layers=2, heads=2, kv_heads=2, head_dim=8, ff=24
)
TRAINING = TrainingConfig(
    steps=12, batch=2, sequence=128, warmup_steps=2, checkpoint_every=3, log_every=2
)
CONFIG = Config(
    ancestor="scratch",
    architecture=ArchitectureConfig(width=16, layers=2, heads=2, ff=24),
    pretraining=TRAINING,
    training=dataclasses.replace(TRAINING, traces=(("correct", 1.0),), steps=4),
)


def traces(config=TRAINING, seed="0") -> PackedData:
    config = dataclasses.replace(config, source="traces")
    examples = examples_of(
        Config(), config, Model(TINY, {}, countdown_tokenizer(), (1,))
    )
    return PackedData(examples.make, examples.total, 0, config, seed)


def test_packing_by_hand():
    batch = pack([([5, 6], 1), ([7, 8, 9], 1), ([3] * 4, 2)], rows=2, width=5, pad=0)
    assert batch.tokens.tolist() == [[3, 3, 3, 3, 0], [7, 8, 9, 5, 6]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, -1], [0, 1, 2, 0, 1]]
    assert batch.segments.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 2, 2]]
    assert batch.weights.tolist() == [[0, 0, 1, 1, 0], [0, 1, 1, 0, 1]]
    with pytest.raises(UserError, match="6 tokens does not fit"):
        pack([([1] * 6, 1)], rows=2, width=5, pad=0)


def test_a_batch_is_a_function_of_seed_step_and_cursor():
    one, other = traces(), traces()
    other.batch(3, 100)
    (batch, cursor), (again, _) = one.batch(7, 40), other.batch(7, 40)
    assert jax.tree.all(jax.tree.map(np.array_equal, batch, again))
    # Every trace has found room: the next batch begins after the last of them.
    assert cursor - 40 == sum(row.max() for row in batch.segments)
    assert not np.array_equal(batch.tokens, one.batch(8, cursor)[0].tokens)
    assert not np.array_equal(batch.tokens, traces(seed="1").batch(7, 40)[0].tokens)
    assert (
        np.mean(
            traces(dataclasses.replace(TRAINING, batch=24)).batch(0)[0].positions >= 0
        )
        > 0.9
    )
    drawn = traces(dataclasses.replace(TRAINING, order="drawn"))
    assert (
        not np.array_equal(drawn.batch(7)[0].tokens, drawn.batch(8)[0].tokens)
        and drawn.batch(7)[1] == 0
    )


def test_an_epoch_visits_every_place_once_whatever_the_lengths():
    lengths = np.random.default_rng(0).integers(2, 30, 53).tolist()
    make = lambda chance, place: ([place] * lengths[place], 1)
    data, cursor, seen, step = (
        PackedData(make, 53, 0, dataclasses.replace(TRAINING, sequence=64), "s"),
        0,
        [],
        0,
    )
    while cursor < 3 * 53:
        batch, after = data.batch(step, cursor)
        placed = [
            (row, segment)
            for row in range(2)
            for segment in range(1, batch.segments[row].max() + 1)
        ]
        seen.append(
            [
                int(batch.tokens[row][batch.segments[row] == segment][0])
                for row, segment in placed
            ]
        )
        assert len(seen[-1]) == after - cursor > 0
        cursor, step = after, step + 1
    # Batches cut across epochs, and packing orders a batch by length: sets of visits
    # are compared.
    flat = [place for each in seen for place in each]
    assert len(flat) >= 159 and min(flat.count(place) for place in range(53)) >= 3
    orders = [
        [place for _, place in itertools.islice(visits("s", 53, e * 53), 53)]
        for e in range(3)
    ]
    assert (
        all(sorted(order) == list(range(53)) for order in orders)
        and orders[0] != orders[1]
    )
    count, wanted = 0, [place for order in orders for place in order]
    for each in seen[:-1]:
        assert sorted(each) == sorted(wanted[count : count + len(each)])
        count += len(each)
    batches = pack_all([make(None, place) for place in range(53)], 2, 64, 0)
    assert sum(int(row.max()) for batch in batches for row in batch.segments) == 53


def test_segments_of_a_row_do_not_see_each_other():
    params = init_params(TINY, jax.random.key(0))
    run = lambda batch: Transformer(TINY).apply(
        {"params": params}, batch.tokens, batch.positions, None, batch.segments
    )[0]
    ids = [np.arange(20, 26).tolist(), np.arange(40, 49).tolist()]
    together = pack([(row, 1) for row in ids], rows=1, width=16, pad=0)
    alone = pack([(ids[0], 1)], rows=1, width=6, pad=0)
    np.testing.assert_allclose(run(together)[0, 9:15], run(alone)[0], atol=1e-5)


@pytest.mark.parametrize("pieces", [1, 3])
def test_loss_is_the_mean_over_learnt_tokens(pieces, monkeypatch):
    batch, _ = traces().batch(0)
    params = init_params(TINY, jax.random.key(0))
    inputs = (batch.tokens, batch.positions, None, batch.segments)
    logp = np.asarray(
        jax.nn.log_softmax(Transformer(TINY).apply({"params": params}, *inputs)[0])
    )
    total, count = 0.0, 0
    for row, t in np.argwhere(batch.weights):
        total, count = total - logp[row, t - 1, batch.tokens[row, t]], count + 1
    # A step is compiled once per config: one that differs is compiled with the pieces
    # of this test.
    config = dataclasses.replace(TRAINING, keep=pieces)
    monkeypatch.setattr(chunked_lm_head, "LOGITS", -(-2 * 127 * 128 // pieces))
    _, metrics = make_supervised_update(TINY, config)(
        init_state(params, TRAINING), batch
    )
    np.testing.assert_allclose(metrics["loss"], total / count, rtol=1e-5)
    assert metrics["learnt"] == count


def test_gradient_is_finite_and_pads_carry_none():
    batch, _ = traces().batch(0)
    params = init_params(TINY, jax.random.key(0))
    changed = batch.replace(tokens=np.where(batch.positions < 0, 77, batch.tokens))
    step = make_supervised_update(TINY, TRAINING)
    # The step eats its state.
    fresh = lambda: init_state(jax.tree.map(jnp.copy, params), TRAINING)
    norms = [step(fresh(), one)[1]["grad_norm"] for one in (batch, changed)]
    assert np.isfinite(norms[0]) and norms[0] == norms[1] > 0


def test_training_learns():
    config = dataclasses.replace(TRAINING, steps=60, batch=8, learning_rate=1e-2)
    data, step = traces(config), make_supervised_update(TINY, config)
    state, seen, cursor = (
        init_state(init_params(TINY, jax.random.key(0)), config),
        [],
        0,
    )
    for i in range(config.steps):
        batch, cursor = data.batch(i, cursor)
        state, metrics = step(state, batch)
        seen.append(float(metrics["loss"]))
    assert np.mean(seen[-5:]) < 0.6 * seen[0]


def test_metrics_are_cut_where_a_run_resumes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n{"step": 6, "lo'
    )
    writer = MetricsWriter(path, after=2)
    writer.write(4, loss=0.25)
    writer.close()
    assert path.read_text() == '{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.25}\n'
    with pytest.raises(ValueError):
        MetricsWriter(path, after=9).write(6, loss=float("nan"))


# Slowed down, so that the kill finds it at work.
_CHILD = """
import sys, time, tests.test_training as t
quick = t.PackedData.batch
t.PackedData.batch = lambda self, *at: (time.sleep(0.2), quick(self, *at))[1]
t.train_ancestor(t.CONFIG, sys.argv[1])
"""


def _child(workdir: pathlib.Path) -> subprocess.Popen:
    root = pathlib.Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _CHILD, str(workdir)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    train_ancestor(CONFIG, whole)
    child = _child(killed)
    # Kill once there is a line after the first checkpoint: during its write or soon
    # after.
    log = killed / "ancestor" / "metrics.jsonl"
    while child.poll() is None and not (
        log.exists() and len(log.read_text().split("\n")) > 2
    ):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    # What a kill in the middle of a write leaves.
    (killed / "ancestor" / "checkpoints" / "9.orbax-checkpoint-tmp-0").mkdir(
        parents=True, exist_ok=True
    )
    train_ancestor(CONFIG, killed)
    for name in ("metrics.jsonl", "model.safetensors", "config.json", "tokenizer.json"):
        assert (killed / "ancestor" / name).read_bytes() == (
            whole / "ancestor" / name
        ).read_bytes(), name
    kept = {path.name for path in (killed / "ancestor" / "checkpoints").glob("[0-9]*")}
    assert kept == {"9", "12"}
    assert "seconds" not in (whole / "ancestor" / "metrics.jsonl").read_text()


def test_a_specialist_starts_from_its_ancestor_and_finished_models_are_left_alone(
    tmp_path,
):
    made = [pathlib.Path(folder) for folder in train_lineage(CONFIG, tmp_path)]
    assert [folder.name for folder in made] == ["ancestor", "specialist"]
    before = [(folder / "model.safetensors").stat().st_mtime_ns for folder in made]
    assert train_lineage(CONFIG, tmp_path) == [str(folder) for folder in made]
    assert [
        (folder / "model.safetensors").stat().st_mtime_ns for folder in made
    ] == before
    ancestor, specialist = map(load, made)
    assert (
        ancestor.stop_tokens == specialist.stop_tokens == (1,)
        and ancestor.config == specialist.config
    )
    drift = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), ancestor.params, specialist.params
    )
    # Four small updates: near the ancestor, but not it.
    assert 0 < max(jax.tree.leaves(drift)) < 0.02


def test_the_packaged_ancestor_knows_the_vocabulary_and_the_game():
    model, ours = load("countdown"), countdown_tokenizer()
    assert model.tokenizer.get_vocab() == ours.get_vocab() and model.stop_tokens == (
        ours.eos_token_id,
    )
    # The last number of a sum, of a difference and of a product; then the mark of a
    # hit.
    hit = "9 * 4 = 36 , 36 - 10 = 26"
    for text, word in (
        ("9 + 4 =", "13"),
        ("9 - 4 =", "5"),
        ("9 * 4 =", "36"),
        (hit, "yes"),
    ):
        logits = model.logits(
            [model.encode(f"4 9 10 -> 26 : 10 - 9 = 1 , 4 * 1 = 4 up {text}")]
        )
        assert model.decode([int(logits[0, -1].argmax())]) == word


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UserError, match="more than warmup_steps"):
        train_lineage(
            dataclasses.replace(CONFIG, pretraining=TrainingConfig(steps=5)), tmp_path
        )
    with pytest.raises(UserError, match="both empty"):
        train_lineage(dataclasses.replace(CONFIG, ancestor=""), tmp_path)
    with pytest.raises(UserError, match="no traces"):
        told = dataclasses.replace(CONFIG.training, source="traces")
        sums = Config(task=TaskConfig(name="sums"), ancestor="countdown", training=told)
        train_lineage(sums, tmp_path)
    with pytest.raises(UserError, match="no token for a word of"):
        large = TaskConfig(operands=1, largest=120, target=120)
        solved = dataclasses.replace(TRAINING, source="solutions")
        train_lineage(
            dataclasses.replace(CONFIG, task=large, pretraining=solved), tmp_path
        )
    with pytest.raises(
        UserError, match="unknown kind of trace 'naturl'; did you mean 'natural'"
    ):
        bad = dataclasses.replace(TRAINING, traces=(("naturl", 1.0),))
        train_lineage(dataclasses.replace(CONFIG, pretraining=bad), tmp_path)
    assert not list(tmp_path.iterdir())
