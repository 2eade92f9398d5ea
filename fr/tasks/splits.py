"""Which split a problem belongs to: decided by a hash of the problem, so that it never changes sides."""

import hashlib
from collections.abc import Sequence

SPLITS = ("train", "validation", "test")
_TENTHS = (
    "test",
    "validation",
)  # the hash's first two tenths; the other eight are for training


def digest(text: str) -> bytes:
    """A hash that is the same on every machine and version; sorting by it gives a fixed, shuffled order."""
    return hashlib.sha256(text.encode()).digest()


def split_of(text: str) -> str:
    """The split of whatever `text` identifies: 10 % test, 10 % validation, 80 % train."""
    tenth = int.from_bytes(digest(text)[:8], "big") % 10
    return _TENTHS[tenth] if tenth < len(_TENTHS) else "train"


def split_by(text: str, shares: Sequence[float]) -> str:
    """The split of `text` where `shares` of all texts, in the order of SPLITS, belong to each; they sum to 1."""
    place = int.from_bytes(digest(text)[:8], "big") / 2**64
    train, validation, _ = shares
    return (
        "train"
        if place < train
        else "validation"
        if place < train + validation
        else "test"
    )
