"""Rows on their way through the slots: ends, queues, pauses, rewinds, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import row
from test_decode import LONG, PLAIN, STEERED, same

from fr.errors import UserError
from fr.models.transformer import Transformer
from fr.sampling import steering
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.programs import shared_programs
from fr.sampling.sources import ListSource, PauseAction
from fr.types import Request


class Script(ListSource):
    """A list of rows that answers the pauses in order, then lets the row continue."""

    def __init__(self, todo, answers=()):
        super().__init__(todo)
        self.answers, self.heard = list(answers), []

    def on_pause(self, row, tokens):
        """The next answer."""
        self.heard.append((row.id, tokens.tolist()))
        return self.answers.pop(0) if self.answers else PauseAction()


def paused(engine, r, *answers):
    """One row's rollout under a script of answers, and what the script heard."""
    source = Script([r], answers)
    engine.run(source, 64)
    return source.rollouts[0], source.heard


def again(r: Request, **params) -> Request:
    """The same row, same key, other parameters."""
    return Request(r.id, r.prompt, r.key, {**r.params, **params})


def test_stop_tokens_are_a_set_and_the_stop_token_is_kept(plain_engine):
    free = plain_engine.sample([row("free", budget=30)])[0]
    first, second = list(dict.fromkeys(free.tokens.tolist()))[4:6]
    at = free.tokens.tolist().index(first)
    for stop in ((first, second), (second, first)):
        stopped = plain_engine.sample([again(free.row, stop=stop)])[0]
        np.testing.assert_array_equal(stopped.tokens, free.tokens[: at + 1])
        assert not stopped.truncated and free.truncated
    # A pushed stop token ends the row too.
    pushed = plain_engine.sample([again(free.row, stop=(77,), forced=(9, 77, 9))])[0]
    assert pushed.tokens.tolist() == [9, 77] and not pushed.truncated


def test_budget_of_one_and_a_cache_that_is_exactly_full(plain_engine):
    one = plain_engine.sample([row("one", LONG, budget=1)])[0]
    assert one.length == 1 and one.truncated
    full = row("full", LONG, budget=64 - (len(LONG) - 1))
    roomy = plain_engine.sample([full], 128)[0]
    tight = plain_engine.sample([full], 64)[0]
    assert tight.length == 48
    same(tight, roomy, 1e-4)


@pytest.mark.parametrize("params, why", [
    (dict(budget=49), "row bad: .* need 65 cache entries, the cache has 64"),
    (dict(budget=0), "row bad: a budget of 0"),
    (dict(budget=4, stop=range(9)), "row bad: 9 stop tokens, at most 8 fit"),
    (dict(budget=4, heat=1), "row bad: .*heat"),
    (dict(budget=4, operator=steering.STEER_DENSE), "row bad: its operator mixes"),
])  # fmt: skip
def test_a_row_that_cannot_run_is_refused_by_name(plain_engine, params, why):
    with pytest.raises(ValueError, match=why):
        plain_engine.sample([row("fine", budget=4), row("bad", LONG, **params)], 64)


def test_other_refusals(plain_engine):
    with pytest.raises(ValueError, match="row empty: its prompt is empty"):
        plain_engine.sample([row("empty", ())])
    with pytest.raises(ValueError, match="same id"):
        ListSource([row("twice"), row("twice")])
    greedy = ListSource([row(str(i)) for i in range(9)])
    eager = type(
        "Eager", (), {"next": lambda self, finished, free: greedy.next(finished, 9)}
    )()
    with pytest.raises(ValueError, match="9 rows for 4 free slots"):
        plain_engine.run(eager, 128)
    assert plain_engine.sample([]) == []


def test_unnamed_fields_have_their_defaults(plain_engine):
    assert plain_engine.sample([row("default")])[0].length == 64


