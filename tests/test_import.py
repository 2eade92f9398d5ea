"""Rollouts of other engines: what their files hold is what a run's store holds."""

import dataclasses
import json
import math
import os
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fr import store
from fr.config import (
    Config,
    InterventionConfig,
    SamplingConfig,
    TaskConfig,
    TrainingConfig,
)
from fr.errors import UserError
from fr.exchange.accepting import Asked
from fr.exchange.engine_gap import gap_of
from fr.exchange.exporting import export_attempts, export_profiles
from fr.exchange.importing import import_rollouts
from fr.exchange.matching import Matcher
from fr.exchange.notes import shown
from fr.exchange.own_questions import write_questions
from fr.exchange.sampled import Sampled
from fr.exchange.token_ids import LOST, Reader
from fr.models import ModelConfig, save
from fr.models.transformer import init_params
from fr.pipeline.diagnose import diagnose
from fr.pipeline.intervene import intervene
from fr.pipeline.sample import sample
from fr.profiles import read_profiles
from fr.runs.run import open_run
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer
from fr.training.past_runs import PastRun
from fr.types import Problem, Rollout

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
            np.testing.assert_array_equal(
                a.stats["logp"][known], b.stats["logp"][known]
            )
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


class Canned:
    """An engine that answers every row with a stop token."""

    def __init__(self, stop: int):
        self.stop, self.prompts = stop, []

    def sample(self, rows, *args, **kwargs):
        self.prompts += [row.prompt for row in rows]
        none, one = np.zeros(1, bool), np.zeros(1, np.float32)
        stats = dict.fromkeys(store.TOKEN_STATS, one)
        return [
            Rollout(row, np.array([self.stop]), none, none, one, stats, False, 1)
            for row in rows
        ]


def test_log_probs_as_drawn_are_compared_at_their_temperature(run, drawn, tmp_path):
    problem, prompt, tokens, _ = drawn[0]
    logits = np.asarray(run.specialist.logits([[*prompt, *tokens]]), np.float64)[0]
    at = logits / run.config.sampling.temperature
    at -= np.log(np.exp(at).sum(axis=-1, keepdims=True))
    begin = len(prompt) - 1
    own = [float(at[begin + i, token]) for i, token in enumerate(tokens)]
    record = vllm_record(run, [(problem, prompt, tokens, own)])
    path = write_lines(tmp_path / "drawn.jsonl", [record])
    other = again(run, tmp_path / "run")
    import_rollouts(other, Asked((path,), "vllm", "processed"))
    (held,) = store.read(other.workdir / "rollouts")
    np.testing.assert_array_equal(held.sample_logp, np.float32(own))
    gap = diagnose(other)["engine"]
    assert gap["tokens"] == len(tokens) and gap["size"] < 1e-5


def test_attempts_are_new_ones_and_nothing_is_sampled(
    run, imported, drawn, capsys, monkeypatch
):
    diagnose(run)
    engine = Canned(run.specialist.stop_tokens[0])
    monkeypatch.setattr(type(run), "engine", lambda self, *args, **kwargs: engine)
    made = intervene(run)
    asked = {tuple(prompt) for _, prompt, _, _ in drawn}
    assert asked >= {p for p in engine.prompts if len(p) == len(drawn[0][1])} != set()
    assert {"retry", "prefix_restart"} == set(made["operators"])
    assert set(made["without_verifier"]) == {"rollout", "majority"}
    out = " ".join(capsys.readouterr().out.split())
    assert "rollouts/ was imported (vllm): every attempt is a new one" in out
    before = store.read_table(run.workdir / "rollouts", ["row"]).num_rows
    sample(run)
    assert "nothing is sampled" in capsys.readouterr().out
    assert store.read_table(run.workdir / "rollouts", ["row"]).num_rows == before
    export_profiles(run.workdir, run.workdir / "out.csv")
    (ours,), (theirs,) = (
        read_profiles(run.workdir / name) for name in ("profiles.csv", "out.csv")
    )
    np.testing.assert_array_equal(ours.rates, theirs.rates)


