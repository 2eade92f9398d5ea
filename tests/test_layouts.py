"""Caches and layers in the layout of every platform: the same tokens and statistics."""

import dataclasses

import numpy as np
import pytest

from fr.models import layouts
from fr.models.transformer import Transformer
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.types import Probe, Request

OTHERS = ("gpu", "tpu")


def _requests(count: int = 7) -> list[Request]:
    """More rows than slots, of different lengths; two share a prompt."""
    draw = np.random.default_rng(3)
    prompts = [tuple(draw.integers(0, 60, 3 + 4 * i).tolist()) for i in range(count)]
    prompts[1] = prompts[0]
    return [
        Request(str(i), prompt, row_key(0, str(i)), {"budget": 9 + 5 * (i % 3)})
        for i, prompt in enumerate(prompts)
    ]


def _sampled(monkeypatch, platform: str, config, params, **given):
    monkeypatch.setitem(layouts.LAYOUTS, "cpu", layouts.LAYOUTS[platform])
    model = Transformer(config)
    engine = Engine(
        model, params, slots=4, chunk=5, prefill=2, devices=Devices("one"), **given
    )
    plan = lambda row, tokens: Probe(
        cuts=(0, len(tokens)), cue=(5,), answers={"gold": ((7, 8), (7, 9))}
    )
    return engine.sample(_requests(), 64, probe_plan=plan)


@pytest.mark.parametrize("platform", OTHERS)
@pytest.mark.parametrize("with_ancestor", [False, True])
def test_every_layout_gives_the_same_rows(
    monkeypatch, platform, with_ancestor, tiny_config, tiny_params
):
    config = dataclasses.replace(tiny_config, window=6, full_every=2)
    given = {}
    if with_ancestor:
        given = {"ancestor": Transformer(config), "ancestor_params": tiny_params}
    args = config, tiny_params
    wanted = _sampled(monkeypatch, "cpu", *args, **given)
    found = _sampled(monkeypatch, platform, *args, **given)
    for one, other in zip(found, wanted):
        np.testing.assert_array_equal(one.tokens, other.tokens, err_msg=one.row.id)
        np.testing.assert_allclose(one.sample_logp, other.sample_logp, atol=1e-4)
        for name, values in other.stats.items():
            np.testing.assert_allclose(one.stats[name], values, atol=2e-4, err_msg=name)
        for name, logp in other.confidence.logp.items():
            np.testing.assert_allclose(one.confidence.logp[name], logp, atol=1e-4)
