"""The order of examples and batches of packed rows, from a seed and a cursor."""

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from flax import struct
from jaxtyping import Float, Int

from fr.config import TrainingConfig
from fr.errors import UserError


@functools.lru_cache(maxsize=16)
def permutation(seed: str, epoch: int, total: int) -> tuple[int, ...]:
    """A random order of places.

    A string seeds Python's generator through SHA-512, so that no two orders share a
    stream.

    Args:
        seed: Seed of the run.
        epoch: Number of the pass.
        total: Number of places.

    Returns:
        The places 0 .. total - 1 in random order.
    """
    return tuple(random.Random(f"{seed}/{epoch}").sample(range(total), total))


def visits(seed: str, total: int, cursor: int = 0) -> Iterator[tuple[int, int]]:
    """Visit all places once per epoch, in a new random order each time, without end.

    Args:
        seed: With the epoch, it determines an order.
        total: Number of places, 1 or more.
        cursor: Visits made before; a checkpoint keeps it.

    Yields:
        (epoch, place).
    """
    while True:
        epoch, at = divmod(cursor, total)
        yield epoch, permutation(seed, epoch, total)[at]
        cursor += 1


IGNORED = -1  # position of a pad: neither seen nor scored
FILL = 0.97  # share of a batch's tokens to fill; tighter packing fails too often


@struct.dataclass
class PackedBatch:
    """Packed rows, here two segments of three and two tokens with prompts of one token:

    positions  0 1 2 0 1 -1 -1
    segments   1 1 1 2 2  0  0
    weights    0 1 1 0 1  0  0

    Attributes:
        tokens: Token ids.
        positions: Position of a token in its segment; -1 for pads.
        segments: Number of the segment in its row, from 1; 0 for pads.
        weights: 1 for learnt tokens (a completion and its stop token), else 0.
    """

    tokens: Int[np.ndarray, "B T"]
    positions: Int[np.ndarray, "B T"]
    segments: Int[np.ndarray, "B T"]
    weights: Float[np.ndarray, "B T"]


# Token ids, and how many of them are the prompt, or which of them are learnt.
Example = tuple[Sequence[int], int | Sequence[bool]]
# (chance, place) -> the example at a place; what is drawn for it comes from the chance.
Make = Callable[[random.Random, int], Example]


def pack(examples: Sequence[Example], rows: int, width: int, pad: int) -> PackedBatch:
    """Put each example, longest first, into the first row with room for it.

    Examples that find no room are left out.

    Args:
        examples: Examples.
        rows: Rows of the batch, B.
        width: Tokens per row, T.
        pad: Token id of pads.

    Returns:
        The batch.

    Raises:
        UserError: An example is longer than a row.
    """
    tokens = np.full((rows, width), pad, np.int32)
    positions = np.full((rows, width), IGNORED, np.int32)
    segments = np.zeros((rows, width), np.int32)
    weights = np.zeros((rows, width), np.float32)
    count = [0] * rows
    for i, row, first in _places([len(ids) for ids, _ in examples], rows, width):
        ids, learnt = examples[i]
        here = slice(first, first + len(ids))
        count[row] += 1
        tokens[row, here], positions[row, here], segments[row, here] = (
            ids,
            np.arange(len(ids)),
            count[row],
        )
        weights[row, here] = (
            np.arange(len(ids)) >= learnt if isinstance(learnt, int) else learnt
        )
    return PackedBatch(
        tokens=tokens, positions=positions, segments=segments, weights=weights
    )


def pack_all(
    examples: Sequence[Example], rows: int, width: int, pad: int
) -> list[PackedBatch]:
    """Pack all examples, in their order, into batches.

    Args:
        examples: Examples.
        rows: Rows per batch, B.
        width: Tokens per row, T.
        pad: Token id of pads.

    Returns:
        The batches.
    """
    found, first = [], 0
    while first < len(examples):
        count = _fitting([len(ids) for ids, _ in examples[first:]], rows, width)
        found.append(pack(examples[first : first + count], rows, width, pad))
        first += count
    return found


def _places(
    lengths: Sequence[int], rows: int, width: int
) -> list[tuple[int, int, int]]:
    """(example, row, first column) of all that find room, longest first."""
    used, found = [0] * rows, []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > width:
            raise UserError(
                f"an example of {lengths[i]} tokens does not fit "
                f"config.training.sequence = {width}; raise it"
            )
        row = next(
            (row for row in range(rows) if used[row] + lengths[i] <= width), None
        )
        if row is not None:
            found.append((i, row, used[row]))
            used[row] += lengths[i]
    return found


def _fitting(lengths: Sequence[int], rows: int, width: int) -> int:
    """The number of first examples that all find room together; at least one."""
    ends = itertools.accumulate(lengths)
    count = max(
        1, sum(1 for _ in itertools.takewhile(lambda end: end <= rows * width, ends))
    )
    while len(_places(lengths[:count], rows, width)) < count:
        count -= 1
    return count


class PackedData:
    """Examples as batches of `config.batch` rows.

    Args:
        make: (random generator, place) -> example.
        total: Number of places.
        pad: Token id of pads.
        config: Settings of the training.
        seed: Seed of the order and of the generators.
    """

    def __init__(
        self, make: Make, total: int, pad: int, config: TrainingConfig, seed: str
    ):
        self.make, self.total, self.pad, self.config, self.seed = (
            make,
            total,
            pad,
            config,
            seed,
        )

    def batch(self, step: int, cursor: int = 0) -> tuple[PackedBatch, int]:
        """The batch of a step.

        In permuted order it holds the visits from the cursor on that find room
        together, so that every place is visited once per epoch. Drawn with replacement,
        it follows from the step, and an example that finds no room is left out.

        Args:
            step: Index of the step, from 0.
            cursor: Visits made before; 0 if examples are drawn.

        Returns:
            The batch and the cursor after it.
        """
        room = int(FILL * self.config.batch * self.config.sequence)
        drawn = self.config.order == "drawn"
        chosen, examples = self._drawn(step) if drawn else self._visited(cursor), []
        while room > 0:
            examples.append(next(chosen))
            room -= len(examples[-1][0])
        if not drawn:
            size = self.config.batch, self.config.sequence
            examples = examples[: _fitting([len(ids) for ids, _ in examples], *size)]
            cursor += len(examples)
        return pack(examples, self.config.batch, self.config.sequence, self.pad), cursor

    def _visited(self, cursor: int) -> Iterator[Example]:
        for count, (_, place) in enumerate(
            visits(self.seed, self.total, cursor), cursor
        ):
            yield self.make(random.Random(f"{self.seed}/visit/{count}"), place)

    def _drawn(self, step: int) -> Iterator[Example]:
        # Seeding by a string goes through SHA-512: no two steps share a stream.
        chance = random.Random(f"{self.seed}/{step}")
        while True:
            yield self.make(chance, chance.randrange(self.total))
