"""Forced answers as trees of tokens, and trees of many rows in few fixed shapes."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fr.models.transformer import Branches, KVCache, Transformer
from fr.sampling import token_stats

PIECE = 128  # log-probs whose logits exist at one time; products of fewer rows are far from their peak


@struct.dataclass
class Trees:
    """R sequences of T new tokens, each behind one cached row: trees in depth-first order, one after the other.

    A tree continues one prefix of its row; its paths are answers. -1 marks pads, which follow all others.
    """

    rows: Int[Array, "R"]
    tokens: Int[Array, "R T"]
    positions: Int[Array, "R T"]
    prefix: Int[Array, "R T"]  # cache entries that the token's tree continues
    ends: Int[Array, "R T"]  # where the token's subtree ends: those in it see the token
    at: Int[Array, "E"]  # r * T + t of the token that a target follows
    targets: Int[Array, "E"]


def score(
    model: Transformer, params: dict, cache: KVCache, trees: Trees
) -> Float[Array, "E"]:
    """Log-prob of each target after the path that leads to it, raw policy at temperature 1; 0 for pads.

    The cache is read, not written. E is a multiple of PIECE; logits exist for the targets alone.

    One row, two trees of a first token and a cue, the first with the answers `a b` and `a c d`, which share `a`:
                       ends  0 1 2 3 4 5
                  first  4   1 0 0 0 0 0
                    cue  4   1 1 0 0 0 0
                      a  4   1 1 1 0 0 0
                      c  4   1 1 1 1 0 0
                  first  6   0 0 0 0 1 0
                    cue  6   0 0 0 0 1 1
    """
    index = jnp.arange(trees.tokens.shape[1])
    sees = (index <= index[:, None]) & (index[:, None] < trees.ends[:, None])
    hidden, _ = model.apply(
        {"params": params},
        trees.tokens,
        trees.positions,
        cache,
        branches=Branches(trees.rows, trees.prefix, sees),
        method="hidden",
    )
    states = hidden.reshape(-1, hidden.shape[-1])

    def piece(i, logp):
        at, target = (
            jax.lax.dynamic_slice(x, (i * PIECE,), (PIECE,))
            for x in (trees.at, trees.targets)
        )
        logits = model.apply({"params": params}, states[at], method="head")
        # A log-prob alone asks nothing of the diagnosis temperature.
        value = token_stats.log_prob(
            token_stats.read(logits, jnp.float32(1.0)), jnp.maximum(target, 0)
        )
        value = jnp.where(target >= 0, value, 0.0)
        return jax.lax.dynamic_update_slice(logp, value, (i * PIECE,))

    # As many pieces as there are targets for: a head costs as much as several layers.
    pieces = -(-jnp.sum(trees.targets >= 0) // PIECE)
    return jax.lax.fori_loop(0, pieces, piece, jnp.zeros(trees.at.shape, jnp.float32))


# A program is compiled for each pair of these and each size of the cache, where it is needed.
ROWS = (4, 16)  # sequences of a call on one device
LENGTHS = (32, 64, 96, 128)  # their tokens; a tree that is longer has one of its own

_COPY = 64  # cache entries whose copying takes as long as a token: a sequence copies its row's


@dataclasses.dataclass(frozen=True)
class Tree:
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


@dataclasses.dataclass
class Block:
    """A tree behind a prefix of a cached row; `first` and `logp` are where its targets went and what came back."""

    slot: int  # of its device
    token: int  # the last one before the cut: it is read again, so that its state is at hand
    position: int  # where that one stands
    tree: Tree
    device: int
    first: int = 0
    logp: Float[np.ndarray, "e"] | None = None

    def fetch(self, logp: Float[np.ndarray, "D E"]) -> None:
        """Take what is this block's of the log-probs of its call."""
        self.logp = logp[self.device, self.first : self.first + len(self.tree.targets)]


@functools.lru_cache(maxsize=1024)
def trees_of(
    cue: tuple[int, ...], answers: tuple[tuple[int, ...], ...]
) -> tuple[Tree, ...]:
    """Sorted answers behind a cue, in as few trees as fit a sequence; none without an answer."""
    if not answers:
        return ()
    tree = _tree(cue, answers)
    if tree.size <= LENGTHS[-1] or len(answers) == 1:
        return (tree,)
    half = len(answers) // 2
    return (*trees_of(cue, answers[:half]), *trees_of(cue, answers[half:]))


