"""Confidence probes against the forward pass, sampling, and a run without them."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import random_params, row
from test_decode import LONG, same
from test_engine import Script, again

from fr.models import ModelConfig
from fr.models.kv_cache import init_cache
from fr.models.transformer import Transformer
from fr.sampling import probe_trees, probes
from fr.sampling.devices import Devices
from fr.sampling.probe_trees import LENGTHS, ROWS
from fr.sampling.probes import Prober
from fr.sampling.sources import PauseAction
from fr.types import Probe, Rollout

CUE = (20, 21, 22)
ANSWERS = {
    "own": ((30, 31, 1),),
    "gold": ((30, 32, 33, 34, 1), (30, 31, 1), (7, 1), (30, 31, 40, 1), (1,)),
}
ROWS_TO_PROBE = [
    row(str(i), LONG[: 1 + (5 * i) % 17], budget=1 + (7 * i) % 40, temperature=1.0)
    for i in range(14)
]


def probe_plan(r, tokens) -> Probe:
    """No cut, one in the middle twice, all tokens; some rows have fewer, one none."""
    n, i = len(tokens), int(r.id)
    if i == 3:
        return None
    if i == 9:
        return Probe((), CUE, ANSWERS)
    answers = ANSWERS if i % 2 else {"own": ANSWERS["own"]}
    return Probe((0, n // 2, n // 2, n), CUE if i % 3 else (), answers)


def naive(model, rollout, probe) -> dict:
    """The same by one uncached pass for every cut and answer."""
    found = {}
    for name, answers in probe.answers.items():
        table = []
        for cut in probe.cuts:
            seen = [*rollout.row.prompt, *rollout.tokens[:cut].tolist(), *probe.cue]
            line = []
            for answer in answers:
                tokens = np.zeros((1, 128), np.int32)
                tokens[0, : len(seen) + len(answer)] = [*seen, *answer]
                logp = np.asarray(jax.nn.log_softmax(model.logits(tokens)))[0]
                line.append(
                    sum(
                        logp[len(seen) + j - 1, token] for j, token in enumerate(answer)
                    )
                )
            table.append(line)
        found[name] = np.array(table).reshape(-1, len(answers))
    return found


@pytest.fixture(scope="module")
def probed(plain_engine):
    """Rollouts of many rows through few slots, by ListSource and plan."""
    return plain_engine.sample(ROWS_TO_PROBE, 64, probe_plan=probe_plan)


def check(model, rollout, probe):
    """Compare a rollout's confidence with the naive one."""
    found, wanted = rollout.confidence, naive(model, rollout, probe)
    assert found.cuts.tolist() == list(probe.cuts) and set(found.logp) == set(
        probe.answers
    )
    for name, answers in probe.answers.items():
        np.testing.assert_allclose(found.logp[name], wanted[name], atol=1e-4)
        np.testing.assert_allclose(
            found.probability(name), np.exp(wanted[name]).sum(1), atol=1e-4
        )
        mean = np.max(wanted[name] / [len(answer) for answer in answers], axis=1)
        np.testing.assert_allclose(found.mean_logp(name), mean, atol=1e-4)


def test_probes_are_the_plain_forward_pass(probed, tiny_model):
    assert probed[3].confidence is None
    for rollout in probed:
        if rollout.confidence is not None:
            check(tiny_model, rollout, probe_plan(rollout.row, rollout.tokens))


def test_positions_are_those_of_shared_beginnings(probed):
    # First token, cue, then 30 31 40 / 32 33 34 / 7 after every cut: `own` is among
    # them, 1 is only a target.
    assert probed[1].confidence.positions == len(
        {0, probed[1].length // 2, probed[1].length}
    ) * (1 + 3 + 7)
    assert probed[6].confidence.positions == 3 * (1 + 0 + 2)


def test_probing_changes_no_rollout(probed, plain_engine):
    for rollout, plain in zip(probed, plain_engine.sample(ROWS_TO_PROBE, 64)):
        assert plain.confidence is None
        same(rollout, plain, 1e-6)


def test_a_cache_that_shrinks_keeps_what_waits(plain_engine, tiny_model):
    # The long row's last chunks run with short rows, which alone need half the cache.
    todo = [
        row("0", LONG, budget=40),
        *(row(str(i), budget=5 + i % 3) for i in range(4, 30)),
    ]
    before = plain_engine.counts.resized
    for rollout in plain_engine.sample(todo, 64, probe_plan=probe_plan):
        check(tiny_model, rollout, probe_plan(rollout.row, rollout.tokens))
    assert plain_engine.counts.resized - before >= 2


def test_rows_that_pause_and_rewind_are_probed_as_they_end(plain_engine, tiny_model):
    forced = (*range(9, 17), 50)
    todo = [
        row("0", LONG, budget=20, pause=(50,), forced=forced),
        row("1", LONG, budget=9, pause=(60,)),
    ]
    source = Script(
        [*todo, row("2", budget=20, pause=(50,), forced=forced)],
        [PauseAction(cut=3), PauseAction(cut=2, finish=True)],
    )
    source.probe_plan = probe_plan
    plain_engine.run(source, 64)
    assert len(source.heard) >= 2 and 2 in [
        rollout.length for rollout in source.rollouts
    ]
    for rollout in source.rollouts:
        check(tiny_model, rollout, probe_plan(rollout.row, rollout.tokens))


def test_sampled_shares_converge_to_probabilities(plain_engine, tiny_model):
    rollout = plain_engine.sample([row("asked", LONG, budget=12)], 64)[0]
    # Answers of a likely token and an end, or of an end: more than fit one sequence.
    likely = np.argsort(
        np.asarray(tiny_model.logits([[*LONG, *rollout.tokens[:6], *CUE]]))[0, -1]
    )[::-1].tolist()
    ends, firsts = likely[1:9:2], likely[0:50:2]
    answers = (
        *((end,) for end in ends),
        *((a, end) for a in firsts for end in ends if a not in ends),
    )
    stop = again(rollout.row, stop=tuple(ends))
    probe = Probe((0, 6, rollout.length), CUE, {"gold": answers})
    assert len(answers) > LENGTHS[-1] - 40
    asked = plain_engine.sample([again(rollout.row)], 64, probe_plan=lambda *_: probe)[
        0
    ]
    exact = asked.confidence.probability("gold")
    rows = probes.forced_requests(
        dataclasses.replace(rollout, row=stop), probe, 0, samples=150
    )
    rows = [again(r, budget=2) for r in rows]
    share = probes.accepted_share(
        plain_engine.sample(rows, 64), lambda t: tuple(t) in answers, samples=150
    )
    assert (np.abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / 150)).all()
    assert (exact > 0.1).all() and (exact < 0.9).all()


