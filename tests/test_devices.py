"""One device, pmap, shard_map and divided models give the same rollouts and scores.

Four simulated devices, one process.
"""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from fr.errors import UserError
from fr.sampling.devices import Devices

# Kind, and devices that share a model: 2 data shards of 2 devices, and 1 of 4, over
# which two key-value heads do not divide.
CASES = {
    "one": ("one", 1),
    "pmap": ("pmap", 1),
    "shard_map": ("shard_map", 1),
    "2 x 2": ("shard_map", 2),
    "1 x 4": ("auto", 4),
}
DIVIDED = ("2 x 2", "1 x 4")
STEERED = ("one", "pmap", "2 x 2")
ROWS, VOCAB, WIDTH = 3, 40, 16


def work(out: str) -> None:
    """In the subprocess: rollouts and scores of 16 rows per case, with an ancestor."""
    from conftest import random_params, row

    from fr.models import ModelConfig
    from fr.models.transformer import Transformer
    from fr.sampling import steering
    from fr.sampling.engine import Engine
    from fr.sampling.scoring import Scorer

    config = ModelConfig(
        vocab=VOCAB, width=WIDTH, layers=2, heads=4, kv_heads=2, head_dim=8, ff=24
    )
    model, params = Transformer(config), random_params(config)
    near = jax.tree.map(
        lambda a, b: 0.8 * a + 0.2 * b, params, random_params(config, 1)
    )
    once = {"operator": steering.STEER_ONCE, "threshold": 0.2, "warmup": 2}
    todo = [
        row(
            str(i),
            range(1, 2 + 3 * i % 17),
            temperature=0.5 + i / 9,
            budget=3 + 5 * i % 14,
            **(once if i % 2 else {}),
        )
        for i in range(16)
    ]
    arrays = {}
    for case, (kind, parts) in CASES.items():
        devices = Devices(kind, model=parts)
        assert devices.count == (1 if kind == "one" else 4 // parts)
        both = {"ancestor": model, "ancestor_params": near, "devices": devices}
        engine = Engine(model, params, **both, slots=ROWS, chunk=4, prefill=2)
        steps = watch(engine)
        rollouts = engine.sample(todo, 64)
        scores = Scorer(model, params, **both, rows=3).score(
            [[*r.row.prompt, *r.tokens] for r in rollouts],
            [len(r.row.prompt) for r in rollouts],
        )
        join = lambda parts: np.concatenate(list(parts))
        for field in ("tokens", "fired", "sample_logp"):
            arrays[f"{case}/{field}"] = join(getattr(r, field) for r in rollouts)
        for field in engine.fields:
            arrays[f"{case}/loop {field}"] = join(r.stats[field] for r in rollouts)
            arrays[f"{case}/score {field}"] = join(s[field] for s in scores)
        if case in DIVIDED:
            decode, arguments = steps
            arrays[f"{case} share"] = [share(arguments[0]), share(arguments[1].cache)]
            for kind, sizes in exchanged(
                decode.lower(*arguments).compile().as_text()
            ).items():
                arrays[f"{case} {kind}"] = sizes
    for case in STEERED:
        devices = Devices(CASES[case][0], model=CASES[case][1])
        for name, value in steered(model, params, devices).items():
            arrays[f"steered {case}/{name}"] = value
    np.savez(out, **arrays)


def steered(model, params, devices) -> dict:
    """Tokens and confidence of rows that different vectors steer, in one engine."""
    from conftest import row

    from fr.sampling.engine import Engine
    from fr.types import Probe

    shape = (model.config.layers, 3, WIDTH)
    table = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    table[:, 0] = 0.0
    engine = Engine(
        model, params, slots=ROWS, chunk=4, prefill=2, devices=devices, vectors=table
    )
    todo = [
        row(str(i), range(1, 6), budget=3 + i, vector=i % 3, vector_strength=0.3 * i)
        for i in range(12)
    ]
    plan = lambda row, tokens: Probe((0, len(tokens)), (7,), {"own": ((8, 9),)})
    rollouts = engine.sample(todo, 64, probe_plan=plan)
    confidence = [r.confidence.logp["own"].ravel() for r in rollouts]
    return {
        "tokens": np.concatenate([r.tokens for r in rollouts]),
        "logp": np.concatenate([r.stats["logp"] for r in rollouts]),
        "confidence": np.concatenate(confidence),
    }


def watch(engine) -> list:
    """The engine's decoding program, and its arguments as shapes once it has run.

    Arrays of the same shapes have the same shardings at every call: others would
    compile the program again.
    """
    seen, known = [engine._batch._programs.decode], {}
    place = lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=getattr(x, "sharding", None)
    )

    def spied(name: str, program):
        def call(*arguments):
            placed = jax.tree.map(place, arguments)
            leaves = jax.tree.leaves(placed)
            assert (
                known.setdefault((name, *(x.shape for x in leaves)), leaves) == leaves
            )
            if name == "decode":
                seen[1:] = [placed]
            return program(*arguments)

        return call

    programs = engine._batch._programs
    for name in ("insert", "decode"):
        setattr(programs, name, spied(name, getattr(programs, name)))
    prefill = programs.prefill
    programs.prefill = lambda size: spied(f"prefill {size}", prefill(size))
    return seen


