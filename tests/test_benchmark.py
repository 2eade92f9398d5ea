"""The benchmark: its protocol survives noise and deaths, its arithmetic is the
model's, its JSON is whole.
"""

import dataclasses
import json
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import occupancy, roofline, update
from benchmarks.matmuls import products
from benchmarks.parts import PARTS, Bench
from benchmarks.report import figures_table, roofline_lines, systems_table, verdict
from benchmarks.run import Found, Settings, benchmark
from benchmarks.side_by_side import Field, Result
from benchmarks.sizes import SHORT, STATED
from benchmarks.systems import DRIVERS, Command, SystemFailed, peer_command
from benchmarks.timing import Times
from benchmarks.workload import Workload
from fr.errors import UserError
from fr.workdir import to_json

JOB = Workload("countdown", problems=2, rollouts=4, new_tokens=3, prompt_tokens=8)
PROMPTS = [[1] * 8, [2] * 8]
QUIET = lambda line: None


def driver(folder, name: str, body: str) -> Command:
    """A system whose job is `body`, a few lines of standard Python."""
    head = f"import os, sys, time\nsys.path.insert(0, {str(DRIVERS)!r})\n"
    head += "from serve import batches, serve\n"
    job = "def job(request):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    path = folder / f"{name}.py"
    path.write_text(f"{head}{job}\nserve(lambda settings: (job, settings['folder']))\n")
    return Command(name, sys.executable, path)


ANSWER = (
    "return [[7] * request['new_tokens'] for batch in batches(request) "
    "for row in batch], None, None\n"
)


def test_what_a_library_prints_does_not_break_the_protocol(tmp_path):
    noisy = driver(
        tmp_path, "noisy", f"print('hello')\nos.write(1, b'from C')\n{ANSWER}"
    )
    with Field([noisy], {"folder": "x"}, QUIET) as field:
        field.measure(JOB, PROMPTS, {"noisy": [2]}, repeats=2)
        found = field.results["noisy"]
    assert found.error is None and found.about == "x"
    assert found.batch[2].keys() == {"tokens_per_s", "with_stats"}
    assert found.peak_rss_mb > 1


def test_a_rate_is_the_whole_job_over_its_median_time(tmp_path):
    slow = driver(tmp_path, "slow", f"time.sleep(0.2)\n{ANSWER}")
    with Field([slow], {"folder": "x"}, QUIET) as field:
        field.measure(JOB, PROMPTS, {"slow": [1]}, repeats=3)
    # 4 batches of one row at most, 3 tokens each.
    assert 0.5 * 12 / 0.2 < field.results["slow"].batch[1]["tokens_per_s"] < 12 / 0.2


def test_a_system_that_dies_is_reported_and_the_others_go_on(tmp_path):
    dies = driver(
        tmp_path,
        "dies",
        f"if request['rows'] > 1: raise MemoryError('no room')\n{ANSWER}",
    )
    starts_not = Command("starts_not", sys.executable, tmp_path / "missing.py")
    wrong = driver(tmp_path, "wrong", "return [[7]], None, None")
    good = driver(tmp_path, "good", ANSWER)
    names = ("dies", "starts_not", "wrong", "good")
    with Field([dies, starts_not, wrong, good], {"folder": "x"}, QUIET) as field:
        field.measure(JOB, PROMPTS, {name: [1, 2] for name in names}, repeats=1)
    found = field.results
    assert found["dies"].error == "MemoryError: no room" and list(
        found["dies"].batch
    ) == [1]
    assert "missing.py" in found["starts_not"].error
    assert found["wrong"].error == "ValueError: a rollout has 1 tokens, not 3"
    assert found["good"].error is None and list(found["good"].batch) == [1, 2]
    assert "dies failed: MemoryError: no room" in systems_table(found)
    to_json({name: result.record() for name, result in found.items()})


def result(**rates) -> Result:
    return Result(
        batch={
            int(k[1:]): {"tokens_per_s": v, "with_stats": 0.9 * v}
            for k, v in rates.items()
        }
    )


