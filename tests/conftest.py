"""What several test files share: a tiny random decoder, and a tokenizer of single characters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fr.models import Model, ModelConfig
from fr.models.weights import shapes

CHARACTERS = "\n 0123456789+-*/()=<>.,:?" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def random_params(config: ModelConfig, seed: int = 0) -> dict:
    """Random float32 parameters: drawn by numpy, because compiling their initialisation takes seconds."""
    draw = np.random.default_rng(seed)
    flat = {path: 0.2 * draw.standard_normal(shape, np.float32) for path, shape in shapes(config).items()}
    # Around what leaves a norm's input alone.
    flat = {path: leaf + ("scale" in path and not config.unit_offset) for path, leaf in flat.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.fixture(scope="session")
def char_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; `<eos>` ends a text."""
    vocab = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def tiny_config(char_tokenizer) -> ModelConfig:
    """Two layers, grouped queries, a head size that is not width / heads."""
    return ModelConfig(
        vocab=len(char_tokenizer), width=32, layers=2, heads=4, kv_heads=2, head_dim=16, ff=48, max_positions=512
    )


@pytest.fixture(scope="session")
def tiny_params(tiny_config) -> dict:
    """Random float32 parameters of `tiny_config`."""
    return jax.tree.map(jnp.asarray, random_params(tiny_config))


@pytest.fixture(scope="session")
def tiny_model(tiny_config, tiny_params, char_tokenizer) -> Model:
    """The tiny decoder as `load` would hand it out."""
    return Model(tiny_config, tiny_params, char_tokenizer, (char_tokenizer.eos_token_id,), "tiny")