def share(tree) -> float:
    """The part of one data shard's arrays that is on one of its devices."""
    leaves = [x for x in jax.tree.leaves(tree) if x.ndim]
    data = lambda x: x.shape[0] if "data" in x.sharding.spec else 1
    whole = sum(math.prod(x.shape) / data(x) for x in leaves)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) for x in leaves) / whole


def exchanged(hlo: str) -> dict[str, list[int]]:
    """Elements that devices exchange in a program's loop and branches, by kind."""
    inside = re.sub(r"^ENTRY .*?^}", "", hlo, flags=re.DOTALL | re.MULTILINE)
    found = {}
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    for shapes, kind in re.findall(rf"= (.*) ({kinds})(?:-start)?\(", inside):
        sizes = [
            math.prod(map(int, dims.split(",")))
            for dims in re.findall(r"\[([\d,]+)\]", shapes)
        ]
        found.setdefault(kind, []).extend(sizes)
    return found


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """The results that `work` wrote."""
    out = tmp_path_factory.mktemp("devices") / "out.npz"
    here = Path(__file__).parent
    # Unoptimised code compiles a third faster, and the programs are the same.
    flags = (
        "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    )
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join(
        [str(here.parent), str(here), env.get("PYTHONPATH", "")]
    )
    code = f"import test_devices; test_devices.work({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=600)
    return dict(np.load(out))


@pytest.mark.parametrize("case", list(CASES)[1:])
def test_several_devices_are_one(arrays, case):
    fields = [key.split("/")[1] for key in arrays if key.startswith("one/")]
    assert len(fields) == 3 + 2 * 15
    for field in fields:
        given, wanted = arrays[f"{case}/{field}"], arrays[f"one/{field}"]
        if field in ("tokens", "fired"):
            np.testing.assert_array_equal(given, wanted, err_msg=field)
        # A plain and a partitioned program are fused differently, which shows in the
        # last bits; two partitioned ones are one program.
        atol = 1e-4 if "z_path" in field else 1e-5
        np.testing.assert_allclose(given, wanted, atol=atol, rtol=1e-5, err_msg=field)
        if case not in DIVIDED:
            np.testing.assert_array_equal(given, arrays[f"pmap/{field}"], err_msg=field)


@pytest.mark.parametrize("case", STEERED[1:])
def test_rows_that_vectors_steer_are_the_same_on_several_devices(arrays, case):
    for field in ("tokens", "logp", "confidence"):
        given, wanted = (arrays[f"steered {c}/{field}"] for c in (case, "one"))
        np.testing.assert_allclose(given, wanted, atol=1e-5, rtol=1e-5, err_msg=field)


def test_the_rows_that_were_compared_do_something(arrays):
    assert arrays["one/fired"].sum() >= 4
    assert len(set(arrays["one/tokens"].tolist())) > 20


def test_a_divided_model_is_divided(arrays):
    # Norms are whole everywhere, and what belongs to two kv heads is on four devices.
    (params, cache), (params_of_four, cache_of_four) = (
        arrays[f"{case} share"] for case in DIVIDED
    )
    assert 1 / 2 < params < 0.53 and 1 / 4 < params_of_four < 0.4
    assert cache == 1 / 2 and cache_of_four == 1


@pytest.mark.parametrize("case", DIVIDED)
def test_a_step_exchanges_states_and_logits_only(arrays, case):
    # Each model's logits are gathered once. A branch with a collective could wait
    # forever for a data shard whose rows take the other branch.
    assert {key for key in arrays if key.startswith(f"{case} ")} == {
        f"{case} {what}" for what in ("share", "all-gather", "all-reduce")
    }
    assert arrays[f"{case} all-gather"].tolist() == [ROWS * VOCAB] * 2
    assert set(arrays[f"{case} all-reduce"].tolist()) == {ROWS * WIDTH}


def test_what_cannot_be_divided_is_explained():
    local = jax.local_devices()[:1]
    with pytest.raises(
        UserError, match="sampling.model_axis = 2 does not divide the 1 local devices"
    ):
        Devices(devices=local, model=2)
    with pytest.raises(
        UserError, match="with sampling.model_axis = 2 use shard_map or auto"
    ):
        Devices("pmap", local * 2, model=2)


def test_an_unknown_kind_is_explained():
    with pytest.raises(UserError, match="auto, one, pmap, shard_map"):
        Devices("two")
