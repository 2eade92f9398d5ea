"""Checkpoints go in and out unchanged, and every fault of a file is refused by name."""

import dataclasses
import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from conftest import random_params
from golden.make import HERE
from safetensors.numpy import load_file, save_file

from fr.errors import UserError
from fr.models import load, save
from fr.models.config_json import config_json
from fr.models.families import model_config


@pytest.fixture
def folder(tmp_path):
    """A copy of a golden model's folder, to be damaged."""
    return shutil.copytree(HERE / "qwen2", tmp_path / "model")


def _same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def _edit_tensors(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def _edit_config(folder, **values):
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


def _refusal(source) -> str:
    with pytest.raises(UserError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "traits",
    [
        {},
        {"tied": False},
        {"qkv_bias": True},
        {"qk_norm": True},
        {"residual_bias": True},
    ],
)
def test_save_then_load_is_bitwise(tmp_path, tiny_config, char_tokenizer, traits):
    config = dataclasses.replace(tiny_config, **traits)
    params = random_params(config, 1)
    save(tmp_path, config, params, char_tokenizer)
    model = load(tmp_path, "float32")
    assert model.config == config and model.stop_tokens == (
        char_tokenizer.eos_token_id,
    )
    _same(model.params, params)
    text = "12 + 7 = 19\nso: yes"
    assert model.encode(text) == tuple(char_tokenizer(text).input_ids)
    assert model.decode(model.encode(text)) == text


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
def test_load_then_save_gives_the_same_tensors(tmp_path, name):
    model = load(HERE / name, "float32")
    save(tmp_path, model.config, model.params)
    theirs, ours = (
        load_file(HERE / name / "model.safetensors"),
        load_file(tmp_path / "model.safetensors"),
    )
    _same(ours, theirs)
    again = load(tmp_path, "float32")
    assert again.config == model.config


def test_a_second_save_replaces_the_first(tmp_path, tiny_config, tiny_params):
    save(tmp_path, tiny_config, random_params(tiny_config, 2))
    save(tmp_path, tiny_config, tiny_params)
    _same(load(tmp_path, "float32").params, tiny_params)
    assert not list(tmp_path.glob(".*")), "no temporary file stays"


def test_shards_load_as_one_file_does(tmp_path, folder):
    whole = load(folder, "float32").params
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    files = {
        name: f"model-0000{1 + i % 2}-of-00002.safetensors"
        for i, name in enumerate(names)
    }
    for file in set(files.values()):
        save_file({n: tensors[n] for n in names if files[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": files})
    )
    (folder / "model.safetensors").unlink()
    _same(load(folder, "float32").params, whole)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors is missing" in _refusal(folder)


def test_bfloat16_files_load(folder):
    def halve(tensors):
        tensors |= {name: t.astype(ml_dtypes.bfloat16) for name, t in tensors.items()}

    exact = load(folder, "float32").params
    _edit_tensors(folder, halve)
    rounded = load(folder, "float32").params
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8), rounded, exact
    )
    assert load(folder, "bfloat16").dtype == ml_dtypes.bfloat16


def test_missing_unused_and_misshapen_tensors(folder):
    name = "model.layers.1.mlp.up_proj.weight"
    whole = load_file(folder / "model.safetensors")
    _edit_tensors(folder, lambda t: t.pop(name))
    assert f"tensor {name} is missing" in _refusal(folder)
    _edit_tensors(folder, lambda t: t.update({name: whole[name].T.copy()}))
    assert f"tensor {name} has shape (16, 24), not (24, 16)" in _refusal(folder)
    _edit_tensors(
        folder,
        lambda t: t.update({name: whole[name], "model.extra.weight": whole[name]}),
    )
    assert "tensor model.extra.weight has no place" in _refusal(folder)
    _edit_tensors(
        folder,
        lambda t: t.update(
            {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4)}
        ),
    )
    _edit_tensors(folder, lambda t: t.pop("model.extra.weight"))
    assert load(folder).config.layers == 2, (
        "old exports of rotary frequencies are no fault"
    )


def test_whole_numbers_are_no_weights(folder):
    name = "model.norm.weight"
    _edit_tensors(folder, lambda t: t.update({name: t[name].astype(np.int8)}))
    assert f"tensor {name} has type I8, which cannot be read" in _refusal(folder)


