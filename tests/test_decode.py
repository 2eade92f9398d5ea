"""The loop against a naive one, itself in other batches, and the scorer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import row

from fr.models.kv_cache import init_cache
from fr.models.transformer import Transformer, unstack
from fr.sampling import decode, logits, sampling_params, steering
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.sampling.scoring import Scorer
from fr.sampling.slots import FLAGS
from fr.sampling.state import DecodeState, ModelParams

LONG = tuple(range(3, 20))  # 17 tokens
PLAIN = [
    row("one token", (5,), budget=9),
    row("nucleus", (5, 9, 11, 4, 8), temperature=0.7, top_p=0.9, budget=12),
    row("greedy", LONG, temperature=0.0, budget=10),
    row("top-k", LONG, temperature=1.3, top_k=5, budget=7),
    row("budget of one", (30, 31), budget=1),
    row(
        "penalised",
        LONG[:9],
        switch_penalty=2.0,
        switch_window=3,
        switch_tokens=tuple(range(40, 56)),
        penalised=tuple(range(48, 64)),
        budget=14,
    ),
    row("forced", (8, 8), forced=(12, 40, 12), budget=11),
    row("cold", LONG[2:8], temperature=0.3, budget=20),
]
# Thresholds and positions let each one fire; pairs share a key, so that only the
# operator differs.
STEERED = [
    row(
        "heat",
        (7, 9),
        operator=steering.HEAT,
        fire_position=3,
        local_temperature=2.0,
        local_span=2,
        budget=10,
    ),
    row(
        "once",
        LONG,
        operator=steering.STEER_ONCE,
        threshold=0.3,
        warmup=2,
        detector_width=2,
        budget=12,
    ),
    row(
        "other",
        LONG,
        operator=steering.STEER_ONCE,
        threshold=0.3,
        warmup=2,
        geodesic=steering.OTHER,
        budget=12,
    ),
    row(
        "dense",
        (3,),
        operator=steering.STEER_DENSE,
        geodesic=steering.PATH,
        forced=(9, 10),
        budget=9,
    ),
    row(
        "sampled",
        LONG[:5],
        operator=steering.STEER_SAMPLED,
        alpha=0.5,
        geodesic=steering.COVERAGE,
        budget=9,
    ),
]


@pytest.fixture(scope="module")
def forward(tiny_config, tiny_params):
    """Logits [T, V] of a sequence, with neither cache nor batch."""
    size = 80
    apply = jax.jit(
        lambda tokens, at: Transformer(tiny_config).apply(
            {"params": tiny_params}, tokens, at
        )[0][0]
    )

    def run(tokens):
        padded = np.array([*tokens, *[-1] * (size - len(tokens))])
        return np.asarray(
            apply(padded[None], np.where(padded >= 0, np.arange(size), -1)[None])
        )[: len(tokens)]

    return run


def naive(forward, r, stop=()):
    """Tokens and sample_logp of a row: one full forward pass per token, in float64."""
    value = lambda name: sampling_params.param(r, name)
    sequence, out, logps, thought = list(r.prompt), [], [], 0
    while len(out) < value("budget") and not (out and out[-1] in stop):
        z = forward(sequence)[-1].astype(np.float64)
        switches = list(r.params.get("switch_tokens", ()))
        lowered = list(r.params.get("penalised", ()))
        z[lowered] -= value("switch_penalty") * (thought < value("switch_window"))
        z /= value("temperature") or 1.0
        if value("top_k"):
            z[z < np.sort(z)[-value("top_k")]] = -np.inf
        p = np.exp(z - np.logaddexp.reduce(z))
        order = np.argsort(-p)
        p[order[np.cumsum(p[order]) - p[order] >= value("top_p")]] = 0
        p /= p.sum()
        u = float(
            logits.uniforms(jnp.asarray(r.key)[None], jnp.array([len(out)]))[0, 0]
        )
        token = (
            int(np.searchsorted(np.cumsum(p), u, side="right"))
            if value("temperature")
            else int(p.argmax())
        )
        waiting = r.params.get("forced", ())[len(out) :]
        token = waiting[0] if waiting else token
        thought = 0 if token in switches else thought + 1
        sequence.append(token)
        out.append(token)
        logps.append(np.log(p[token]))
    return out, np.array(logps)


def same(one, other, atol=0.0):
    """Compare two rollouts: tokens and flags exactly, numbers to `atol`."""
    for name in ("tokens", "forced", "fired"):
        np.testing.assert_array_equal(
            getattr(one, name), getattr(other, name), err_msg=f"{one.row.id} {name}"
        )
    assert one.truncated == other.truncated
    for name, values in {**one.stats, "sample_logp": one.sample_logp}.items():
        wanted = {**other.stats, "sample_logp": other.sample_logp}[name]
        np.testing.assert_allclose(
            values, wanted, atol=atol, rtol=atol, err_msg=f"{one.row.id} {name}"
        )


def test_tokens_and_log_probs_of_a_naive_loop(plain_engine, forward):
    for rollout in plain_engine.sample(PLAIN):
        tokens, logps = naive(forward, rollout.row)
        assert rollout.tokens.tolist() == tokens, rollout.row.id
        np.testing.assert_allclose(
            rollout.sample_logp, logps, atol=1e-4, err_msg=rollout.row.id
        )
        assert rollout.forced.tolist() == [
            i < len(rollout.row.params.get("forced", ())) for i in range(len(tokens))
        ]


def test_a_row_does_not_know_its_batch(
    lineage_engine, tiny_config, tiny_params, tiny_ancestor
):
    todo = PLAIN + STEERED
    together = lineage_engine.sample(todo, 64)
    assert sum(r.fired.sum() for r in together) == 3
    for rollout, other in zip(together, lineage_engine.sample(todo[::-1], 64)[::-1]):
        same(rollout, other, 1e-5)
    for rollout in together:
        same(rollout, lineage_engine.sample([rollout.row], 64)[0], 1e-5)
    model, second = (
        Transformer(tiny_config),
        {"ancestor": Transformer(tiny_config), "ancestor_params": tiny_ancestor},
    )
    single = Engine(
        model,
        tiny_params,
        **second,
        slots=1,
        chunk=3,
        prefill=1,
        devices=Devices("one"),
    )
    for rollout, other in zip(
        together, single.sample(todo, 128)
    ):  # other shapes: B, chunk, cache
        same(rollout, other, 1e-4)


def test_statistics_of_the_loop_are_those_of_the_scorer(
    plain_engine, lineage_engine, tiny_config, tiny_params, tiny_ancestor
):
    model = Transformer(tiny_config)
    second = {"ancestor": model, "ancestor_params": tiny_ancestor}
    for engine, more, todo in (
        (plain_engine, {}, PLAIN),
        (lineage_engine, second, PLAIN + STEERED),
    ):
        rollouts = engine.sample(todo, 64)
        scorer = Scorer(model, tiny_params, **more, rows=4, devices=Devices("one"))
        sequences = [[*r.row.prompt, *r.tokens] for r in rollouts]
        for rollout, scores in zip(
            rollouts, scorer.score(sequences, [len(r.row.prompt) for r in rollouts])
        ):
            assert set(scores) == set(rollout.stats) == set(engine.fields)
            for name, value in scores.items():
                atol = (
                    1e-3 if name == "z_path" else 1e-4
                )  # a quotient by a small deviation
                np.testing.assert_allclose(
                    rollout.stats[name], value, atol=atol, rtol=1e-4, err_msg=name
                )
    plain = rollouts[0]
    np.testing.assert_allclose(
        plain.sample_logp, plain.stats["logp"], atol=1e-6
    )  # T = 1, no filter


def test_the_most_probable_tokens_are_kept_and_change_nothing(
    plain_engine, forward, tiny_config, tiny_params
):
    given = dict(slots=4, chunk=4, devices=Devices("one"))
    model, todo = Transformer(tiny_config), PLAIN[:4]
    keeps = Engine(model, tiny_params, keep_top=3, **given)
    for rollout, plain in zip(keeps.sample(todo, 64), plain_engine.sample(todo, 64)):
        same(rollout, plain, 1e-5)
        assert plain.top_tokens is plain.top_logp is None
        sequence = [*rollout.row.prompt, *rollout.tokens.tolist()]
        z = forward(sequence)[len(rollout.row.prompt) - 1 : -1].astype(np.float64)
        logp = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
        best = np.argsort(-logp, axis=-1)[:, :3]
        np.testing.assert_array_equal(rollout.top_tokens, best)
        np.testing.assert_allclose(
            rollout.top_logp, np.take_along_axis(logp, best, axis=-1), atol=1e-4
        )
    for wrong in (dict(keep_top=3, statistics=False), dict(keep_top=-1)):
        with pytest.raises(ValueError, match="most probable|keep_top"):
            Engine(model, tiny_params, **given, **wrong)


def test_scores_are_zero_where_nothing_was_asked(tiny_config, tiny_params):
    scorer = Scorer(
        Transformer(tiny_config), tiny_params, rows=3, devices=Devices("one")
    )
    whole = scorer.score([LONG, LONG[:5]], [1, 1])
    late = scorer.score([LONG, LONG[:5]], [9, 5])
    for name in whole[0]:
        np.testing.assert_array_equal(late[0][name], whole[0][name][8:], err_msg=name)
        assert late[1][name].shape == (0,)


def test_no_value_of_a_row_compiles_anything(lineage_engine, compilations):
    # The same number of rows of the same lengths: these may compile, in any order of
    # tests.
    alike = [row(r.id, r.prompt, budget=r.params["budget"]) for r in PLAIN + STEERED]
    lineage_engine.sample(alike, 64)
    before = compilations()
    jax.jit(lambda x: x + 1)(np.float32(len(before)))
    assert len(compilations()) == len(before) + 1  # the count counts
    before = compilations()
    lineage_engine.sample(PLAIN + STEERED, 64)
    new = {"temperature": 0.9, "alpha": 0.2, "stop": (3, 4)}
    changed = [
        row(f"{r.id}'", r.prompt[::-1], **{**r.params, **new}) for r in PLAIN + STEERED
    ]
    lineage_engine.sample(changed, 64)
    assert compilations() == before


def chunk_of(config, params):
    """Three steps of a live, a done and a paused row: both states, and the outputs."""
    model, plain = Transformer(config), sampling_params.default_params(3)
    draw, shape = (
        np.random.default_rng(0),
        jax.eval_shape(lambda: init_cache(config, 3, 16)),
    )
    zeros = np.zeros(3, np.int32)
    state = DecodeState(
        last_token=np.array([5, 6, 7], np.int32),
        length=np.array([4, 9, 2], np.int32),
        generated=zeros,
        done=np.array([False, True, False]),
        paused=np.array([False, False, True]),
        forced_index=zeros,
        fired=np.zeros(3, bool),
        heat_left=zeros,
        tokens_since_switch=zeros,
        scores=np.zeros((3, steering.RING), np.float32),
        memory=np.zeros((3, 4), np.float32),
        key=np.stack([row_key(0, name) for name in "abc"]),
        rows=plain,
        cache=jax.tree.map(
            lambda x: draw.normal(size=x.shape).astype(np.float32), shape
        ),
        ancestor_cache=None,
    )
    step = jax.jit(
        lambda p, s: decode.decode_chunk(model, None, 3, True, 0, p, s, np.float32(0.6))
    )
    return state, *step(ModelParams(params, None), state)


def test_dead_rows_stand_still_and_a_stack_is_its_layers(tiny_config, tiny_params):
    before, after, block = chunk_of(tiny_config, tiny_params)
    assert block[:, FLAGS.index("valid")].tolist() == [[1, 0, 0]] * 3
    fields = [
        f.name
        for f in dataclasses.fields(before)
        if f.name not in ("cache", "ancestor_cache", "rows")
    ]
    for name in fields:
        np.testing.assert_array_equal(
            getattr(before, name)[1:], getattr(after, name)[1:], err_msg=name
        )
    for old, new in zip(before.cache.layers, after.cache.layers):
        for one, other in (
            (old.k.swapaxes(2, 3), np.asarray(new.k).swapaxes(2, 3)),
            (old.v, new.v),
        ):
            np.testing.assert_array_equal(one[1:], other[1:])
            changed = np.flatnonzero((one[0] != np.asarray(other[0])).any(axis=(0, 2)))
            assert changed.tolist() == [
                4,
                5,
                6,
            ]  # the live row wrote its three entries only
    layers = {
        **tiny_params,
        "layers": unstack(tiny_params["layers"], tiny_config.layers),
    }
    _, inlined, again = chunk_of(tiny_config, layers)
    assert after.last_token.tolist() == inlined.last_token.tolist()
    np.testing.assert_allclose(block[:, :, 0], again[:, :, 0], atol=1e-5)


def test_without_statistics_rows_are_drawn_alike(
    plain_engine, tiny_config, tiny_params
):
    one = Devices("one")
    bare = Engine(
        Transformer(tiny_config),
        tiny_params,
        slots=4,
        chunk=4,
        statistics=False,
        devices=one,
    )
    for rollout, other in zip(bare.sample(PLAIN, 64), plain_engine.sample(PLAIN, 64)):
        np.testing.assert_array_equal(
            rollout.tokens, other.tokens, err_msg=rollout.row.id
        )
        np.testing.assert_array_equal(
            rollout.forced, other.forced, err_msg=rollout.row.id
        )
        np.testing.assert_allclose(rollout.sample_logp, other.sample_logp, atol=1e-5)
        assert rollout.stats == {}
    with pytest.raises(ValueError, match="row heat: its operator reads statistics"):
        bare.sample(STEERED[:1])