def _tree(cue: tuple[int, ...], answers: Sequence[tuple[int, ...]]) -> Tree:
    nodes = {
        cue[:n]: n for n in range(len(cue) + 1)
    }  # what was read, less the first token: its place
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
    return Tree(
        tokens=np.array([(-1, *read)[-1] for read in nodes], np.int32),
        depth=np.array([len(read) for read in nodes], np.int32),
        ends=np.array(ends, np.int32),
        at=np.array([nodes[read[:-1]] for read in targets], np.int32),
        targets=np.array([read[-1] for read in targets], np.int32),
        answers=paths,
    )


def calls(
    queues: list[list[list[Block]]], size: int
) -> Iterator[tuple[Trees, list[Block]]]:
    """Blocks by device and row as the arrays of every call, [D * R, ...] and [D * E], and the blocks that it has.

    `size` is that of the cache, which decides with the blocks how long sequences are.
    """
    if not any(map(any, queues)):
        return
    length = _length(queues, size)
    sequences = [_packed(queue, length) for queue in queues]
    for start, count in _spans(max(map(len, sequences))):
        yield _filled([own[start : start + count] for own in sequences], count, length)


def _length(queues: list[list[list[Block]]], size: int) -> int:
    """The length of sequences that takes least time with a cache of `size` entries."""
    longest = max(
        block.tree.size for queue in queues for blocks in queue for block in blocks
    )
    fits = [n for n in LENGTHS if n >= longest] or [
        -(-longest // LENGTHS[-1]) * LENGTHS[-1]
    ]
    count = lambda n: sum(
        rows for _, rows in _spans(max(len(_packed(queue, n)) for queue in queues))
    )
    return min(fits, key=lambda n: count(n) * (n + size / _COPY))


def _packed(queue: list[list[Block]], length: int) -> list[list[Block]]:
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


def _spans(sequences: int) -> list[tuple[int, int]]:
    """(first sequence, sequences) of every call that these take."""
    few, many = ROWS
    spans, start = [], 0
    while start < sequences:
        count = many if sequences - start > many - few else few
        spans.append((start, count))
        start += count
    return spans


def _filled(
    sequences: list[list[list[Block]]], count: int, length: int
) -> tuple[Trees, list[Block]]:
    """One call of `count` sequences a device, fewer of which are given."""
    total, edges = len(sequences) * count, -(-count * length // PIECE) * PIECE
    grid = lambda value: np.full((total, length), value, np.int32)
    trees = Trees(
        rows=np.zeros(total, np.int32),
        tokens=grid(-1),
        positions=grid(-1),
        prefix=grid(0),
        ends=grid(0),
        at=np.zeros(len(sequences) * edges, np.int32),
        targets=np.full(len(sequences) * edges, -1, np.int32),
    )
    for device, own in enumerate(sequences):
        first = 0
        for r, sequence in enumerate(own):
            t = 0
            trees.rows[device * count + r] = sequence[0].slot
            for block in sequence:
                block.first = first
                _write(
                    trees,
                    block,
                    device * count + r,
                    t,
                    device * edges + first,
                    r * length + t,
                )
                t, first = t + len(block.tree.tokens), first + len(block.tree.targets)
    return trees, [block for own in sequences for sequence in own for block in sequence]


def _write(trees: Trees, block: Block, r: int, t: int, first: int, at: int) -> None:
    """Write one tree from token t of sequence r on, and its targets from `first` on; `at` is where it is read."""
    tree = block.tree
    here, there = (
        slice(t, t + len(tree.tokens)),
        slice(first, first + len(tree.targets)),
    )
    trees.tokens[r, here] = tree.tokens
    trees.tokens[r, t] = block.token
    trees.positions[r, here] = block.position + tree.depth
    trees.prefix[r, here] = block.position
    trees.ends[r, here] = t + tree.ends
    trees.at[there] = at + tree.at
    trees.targets[there] = tree.targets
