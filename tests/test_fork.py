"""Rows that start from kept entries are those that read their prompts again."""

import jax
import numpy as np
import pytest
from conftest import row

from fr.models.transformer import Transformer
from fr.sampling import steering
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.prefixes import Prefixes
from fr.sampling.scheduler import Admission
from fr.sampling.state import part_of, prompt_entries
from fr.types import Request

OPERATORS = {
    "plain": {},
    "heat": {
        "operator": steering.HEAT,
        "fire_position": 1,
        "local_temperature": 3.0,
        "local_span": 3,
    },
    "pushed": {"forced": (3, 9, 4)},
    "avoid": {"avoid": (5, 6), "top_k": 7},
}


def trace_of(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(map(int, np.random.default_rng(seed).integers(1, 30, length)))


def branches(trace: tuple[int, ...], cuts, rest: bool = True) -> list[Request]:
    """Every operator at every cut of a trace, in turn."""
    made = []
    for i, cut in enumerate(cuts):
        for name, params in OPERATORS.items():
            one = row(f"{cut}/{name}", trace[:cut], budget=6 + i % 3, **params)
            one.rest = trace[cut:] if rest else ()
            made.append(one)
    return made


@pytest.fixture(
    scope="module", params=["one", pytest.param("pmap", marks=pytest.mark.slow)]
)
def engine(request, tiny_config, tiny_params) -> Engine:
    return Engine(
        Transformer(tiny_config),
        tiny_params,
        slots=4,
        chunk=4,
        prefill=2,
        devices=Devices(request.param, jax.local_devices()[:2]),
    )


def same(one, other) -> None:
    for left, right in zip(one, other, strict=True):
        assert left.tokens.tobytes() == right.tokens.tobytes(), left.row.id
        assert left.sample_logp.tobytes() == right.sample_logp.tobytes()
        for name in left.stats:
            assert left.stats[name].tobytes() == right.stats[name].tobytes(), name


def test_a_fork_is_equal_to_the_byte_to_a_row_that_reads_again(engine, monkeypatch):
    trace, cuts = trace_of(90), (70, 33, 64, 40, 69, 34)
    before = engine.counts.prompt_tokens
    forked = engine.sample(branches(trace, cuts), 96)
    read = engine.counts.prompt_tokens - before
    # Each device reads the trace once, and its last parts again where it grows.
    assert read <= engine.devices.count * 2 * len(trace)
    unhinted = engine.sample(branches(trace, cuts, rest=False), 96)
    monkeypatch.setattr(Prefixes, "_longest", lambda *_: (0, 0))
    before = engine.counts.prompt_tokens
    again = engine.sample(branches(trace, cuts, rest=False), 96)
    whole = engine.counts.prompt_tokens - before
    assert whole == len(OPERATORS) * (sum(cuts) - len(cuts))
    same(forked, again)
    same(forked, unhinted)


def test_parts_follow_each_other_and_begin_at_multiples_of_their_width():
    at, widths = 0, []
    while at < 1500:
        begin, end = part_of(at)
        assert begin == at and {part_of(i) for i in range(begin, end)} == {(begin, end)}
        widths.append(end - begin)
        at = end
    assert widths == [32, 32, 64, 64, 64, 128, 128, *[256] * 4]
    for tokens in range(1, 700):
        assert prompt_entries(tokens) >= part_of(max(tokens - 2, 0))[1]


def requests_of(rng, count: int) -> list[Request]:
    """Cuts of few traces that share beginnings, some with what followed."""
    roots = [trace_of(int(rng.integers(1, 90)), seed) for seed in range(3)]
    traces = [
        roots[i % 3] + trace_of(int(rng.integers(1, 300)), 9 + i) for i in range(7)
    ]
    made = []
    for i in range(count):
        trace = traces[int(rng.integers(len(traces)))]
        cut = int(rng.integers(1, len(trace) + 1))
        one = row(str(i), trace[:cut])
        one.rest = trace[cut:] if rng.random() < 0.5 else ()
        made.append(one)
    return made


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("together", [False, True])
def test_every_row_finds_its_prompt_whatever_came_before(seed, together):
    """The programs' copies and reads on lists of tokens, for random requests."""
    rng = np.random.default_rng(seed)
    devices, slots = 2, 10
    admission = Admission(devices, slots, 2, together=together)
    cache = [[[] for _ in range(admission.kept)] for _ in range(devices)]
    todo = requests_of(rng, 90)
    while todo:
        count = int(rng.integers(1, devices * slots))
        free = rng.choice(devices * slots, count, replace=False).tolist()
        placed = dict(zip(map(int, free), todo))
        todo, started = todo[len(placed) :], {}
        for entering in admission.rounds(placed, todo[:20]):
            for size, reading in entering.reads:
                rows = len(reading.begin) // devices
                for i in np.flatnonzero(reading.begin >= 0):
                    places, begin = cache[i // rows], int(reading.begin[i])
                    view = places[reading.source[i]][:size]
                    tokens = [int(t) for t in reading.tokens[i] if t >= 0]
                    assert part_of(begin + len(tokens) - 1)[0] == begin
                    places[reading.into[i]] = view[:begin] + tokens
                # Rows of one call are in any order: each has a place of its own.
                for d in range(devices):
                    into = reading.into[d * rows : (d + 1) * rows]
                    into = into[into < admission.kept]
                    assert len(set(into.tolist())) == len(into)
            width = len(entering.insertion.slot) // devices
            for i in np.flatnonzero(entering.insertion.slot < slots):
                slot = int(i // width * slots + entering.insertion.slot[i])
                length = int(entering.insertion.length[i])
                prompt = entering.requests[slot].prompt
                place = cache[i // width][entering.insertion.prompt[i]]
                assert (
                    tuple(place[:length]) == prompt[:-1] and length == len(prompt) - 1
                )
                assert entering.insertion.last_token[i] == prompt[-1]
                started[slot] = entering.requests[slot]
        assert started == placed


def read_by(admission: Admission, requests, coming=()) -> int:
    rounds = admission.rounds(dict(enumerate(requests)), coming)
    parts = [r for entering in rounds for r in entering.reads]
    return sum(int((reading.tokens >= 0).sum()) for _, reading in parts)


def test_a_trace_is_read_once_for_all_its_cuts():
    trace = trace_of(300)
    cut = lambda n: Request(str(n), trace[:n], np.zeros(2, np.uint32), {}, trace[n:])
    admission = Admission(1, 4, 8)
    assert read_by(admission, [cut(40)]) == 64  # two parts, filled from the trace
    assert read_by(admission, [cut(41), cut(64), cut(65), cut(10)]) == 0
    assert read_by(admission, [cut(66)]) == 64
    assert read_by(admission, [cut(300)]) == 299 - 128
    other = Request("other", trace[:200] + (1, 2), np.zeros(2, np.uint32), {})
    assert read_by(admission, [other]) == 201 - 192
    assert read_by(admission, [cut(n) for n in (299, 150, 250)]) == 0


def test_what_is_wanted_again_is_kept():
    """Nine traces in turn: the least recently used one is always the next one."""
    traces = [trace_of(65, seed) for seed in range(9)]
    names = [i % 9 for i in range(45)]
    todo = [row(str(i), traces[name]) for i, name in enumerate(names)]
    blind, told = Admission(1, 4, 8), Admission(1, 4, 8)
    without = sum(read_by(blind, [one]) for one in todo)
    known = sum(read_by(told, [one], todo[i + 1 :]) for i, one in enumerate(todo))
    assert without == 45 * 64
    assert known <= (9 + 5) * 64  # about one miss in eight after the first turn


def test_prompts_with_other_vectors_are_not_shared():
    admission, trace = Admission(1, 4, 8, steered=True), trace_of(40)
    plain, steered = row("a", trace), row("b", trace, vector=1, vector_strength=2.0)
    assert read_by(admission, [plain]) == read_by(admission, [steered]) == 39
    assert read_by(admission, [plain, steered]) == 0
