"""Forced answers as trees of tokens, and trees of many rows in few fixed shapes."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fr.models.attention import TreeMask
from fr.models.kv_cache import KVCache
from fr.models.transformer import Transformer
from fr.sampling import token_stats

# Log-probs whose logits exist at a time; products of fewer rows run far below peak.
CHUNK = 128


@struct.dataclass
class TreeBatch:
    """R sequences of T new tokens, each after one cached row.

    A sequence holds trees in depth-first order, one after the other. A tree continues a
    prefix of its row, and its paths are answers. -1 marks pads, which come last.
    """

    rows: Int[Array, "R"]  # cached row of each sequence
    tokens: Int[Array, "R T"]  # token ids
    positions: Int[Array, "R T"]  # position of each token in its text
    prefix: Int[Array, "R T"]  # cache entries that the token's tree continues
    ends: Int[Array, "R T"]  # end of the token's subtree, whose tokens see the token
    at: Int[Array, "E"]  # r * T + t of the token that a target follows
    targets: Int[Array, "E"]  # token ids whose log-prob is wanted


def score_trees(
    model: Transformer, read: dict, cache: KVCache, trees: TreeBatch
) -> Float[Array, "E"]:
    """Log-prob of each target after the path that leads to it.

    Logits exist for the targets only. The cache is read, not written.

    One row, two trees of a first token and a cue, the first with the answers `a b` and
    `a c d`, which share `a`:
                       ends  0 1 2 3 4 5
                  first  4   1 0 0 0 0 0
                    cue  4   1 1 0 0 0 0
                      a  4   1 1 1 0 0 0
                      c  4   1 1 1 1 0 0
                  first  6   0 0 0 0 1 0
                    cue  6   0 0 0 0 1 1

    Args:
        model: The model.
        read: Its variables; "steer" has vectors of the R sequences.
        cache: Cache of the rows.
        trees: The trees; E is a multiple of CHUNK.

    Returns:
        Log-probs in nats, raw policy at temperature 1; 0 for pads.
    """
    index = jnp.arange(trees.tokens.shape[1])
    sees = (index <= index[:, None]) & (index[:, None] < trees.ends[:, None])
    hidden: Any
    hidden, _ = model.apply(
        read,
        trees.tokens,
        trees.positions,
        cache,
        tree=TreeMask(trees.rows, trees.prefix, sees),
        method="hidden",
    )
    states = hidden.reshape(-1, hidden.shape[-1])

    def chunk(i, logp):
        at, target = (
            jax.lax.dynamic_slice(x, (i * CHUNK,), (CHUNK,))
            for x in (trees.at, trees.targets)
        )
        logits: Any = model.apply(read, states[at], method="head")
        # The diagnosis temperature does not enter a log-prob.
        moments = token_stats.logit_moments(logits, jnp.float32(1.0))
        value = token_stats.log_prob(moments, jnp.maximum(target, 0))
        value = jnp.where(target >= 0, value, 0.0)
        return jax.lax.dynamic_update_slice(logp, value, (i * CHUNK,))

    # Only as many chunks as have targets: a head costs as much as several layers.
    chunks = -(-jnp.sum(trees.targets >= 0) // CHUNK)
    return jax.lax.fori_loop(0, chunks, chunk, jnp.zeros(trees.at.shape, jnp.float32))


# One program is compiled per pair of these and cache size, when it is first needed.
ROWS = (4, 16)  # sequences per call and device
LENGTHS = (32, 64, 96, 128)  # their tokens; a longer tree has a length of its own

# Cache entries whose copying takes as long as one token: a sequence copies its row.
_COPY = 64


@dataclasses.dataclass(frozen=True)
class ProbeTree:
    """A first token, which the cut decides, the cue, and some answers, depth first.

    The last token of an answer is only a target. Answers share their common beginnings.
    """

    tokens: Int[np.ndarray, "n"]  # token ids; -1 stands for the first
    depth: Int[np.ndarray, "n"]  # tokens above each
    ends: Int[np.ndarray, "n"]  # index after the last token of each subtree
    at: Int[np.ndarray, "e"]  # index of the token that each target follows
    targets: Int[np.ndarray, "e"]  # token ids whose log-prob is wanted
    answers: dict[tuple[int, ...], list[int]]  # indices of the targets of each answer

    @property
    def size(self) -> int:
        """Tokens that the tree takes in a sequence, which has as many targets."""
        return max(len(self.tokens), len(self.targets))


@dataclasses.dataclass
class PlacedTree:
    """A tree after a prefix of a cached row, and where its targets went."""

    slot: int  # row on its device
    token: int  # last token before the cut: read again, because its state is needed
    position: int  # position of that token
    tree: ProbeTree  # the tree
    device: int  # data shard
    first: int = 0  # index of its first target in the call
    logp: Float[np.ndarray, "e"] | None = None  # log-probs of its targets, once known

    def fetch(self, logp: Float[np.ndarray, "D E"]) -> None:
        """Take this tree's part of the log-probs of its call.

        Args:
            logp: Log-probs of all targets of the call.
        """
        self.logp = logp[self.device, self.first : self.first + len(self.tree.targets)]


@functools.lru_cache(maxsize=1024)
def build_trees(
    cue: tuple[int, ...], answers: tuple[tuple[int, ...], ...]
) -> tuple[ProbeTree, ...]:
    """Trees of answers after a cue, as few as fit a sequence.

    Args:
        cue: Token ids between the cut and the answer.
        answers: Sorted answers, token ids each.

    Returns:
        The trees; none without an answer.
    """
    if not answers:
        return ()
    tree = _tree(cue, answers)
    if tree.size <= LENGTHS[-1] or len(answers) == 1:
        return (tree,)
    half = len(answers) // 2
    return (*build_trees(cue, answers[:half]), *build_trees(cue, answers[half:]))


def _tree(cue: tuple[int, ...], answers: Sequence[tuple[int, ...]]) -> ProbeTree:
    # Path without the first token -> index.
    nodes = {cue[:n]: n for n in range(len(cue) + 1)}
    ends = [len(nodes)] * len(nodes)
    targets: dict[tuple[int, ...], int] = {}
    paths = {}
    for answer in answers:  # sorted, so that common beginnings are together
        for n in range(len(answer)):
            read = (*cue, *answer[:n])
            if read not in nodes:
                nodes[read] = len(nodes)
                ends.append(len(nodes))
            targets.setdefault((*read, answer[n]), len(targets))
        for n in range(len(cue) + len(answer)):
            ends[nodes[(*cue, *answer)[:n]]] = len(nodes)
        paths[answer] = [targets[(*cue, *answer[: n + 1])] for n in range(len(answer))]
    return ProbeTree(
        tokens=np.array([(-1, *read)[-1] for read in nodes], np.int32),
        depth=np.array([len(read) for read in nodes], np.int32),
        ends=np.array(ends, np.int32),
        at=np.array([nodes[read[:-1]] for read in targets], np.int32),
        targets=np.array([read[-1] for read in targets], np.int32),
        answers=paths,
    )


def batches(
    queues: list[list[list[PlacedTree]]], size: int
) -> Iterator[tuple[TreeBatch, list[PlacedTree]]]:
    """Arrange placed trees into the arrays of as many calls as they need.

    Args:
        queues: Trees by device and row.
        size: Entries of the cache; with the trees it decides how long sequences are.

    Yields:
        Arrays of a call ([D * R, ...] and [D * E]) and the trees in it.
    """
    if not any(map(any, queues)):
        return
    length = _length(queues, size)
    sequences = [_packed(queue, length) for queue in queues]
    for start, count in _spans(max(map(len, sequences))):
        yield _filled([own[start : start + count] for own in sequences], count, length)


def _length(queues: list[list[list[PlacedTree]]], size: int) -> int:
    """The length of sequences that takes least time with a cache of `size` entries."""
    longest = max(
        placed.tree.size
        for queue in queues
        for placed_trees in queue
        for placed in placed_trees
    )
    fits = [n for n in LENGTHS if n >= longest] or [
        -(-longest // LENGTHS[-1]) * LENGTHS[-1]
    ]
    count = lambda n: sum(
        rows for _, rows in _spans(max(len(_packed(queue, n)) for queue in queues))
    )
    return min(fits, key=lambda n: count(n) * (n + size / _COPY))


def _packed(queue: list[list[PlacedTree]], length: int) -> list[list[PlacedTree]]:
    """Trees of each row in sequences of `length`, in their order."""
    sequences: list[list[PlacedTree]] = []
    for placed_trees in queue:
        room = 0
        for placed in placed_trees:
            if placed.tree.size > room:
                sequences.append([])
                room = length
            sequences[-1].append(placed)
            room -= placed.tree.size
    return sequences


def _spans(sequences: int) -> list[tuple[int, int]]:
    """(first sequence, number of sequences) of every call."""
    few, many = ROWS
    spans, start = [], 0
    while start < sequences:
        count = many if sequences - start > many - few else few
        spans.append((start, count))
        start += count
    return spans


def _filled(
    sequences: list[list[list[PlacedTree]]], count: int, length: int
) -> tuple[TreeBatch, list[PlacedTree]]:
    """Arrays of one call of `count` sequences per device; fewer may be given."""
    total, edges = len(sequences) * count, -(-count * length // CHUNK) * CHUNK
    grid = lambda value: np.full((total, length), value, np.int32)
    arrays: dict[str, Any] = {
        "rows": np.zeros(total, np.int32),
        "tokens": grid(-1),
        "positions": grid(-1),
        "prefix": grid(0),
        "ends": grid(0),
        "at": np.zeros(len(sequences) * edges, np.int32),
        "targets": np.full(len(sequences) * edges, -1, np.int32),
    }
    for device, own in enumerate(sequences):
        first = 0
        for r, sequence in enumerate(own):
            t = 0
            arrays["rows"][device * count + r] = sequence[0].slot
            for placed in sequence:
                placed.first = first
                _write(
                    arrays,
                    placed,
                    device * count + r,
                    t,
                    device * edges + first,
                    r * length + t,
                )
                t, first = t + len(placed.tree.tokens), first + len(placed.tree.targets)
    return TreeBatch(**arrays), [
        placed for own in sequences for sequence in own for placed in sequence
    ]


def _write(
    arrays: dict[str, Any], placed: PlacedTree, r: int, t: int, first: int, at: int
) -> None:
    """Write a tree at token t of sequence r, and its targets from `first` on.

    `at` is the index of its first token on its device.
    """
    tree = placed.tree
    here, there = (
        slice(t, t + len(tree.tokens)),
        slice(first, first + len(tree.targets)),
    )
    arrays["tokens"][r, here] = tree.tokens
    arrays["tokens"][r, t] = placed.token
    arrays["positions"][r, here] = placed.position + tree.depth
    arrays["prefix"][r, here] = placed.position
    arrays["ends"][r, here] = t + tree.ends
    arrays["at"][there] = at + tree.at
    arrays["targets"][there] = tree.targets
