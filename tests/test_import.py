"""Rollouts of other engines: what their files hold is what a run's store holds."""

import json
import math
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fr import store
from fr.config import Config, InterventionConfig, SamplingConfig, TaskConfig
from fr.errors import UserError
from fr.exchange.engine_gap import gap_of
from fr.exchange.exporting import export_attempts, export_profiles
from fr.exchange.importing import Asked, import_rollouts
from fr.exchange.matching import Matcher
from fr.exchange.own_questions import write_questions
from fr.exchange.sampled import Sampled
from fr.exchange.token_ids import Reader
from fr.models import ModelConfig, save
from fr.models.transformer import init_params
from fr.pipeline.diagnose import diagnose
from fr.pipeline.intervene import intervene
from fr.pipeline.sample import sample
from fr.profiles import read_profiles
from fr.runs.run import open_run
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer
from fr.types import Problem

FILES = Path(__file__).parent / "exchange"  # written by the tools themselves
ENDINGS = {
    "fr": "jsonl",
    "vllm": "jsonl",
    "openai": "jsonl",
    "prime": "jsonl",
    "verl": "jsonl",
    "trl": "parquet",
    "inspect": "eval",
}
EXACT = ("fr", "vllm", "openai", "prime")  # formats with ids and log-probs
PROBLEMS, EACH = 3, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = ModelConfig(
        vocab=VOCABULARY, width=32, layers=2, heads=2, kv_heads=2, head_dim=16, ff=64
    )
    params = init_params(config, jax.random.key(1))
    save(folder, config, params, countdown_tokenizer())
    return str(folder)


