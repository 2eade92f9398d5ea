"""One device, pmap and shard_map give the same rollouts and scores: four simulated devices, one process."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from fr.errors import UserError
from fr.sampling.devices import Devices

KINDS = ("one", "pmap", "shard_map")


def work(out: str) -> None:
    """In the subprocess: rollouts and scores of 16 rows for every kind, with and without an ancestor."""
    from conftest import random_params, row

    from fr.models import ModelConfig
    from fr.models.transformer import Transformer
    from fr.sampling import steering
    from fr.sampling.engine import Engine
    from fr.sampling.scoring import Scorer

    config = ModelConfig(vocab=40, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, ff=24)
    model, params = Transformer(config), random_params(config)
    near = jax.tree.map(lambda a, b: 0.8 * a + 0.2 * b, params, random_params(config, 1))
    plain = [
        row(str(i), range(1, 2 + 3 * i % 17), temperature=0.5 + i / 9, budget=3 + 5 * i % 14)
        for i in range(16)
    ]
    once = {"operator": steering.STEER_ONCE, "threshold": 0.2, "warmup": 2}
    steered = [row(r.id, r.prompt, **r.params, **(once if i % 2 else {})) for i, r in enumerate(plain)]
    arrays = {}
    for kind in KINDS:
        devices = Devices(kind)
        assert devices.count == (1 if kind == "one" else 4)
        for second, todo in (({}, plain), ({"ancestor": model, "ancestor_params": near}, steered)):
            engine = Engine(model, params, **second, slots=3, chunk=4, prefill=2, devices=devices)
            rollouts = engine.sample(todo, 64)
            scorer = Scorer(model, params, **second, rows=3, devices=devices)
            scores = scorer.score(
                [[*r.row.prompt, *r.tokens] for r in rollouts], [len(r.row.prompt) for r in rollouts]
            )
            name = f"{kind}/{len(second)}"
            join = lambda parts: np.concatenate(list(parts))
            for field in ("tokens", "fired", "sample_logp"):
                arrays[f"{name}/{field}"] = join(getattr(r, field) for r in rollouts)
            for field in engine.fields:
                arrays[f"{name}/loop {field}"] = join(r.stats[field] for r in rollouts)
                arrays[f"{name}/score {field}"] = join(s[field] for s in scores)
    np.savez(out, **arrays)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """What `work` wrote."""
    out = tmp_path_factory.mktemp("devices") / "out.npz"
    here = Path(__file__).parent
    # Unoptimised code compiles a third faster, and the programs are the same.
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join([str(here.parent), str(here), env.get("PYTHONPATH", "")])
    code = f"import test_devices; test_devices.work({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=300)
    return dict(np.load(out))


@pytest.mark.parametrize("models", [0, 2])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_several_devices_are_one(arrays, kind, models):
    fields = [key.split("/")[2] for key in arrays if key.startswith(f"one/{models}/")]
    assert len(fields) == 3 + 2 * (15 if models else 8)
    for field in fields:
        given, wanted = arrays[f"{kind}/{models}/{field}"], arrays[f"one/{models}/{field}"]
        if field in ("tokens", "fired"):
            np.testing.assert_array_equal(given, wanted, err_msg=field)
        # A plain program and a partitioned one are fused apart, which shows in the last bits; two of the
        # partitioned kind are one program.
        atol = 1e-4 if "z_path" in field else 1e-5
        np.testing.assert_allclose(given, wanted, atol=atol, rtol=1e-5, err_msg=field)
        np.testing.assert_array_equal(given, arrays[f"pmap/{models}/{field}"], err_msg=field)


def test_the_rows_that_were_compared_do_something(arrays):
    assert arrays["one/2/fired"].sum() >= 4
    assert len(set(arrays["one/0/tokens"].tolist())) > 20


def test_what_cannot_be_divided_is_explained():
    local = jax.local_devices()[:1]
    with pytest.raises(UserError, match="sampling.model_axis = 2 does not divide the 1 local devices"):
        Devices(devices=local, model=2)
    with pytest.raises(UserError, match="with sampling.model_axis = 2 use shard_map or auto"):
        Devices("pmap", local * 2, model=2)


def test_an_unknown_kind_is_explained():
    with pytest.raises(UserError, match="auto, one, pmap, shard_map"):
        Devices("two")