def exchanges(kind: str, count: int) -> list:
    """Confidence of 6 rollouts in 8 slots on `count` devices, in two exchanges."""
    config = ModelConfig(
        vocab=40, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, ff=24
    )
    params = random_params(config)
    devices, model = Devices(kind), Transformer(config)
    assert devices.count == count
    program = devices.jit_sharded(
        lambda p, *args: probe_trees.score_trees(model, {"params": p}, *args)
    )
    draw = np.random.default_rng(0)
    cache = jax.tree.map(
        lambda x: draw.standard_normal(x.shape, np.float32), init_cache(config, 8, 32)
    )
    finished = []
    for slot in (0, 1, 2, 3, 5, 7):
        tokens = draw.integers(0, 40, 3 + slot).astype(np.int32)
        none = np.zeros(len(tokens), bool)
        unknown = np.zeros(len(tokens), np.float32)
        asked = row(str(slot), (5, 6))
        made = Rollout(asked, tokens, none, none, unknown, {}, True, len(tokens))
        finished.append((slot, made))

    def probe_plan(row, tokens):
        answers = {"own": ((7, 8, 1),), "gold": ((7, 9, 1), (3, 1))}
        return Probe((0, 2, len(tokens)), tuple(range(int(row.id))), answers)

    prober = Prober(
        devices,
        8 // count,
        probe_plan,
        functools.partial(program, devices.replicate(params)),
    )
    split = devices.shard_batch(cache)
    assert prober.exchange(split, finished[:5]) == []
    landed = prober.exchange(split, finished[5:]) + prober.exchange(split, [])
    assert [r.row.id for r in landed] == [
        f.row.id for _, f in finished
    ] and not prober.flying
    return [r.confidence for r in landed]


def work() -> None:
    """In the subprocess: what one device finds, four find too."""
    one = exchanges("one", 1)
    for kind in ("pmap", "shard_map"):
        for given, wanted in zip(exchanges(kind, 4), one):
            assert given.positions == wanted.positions
            for name in ("own", "gold"):
                np.testing.assert_allclose(
                    given.logp[name], wanted.logp[name], atol=1e-5
                )


def test_several_devices_are_one():
    here = Path(__file__).parent
    flags = (
        "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    )
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join(
        [str(here.parent), str(here), env.get("PYTHONPATH", "")]
    )
    code = "import test_probes; test_probes.work()"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=300)


def test_a_probe_that_cannot_be_is_refused_by_name(plain_engine):
    bad = {
        "cuts it at 4, it has 3 tokens": Probe((4,), CUE, ANSWERS),
        "answers 'gold' of its probe must be": Probe(
            (0,), CUE, {"gold": ((3, 1), (3, 1))}
        ),
        "answers 'none' of its probe must be": Probe((0,), CUE, {"none": ()}),
    }
    for why, asked in bad.items():
        with pytest.raises(ValueError, match=f"row bad: .*{why}"):
            plain_engine.sample([row("bad", budget=3)], 64, probe_plan=lambda *_: asked)


def test_programs_are_few(plain_engine, compilations):
    before = len(compilations())
    draw = np.random.default_rng(0)
    size = lambda: tuple(draw.integers(0, 40, draw.integers(1, 30)).tolist())

    def any_plan(row, tokens):
        cuts = tuple(draw.integers(0, len(tokens) + 1, draw.integers(1, 9)).tolist())
        return Probe(
            cuts, size(), {"own": (size(),), "gold": tuple({size() for _ in range(9)})}
        )

    todo = [row(str(i), budget=1 + i % 20) for i in range(60)]
    plain_engine.sample(todo, 64, probe_plan=any_plan)
    assert 0 < len(compilations()) - before <= len(ROWS) * len(LENGTHS)
