"""Pairs of a model's own answers, by its confidence in them, and training on them."""

import dataclasses
import json
import math
import types

import jax
import numpy as np
import pytest

from fr import store, tasks
from fr.config import Config, PreferenceConfig, SamplingConfig, TaskConfig
from fr.errors import UserError
from fr.models import load
from fr.models.transformer import Transformer
from fr.sampling.cot_decoding import first_tokens
from fr.training.preferences import train_preferences
from fr.training.rlsf import confident_pairs, make_pairs

CONFIG = Config(
    algorithm="dpo",
    ancestor="countdown",
    task=TaskConfig(),
    sampling=SamplingConfig(
        temperature=1.0, slots=16, chunk=16, max_new_tokens=48, shard_rows=16
    ),
    preference=PreferenceConfig(
        steps=6,
        pairs=4,
        problems=6,
        candidates=4,
        confident=0.5,
        learning_rate=3e-4,
        checkpoint_every=3,
    ),
)


def test_pairs_by_hand():
    found = confident_pairs([0.95, 0.5, math.nan, 0.92], 0.9)
    assert [pair[:2] for pair in found] == [(0, 1), (0, 3), (3, 1)]
    np.testing.assert_allclose([pair[2] for pair in found], np.exp([0.45, 0.03, 0.42]))
    assert not confident_pairs([0.95, 0.95], 0.9) and not confident_pairs(
        [0.8, 0.1], 0.9
    )


def test_first_tokens_are_the_likeliest(tiny_model):
    prompts = [tuple(range(3, 3 + n)) for n in (1, 7, 40)]
    found = first_tokens(Transformer(tiny_model.config), tiny_model.params, prompts, 5)
    for prompt, row in zip(prompts, found):
        logits = np.asarray(tiny_model.logits([prompt]))[0, -1]
        assert row.tolist() == np.argsort(-logits)[:5].tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a model that was trained on pairs of samples."""
    workdir = tmp_path_factory.mktemp("rlsf")
    train_preferences(CONFIG, workdir, "countdown")
    return workdir


def test_training_prefers_what_was_confident(trained):
    lines = [
        json.loads(line)
        for line in (trained / "specialist" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == list(range(1, 7))
    # Before the first update both models are one.
    assert lines[0]["gap"] == pytest.approx(0, abs=1e-4) and lines[0][
        "loss"
    ] == pytest.approx(math.log(2), abs=1e-4)
    assert np.mean([line["gap"] for line in lines[3:]]) > 0
    candidates = store.read(trained / "candidates")
    assert len(candidates) == 24 and {a.operator for a in candidates} == {"sampled"}
    before = (trained / "specialist" / "model.safetensors").stat().st_mtime_ns
    assert train_preferences(CONFIG, trained, "countdown") == str(
        trained / "specialist"
    )
    assert (trained / "specialist" / "model.safetensors").stat().st_mtime_ns == before


def test_its_checkpoints_are_models(trained):
    last, export = (
        load(trained / "specialist" / "checkpoints" / "6"),
        load(trained / "specialist"),
    )
    jax.tree.map(np.testing.assert_array_equal, last.params, export.params)
    assert last.encode("3 7 10 -> 49 :") == export.encode("3 7 10 -> 49 :")


def test_the_sentence_of_the_answer_is_cut_off_both_responses(trained, tmp_path):
    candidates, model = store.read(trained / "candidates"), load("countdown")
    task = tasks.make(CONFIG.task)
    run = types.SimpleNamespace(
        config=CONFIG, specialist=model, problems=task.problems("train", 6)
    )
    pairs = make_pairs(run, candidates)
    answer = model.encode("answer")[-1]
    assert answer in np.concatenate([a.tokens for a in candidates])
    for a, line, start, mask in zip(candidates, pairs.tokens, pairs.start, pairs.mask):
        kept = line[start : start + mask.sum()]
        # Up to the word that states the answer, or all of a response that states none.
        whole = a.tokens.tolist()
        states = a.tokens[-1] in model.stop_tokens and answer in whole
        wanted = (
            whole[: len(whole) - 1 - whole[::-1].index(answer)] if states else whole
        )
        assert kept.tolist() == wanted and (line[start + len(wanted) :] == -1).all()
    keep = dataclasses.replace(CONFIG.preference, answer="keep")
    run.config = dataclasses.replace(CONFIG, preference=keep)
    assert make_pairs(run, candidates).mask.sum() == sum(
        len(a.tokens) for a in candidates
    )


@pytest.mark.slow
def test_branches_begin_with_the_likeliest_tokens_and_go_on_greedily(tmp_path):
    preference = dataclasses.replace(
        CONFIG.preference, source="branches", steps=1, problems=2, candidates=3
    )
    config = dataclasses.replace(
        CONFIG, preference=dataclasses.replace(preference, confident=0.0)
    )
    train_preferences(config, tmp_path, "countdown")
    model, candidates = load("countdown"), store.read(tmp_path / "candidates")
    assert len(candidates) == 6
    for a in candidates:
        logits = np.asarray(model.logits([[*a.prompt, *a.tokens]]))[
            0, len(a.prompt) - 1 : -1
        ]
        assert a.tokens[0] == np.argsort(-logits[0])[
            a.attempt
        ] and a.forced.tolist() == [True] + [False] * (len(a.tokens) - 1)
        assert a.tokens[1:].tolist() == logits[1:].argmax(axis=1).tolist()


def test_what_cannot_be_trained_is_refused(tmp_path):
    sure = dataclasses.replace(
        CONFIG,
        preference=dataclasses.replace(CONFIG.preference, confident=1.0, problems=2),
    )
    with pytest.raises(UserError, match="lower config.preference.confident"):
        train_preferences(sure, tmp_path, "countdown")
