"""The order in which training comes upon its problems: every one once in each epoch."""

import functools
import random
from collections.abc import Iterator


@functools.lru_cache(maxsize=16)
def permutation(seed: str, epoch: int, total: int) -> tuple[int, ...]:
    """An order of `total` places; a string seeds Python's generator through SHA-512: no two share a stream."""
    return tuple(random.Random(f"{seed}/{epoch}").sample(range(total), total))


def visits(seed: str, total: int, cursor: int = 0) -> Iterator[tuple[int, int]]:
    """(epoch, place) without end: epoch e goes through all `total` places in the order of its permutation.

    Args:
        seed: with the epoch, the whole of an order.
        total: places; 1 or more.
        cursor: visits that have been made; a checkpoint keeps it, and a resumed run goes on from there.
    """
    while True:
        epoch, at = divmod(cursor, total)
        yield epoch, permutation(seed, epoch, total)[at]
        cursor += 1