def test_a_tied_head_that_is_written_too(tmp_path):
    folder = shutil.copytree(HERE / "llama", tmp_path / "model")
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    _edit_tensors(folder, lambda t: t.update({"lm_head.weight": embedding.copy()}))
    assert load(folder).config.tied
    _edit_tensors(folder, lambda t: t.update({"lm_head.weight": embedding + 1}))
    assert "lm_head.weight differs from model.embed_tokens.weight" in _refusal(folder)
    _edit_config(folder, tie_word_embeddings=False)
    assert "head" in load(folder).params


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_weight_that_is_no_number_is_refused_by_name(folder, value, dtype):
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name][1, 2] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=f"tensor {name} holds values that are infinite or NaN"
    ):
        load(folder, dtype)


def test_truncated_and_absent_files(folder, tmp_path):
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    for size in (0, 5, 300, len(data) - 4):
        weights.write_bytes(data[:size])
        assert f"{weights} is not a whole safetensors file" in _refusal(folder)
    weights.unlink()
    assert "holds neither model.safetensors nor" in _refusal(folder)
    (folder / "config.json").write_text("{")
    assert "config.json: is not JSON" in _refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json is missing" in _refusal(folder)
    for source in (
        tmp_path / "nothing",
        "nothing",
        "no/such/folder",
        tmp_path / "nothing.gguf",
    ):
        assert (
            "is not there; give a folder of safetensors, a .gguf file, a hub id"
            in _refusal(source)
        )
    weights.write_bytes(data)
    assert "is a file but not a .gguf" in _refusal(weights)


def test_an_unreachable_hub_is_one_line(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise ConnectionError("no route there\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    line = _refusal("some-owner/some-model")
    assert (
        line == "model 'some-owner/some-model' is not a folder here and cannot be "
        "downloaded from the hub: no route there"
    )


@pytest.mark.parametrize(
    "values, wanted",
    [
        (
            {"model_type": "mamba"},
            "model_type 'mamba' is not supported; there are: llama, qwen2, qwen3",
        ),
        ({"hidden_size": None}, "hidden_size = None must be a positive integer"),
        ({"hidden_act": "relu"}, "activation 'relu' is not supported"),
        ({"use_sliding_window": True}, "use_sliding_window = True is not supported"),
        (
            {"rope_parameters": {"rope_type": "longrope"}},
            "rope type 'longrope' is not supported",
        ),
        (
            {"rope_parameters": {"rope_type": "default", "mrope_section": [8, 8]}},
            "setting mrope_section",
        ),
        ({"logit_scale": 0.5}, "logit_scale = 0.5 is not supported"),
        ({"num_local_experts": 8}, "num_local_experts = 8 is not supported"),
        (
            {"rope_parameters": {"rope_type": "llama3", "factor": 2.0}},
            "'llama3' has no 'low_freq_factor'",
        ),
    ],
)
def test_configs_that_are_refused(folder, values, wanted):
    _edit_config(folder, **values)
    assert wanted in _refusal(folder)


def test_both_layouts_of_rotary_settings_are_read():
    new = json.loads((HERE / "llama" / "config.json").read_text())
    rope = new.pop("rope_parameters")
    old = new | {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    config = load(HERE / "llama").config
    assert model_config(old, "old") == config and config.rope_scaling.original == 128
    assert model_config(config_json(config, (1, 2)), "ours") == config


def test_stop_tokens_are_a_set(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 3]}')
    _edit_config(folder, eos_token_id=5)
    assert load(folder).stop_tokens == (3, 5, 7)


def test_a_model_without_tokenizer_takes_ids_only(folder):
    model = load(folder)
    assert model.tokenizer is None and not model.chat
    with pytest.raises(UserError, match="has no tokenizer"):
        model.encode("text")


def test_without_a_template_messages_are_read_in_their_plain_form(tiny_model):
    said = ["a?", "b\nAnswer: 1", "c?", "Answer: 2", "d?"]
    roles = ["user", "assistant"] * 2 + ["user"]
    messages = [
        {"role": role, "content": content} for role, content in zip(roles, said)
    ]
    text = tiny_model.decode(tiny_model.encode(messages))
    assert text == (
        "Question: a?\nSolution: b\nAnswer: 1\n\n"
        "Question: c?\nSolution:\nAnswer: 2\n\nQuestion: d?\nSolution:"
    )
    system = [{"role": "system", "content": "Be brief."}, *messages]
    assert tiny_model.decode(tiny_model.encode(system)) == f"Be brief.\n\n{text}"


def test_an_unknown_type_is_refused():
    with pytest.raises(
        UserError,
        match="dtype 'float16' is not supported; there are: float32, bfloat16",
    ):
        load(HERE / "qwen2", "float16")
