"""Parameters lie where the table says; a process reads its devices' slices once."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import gguf
import jax
import numpy as np
import pytest
from conftest import random_params
from gguf_files import write_gguf
from jax.sharding import Mesh
from safetensors.numpy import load_file

from fr.models import ModelConfig, load, save, sharding
from fr.models.safetensors import SafetensorsFolder
from fr.models.weight_table import shapes
from fr.models.weights import assemble, disassemble

# One kv head: what belongs to it cannot be divided.
CONFIG = ModelConfig(
    vocab=64,
    width=32,
    layers=2,
    heads=4,
    kv_heads=1,
    head_dim=16,
    ff=64,
    tied=False,
    qkv_bias=True,
)
WHOLE = (
    "norm",
    "k_proj",
    "v_proj",
)  # in the names of tensors that both halves of the model axis read


def work(process: int, port: int, folder: str, out: str) -> None:
    """In one of two processes with two devices: load over all, then over its own."""
    jax.distributed.initialize(f"localhost:{port}", 2, process)
    read, reads = SafetensorsFolder.read, []
    SafetensorsFolder.read = lambda self, name, index: (
        reads.append((name, index)) or read(self, name, index)
    )
    # Model half i is on the devices of process i, a data shard on each of them.
    everywhere = Mesh(np.array(jax.devices()).reshape(2, 2).T, sharding.AXES)
    here = Mesh(np.array(jax.local_devices()).reshape(1, 2), sharding.AXES)
    seen = {}
    for name, mesh, stacked in (("global", everywhere, True), ("local", here, False)):
        whole = load(folder, "float32", stacked=stacked).params
        reads.clear()
        _same_slices(load(folder, "float32", mesh, stacked).params, whole)
        seen[name] = [
            (name, [(s.start, s.stop) for s in index]) for name, index in reads
        ]
    _same_slices(
        load(f"{folder}/a.gguf", mesh=here).params, load(f"{folder}/a.gguf").params
    )
    Path(out).write_text(json.dumps(seen))


def _same_slices(divided, whole) -> None:
    assert jax.tree.structure(divided) == jax.tree.structure(whole)
    for leaf, wanted in zip(jax.tree.leaves(divided), jax.tree.leaves(whole)):
        assert leaf.shape == wanted.shape and leaf.dtype == wanted.dtype
        for part in leaf.addressable_shards:
            np.testing.assert_array_equal(part.data, np.asarray(wanted)[part.index])


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    """A folder's tensors, and the reads of each element by (mesh, process, name)."""
    folder = tmp_path_factory.mktemp("sharding")
    save(folder, CONFIG, random_params(CONFIG))
    plain = dataclasses.replace(CONFIG, vocab=320, qkv_bias=False)
    write_gguf(
        folder / "a.gguf",
        plain,
        random_params(plain),
        quantised=gguf.GGMLQuantizationType.Q8_0,
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parent
    env = {
        **os.environ,
        "XLA_FLAGS": os.environ["XLA_FLAGS"]
        + " --xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    env["PYTHONPATH"] = os.pathsep.join(
        [str(here.parent), str(here), env.get("PYTHONPATH", "")]
    )
    outs = [folder / f"{i}.json" for i in range(2)]
    codes = [
        "import test_sharding; "
        f"test_sharding.work({i}, {port}, {str(folder)!r}, {str(out)!r})"
        for i, out in enumerate(outs)
    ]
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=env) for code in codes
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    written, times = load_file(folder / "model.safetensors"), {}
    for process, out in enumerate(outs):
        for mesh, reads in json.loads(out.read_text()).items():
            counts = times[mesh, process] = {
                name: np.zeros(t.shape, int) for name, t in written.items()
            }
            for name, index in reads:
                counts[name][tuple(slice(*ends) for ends in index)] += 1
    return times


def test_a_process_reads_its_half_of_the_model_axis(tensors):
    first, second = tensors["global", 0], tensors["global", 1]
    for name in first:
        if any(part in name for part in WHOLE):
            assert (first[name] == 1).all() and (second[name] == 1).all(), name
        else:
            assert (
                first[name].mean() == 0.5 and (first[name] + second[name] == 1).all()
            ), name


@pytest.mark.parametrize("process", [0, 1])
def test_devices_of_one_process_share_a_reading(tensors, process):
    for name, count in tensors["local", process].items():
        assert (count == 1).all(), name


def test_only_norms_and_what_does_not_divide_are_whole():
    config = dataclasses.replace(CONFIG, kv_heads=2, qk_norm=True, post_norms=True)
    for parts in (1, 2, 4):
        for path, shape in shapes(config).items():
            single = path.replace("layers/", "layers/7/"), shape[1:]
            for names, size in (
                (path, shape),
                *([single] if "layers/" in path else []),
            ):
                divided = "model" in sharding.spec(names, size, parts)
                kv = any(f"attention/{name}/" in names for name in "kv")
                assert divided == (
                    parts > 1 and "scale" not in names and (parts == 2 or not kv)
                ), names


def test_the_axis_that_is_divided_is_heads_neurons_or_tokens():
    sizes = {"heads": 4, "ff": 64, "vocab": 96}
    config = dataclasses.replace(CONFIG, **sizes, kv_heads=4)
    for path, shape in shapes(config).items():
        for size, name in zip(shape, sharding.spec(path, shape, 2)):
            assert name is None or size in sizes.values(), path


@pytest.mark.parametrize("tied", [True, False])
def test_layers_of_their_own_are_saved_as_a_stack_is(tmp_path, tied):
    config = dataclasses.replace(CONFIG, tied=tied)
    save(tmp_path, config, random_params(config))
    stack, layers = (
        load(tmp_path, "float32", stacked=stacked).params for stacked in (True, False)
    )
    assert len(layers["layers"]) == config.layers
    jax.tree.map(
        lambda each, *parts: np.testing.assert_array_equal(each, np.stack(parts)),
        stack["layers"],
        *layers["layers"],
    )
    given = [
        {name: read() for name, _, read in disassemble(config, params)}
        for params in (stack, layers)
    ]
    jax.tree.map(np.testing.assert_array_equal, *given)
    with pytest.raises(
        ValueError,
        match="the config wants parameter layers/attention/q/kernel of shape",
    ):
        list(disassemble(dataclasses.replace(config, layers=3), layers))


@pytest.mark.parametrize("stacked", [True, False])
def test_a_load_holds_a_model_once(tmp_path, stacked):
    config = ModelConfig(
        vocab=256, width=128, layers=8, heads=4, kv_heads=2, head_dim=32, ff=256
    )
    save(tmp_path, config, random_params(config))
    file = SafetensorsFolder(tmp_path, config.tied)
    assemble(config, file, "float32", stacked=stacked)
    tracemalloc.start()
    params = assemble(config, file, "float32", stacked=stacked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert size <= peak <= 1.2 * size


def test_a_cpu_device_adopts_a_host_buffer():
    for shape, dtype in (((3, 5), np.float32), ((1000, 7), "bfloat16")):
        values = sharding.host_buffer(shape, dtype)
        values[...] = 1
        leaf = jax.device_put(values, jax.devices("cpu")[0])
        assert (
            leaf.unsafe_buffer_pointer() == values.ctypes.data and leaf.shape == shape
        )