def test_the_verdict_takes_each_at_its_best_and_ours_with_statistics():
    peers = {
        "transformers": result(r8=10.0, r64=20.0),
        "llama_cpp": result(r8=40.0, r64=30.0),
    }
    systems = {
        "fr": result(r8=900.0, r64=90.0, r128=100.0),
        **peers,
        "tunix": result(r64=5.0),
    }
    found = verdict(systems, {})
    assert found["why"] is None and found["best_peer"] == "llama_cpp"
    # Ours of fewer than 64 rows does not count.
    np.testing.assert_allclose(found["fr_over_best_peer"], 90 / 40)
    np.testing.assert_allclose(found["with_over_with"], 90 / 36)
    assert "2.25 x" in figures_table(found, {}, {}, False)


def test_without_all_three_peers_there_is_no_verdict_and_it_says_why():
    systems = {
        "fr": result(r64=1.0),
        "transformers": result(r64=1.0),
        "llama_cpp": result(r64=1.0),
    }
    assert "tunix" in verdict(systems, {})["why"]
    systems["tunix"] = Result(error="killed by SIGSEGV")
    found = verdict(systems, {})
    assert (
        found["fr_over_best_peer"] is None
        and found["why"] == "tunix failed: killed by SIGSEGV"
    )


@pytest.mark.parametrize("flag", ["vllm:/bin/sh", "tunix:/no/such/python", "tunix"])
def test_a_peer_that_is_not_there_is_refused_by_name(flag):
    with pytest.raises(UserError, match="tunix"):
        peer_command(flag)


def test_an_unknown_part_is_refused():
    with pytest.raises(UserError, match="roofline"):
        benchmark(Settings("countdown", "short", parts=("roofine",)), QUIET)


def test_products_are_the_same_work_in_every_library(tiny_config):
    draw = np.random.default_rng(0)
    shapes = roofline.shapes(tiny_config)
    layers = [
        {name: 0.1 * draw.standard_normal(s) for name, s in shapes.items()}
        for _ in range(2)
    ]
    head, x = (
        draw.standard_normal((tiny_config.width, 7)),
        draw.standard_normal((3, tiny_config.width)),
    )
    ours = products(*jax.tree.map(jnp.asarray, (layers, head, x)), jnp.concatenate)
    assert ours.shape == (3, 7)
    np.testing.assert_allclose(
        ours, products(layers, head, x, np.concatenate), rtol=1e-4
    )


def test_the_floor_counts_every_matrix_once_and_the_cache(tiny_config, tiny_params):
    vectors = sum(
        x.size
        for path, x in jax.tree.leaves_with_path(tiny_params)
        if "scale" in str(path)
    )
    everything = sum(x.size for x in jax.tree.leaves(tiny_params))
    assert roofline.weights_of(tiny_config) == everything - vectors
    machine = roofline.Machine(
        1000, {"a": Times((2.0, 1.0))}, {4: {"a": Times((3.0,)), "b": Times((0.5,))}}
    )
    floor = machine.floor(tiny_config, jnp.dtype("float32"), rows=4, context=10)
    assert floor.operations == 2 * 4 * roofline.weights_of(tiny_config)
    cache = (
        2 * tiny_config.layers * tiny_config.kv_heads * tiny_config.head_dim * 4 * 10
    )
    assert floor.bytes == 4 * (roofline.weights_of(tiny_config) + cache)
    # The best library's time is the peak's; bytes at 1,000 a second take longer here.
    assert (
        floor.operations / floor.operations_per_s == 0.5
        and floor.seconds == floor.bytes / 1000
    )


def test_lengths_are_log_normal_with_the_stated_spread():
    drawn = occupancy.lengths(STATED, 100_000, seed=0)
    assert abs(np.quantile(drawn, 0.9) / np.median(drawn) - STATED.spread) < 0.1
    assert drawn.min() >= 1 and drawn.max() == STATED.longest


