"""Batches of packed examples: a function of the seed and of a cursor, so that a resumed run reads the same."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from flax import struct
from jaxtyping import Float, Int

from fr.config import TrainingConfig
from fr.errors import UserError
from fr.training.epochs import visits

IGNORED = -1  # position of a pad: neither seen nor scored
FILL = 0.97  # share of a batch's places that examples are taken for; packing them tighter fails too often


@struct.dataclass
class Batch:
    """Packed rows. Two segments of three and two tokens in a row of seven, prompts of one token:

    positions  0 1 2 0 1 -1 -1
    segments   1 1 1 2 2  0  0
    weights    0 1 1 0 1  0  0
    """

    tokens: Int[np.ndarray, "B T"]
    positions: Int[np.ndarray, "B T"]
    segments: Int[np.ndarray, "B T"]
    weights: Float[
        np.ndarray, "B T"
    ]  # 1: the token is learnt (of a completion, its stop token among them)


# Token ids, and how many of them are the prompt, or which of them are learnt.
Example = tuple[Sequence[int], int | Sequence[bool]]
# (chance, place) -> the example at a place; what is drawn for it comes from the chance.
Make = Callable[[random.Random, int], Example]


def pack(examples: Sequence[Example], rows: int, width: int, pad: int) -> Batch:
    """Put each example, longest first, into the first row with room for it; what finds no room is left out.

    Raises UserError for an example longer than a row.
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
    return Batch(tokens=tokens, positions=positions, segments=segments, weights=weights)


def in_batches(
    examples: Sequence[Example], rows: int, width: int, pad: int
) -> list[Batch]:
    """All examples in their order, packed into batches."""
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
                f"an example of {lengths[i]} tokens does not fit config.training.sequence = {width}; raise it"
            )
        row = next(
            (row for row in range(rows) if used[row] + lengths[i] <= width), None
        )
        if row is not None:
            found.append((i, row, used[row]))
            used[row] += lengths[i]
    return found


def _fitting(lengths: Sequence[int], rows: int, width: int) -> int:
    """How many of the first examples all find room together; at least one."""
    ends = itertools.accumulate(lengths)
    count = max(
        1, sum(1 for _ in itertools.takewhile(lambda end: end <= rows * width, ends))
    )
    while len(_places(lengths[:count], rows, width)) < count:
        count -= 1
    return count


class PackedData:
    """Examples as batches of `config.batch` rows; `make` gives the example at one of `total` places."""

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

    def batch(self, step: int, cursor: int = 0) -> tuple[Batch, int]:
        """The batch of a step, and the cursor behind it.

        In permuted order a batch has the visits from the cursor on, as many as find room: every place is visited once
        an epoch, whatever the lengths. Drawn with replacement, it follows from the step, the cursor stays 0, and the
        example that finds no room is left out.
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
        # A string seeds Python's generator through SHA-512: no two (seed, step) share a stream.
        chance = random.Random(f"{self.seed}/{step}")
        while True:
            yield self.make(chance, chance.randrange(self.total))