def config_of(model: str, **sampling) -> Config:
    return Config(
        specialist=model,
        ancestor="",
        task=TaskConfig(problems=PROBLEMS),
        sampling=SamplingConfig(
            **{"rollouts": EACH, "slots": 8, "max_new_tokens": 12, "shard_rows": 4}
            | sampling
        ),
        intervention=InterventionConfig(("retry", "prefix_restart"), 1),
    )


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """A run whose folder holds nothing yet."""
    return open_run(config_of(model), tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def drawn(run):
    """(problem, prompt, tokens, log-probs of a plain forward pass) of six rollouts."""
    random, found = np.random.default_rng(0), []
    for problem in run.problems:
        prompt = list(run.specialist.encode(run.task.prompt(problem)))
        for attempt in range(EACH):
            words = [7, 3, 9, 4, 2][: 4 + attempt]
            tokens = list(random.permutation(words)) + [run.specialist.stop_tokens[0]]
            if attempt:  # the budget cut it
                tokens = tokens[:-1]
            found.append((problem, prompt, [int(t) for t in tokens]))
    size = max(len(prompt) + len(tokens) for _, prompt, tokens in found)
    ids = np.zeros((len(found), size), np.int32)
    for row, (_, prompt, tokens) in zip(ids, found):
        row[: len(prompt) + len(tokens)] = [*prompt, *tokens]
    logits = np.asarray(run.specialist.logits(ids), np.float64)
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    out = []
    for row, (problem, prompt, tokens) in enumerate(found):
        at = range(len(prompt) - 1, len(prompt) + len(tokens) - 1)
        own = [float(logp[row, t, token]) for t, token in zip(at, tokens)]
        out.append((problem, prompt, tokens, own))
    return out


def vllm_record(run, rows, **more):
    """One RequestOutput as a dict, of completions of one problem."""
    problem, prompt = rows[0][:2]
    stop = run.specialist.stop_tokens[0]
    outputs = [
        {
            "index": i,
            "text": run.specialist.decode(tokens),
            "token_ids": tokens,
            "logprobs": [
                {str(t): {"logprob": v, "rank": 1, "decoded_token": "x"}, "1": v - 1}
                if t != 1
                else {"1": {"logprob": v}}
                for t, v in zip(tokens, own)
            ],
            "finish_reason": "stop" if tokens[-1] == stop else "length",
            "stop_reason": None,
        }
        for i, (_, _, tokens, own) in enumerate(rows)
    ]
    return {
        "request_id": problem.id,
        "prompt": run.specialist.decode(prompt, special=True),
        "prompt_token_ids": prompt,
        "outputs": outputs,
        "finished": True,
    } | more


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture(scope="module")
def vllm_file(run, drawn, tmp_path_factory):
    groups = [drawn[i : i + EACH] for i in range(0, len(drawn), EACH)]
    path = tmp_path_factory.mktemp("files") / "vllm.jsonl"
    return write_lines(path, [vllm_record(run, group) for group in groups])


def again(run, workdir):
    """The same models and problems with another folder."""
    return type(run)(**{**vars(run), "workdir": type(run.workdir)(workdir)})


@pytest.fixture(scope="module")
def imported(run, vllm_file):
    return import_rollouts(run, Asked((vllm_file,), "vllm"))


def test_the_store_holds_the_ids_and_log_probs_of_the_file(run, drawn, imported):
    held = store.read(run.workdir / "rollouts")
    assert imported["rollouts"] == len(held) == len(drawn)
    for attempt, (problem, prompt, tokens, own) in zip(held, drawn):
        assert (attempt.problem, attempt.operator) == (problem.id, "rollout")
        assert attempt.prompt.tolist() == prompt and attempt.tokens.tolist() == tokens
        np.testing.assert_array_equal(attempt.stats["logp"], np.float32(own))
        assert np.isnan(attempt.sample_logp).all()  # the drawn distribution: unknown
        assert attempt.truncated == (tokens[-1] != run.specialist.stop_tokens[0])
        assert attempt.grade == run.task.grade(problem, attempt.text)
    assert [a.attempt for a in held] == [0, 1] * PROBLEMS
    assert imported["left_out"] == [] and imported["other_prompts"] == 0


@pytest.mark.parametrize("name", ENDINGS)
def test_round_trip(run, imported, name, tmp_path):
    path = tmp_path / f"out.{ENDINGS[name]}"
    # The viewer's tokenizer is found by the run's config.json.
    assert export_attempts(run.workdir, path, name) == imported["rollouts"]
    other = again(run, tmp_path / "other")
    found = import_rollouts(other, Asked((str(path),), name))
    assert found["rollouts"] == imported["rollouts"] and not found["left_out"]
    marked = found["marks"].get("retokenised", 0)
    assert marked == (imported["rollouts"] if name in ("trl", "verl") else 0)
    before, after = (store.read(r.workdir / "rollouts") for r in (run, other))
    for a, b in zip(before, after):
        assert (a.row, a.text, a.grade) == (b.row, b.text, b.grade)
        assert a.prompt.tolist() == b.prompt.tolist()
        if name in EXACT or not a.truncated:
            assert a.tokens.tolist() == b.tokens.tolist()
            assert a.truncated == b.truncated
        if name in EXACT:
            np.testing.assert_array_equal(a.stats["logp"], b.stats["logp"])
        elif name == "inspect":  # a server's log-probs end before the stop token
            known = np.isfinite(b.stats["logp"])
            np.testing.assert_array_equal(a.stats["logp"][known], b.stats["logp"][known])
            assert known.sum() >= len(known) - 1
        else:
            assert np.isnan(b.stats["logp"]).all()


def test_diagnosis_prints_the_engines_gap_first(run, imported, capsys):
    found = diagnose(run)
    gap = found["engine"]
    assert abs(gap["mean"]) < 1e-5 and gap["p99"] < 1e-4 and gap["wide"] == 0
    assert gap["rollouts"] == found["failed_rollouts"] > 0
    assert capsys.readouterr().out.startswith("the engine's log-prob less ours (vllm)")
    assert next(iter(found)) == "engine"


def test_attempts_are_new_ones_and_nothing_is_sampled(run, imported, capsys):
    diagnose(run)
    made = intervene(run)
    assert {"retry", "prefix_restart"} == set(made["operators"])
    assert set(made["without_verifier"]) == {"rollout", "majority"}
    out = capsys.readouterr().out
    assert "rollouts/ was imported (vllm): every attempt is a new one" in out
    before = store.read_table(run.workdir / "rollouts").num_rows
    sample(run)
    assert "nothing is sampled" in capsys.readouterr().out
    assert store.read_table(run.workdir / "rollouts").num_rows == before
    export_profiles(run.workdir, run.workdir / "out.csv")
    (ours,), (theirs,) = (
        read_profiles(run.workdir / name) for name in ("profiles.csv", "out.csv")
    )
    np.testing.assert_array_equal(ours.rates, theirs.rates)