def test_prompts_are_fixed_and_of_one_length(tiny_model):
    # Longer than a question: the next one follows.
    job = dataclasses.replace(JOB, task="sums", prompt_tokens=20)
    prompts = job.prompts(tiny_model)
    assert [len(prompt) for prompt in prompts] == [20, 20] and prompts[0] != prompts[1]
    assert tiny_model.decode(prompts[0]).startswith("What is")
    assert job.record(prompts) == job.record(job.prompts(tiny_model))
    assert job.limit(1) == 4 and job.limit(100) == job.total == 8


def schema(record: dict) -> None:
    """Fields of benchmark.json that other tools read."""
    record = json.loads(to_json(record))
    assert {"machine", "workload", "systems", "roofline", "verdict"} <= record.keys()
    assert {
        "fr_over_best_peer",
        "statistics_cost",
        "roofline_fraction",
        "why",
    } <= record["verdict"].keys()
    for system in record["systems"].values():
        assert {"batch", "compile_s", "peak_rss_mb"} <= system.keys()
        for rates in system["batch"].values():
            assert (
                rates.keys() == {"tokens_per_s", "with_stats"}
                and min(rates.values()) > 0
            )


def test_a_part_leaves_a_whole_record(tiny_model):
    bench = Bench(
        tiny_model,
        PROMPTS,
        rows=4,
        repeats=1,
        sizes=SHORT,
        torch=None,
        options={"chunk": 8},
    )
    parts = {"roofline": PARTS["roofline"](bench)}
    systems = {"fr": result(r8=1.0)}
    found = Found(
        Settings("tiny", "short"),
        JOB.record(PROMPTS),
        systems,
        parts,
        {},
        verdict(systems, parts),
    )
    schema(found.record())
    assert "transformers was not measured" in found.verdict["why"]
    assert found.verdict["roofline_fraction"] == found.record()["roofline"]["fraction"]
    assert "floor" in roofline_lines(parts["roofline"].record)
    assert "share of the roofline" in figures_table(found.verdict, parts, {}, True)


FAKE = """
import sys
sys.path.insert(0, {drivers!r})
from serve import converse

losses = iter({losses})
made = lambda: {{"loss": next(losses), "grad_norm": 1.0, "seconds": 2.0}}
answer = lambda job, request: {{"microbatch": 4}} if "seek" in request else made()
converse(lambda settings: (None, "a fake"), answer)
"""


def test_an_update_is_compared_with_one_that_is_the_same(
    tiny_model, tmp_path, monkeypatch
):
    policy = dataclasses.replace(SHORT.update, max_new_tokens=8)
    bench = Bench(
        tiny_model,
        PROMPTS,
        rows=4,
        repeats=1,
        sizes=SHORT,
        torch=None,
        options={},
        policy=policy,
    )
    found = PARTS["update"](bench)
    assert not found.figures and found.record["equal"]["tokens"] == 8 * 8
    monkeypatch.setattr(update, "DRIVERS", tmp_path)
    monkeypatch.setattr(
        update, "learner", lambda *_: lambda: {"loss": 0.5, "grad_norm": 1.0}
    )
    bench = dataclasses.replace(bench, trl=sys.executable)
    fake = lambda losses: (tmp_path / "trl_peer.py").write_text(
        FAKE.format(drivers=str(DRIVERS), losses=losses)
    )
    fake([0.5] * 99)
    found = PARTS["update"](bench)
    assert [figure.value > 1 for figure in found.figures] == [True, True]
    assert found.record["unequal"]["apart"] == {"loss": 0, "grad_norm": 0}
    fake([0.5, 0.502] * 99)
    with pytest.raises(SystemFailed, match="another update"):
        PARTS["update"](bench)


@pytest.mark.slow
def test_the_short_form_measures_everything():
    found = benchmark(Settings("countdown", "short", repeats=1), QUIET)
    assert not found.failed and found.systems["fr"].error is None
    assert found.parts.keys() == {
        "roofline",
        "statistics",
        "ancestor",
        "context",
        "fork",
        "occupancy",
        "probes",
        "scoring",
        "update",
    }
    schema(found.record())
    assert found.parts["scoring"].record["above_parameters_gb"] > 0
    counts = found.parts["occupancy"].record["counts"]
    assert counts["entered"] == 64 and counts["full_steps"] > 0
