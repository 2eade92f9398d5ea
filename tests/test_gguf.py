"""A GGUF file gives the model, tokenizer and stop tokens that it was made from."""

import dataclasses

import gguf
import jax
import numpy as np
import pytest
from conftest import random_params
from gguf_files import byte_level_vocabulary, sentencepiece_vocabulary, write_gguf

from fr.errors import UserError
from fr.models import load
from fr.models.config import RopeScaling, rotary
from fr.models.gguf import unpermute

Q = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(
        tiny_config, vocab=len(sentencepiece_vocabulary()[0]), norm_eps=2**-17
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, config, random_params(config))
    return path


def _refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unpermute_undoes_the_conversion():
    from gguf_files import permute

    weight = np.arange(4 * 8 * 3.0).reshape(32, 3)
    np.testing.assert_array_equal(unpermute(permute(weight, 4), head_dim=8), weight)


@pytest.mark.parametrize("arch, traits", [
    ("llama", {}),
    ("llama", {"tied": False}),
    ("qwen2", {"qkv_bias": True}),
    ("qwen3", {"qk_norm": True}),
])  # fmt: skip
def test_parameters_come_back(tmp_path, config, arch, traits):
    config = dataclasses.replace(config, **traits)
    params = random_params(config, 1)
    write_gguf(tmp_path / "a.gguf", config, params, arch)
    model = load(tmp_path / "a.gguf", "float32")
    assert model.config == config
    jax.tree.map(np.testing.assert_array_equal, model.params, params)


def test_gemma_comes_back(tmp_path, config):
    gemma = {
        "gelu": True,
        "scaled_embedding": True,
        "unit_offset": True,
        "post_norms": True,
    }
    own = {
        "window": 24,
        "full_every": 2,
        "attention_softcap": 50.0,
        "logit_softcap": 30.0,
        "query_scale": 0.25,
    }
    config = dataclasses.replace(config, **gemma, **own)
    params = random_params(config, 1)
    write_gguf(tmp_path / "a.gguf", config, params, "gemma2", kind="llama")
    model = load(tmp_path / "a.gguf", "float32")
    assert model.config == config
    # The 1 that the conversion adds to a norm costs its last bits.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), model.params, params
    )


@pytest.mark.parametrize("kind", [Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_1])
def test_quantised_types_come_near(tmp_path, config, kind):
    wide = dataclasses.replace(config, width=64, ff=64)
    params = random_params(wide, 1)
    write_gguf(tmp_path / "a.gguf", wide, params, quantised=kind)
    read = load(tmp_path / "a.gguf", "float32").params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.08), read, params)


def test_llama3_scaling_is_recovered_from_its_factors(tmp_path, config):
    scaled = dataclasses.replace(
        config, rope_theta=5e5, rope_scaling=RopeScaling(32.0, 1.0, 4.0, 8192)
    )
    plain = dataclasses.replace(scaled, rope_scaling=None)
    factors = rotary(plain)[0] / rotary(scaled)[0]
    add = lambda factors: lambda writer: writer.add_tensor("rope_freqs.weight", factors)
    write_gguf(tmp_path / "a.gguf", scaled, random_params(scaled), edit=add(factors))
    found = load(tmp_path / "a.gguf").config.rope_scaling
    assert dataclasses.astuple(found)[:4] == pytest.approx(
        (32.0, 1.0, 4.0, 8192), rel=1e-5
    )
    write_gguf(
        tmp_path / "b.gguf", scaled, random_params(scaled), edit=add(factors * 1.1)
    )
    assert "rope_freqs.weight is not a Llama-3 scaling" in _refusal(tmp_path / "b.gguf")


def test_byte_level_tokenizer(file):
    model, vocab = load(file), {t: i for i, t in enumerate(byte_level_vocabulary()[0])}
    ids = lambda *tokens: tuple(vocab[t] for t in tokens)
    assert model.encode("hello wor") == ids("hello", "Ġwor")
    # Digits stand alone, so the space before them joins the spaces, not the digit.
    assert model.encode("  12") == ids("ĠĠ", "1", "2")
    assert model.encode("<|im_start|>he<think>") == ids("<|im_start|>", "he", "<think>")
    for text in ("naïve 😀\n\t x", "<think>12</think>", "  a  "):
        assert model.decode(model.encode(text)) == text
    assert model.decode(ids("he", "<|im_end|>")) == "he"
    assert model.decode(ids("he", "<|im_end|>"), special=True) == "he<|im_end|>"
    assert model.stop_tokens == (0, 2), "end of text and end of turn"


def test_chat_template(file):
    model = load(file)
    ids = model.encode([{"role": "user", "content": "hello"}])
    assert model.chat
    assert (
        model.decode(ids, special=True)
        == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids[0] == 1 and ids.count(2) == 1


def test_sentencepiece_tokenizer(tmp_path, config):
    write_gguf(tmp_path / "a.gguf", config, random_params(config), kind="llama")
    model, tokens = load(tmp_path / "a.gguf"), sentencepiece_vocabulary()[0]
    spelled = lambda text: [tokens[i] for i in model.encode(text)]
    # "▁t" and "he" score above "▁th", so they meet first.
    assert spelled("the other") == ["<s>", "▁the", "▁", "o", "t", "he", "r"]
    assert spelled("é€") == ["<s>", "▁", "é", "<0xE2>", "<0x82>", "<0xAC>"]
    for text in ("the  cat, in a hat!", "€ 12", "    indented"):
        assert model.decode(model.encode(text)) == text
    assert model.stop_tokens == (2,) and not model.chat


def test_truncated_files(file, tmp_path):
    data, cut = file.read_bytes(), tmp_path / "cut.gguf"
    for size in (0, 3, 20, 100, 5000, len(data) // 2, len(data) - 40):
        cut.write_bytes(data[:size])
        assert f"{cut} is not a whole GGUF file" in _refusal(cut)
    cut.write_bytes(b"\0" * 1000)
    assert f"{cut} is not a whole GGUF file" in _refusal(cut)


def test_files_that_are_refused(tmp_path, config):
    params, path = random_params(config), tmp_path / "a.gguf"
    write_gguf(path, config, params, arch="mamba")
    assert (
        "architecture 'mamba' is not supported; there are: llama, qwen2, qwen3"
        in _refusal(path)
    )
    extra = lambda writer: writer.add_tensor("blk.0.attn_sinks", np.ones(4, np.float32))
    write_gguf(path, config, params, edit=extra)
    assert "tensor blk.0.attn_sinks has no place" in _refusal(path)
    yarn = lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    write_gguf(path, config, params, edit=yarn)
    assert "rope of type 'yarn' has no 'factor'" in _refusal(path)
    write_gguf(path, config, params, arch="qwen2")
    assert "tensor blk.0.attn_q.bias is missing" in _refusal(path)


@pytest.mark.slow
def test_smollm2_reads_and_answers():
    model = load("smollm2")
    assert model.config.layers == 30 and model.chat and model.stop_tokens == (2,)
    logits = model.logits([model.encode("The capital of France is")])
    assert model.decode([int(logits[0, -1].argmax())]) == " Paris"
    text = "x = 12 * (3 + 40)\n\tdone <|im_end|> 😀"
    assert model.decode(model.encode(text), special=True) == text
