"""Folders of multimodal Gemma 3 are read as their text model, in all namings."""

import json

import numpy as np
import pytest
from conftest import random_params
from safetensors.numpy import load_file, save_file

from fr.errors import UserError
from fr.models import ModelConfig, load, save

SHAPE = ModelConfig(
    vocab=48, width=16, layers=6, heads=8, kv_heads=4, head_dim=256, ff=24, gelu=True,
    scaled_embedding=True, unit_offset=True, post_norms=True, qk_norm=True,
    query_scale=256**-0.5, window=8, full_every=6, local_rope_theta=1e4,
    rope_theta=1e6, norm_eps=1e-6, max_positions=131072,
)  # fmt: skip
# What the published 4B says of its text model, and no more.
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 6,
    "sliding_window": 8,
    "vocab_size": 48,
}
NAMES = {
    "old": lambda name: f"language_model.{name}",
    "new": lambda name: name.replace("model.", "model.language_model.", 1),
}


def _folder(path, name):
    save(path, SHAPE, random_params(SHAPE))
    tensors = {name(k): v for k, v in load_file(path / "model.safetensors").items()}
    vision = {"vision_tower.vision_model.post_layernorm.weight": np.ones(3, np.float32)}
    save_file(tensors | vision, path / "model.safetensors")
    whole = {
        "model_type": "gemma3",
        "text_config": TEXT | {"model_type": "gemma3_text"},
        "vision_config": {},
    }
    (path / "config.json").write_text(json.dumps(whole | {"eos_token_id": [1, 5]}))
    return path


@pytest.mark.parametrize("naming", NAMES)
def test_a_multimodal_folder_is_its_text_model(tmp_path, naming):
    save(tmp_path / "text", SHAPE, random_params(SHAPE), stop_tokens=(1, 5))
    wanted, got = (
        load(tmp_path / "text"),
        load(_folder(tmp_path / "whole", NAMES[naming])),
    )
    assert got.config == wanted.config and got.stop_tokens == (1, 5)
    tokens = np.arange(20)[None]
    np.testing.assert_array_equal(got.logits(tokens), wanted.logits(tokens))


def test_a_tensor_that_is_not_there_is_named_as_of_the_language_model(tmp_path):
    folder = _folder(tmp_path / "a", NAMES["old"])
    tensors = load_file(folder / "model.safetensors")
    del tensors["language_model.model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=r"language_model\): tensor model.norm.weight is missing"
    ):
        load(folder)


def test_a_tied_folder_with_the_head_alone_loads(tmp_path):
    save(tmp_path, SHAPE, random_params(SHAPE))
    tensors = load_file(tmp_path / "model.safetensors")
    wanted = load(tmp_path).params["embed"]["embedding"]
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path).params["embed"]["embedding"], wanted)