def test_more_rows_than_slots_come_back_in_order(plain_engine):
    todo = [row(str(i), LONG[: 1 + i % 5], budget=1 + i % 7) for i in range(23)]
    rollouts = plain_engine.sample(todo, 64)
    assert [r.row.id for r in rollouts] == [r.id for r in todo]
    assert [r.length for r in rollouts] == [r.params["budget"] for r in todo]
    for rollout in rollouts[::4]:  # a slot keeps nothing of its last row
        same(rollout, plain_engine.sample([rollout.row], 64)[0], 1e-5)


def test_forced_tokens_overrule_steering(lineage_engine):
    dense = next(r for r in STEERED if r.id == "dense")
    pushed, free = (
        lineage_engine.sample([r], 64)[0] for r in (dense, again(dense, forced=()))
    )
    assert pushed.tokens[:2].tolist() == [9, 10] != free.tokens[:2].tolist()
    assert pushed.forced.tolist() == [True] * 2 + [False] * 7
    # They went through the model: what follows is what follows them in a prompt.
    behind = lineage_engine.sample(
        [row("behind", (3, 9, 10), **{**dense.params, "forced": (), "budget": 7})], 64
    )[0]
    np.testing.assert_array_equal(pushed.tokens[2:], behind.tokens)


@pytest.mark.parametrize("name", ["heat", "once", "penalised", "forced"])
def test_a_pause_without_a_word_changes_nothing(lineage_engine, name):
    r = again(next(r for r in PLAIN + STEERED if r.id == name), budget=24)
    free = lineage_engine.sample([r], 64)[0]
    marks = tuple(dict.fromkeys(free.tokens[[0, 1, 4, 5, 9, 14, 20]].tolist()))
    broken, heard = paused(lineage_engine, again(r, pause=marks))
    assert len(heard) >= len(
        marks
    )  # also inside the forced queue, hot spans and penalised thoughts
    assert all(
        tokens == free.tokens[: len(tokens)].tolist() and tokens[-1] in marks
        for _, tokens in heard
    )
    same(broken, free, 1e-6)
    assert broken.generated == broken.length


def test_pushed_tokens_come_next_and_before_those_that_wait(plain_engine):
    r = row("push", pause=(50,), forced=(9, 50, 10, 11), budget=12)
    rollout, heard = paused(plain_engine, r, PauseAction(forced=(20, 21)))
    assert heard[0] == ("push", [9, 50])
    assert rollout.tokens[:6].tolist() == [9, 50, 20, 21, 10, 11]
    assert rollout.forced.tolist() == [True] * 6 + [False] * 6


@pytest.mark.parametrize("cut", [0, 3, 8])
def test_a_rewound_row_is_a_fresh_one_behind_what_it_kept(plain_engine, cut):
    greedy = dict(temperature=0.0, budget=20)
    first = plain_engine.sample([row("first", LONG, **greedy)], 64)[0].tokens
    r = row("rewound", LONG, pause=(50,), forced=(*first[:8].tolist(), 50), **greedy)
    rollout, _ = paused(plain_engine, r, PauseAction(cut=cut, forced=(30, 31)))
    kept = [*LONG, *first[:cut].tolist(), 30, 31]
    fresh = plain_engine.sample(
        [row("fresh", kept, temperature=0.0, budget=20 - cut - 2)], 64
    )[0]
    assert rollout.tokens.tolist() == [
        *first[:cut].tolist(),
        30,
        31,
        *fresh.tokens.tolist(),
    ]
    np.testing.assert_allclose(
        rollout.stats["logp"][cut + 2 :], fresh.stats["logp"], atol=1e-4
    )
    assert rollout.forced[: cut + 2].all() and not rollout.forced[cut + 2 :].any()
    assert rollout.generated == 9 + 20 - cut


