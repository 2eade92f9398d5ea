"""The host side of probes: plans become trees of tokens in few shapes, and log-probs become confidence."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Int

from fr.models.transformer import KVCache
from fr.sampling import probes
from fr.sampling.devices import Devices
from fr.sampling.work import Plan
from fr.types import Confidence, Probe, Rollout

# A program is compiled for each pair of these and each size of the cache, where it is needed.
ROWS = (4, 16)  # sequences of a call on one device
LENGTHS = (32, 64, 96, 128)  # their tokens; a tree that is longer has one of its own

_COPY = 64  # cache entries whose copying takes as long as a token: a sequence copies its row's


@dataclasses.dataclass(frozen=True)
class _Tree:
    """A first token, which the cut decides, the cue, and some answers, in depth-first order.

    The last token of an answer is only a target; answers share what they begin with.
    """

    tokens: Int[np.ndarray, "n"]
    depth: Int[np.ndarray, "n"]
    ends: Int[np.ndarray, "n"]
    at: Int[np.ndarray, "e"]
    targets: Int[np.ndarray, "e"]
    answers: dict[tuple[int, ...], list[int]]  # which targets make up each

    @property
    def size(self) -> int:
        """Room that it takes in a sequence, which has as many targets as tokens."""
        return max(len(self.tokens), len(self.targets))


def _tree(cue: tuple[int, ...], answers: Sequence[tuple[int, ...]]) -> _Tree:
    nodes = {cue[:n]: n for n in range(len(cue) + 1)}  # what was read, less the first token: its place
    ends = [len(nodes)] * len(nodes)
    targets, paths = {}, {}
    for answer in answers:  # sorted, so that what shares a beginning is together
        for n in range(len(answer)):
            read = (*cue, *answer[:n])
            if read not in nodes:
                nodes[read] = len(nodes)
                ends.append(len(nodes))
            targets.setdefault((*read, answer[n]), len(targets))
        for n in range(len(cue) + len(answer)):
            ends[nodes[(*cue, *answer)[:n]]] = len(nodes)
        paths[answer] = [targets[(*cue, *answer[: n + 1])] for n in range(len(answer))]
    return _Tree(
        tokens=np.array([(-1, *read)[-1] for read in nodes], np.int32),
        depth=np.array([len(read) for read in nodes], np.int32),
        ends=np.array(ends, np.int32),
        at=np.array([nodes[read[:-1]] for read in targets], np.int32),
        targets=np.array([read[-1] for read in targets], np.int32),
        answers=paths,
    )


@functools.lru_cache(maxsize=1024)
def _trees(cue: tuple[int, ...], answers: tuple[tuple[int, ...], ...]) -> tuple[_Tree, ...]:
    """Sorted answers behind a cue, in as few trees as fit a sequence."""
    tree = _tree(cue, answers)
    if tree.size <= LENGTHS[-1] or len(answers) == 1:
        return (tree,)
    half = len(answers) // 2
    return (*_trees(cue, answers[:half]), *_trees(cue, answers[half:]))


@dataclasses.dataclass
class _Waiting:
    """A rollout whose probe is planned: where its cache is, and the log-probs of its answers as they come in."""

    rollout: Rollout
    slot: int
    probe: Probe
    logp: dict[tuple[int, tuple[int, ...]], float] = dataclasses.field(default_factory=dict)
    positions: int = 0

    def __post_init__(self):
        row, count = self.rollout.row, self.rollout.length
        for cut in self.probe.cuts:
            if not 0 <= cut <= count:
                raise ValueError(f"row {row.id}: a probe cuts it at {cut}, it has {count} tokens")
        for name, answers in self.probe.answers.items():
            if not answers or not all(answers) or len(set(answers)) < len(answers):
                raise ValueError(
                    f"row {row.id}: answers {name!r} of its probe must be different and not empty"
                )

    def trees(self) -> list[tuple[int, _Tree]]:
        """(cut, tree) of everything that must be read, a cut once."""
        answers = tuple(sorted({a for group in self.probe.answers.values() for a in group}))
        trees = _trees(self.probe.cue, answers) if answers else ()
        return [(cut, tree) for cut in dict.fromkeys(self.probe.cuts) for tree in trees]

    def finish(self) -> Rollout:
        """The rollout with what was found."""
        cuts, sets = self.probe.cuts, self.probe.answers
        table = lambda group: [[self.logp[cut, answer] for answer in group] for cut in cuts]
        size = lambda group: (len(cuts), len(group))
        logp = {name: np.array(table(g), np.float32).reshape(size(g)) for name, g in sets.items()}
        lengths = {name: np.array([len(answer) for answer in group]) for name, group in sets.items()}
        found = Confidence(np.array(cuts, np.int32), logp, lengths, self.positions)
        return dataclasses.replace(self.rollout, confidence=found)


@dataclasses.dataclass
class _Block:
    """One tree in its place: what it is asked for, and where its targets begin."""

    waiting: _Waiting
    cut: int
    tree: _Tree
    device: int = 0
    first: int = 0


@dataclasses.dataclass
class _Flight:
    """A call whose log-probs [D, E] have not been fetched."""

    logp: jax.Array
    blocks: list[_Block]


class Prober:
    """Keeps finished rows in their slots until their probe has been sent, and rollouts until it is back.

    `plan` is the work source's, None if it never asks; `program` gives log-probs for a cache and `probes.Trees`.
    """

    def __init__(
        self,
        devices: Devices,
        slots: int,
        plan: Plan | None,
        program: Callable[..., jax.Array],
    ):
        self.held: dict[int, int] = {}  # cache entries of the rows that wait, by slot
        self.used = self.padded = 0  # tokens of all trees, and of the shapes that they were sent in
        self._devices, self._slots, self._plan, self._program = devices, slots, plan, program
        self._planned: list[_Waiting] = []
        self._flights: list[_Flight] = []

    @property
    def flying(self) -> bool:
        """Whether there are rollouts to come."""
        return bool(self._planned)

    def hold(self, slot: int, length: int) -> None:
        """Note that a row is done: its cache may be asked for."""
        if self._plan is not None:
            self.held[slot] = length

    def exchange(self, cache: KVCache, finished: Sequence[tuple[int, Rollout]]) -> list[Rollout]:
        """Send the probes of rollouts (by slot) that have been collected; returns those that are complete.

        They are scored behind prefixes of `cache`, [D, ...] as the engine holds it; what they find comes with the
        next call.
        """
        complete = self._land()
        for slot, rollout in finished:
            probe = self._plan(rollout.row, rollout.tokens) if self._plan is not None else None
            self.held.pop(slot, None)
            if probe is None:
                complete.append(rollout)
            else:
                self._planned.append(_Waiting(rollout, slot, probe))
        self._send(cache)
        return complete

    def _land(self) -> list[Rollout]:
        for flight in self._flights:
            logp = np.asarray(jax.device_get(flight.logp), np.float64)
            for block in flight.blocks:
                tree, found = block.tree, block.waiting.logp
                values = logp[block.device, block.first :][: len(tree.targets)]
                found.update({(block.cut, a): values[path].sum() for a, path in tree.answers.items()})
        landed = [waiting.finish() for waiting in self._planned]
        self._planned, self._flights = [], []
        return landed

    def _send(self, cache: KVCache) -> None:
        """One pass over everything that is planned, in as many calls as its shapes take."""
        queues = [[] for _ in range(self._devices.count)]
        for waiting in self._planned:
            blocks = [_Block(waiting, cut, tree) for cut, tree in waiting.trees()]
            waiting.positions = sum(len(block.tree.tokens) for block in blocks)
            queues[waiting.slot // self._slots].append(blocks)
        if not any(map(any, queues)):
            return
        length = _length(queues, cache.size)
        sequences = [_packed(queue, length) for queue in queues]
        for start, count in _calls(max(map(len, sequences))):
            trees, blocks = self._fill([s[start : start + count] for s in sequences], count, length)
            logp = self._program(cache, self._devices.split(trees))
            self._flights.append(_Flight(logp, blocks))
            self.used += sum(len(block.tree.tokens) for block in blocks)
            self.padded += len(sequences) * count * length

    def _fill(self, sequences: list[list[list[_Block]]], count: int, length: int):
        """Arrays of one call, [D * R, ...] and [D * E], and its blocks with their places."""
        total, edges = len(sequences) * count, -(-count * length // probes.PIECE) * probes.PIECE
        grid = lambda value: np.full((total, length), value, np.int32)
        trees = probes.Trees(
            rows=np.zeros(total, np.int32),
            tokens=grid(-1),
            positions=grid(-1),
            prefix=grid(0),
            ends=grid(0),
            at=np.zeros(len(sequences) * edges, np.int32),
            targets=np.full(len(sequences) * edges, -1, np.int32),
        )
        blocks = []
        for device, packed in enumerate(sequences):
            first = 0
            for r, sequence in enumerate(packed):
                t = 0
                trees.rows[device * count + r] = sequence[0].waiting.slot % self._slots
                for block in sequence:
                    block.device, block.first = device, first
                    _write(trees, block, device * count + r, t, device * edges + first, r * length + t)
                    t, first = t + len(block.tree.tokens), first + len(block.tree.targets)
                    blocks.append(block)
        return trees, blocks


def _write(trees: probes.Trees, block: _Block, r: int, t: int, first: int, at: int) -> None:
    """Write one tree from token t of sequence r on, and its targets from `first` on; `at` is where it is read."""
    tree, rollout = block.tree, block.waiting.rollout
    # Where the last token before the cut stands: it is read again, so that its state is at hand.
    root = len(rollout.row.prompt) + block.cut - 1
    here, there = slice(t, t + len(tree.tokens)), slice(first, first + len(tree.targets))
    trees.tokens[r, here] = tree.tokens
    trees.tokens[r, t] = rollout.tokens[block.cut - 1] if block.cut else rollout.row.prompt[-1]
    trees.positions[r, here] = root + tree.depth
    trees.prefix[r, here] = root
    trees.ends[r, here] = t + tree.ends
    trees.at[there] = at + tree.at
    trees.targets[there] = tree.targets


def _packed(queue: list[list[_Block]], length: int) -> list[list[_Block]]:
    """Blocks of each row in sequences of `length`, in their order."""
    sequences = []
    for blocks in queue:
        room = 0
        for block in blocks:
            if block.tree.size > room:
                sequences.append([])
                room = length
            sequences[-1].append(block)
            room -= block.tree.size
    return sequences


def _length(queues: list[list[list[_Block]]], size: int) -> int:
    """The length of sequences that takes least time with a cache of `size` entries."""
    longest = max(block.tree.size for queue in queues for blocks in queue for block in blocks)
    fits = [n for n in LENGTHS if n >= longest] or [-(-longest // LENGTHS[-1]) * LENGTHS[-1]]
    count = lambda n: sum(rows for _, rows in _calls(max(len(_packed(queue, n)) for queue in queues)))
    return min(fits, key=lambda n: count(n) * (n + size / _COPY))


def _calls(sequences: int) -> list[tuple[int, int]]:
    """(first sequence, sequences) of every call that these take."""
    few, many = ROWS
    calls, start = [], 0
    while start < sequences:
        count = many if sequences - start > many - few else few
        calls.append((start, count))
        start += count
    return calls
