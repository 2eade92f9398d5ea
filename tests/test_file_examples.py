"""Training on a user's file of prompts and completions, and what is refused in it."""

import json

import pytest

from fr.config import ArchitectureConfig, Config, TaskConfig, TrainingConfig
from fr.config.experiment import validate
from fr.errors import UserError
from fr.models import load
from fr.training.examples import examples_of
from fr.training.file_examples import read_examples
from fr.training.lineage import train_lineage
from fr.training.supervised import random_model

SHAPE = ArchitectureConfig(width=16, layers=1, heads=2, ff=32)
LINES = (
    {"prompt": "3 7 10 -> 49 :", "completion": "answer ( 10 - 3 ) * 7"},
    {"prompt": "1 2 3 -> 6 :", "completion": "answer ( 1 + 2 ) + 3", "more": [1]},
    {"prompt": "1 2 3 -> 6 :", "completion": "1 + 2 = 3 , answer ( 1 + 2 ) + 3"},
    {"prompt": 7, "completion": 8},
)


def write(path, lines) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def config(path: str, **changes) -> Config:
    """Training of a tiny model from random numbers on a file."""
    training = {"steps": 2, "batch": 2, "sequence": 48, "warmup_steps": 1} | changes
    return Config(
        architecture=SHAPE,
        task=TaskConfig(name="countdown"),
        training=TrainingConfig(source="file", file=path, start="scratch", **training),
    )


def test_texts_are_learnt_as_they_stand(tmp_path):
    c = config(write(tmp_path / "own.jsonl", LINES))
    model = random_model(c)
    found = examples_of(c, c.training, model)
    assert found.total == 4 and not found.held
    for place, line in enumerate(LINES):
        ids, prompt = found.make(None, place)
        assert model.decode(ids[:prompt]) == str(line["prompt"])
        assert model.decode(ids[prompt:-1]) == str(line["completion"])
        assert ids[-1] == model.stop_tokens[0]


def test_spaces_of_texts_stay_and_messages_are_read(tmp_path):
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    path = write(
        tmp_path / "own.jsonl",
        [
            {"prompt": "a\n", "completion": " b "},
            {"prompt": chat, "completion": "Hello"},
        ],
    )
    first, second = read_examples(path, "config.training.file")
    assert first.prompt == "a\n" and first.completion == " b "
    assert second.prompt == chat and second.completion == "Hello"
    assert second.where == f"{path}:2"


def test_prompts_are_held_out_with_all_their_completions(tmp_path):
    many = [
        {"prompt": f"{i} -> :", "completion": f"answer {j}"}
        for i in range(10)
        for j in range(3)
    ]
    c = config(write(tmp_path / "own.jsonl", many), eval_every=1, held_out=0.3)
    model = random_model(c)
    found = examples_of(c, c.training, model)
    text = lambda one: model.decode(one[0][: one[1]])
    away = [text(one) for one in found.held]
    learnt = [text(found.make(None, place)) for place in range(found.total)]
    assert len(away) == 9 and len(learnt) == 21 and len(set(away)) == 3
    assert not set(away) & set(learnt)


def test_a_model_is_made_from_a_file_alone(tmp_path):
    path = tmp_path / "own.jsonl"
    c = config(write(path, LINES))
    validate(c)
    (folder,) = train_lineage(c, tmp_path / "work")
    assert folder.endswith("specialist")
    assert load(folder).config.width == 16
    assert train_lineage(c, tmp_path / "work") == [folder]
    # The text of the file belongs to the training, not its name.
    (tmp_path / "work" / "specialist" / "config.json").unlink()
    write(path, LINES[:2])
    with pytest.raises(UserError, match="examples that training learns from have chan"):
        train_lineage(c, tmp_path / "work")


BAD = {
    "": "is empty; it must have a prompt on every line",
    "[1]\n": r':1: is not a JSON object; write {"prompt": ..., "completion": ...}',
    '{"prompt": "1 :"}\n': ":1: field 'completion' is missing",
    '{"completion": "1"}\n': ":1: field 'prompt' is missing",
    '{"prompt": "1 :", "completion": ""}\n': ":1: field 'completion' = '' must be",
    '{"prompt": "1 :", "completion": ["a"]}\n': ":1: field 'completion' = ",
    '{"prompt": "1 :", "completion": "1"}\n{"prompt": "1 :", "compl': ":2: ",
    '{"prompt": "1 :", "completion": "hello"}\n': ":1: scratch has no token for a wo",
    '{"prompt": "hello", "completion": "1"}\n': ":1: scratch has no token for a word",
    '{"prompt": "1 :", "completion": "' + "1 " * 60 + '"}\n': ":1: has 63 tokens with",
    '{"prompt": [], "completion": "1"}\n': ":1: the messages of field 'prompt' must",
    '{"prompt": [{"role": "robot", "content": "1"}], "completion": "1"}\n': (
        ":1: field 'prompt' is a list, and an entry"
    ),
    '{"prompt": [{"role": "user"}], "completion": "1"}\n': ":1: field 'content' is mi",
    '{"prompt": [{"role": "assistant", "content": "1"}], "completion": "1"}\n': (
        ":1: the messages of field 'prompt' must end"
    ),
    '{"prompt": "1 :\\u0000", "completion": "1"}\n': ":1: field 'prompt' holds a NUL",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_damaged_files_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    c = config(str(path))
    with pytest.raises(UserError) as caught:
        examples_of(c, c.training, random_model(c))
    line = str(caught.value)
    assert str(path) in line and BAD[text] in line and "\n" not in line


def test_files_that_cannot_be_read_name_the_setting(tmp_path):
    for name in ("none.jsonl", "own.txt"):
        c = config(str(tmp_path / name))
        with pytest.raises(UserError, match="config.training.file = "):
            examples_of(c, c.training, random_model(c))
    (tmp_path / "bytes.jsonl").write_bytes(b'{"prompt": "\xff"}')
    c = config(str(tmp_path / "bytes.jsonl"))
    with pytest.raises(UserError, match="is not UTF-8 text"):
        examples_of(c, c.training, random_model(c))
    one = write(tmp_path / "one.jsonl", LINES[:1])
    c = config(one, eval_every=1)
    with pytest.raises(UserError, match="has one prompt.*eval_every = 0"):
        examples_of(c, c.training, random_model(c))


@pytest.mark.parametrize(
    "training, words",
    [
        ({"source": "file"}, "config.training.source = 'file' and file = ''"),
        ({"file": "own.jsonl"}, "source = '' and file = 'own.jsonl'"),
    ],
)
def test_a_source_without_its_file_is_refused(training, words):
    with pytest.raises(UserError, match=words):
        validate(Config(training=TrainingConfig(**training)))
    with pytest.raises(UserError, match=words.replace("training", "pretraining")):
        validate(Config(pretraining=TrainingConfig(**training)))


def test_random_parameters_are_for_supervised_training():
    with pytest.raises(UserError, match="start = 'scratch' is for config.algorithm"):
        validate(Config(algorithm="dpo", training=TrainingConfig(start="scratch")))