def first_of(found):
    return {a.row: a for a in store.read(found.workdir / "rollouts")}


TEXTS = ["answer ( 6 * 2 ) * 7", "2 + 6 = 8 , answer 2 + 6", "5 + 5 = 10 , 10 +"]


@pytest.mark.parametrize(
    ("file", "name", "exact"),
    [
        ("inspect-0.3.285.eval", "inspect", True),
        ("inspect-0.3.285.json", "inspect", True),
        ("openai-3.57.0.jsonl", "openai", True),
        ("verifiers-0.4.0.jsonl", "prime", True),
        ("trl-1.16.0.parquet", "trl", False),
    ],
)
def test_files_that_the_tools_wrote(run, tmp_path, file, name, exact):
    other = again(run, tmp_path / "run")
    found = import_rollouts(other, Asked((str(FILES / file),), name))
    assert found["rollouts"] == 4 and not found["left_out"]
    held = first_of(other)
    rows = [
        held[f"{problem.id}/rollout/{attempt}"]
        for problem in run.problems[:2]
        for attempt in range(2)
    ]
    assert [a.text for a in rows] == [*TEXTS, "answer 5 + 5"]
    assert [a.grade for a in rows] == ["right", "wrong", "unparsed", "wrong"]
    # A table does not say that the third was cut: the budget of the config tells.
    assert [a.truncated for a in rows] == [False, False, exact, False]
    for attempt in rows:
        logp = attempt.stats["logp"]
        words = len(attempt.text.split())
        assert len(attempt.tokens) == words + (not attempt.truncated)
        wanted = -np.arange(1, words + 1) / 8 if exact else np.full(words, np.nan)
        np.testing.assert_array_equal(logp[:words], np.float32(wanted))
    table = pq.read_table(store.shard_path(other.workdir / "rollouts", 0))
    assert set(table["retokenised"].to_pylist()) == {not exact}
    rewards = {"inspect": 1.0, "trl": 1.1}.get(name)
    assert table["engine_reward"].to_pylist()[0] == pytest.approx(rewards)


def test_imported_rollouts_are_examples_of_a_training(run, model, tmp_path):
    other = again(run, tmp_path / "run")
    import_rollouts(other, Asked((str(FILES / "verifiers-0.4.0.jsonl"),), "prime"))
    config = dataclasses.replace(
        run.config,
        task=TaskConfig(split="validation", problems=2),
        training=TrainingConfig(source="rollouts", run=str(other.workdir)),
    )
    past = PastRun(config, run.specialist)
    (right,) = past.right()
    assert right.text == TEXTS[0] and right.learnt.all()
    assert [len(rows) for rows in past.failed().values()] == [1, 2]


def test_own_questions_of_a_file_become_a_task(tmp_path):
    path = tmp_path / "q.jsonl"
    file = str(FILES / "inspect-0.3.285.eval")
    assert write_questions([file], "inspect", path) == 2
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {
        "id": "countdown-2-6-7-to-84",
        "question": "2 6 7 -> 84 :",
        "answer": "( 6 * 2 ) * 7",
    }


