"""No id without an embedding, and no unsupported position, reaches a model."""

import dataclasses

import numpy as np
import pytest
from conftest import row

from fr.errors import UserError
from fr.models.config import RopeScaling
from fr.models.model import check_context
from fr.models.transformer import Transformer
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.scoring import Scorer


@pytest.mark.parametrize("given", [
    {"prompt": (5, 10**6)}, {"prompt": (5, -2)}, {"forced": (5, 999)}, {"stop": (999,)},
])  # fmt: skip
def test_an_id_outside_the_table_does_not_reach_the_sampler(plain_engine, given):
    with pytest.raises(UserError, match="row a gives id .*, and the embedding has"):
        plain_engine.sample([row("a", budget=4, **given)])


def test_an_id_outside_the_table_is_not_scored(tiny_config, tiny_params):
    scorer = Scorer(Transformer(tiny_config), tiny_params, devices=Devices("one"))
    with pytest.raises(
        UserError, match=f"gives id {tiny_config.vocab}, and the embedding has"
    ):
        scorer.score([[1, 2, tiny_config.vocab]], [1])


def test_a_tokenizer_that_is_larger_than_the_table_is_refused_at_encode(tiny_model):
    small = dataclasses.replace(
        tiny_model, config=dataclasses.replace(tiny_model.config, vocab=10)
    )
    with pytest.raises(UserError, match="tiny: its tokenizer gives id"):
        small.encode("z")


def test_rows_beyond_the_context_are_refused_before_the_first_token(
    tiny_config, tiny_params
):
    short = dataclasses.replace(tiny_config, max_positions=16)
    engine = Engine(
        Transformer(short), tiny_params, slots=2, chunk=4, devices=Devices("one")
    )
    with pytest.raises(
        UserError,
        match="row a: prompt and new tokens need 17 positions, the model has 16",
    ):
        engine.sample([row("a", budget=14)])
    assert engine.counts.prompts == 0


def test_a_context_is_what_the_rotary_scaling_reaches(tiny_model):
    of = lambda scaling: dataclasses.replace(tiny_model, config=dataclasses.replace(
        tiny_model.config, max_positions=64, rope_scaling=scaling))  # fmt: skip
    yarn = of(RopeScaling(4.0, 1.0, 32.0, 64, "yarn"))
    assert not check_context([yarn], 64, "a prompt", "config.x")
    assert "scaled beyond 64" in check_context([yarn], 256, "a prompt", "config.x")
    for model, length in (
        (yarn, 257),
        (of(None), 65),
        (of(RopeScaling(2.0, kind="dynamic")), 65),
    ):
        with pytest.raises(
            UserError,
            match=f"config.x need {length} positions, and tiny has .*; lower config.x",
        ):
            check_context([model], length, "a prompt", "config.x")


def test_longest_rows_fit_exactly(tiny_config, tiny_params):
    short = dataclasses.replace(tiny_config, max_positions=16)
    engine = Engine(
        Transformer(short), tiny_params, slots=2, chunk=4, devices=Devices("one")
    )
    assert len(engine.sample([row("a", budget=13)])[0].tokens) <= 13
    assert np.isfinite(engine.sample([row("a", budget=13)])[0].stats["logp"]).all()
