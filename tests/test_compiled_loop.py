"""The compiled decoding loop: it copies neither its cache nor its weights."""

import importlib.util

import jax
import pytest

from fr.compiling.abstract import bytes_of
from fr.compiling.sampler_programs import Asked, _Engine
from fr.compiling.slices import open_slice, types_of
from fr.compiling.traffic import read_work
from fr.config import ATTENTION, SamplingConfig
from fr.models.config import ModelConfig

# Weights and arrays of the cache far above logits, states and entries of a chunk.
SHAPE = ModelConfig(
    vocab=256, width=256, layers=3, heads=4, kv_heads=2, head_dim=128, ff=1024
)
CACHE = 8 * 2 * 512 * 128  # elements of a layer's keys


def _has(*modules: str) -> bool:
    try:
        return all(importlib.util.find_spec(name) for name in modules)
    except ModuleNotFoundError:
        return False


KINDS = [
    "cpu",
    pytest.param(
        "v5e:2x2", marks=pytest.mark.skipif(not _has("libtpu"), reason="no compiler")
    ),
    pytest.param(
        "h200",
        marks=pytest.mark.skipif(
            not _has("jax_plugins.xla_cuda12"), reason="no compiler"
        ),
    ),
]


@pytest.mark.parametrize("attention", ["", "ragged"])
@pytest.mark.parametrize("topology", KINDS)
def test_a_chunk_copies_neither_cache_nor_weights(topology, attention):
    place = open_slice(topology)
    if (place.platform, attention) == ("cpu", "ragged"):
        pytest.skip("refused on a CPU")
    before = ATTENTION.set(attention)
    with types_of(place.platform):
        asked = Asked(SHAPE, 256, 256, statistics=False)
        settings = SamplingConfig(slots=8, chunk=4)
        engine = _Engine(asked, settings, place.sampler("one", 1))
        # As in a run: with less effort a TPU's compiler copies some weights.
        lowered = engine.decode().lower()
    ATTENTION.reset(before)
    compiled = lowered.compile()
    work = read_work(text := compiled.as_text())
    kernels = text.count('"tpu_custom_call"') + text.count('"__cudnn$fmhaSoftmax"')
    each = 1 if place.platform == "tpu" else SHAPE.layers
    assert kernels == each * (attention == "ragged")
    item = jax.tree.leaves(engine.params)[0].dtype.itemsize
    small = item * SHAPE.width * SHAPE.width
    large = [key for key in work.copies if key[2] >= small]
    assert not large
    # The cache is there once, and temporaries are smaller than one layer's keys.
    memory = compiled.memory_analysis()
    cache = 2 * SHAPE.layers * CACHE * item
    assert memory.alias_size_in_bytes >= cache
    assert memory.temp_size_in_bytes < 4 * CACHE * item
    moved = work.bytes / settings.chunk
    assert moved < 1.6 * (bytes_of(engine.params) + cache)
