"""Checkpoints of a training run as models, adapters merged, and their exports."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fr.config import LoraConfig
from fr.errors import UserError
from fr.models import load, save
from fr.models.dense import merge
from fr.models.orbax import save_outline
from fr.models.transformer import Transformer
from fr.training.checkpoints import Checkpoints
from fr.training.lora import init_adapters, lora_context
from fr.training.update import TrainState

LORA = LoraConfig(rank=3, alpha=6.0, targets=("q", "o", "gate", "down"))
TOKENS = np.arange(5, 25).reshape(2, 10)


def keep(folder, params) -> str:
    """A checkpoint of step 40 with parameters or adapters, and an optimiser's state."""
    checkpoints = Checkpoints(folder / "checkpoints", 1)
    checkpoints.save(
        40, TrainState(jnp.int32(40), params, optax.adam(1e-3).init(params))
    )
    checkpoints.close()
    return str(folder / "checkpoints" / "40")


@pytest.fixture(scope="module")
def full(tiny_model, tmp_path_factory):
    """A checkpoint of all parameters."""
    folder = tmp_path_factory.mktemp("run") / "specialist"
    save_outline(folder, tiny_model)
    return keep(folder, tiny_model.params)


@pytest.fixture(scope="module")
def adapters(tiny_config):
    """Adapters that change something."""
    fresh = init_adapters(tiny_config, LORA, jax.random.key(0))
    draw = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(draw.normal(0, 0.2, x.shape), jnp.float32), fresh
    )


@pytest.fixture(scope="module")
def low_rank(tiny_model, adapters, tmp_path_factory):
    """A checkpoint of adapters, whose base is a folder."""
    folder = tmp_path_factory.mktemp("lora")
    save(folder / "base", tiny_model.config, tiny_model.params, tiny_model.tokenizer)
    save_outline(folder / "specialist", tiny_model, folder / "base", LORA)
    return keep(folder / "specialist", adapters)


def same(a, b) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_checkpoint_is_a_model(full, tiny_model):
    model = load(full, "float32")
    same(model.params, tiny_model.params)
    assert (
        model.config == tiny_model.config
        and model.stop_tokens == tiny_model.stop_tokens
    )
    assert model.encode("12 + 7") == tiny_model.encode("12 + 7")
    assert isinstance(load(full, stacked=False).params["layers"], tuple)


def test_adapters_are_merged_into_their_base(low_rank, tiny_model, adapters):
    model = load(low_rank, "float32")
    same(model.params, merge(tiny_model.params, adapters, LORA))
    inputs = (jnp.asarray(TOKENS), jnp.broadcast_to(jnp.arange(10), TOKENS.shape))
    with lora_context(LORA):
        beside, _ = Transformer(tiny_model.config).apply(
            {"params": tiny_model.params, "lora": adapters}, *inputs
        )
    np.testing.assert_allclose(model.logits(TOKENS), beside, atol=1e-4)
    assert np.abs(model.logits(TOKENS) - tiny_model.logits(TOKENS)).max() > 0.01


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["full", "low_rank"])
def test_transformers_reads_the_export_alike(kind, request, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    ours = load(request.getfixturevalue(kind), "float32")
    save(tmp_path, ours.config, ours.params, ours.tokenizer, ours.stop_tokens)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    with torch.no_grad():
        logits = theirs(torch.tensor(TOKENS)).logits.numpy()
    np.testing.assert_allclose(ours.logits(TOKENS), logits, atol=1e-4)
    # What is read back is what was written, to the bit.
    same(load(tmp_path, "float32").params, ours.params)


def test_what_is_no_checkpoint_of_a_model_is_refused(full, tiny_model, tmp_path):
    def refusal(source) -> str:
        with pytest.raises(UserError) as caught:
            load(source)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    copy = shutil.copytree(f"{full}/..", tmp_path / "run" / "checkpoints") / "40"
    assert "outline, which describes its model, is missing" in refusal(copy)
    assert refusal(copy.parent).endswith("is a folder of checkpoints; name one of: 40")
    wider = dataclasses.replace(
        tiny_model, config=dataclasses.replace(tiny_model.config, width=40)
    )
    save_outline(tmp_path / "run", wider)
    assert "does not fit its outline" in refusal(copy)
    (copy / "default" / "_METADATA").unlink()
    assert "cannot be read as a checkpoint" in refusal(copy)