def test_a_rewound_row_draws_anew_and_may_fire_anew(plain_engine):
    heat = dict(
        operator=steering.HEAT,
        fire_position=5,
        local_temperature=3.0,
        local_span=1,
        budget=14,
    )
    free = plain_engine.sample([row("again", temperature=2.0, **heat)], 64)[0]
    mark = int(free.tokens[7])
    assert mark not in free.tokens[:7]
    redrawn, _ = paused(
        plain_engine, again(free.row, pause=(mark,)), PauseAction(cut=2)
    )
    np.testing.assert_array_equal(redrawn.tokens[:2], free.tokens[:2])
    assert (redrawn.tokens[2:8] != free.tokens[2:8]).sum() >= 5
    assert np.flatnonzero(redrawn.fired).tolist() == [5]  # the fire was cut away
    kept, _ = paused(plain_engine, again(free.row, pause=(mark,)), PauseAction(cut=7))
    np.testing.assert_array_equal(kept.tokens[:7], free.tokens[:7])
    assert np.flatnonzero(kept.fired).tolist() == [5]  # it was kept: once is enough


def test_a_run_compiles_nothing_that_a_like_one_before_could_have(
    tiny_config, tiny_params, compilations
):
    engine = Engine(
        Transformer(tiny_config),
        tiny_params,
        slots=4,
        chunk=4,
        prefill=2,
        devices=Devices("one"),
    )
    # The cache grows for a long row; short rows end before it in the first run, after
    # it in the second.
    rows = lambda shorts: [
        row("long", budget=60),
        *(row(str(i), budget=8) for i in range(shorts)),
    ]
    engine.sample(rows(18), 64)
    grown, seen = engine.counts.resized, len(compilations())
    engine.sample(rows(60), 64)
    assert grown == 1 and engine.counts.resized - grown == 2, (
        "the cache grew, and shrank for the last rows"
    )
    assert compilations()[seen:] == []


def test_a_source_may_end_a_row(plain_engine):
    r = row("end", pause=(50,), forced=(9, 10, 50), budget=12)
    assert paused(plain_engine, r, PauseAction(finish=True))[0].tokens.tolist() == [
        9,
        10,
        50,
    ]
    assert paused(plain_engine, r, PauseAction(cut=1, finish=True))[
        0
    ].tokens.tolist() == [9]
    assert paused(plain_engine, r, PauseAction(cut=0, finish=True))[0].length == 0
    with pytest.raises(ValueError, match="row end: cannot keep 4 of 3 tokens"):
        paused(plain_engine, r, PauseAction(cut=4))


def test_logits_that_are_no_numbers_end_the_run_in_one_line(tiny_config, tiny_params):
    model = Transformer(tiny_config)
    options = {"slots": 4, "chunk": 4, "prefill": 2, "devices": Devices("one")}
    broken = jax.tree.map(lambda x: jnp.asarray(x) * jnp.nan, tiny_params)
    for statistics in (True, False):
        engine = Engine(model, tiny_params, statistics=statistics, **options)
        todo = [row(f"problem {i}", (5, 6, 7 + i), budget=20) for i in range(2)]
        engine.update(broken)
        with pytest.raises(
            UserError, match="row problem 0: logits are not finite at token 0"
        ) as error:
            engine.sample(todo, 32)
        assert (
            "\n" not in str(error.value) and engine.counts.drain_steps <= 8
        )  # not all of their budget
        engine.update(tiny_params)
        assert len(engine.sample(todo[:1], 32)) == 1


def test_engines_that_are_made_alike_share_their_programs(tiny_config):
    of = lambda **other: shared_programs(
        Transformer(tiny_config),
        None,
        Devices("one"),
        **{"chunk": 4, "kept": 2, "statistics": True, "keep_top": 0} | other,
    )
    assert of() is of()
    assert all(
        of(**one) is not of()
        for one in ({"chunk": 8}, {"statistics": False}, {"keep_top": 3})
    )
    assert Devices("one") == Devices("one")
    if len(jax.local_devices()) > 1:
        first, second = jax.local_devices()[:2]
        assert Devices("one", [first]) != Devices("one", [second])