def test_own_questions_are_what_the_task_reads(tmp_path):
    ids = ["\x1b[2J\n", "question-2", "x" * 400, "fine"]
    records = [
        {"input": f"q{i}", "output": "1", "gts": "1", "id": name}
        for i, name in enumerate(ids)
    ]
    file = write_lines(tmp_path / "a.jsonl", records)
    assert write_questions([file], "verl", tmp_path / "q.jsonl") == 4
    lines = (tmp_path / "q.jsonl").read_text().splitlines()
    found = [json.loads(line)["id"] for line in lines]
    assert found == ["question-1", "question-2", "question-3", "fine"]
    for place, opened in enumerate(("", "<think>\n", "<think>\n\n</think>\n\n")):
        chat = {"input": f"system\nBe\nuser\nWhat?\nassistant\n{opened}"}
        file = write_lines(tmp_path / f"{place}.jsonl", [records[0] | chat])
        write_questions([file], "verl", tmp_path / "q.jsonl")
        assert json.loads((tmp_path / "q.jsonl").read_text())["question"] == "What?"
    file = write_lines(tmp_path / "b.jsonl", [records[0] | {"gts": "a\0b"}])
    with pytest.raises(UserError, match="b.jsonl:1: field 'answer' holds a NUL"):
        write_questions([file], "verl", tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()


# ------------------------------------------------------------- what cannot be read
def one(run, drawn, tmp_path, **changed):
    """A file with one rollout, some fields of which are changed."""
    record = vllm_record(run, drawn[:1])
    output = {k: v for k, v in changed.items() if k in record["outputs"][0]}
    record["outputs"][0] |= output
    record |= {k: v for k, v in changed.items() if k not in output}
    return write_lines(tmp_path / "one.jsonl", [record])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"token_ids": [4096] * 5}, "one.jsonl:1 gives id 4096"),
        ({"token_ids": [1.5] * 5}, "list of whole numbers"),
        ({"token_ids": [3, 4]}, "5 log-probs for 2 tokens"),
        ({"logprobs": [0.5] * 5}, "a log-prob is 0.5, above 0"),
        ({"outputs": {}}, "has no list 'outputs'"),
        (
            {"prompt": "7 7 7 -> 9 :"},
            "no rollout of this run: not a problem of the run",
        ),
        ({"text": "another text"}, "sampled with another tokenizer"),
        ({"finish_reason": None}, "not finished"),
        (
            {"token_ids": [], "logprobs": None, "text": "", "finish_reason": "length"},
            "its completion is empty",
        ),
    ],
)
def test_bad_records_are_one_line_and_leave_no_file(
    run, drawn, tmp_path, changed, said
):
    other = again(run, tmp_path / "run")
    with pytest.raises(UserError) as error:
        import_rollouts(other, Asked((one(run, drawn, tmp_path, **changed),), "vllm"))
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"{]\n", "a.jsonl:1: is not JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: is not a JSON object"),
        ("a.jsonl", b"\xff\xfe", "is UTF-16 text"),
        ("a.jsonl.gz", b"none", "is not a gzip file"),
        ("a.csv", b"x", "a file of --format=vllm ends in"),
        ("gone.jsonl", None, "No such file"),
    ],
)
def test_bad_files_are_one_line(run, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        asked = Asked((str(tmp_path / name),), "vllm")
        import_rollouts(again(run, tmp_path / "run"), asked)
    assert said in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"PAR1", "is not a Parquet file"),
        ("a.eval", b"PK", "is not a log of Inspect"),
    ],
)
def test_bad_archives_are_one_line(run, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    kind = "trl" if name.endswith("parquet") else "inspect"
    with pytest.raises(UserError, match=said):
        asked = Asked((str(tmp_path / name),), kind)
        import_rollouts(again(run, tmp_path / "run"), asked)


def test_redo_removes_rollouts_only_once_the_new_file_is_read(run, drawn, tmp_path):
    other = again(run, tmp_path / "run")
    good = Asked((one(run, drawn, tmp_path),), "vllm")
    import_rollouts(other, good)
    old = [path.read_bytes() for path in (tmp_path / "run/rollouts").iterdir()]
    (tmp_path / "bad.jsonl").write_text("{]\n")
    with pytest.raises(UserError, match="is not JSON"):
        import_rollouts(
            other, Asked((str(tmp_path / "bad.jsonl"),), "vllm"), ["rollouts"]
        )
    assert [p.read_bytes() for p in (tmp_path / "run/rollouts").iterdir()] == old
    processed = Asked(good.files, "vllm", "processed")
    with pytest.raises(UserError, match="--redo=rollouts"):
        import_rollouts(other, processed)
    import_rollouts(other, processed, ["rollouts"])
    (held,) = store.read(other.workdir / "rollouts")
    assert held.tokens.tolist() == drawn[0][2]


def test_unknown_values_are_known_to_be_unknown(run, drawn, tmp_path):
    path = one(run, drawn, tmp_path, logprobs=[-1.0, math.nan, None, -math.inf, -2.0])
    other = again(run, tmp_path / "run")
    import_rollouts(other, Asked((path,), "vllm"))
    (held,) = store.read(other.workdir / "rollouts")
    np.testing.assert_array_equal(
        held.stats["logp"], np.float32([-1, np.nan, np.nan, np.nan, -2])
    )
    gap = gap_of([held.stats["logp"] + 2, np.zeros(2)])
    assert gap["tokens"] == 4 and gap["mean"] == pytest.approx(0.25)
    assert gap["wide"] == 25.0 and gap["size"] == pytest.approx(0.25)


def test_rollouts_of_two_models_or_there_twice(run, drawn, tmp_path):
    groups = [drawn[:2], drawn[2:4]]
    records = [vllm_record(run, group, model=name) for group, name in zip(groups, "ab")]
    path = write_lines(tmp_path / "two.jsonl", [*records, records[0]])
    other = again(run, tmp_path / "run")
    with pytest.raises(UserError, match=r"several models \(a, b\).*--engine_model"):
        import_rollouts(other, Asked((path,), "vllm"))
    found = import_rollouts(other, Asked((path,), "vllm", model="a"))
    assert found["rollouts"] == 2
    out = {each["why"]: each["n"] for each in found["left_out"]}
    assert out == {"it is of another model": 2, "it is there twice": 2}


def of_records(run, tmp_path, name, records):
    """Summary, texts and stop marks of an import of some records."""
    path = str(tmp_path / f"a.{ENDINGS[name]}")
    if name == "trl":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif name == "inspect":
        path = str(tmp_path / "a.json")
        log = {"eval": {}, "samples": records}
        Path(path).write_text(json.dumps(log))
    else:
        write_lines(Path(path), records)
    other = again(run, tmp_path / "run")
    found = import_rollouts(other, Asked((path,), name))
    out = {each["why"]: each["n"] for each in found["left_out"]}
    return out, store.read(other.workdir / "rollouts")


CALL = {"role": "assistant", "content": "7", "tool_calls": [{"id": "a"}]}
CUT, CALLS = "its engine cut it off", "it calls tools"


@pytest.mark.parametrize(
    ("name", "parts", "why"),
    [
        ("vllm", [{"finish_reason": "abort", "text": "7", "token_ids": [7]}], CUT),
        ("vllm", [{"finish_reason": "error", "text": "", "token_ids": []}], CUT),
        ("openai", [{"finish_reason": "content_filter", "text": "7"}], CUT),
        ("openai", [{"finish_reason": "tool_calls", "message": CALL}], CALLS),
        ("inspect", [{"stop_reason": "content_filter", "message": {}}], CUT),
        ("inspect", [{"stop_reason": "stop", "message": CALL}], CALLS),
        ("fr", {"finish_reason": "abort", "text": "7"}, CUT),
        ("prime", {"completion": [CALL]}, CALLS),
        ("trl", {"completion": [CALL]}, CALLS),
    ],
)
def test_what_no_token_and_no_budget_ended_is_left_out(run, tmp_path, name, parts, why):
    asked = run.problems[0].question
    message = {"role": "assistant", "content": "5"}
    if name in ("prime", "trl"):
        other = {"completion": [message]}
    elif name == "fr":
        other = {"finish_reason": "stop", "text": "5"}
    else:
        ends = {"finish_reason": "stop", "stop_reason": None, "message": message}
        ids = [run.specialist.encode("5")[-1], run.specialist.stop_tokens[0]]
        other = [{**ends, "text": "5", "token_ids": ids}]
        if name == "inspect":
            other[0]["stop_reason"] = "stop"
    made = {
        "vllm": lambda p: {"prompt": asked, "outputs": p},
        "openai": lambda p: {"prompt": asked, "choices": p},
        "inspect": lambda p: (
            {"id": "a", "input": asked, "output": {"choices": p}}
            | {"messages": [{"role": "user", "content": asked}]}
        ),
    }.get(name, lambda p: {"prompt": [{"role": "user", "content": asked}], **p})
    out, held = of_records(run, tmp_path, name, [made(parts), made(other)])
    assert out == {why: 1} and len(held) == 1 and not held[0].truncated


@pytest.mark.parametrize("name", ["verl", "fr", "openai", "trl"])
def test_an_empty_completion_is_a_failure(run, tmp_path, name):
    asked = run.problems[0].question
    record = {
        "verl": {"input": asked, "output": ""},
        "fr": {"prompt": asked, "text": "", "token_ids": []},
        "openai": {"prompt": asked, "choices": [{"finish_reason": "stop", "text": ""}]},
        "trl": {"prompt": asked, "completion": ""},
    }[name]
    out, (held,) = of_records(run, tmp_path, name, [record])
    assert not out and held.tokens.tolist() == [run.specialist.stop_tokens[0]]
    assert held.grade == "unparsed" and not held.truncated


def test_a_refusal_is_the_text(run, tmp_path):
    message = {"role": "assistant", "content": None, "refusal": "answer 5 + 5"}
    record = {"prompt": run.problems[0].question, "choices": [{"message": message}]}
    out, (held,) = of_records(run, tmp_path, "openai", [record])
    assert not out and held.text == "answer 5 + 5"


def test_a_name_that_counts_from_0_again_is_another_rollout(run, drawn, tmp_path):
    groups = [drawn[:2], drawn[2:4], drawn[:2]]
    records = [vllm_record(run, rows, request_id="0") for rows in groups]
    other = vllm_record(run, drawn[:1], request_id="0")
    other["outputs"][0] |= {"token_ids": [5, 2], "logprobs": None, "text": "5 )"}
    other["outputs"][0]["text"] = run.specialist.decode([5, 2])
    out, held = of_records(run, tmp_path, "vllm", [*records, other])
    assert out == {"it is there twice": 2} and len(held) == 5


def test_every_choice_of_a_sample_is_a_rollout(run, tmp_path):
    asked = run.problems[0].question
    choices = [
        {"message": {"role": "assistant", "content": text}, "stop_reason": "stop"}
        for text in ("5", "7", "5")
    ]
    messages = [{"role": "user", "content": asked}, choices[0]["message"]]
    sample = {"id": "a", "epoch": 1, "input": asked, "messages": messages}
    sample |= {"output": {"choices": choices}, "scores": {"s": {"value": "C"}}}
    out, held = of_records(run, tmp_path, "inspect", [sample])
    assert not out and [a.text for a in held] == ["5", "7", "5"]
    table = pq.read_table(store.shard_path(tmp_path / "run/rollouts", 0))
    assert table["engine_reward"].to_pylist() == [1.0, None, None]


def test_names_of_the_file_are_printable_and_cut(run, drawn, tmp_path):
    odd = "\x1b[2J\u202e: " + "x" * 1000
    left = {"problem": odd, "prompt": None, "prompt_token_ids": None}
    records = [vllm_record(run, drawn[:1], **more) for more in ({"model": odd}, left)]
    path = write_lines(tmp_path / os.fsdecode(b"a\xff.jsonl"), records)
    other = again(run, tmp_path / "run")
    found = import_rollouts(other, Asked((path,), "vllm"))
    said = shown("imported", found)
    assert "1 rollout of 1 problem by ␛[2J⟨202E⟩: xxx" in said
    assert len(said) < 600 and all(line.isprintable() for line in said.splitlines())
    (out,) = found["left_out"]
    assert out["why"] == "not a problem of the run" and len(out["names"][0]) < 80


def test_a_file_that_grows_while_it_is_read_leaves_no_file(
    run, drawn, tmp_path, monkeypatch
):
    path = write_lines(tmp_path / "one.jsonl", [vllm_record(run, drawn[:1])])

    def grow(*given):
        with open(path, "a") as file:
            file.write(json.dumps(vllm_record(run, drawn[1:2])) + "\n")

    monkeypatch.setattr("fr.exchange.importing.check_context", grow)
    with pytest.raises(UserError, match="one.jsonl: changed while it was read"):
        import_rollouts(again(run, tmp_path / "run"), Asked((path,), "vllm"))
    assert not (tmp_path / "run").exists()


def test_a_killed_import_goes_on_and_a_grown_one_adds(run, drawn, vllm_file, tmp_path):
    other = again(run, tmp_path / "run")
    import_rollouts(other, Asked((vllm_file,), "vllm"))
    folder = other.workdir / "rollouts"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 2
    store.shard_path(folder, 1).unlink()
    with pytest.raises(UserError, match="shard-000001.parquet is missing"):
        diagnose(other)
    import_rollouts(other, Asked((vllm_file,), "vllm"))
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    more = write_lines(tmp_path / "more.jsonl", [vllm_record(run, drawn[:2])])
    with pytest.raises(UserError, match="as file 1, which has changed or is not given"):
        import_rollouts(other, Asked((more,), "vllm"))
    found = import_rollouts(other, Asked((vllm_file, more), "vllm"))
    assert found["rollouts"] == 8
    held = first_of(other)
    assert f"{run.problems[0].id}/rollout/3" in held
    for name, data in before.items():
        assert (folder / name).read_bytes() == data
    with pytest.raises(UserError, match="give it once"):
        import_rollouts(other, Asked((vllm_file, vllm_file), "vllm"))
    with pytest.raises(UserError, match="imported with --format=vllm"):
        import_rollouts(other, Asked((vllm_file,), "fr"))


def test_a_problem_asked_in_two_ways(run, drawn, tmp_path):
    problem, prompt, tokens, own = drawn[0]
    longer = (problem, [20, *prompt], tokens, own)
    records = [vllm_record(run, [rows]) for rows in (drawn[0], longer)]
    records[1]["request_id"] = "other"
    path = write_lines(tmp_path / "two.jsonl", records)
    with pytest.raises(
        UserError, match="two.jsonl:2: problem .* another prompt than at"
    ):
        import_rollouts(again(run, tmp_path / "run"), Asked((path,), "vllm"))


def test_the_question_that_was_asked_is_the_last_one_of_a_prompt():
    problems = [
        Problem("a", "7 9 -> 3 :", "", "x"),
        Problem("b", "17 9 -> 3 :", "", "x"),
        Problem("1", "How many apples\nare left?", "", "x"),
        Problem("c", "twice", "", "x"),
        Problem("d", "twice", "", "x"),
    ]
    find = lambda **more: Matcher(problems, lambda ids: "").find(Sampled("f:1", **more))
    assert find(prompt="7 9 -> 3 : 5\n\n17 9 -> 3 :")[0].id == "b"
    assert find(prompt="17 9 -> 3 : 5\n\n7  9 -> 3 :")[0].id == "a"
    chat = [{"role": "system", "content": "7 9 -> 3 :"}]
    chat += [
        {"role": "user", "content": "Q: How many  apples are left? End with a line"}
    ]
    assert find(prompt=chat)[0].id == "1"
    assert find(prompt="twice") == (
        None,
        "several problems have its question: c and d",
    )
    assert find(prompt="twice", ids=("d",))[0].id == "d"
    # Tools count samples: such an id is not believed against the prompt.
    assert find(prompt="What else?", ids=("1",))[0] is None
    assert find(ids=("1",))[0].id == "1" and find(ids=("zz",))[0] is None


class Chat:
    """A model of words whose chat has the special tokens 1 and 2."""

    name, stop_tokens = "chat", (2,)

    def __init__(self):
        self.words = ["<pad>", "<s>", "</s>", "user", "assistant", "3", "+", "4"]
        self.tokenizer = self  # of which the mark of a beginning is read
        self.bos_token_id = None

    def encode(self, prompt):
        if isinstance(prompt, str):
            return tuple(map(self.words.index, prompt.split()))
        (said,) = prompt
        return (1, *self.encode(f"user {said['content']}"), 2, 1, 4)

    def decode(self, ids, special=False):
        return " ".join(self.words[i] for i in ids if special or i not in (1, 2))


def test_a_prompt_decoded_without_special_tokens_is_the_tasks():
    usual = [{"role": "user", "content": "3 + 4"}]
    reader, ids = Reader(Chat(), 32), (1, 3, 5, 6, 7, 2, 1, 4)
    found = lambda text, **more: reader.prompt(
        Sampled("f:1", prompt=text, **more), usual
    )
    plain = "user 3 + 4 assistant"
    assert found(plain, decoded=True) == (ids, "prompt of the task")
    other = found("user 4 + 4 assistant", decoded=True)
    assert other == ((3, 7, 6, 7, 4), LOST)
    whole = "<s> user 4 + 4 </s> <s> assistant"
    assert found(whole, decoded=True) == (
        (1, 3, 7, 6, 7, 2, 1, 4),
        "prompt retokenised",
    )
    # A prompt that a request has is what was asked.
    assert found(plain) == ((3, 5, 6, 7, 4), "prompt retokenised")


def test_prompts_of_ids_and_of_several_texts(run, drawn, tmp_path):
    first, second = drawn[0], drawn[EACH]
    body = {"id": "cmpl", "choices": [{"text": f"{i}"} for i in range(4)]}
    record = {"request": {"prompt": [first[1], second[1]]}, "response": body}
    one = {"request": {"prompt": second[1]}, "response": body | {"id": "x"}}
    path = write_lines(tmp_path / "ids.jsonl", [record, one])
    other = again(run, tmp_path / "run")
    found = import_rollouts(other, Asked((path,), "openai"))
    assert found["rollouts"] == 8 and found["other_prompts"] == 0
    held = store.read(other.workdir / "rollouts")
    counts = {p.id: [a.text for a in held if a.problem == p.id] for p in run.problems}
    assert counts[first[0].id] == ["0", "1"] and len(counts[second[0].id]) == 6
    assert {tuple(a.prompt) for a in held} == {tuple(first[1]), tuple(second[1])}
    assert "prompt retokenised" not in found["marks"]


def test_byte_level_pieces_are_the_ids_that_were_drawn(model):
    """A text has several spellings in tokens; the bytes of the tokens have one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {
        t: i for i, t in enumerate(["<eos>", "a", "b", "ab", "Ġ", "Ġab", "Ã", "©"])
    }
    backend = Tokenizer(models.BPE(vocab, [("a", "b"), ("Ġ", "ab")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")

    class Codec:
        name, vocab, stop_tokens = "codec", 8, (0,)

        def decode(self, ids):
            return backend.decode(list(ids))

    codec = Codec()
    codec.tokenizer = tokenizer
    reader = Reader(codec, 32)
    pieces = [b"a", b"b", b" ab", b"\xc3", b"\xa9"]
    given = {"text": "ab abé", "ended": "stop", "logp": [-1.0] * 5}
    read = reader.completion(Sampled("f:1", pieces=pieces, **given))
    assert read.tokens.tolist() == [1, 2, 5, 6, 7, 0] and not read.truncated
    assert "retokenised" not in read.marks
    read = reader.completion(Sampled("f:1", **given))
    assert read.tokens.tolist() == [3, 5, 6, 7, 0] and "retokenised" in read.marks
    assert np.isnan(read.logp).all()
    # Pieces of another text are not believed.
    read = reader.completion(Sampled("f:1", pieces=[b"a"], **given))
    assert "retokenised" in read.marks
