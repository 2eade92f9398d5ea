"""Admission of requests: prompts are prefilled once and kept while rows need them."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from fr.sampling import sampling_params
from fr.sampling.state import Insertion, cache_size
from fr.types import Request

# Prompts kept per device. Requests come problem by problem, so only the latest recur.
KEPT_PROMPTS = 8
# Rows per device and insertion: few enter at once in the steady state, and the program
# costs in proportion to this number.
ROWS_PER_INSERT = 8


@dataclasses.dataclass
class Round:
    """One insertion: prompts to prefill, and the rows that can then start."""

    # Per call of the prefill program: token ids [D * G, P] and places [D * G].
    reads: list[tuple[Int[np.ndarray, "_ _"], Int[np.ndarray, "_"]]]
    insertion: Insertion  # [D * R]
    requests: dict[int, Request]  # by slot


class Admission:
    """The host's record of the prompts that each device keeps."""

    def __init__(self, devices: int, slots: int, prefill: int):
        """Start without prompts.

        Args:
            devices: Number of data shards, D.
            slots: Rows per shard, B.
            prefill: Largest number of prompts per shard and prefill call.
        """
        self.kept = max(KEPT_PROMPTS, prefill)
        self._devices, self._slots, self._prefill = devices, slots, prefill
        self.forget()

    def forget(self) -> None:
        """Drop all prompts."""
        # Prompt -> place; the least recently used comes first.
        self._known: list[dict[tuple[int, ...], int]] = [
            {} for _ in range(self._devices)
        ]

    def rounds(self, placed: dict[int, Request]) -> Iterator[Round]:
        """Split new requests into insertions that the programs can hold.

        Args:
            placed: Requests by slot, in [0, D * B).

        Yields:
            Rounds, in order.
        """
        while placed:
            now: dict[int, Request] = {}
            places: dict[int, int] = {}
            wanted: list[dict[tuple[int, ...], bool]] = [
                {} for _ in range(self._devices)
            ]
            for slot, row in placed.items():
                device = slot // self._slots
                place = self._place(device, row.prompt[:-1], wanted[device])
                here = sum(s // self._slots == device for s in now)
                if place is not None and here < ROWS_PER_INSERT:
                    now[slot], places[slot] = row, place
            yield Round(list(self._reads(wanted)), self._insertion(now, places), now)
            placed = {slot: row for slot, row in placed.items() if slot not in now}

    def _place(
        self, device: int, prefix: tuple[int, ...], wanted: dict[tuple[int, ...], bool]
    ) -> int | None:
        """Place of a prompt, marked to prefill; None if this round has none left."""
        known = self._known[device]
        if not prefix:
            return 0
        if prefix not in wanted:
            if len(wanted) == self.kept:
                return None
            wanted[prefix] = prefix not in known
            if prefix not in known:
                known[prefix] = self._free(known, wanted)
        known[prefix] = known.pop(prefix)
        return known[prefix]

    def _free(self, known: dict, wanted: dict) -> int:
        if len(known) < self.kept:
            return len(known)
        return known.pop(next(prefix for prefix in known if prefix not in wanted))

    def _reads(self, wanted: list[dict]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Prompts of equal padded length, in groups of a power of two."""
        shapes: dict[int, list[list]] = {}
        for device, prompts in enumerate(wanted):
            for prefix, unread in prompts.items():
                if unread:
                    queues = shapes.setdefault(
                        cache_size(len(prefix)), [[] for _ in wanted]
                    )
                    queues[device].append(prefix)
        for length, queues in sorted(shapes.items()):
            while waiting := max(map(len, queues)):
                group = min(self._prefill, 1 << (waiting - 1).bit_length())
                tokens = np.full((len(wanted) * group, length), -1, np.int32)
                into = np.full(len(wanted) * group, self.kept, np.int32)
                for device, queue in enumerate(queues):
                    for i, prefix in enumerate(queue[:group]):
                        tokens[device * group + i, : len(prefix)] = prefix
                        into[device * group + i] = self._known[device][prefix]
                    del queue[:group]
                yield tokens, into

    def _insertion(self, now: dict[int, Request], places: dict[int, int]) -> Insertion:
        width = min(ROWS_PER_INSERT, self._slots)
        total = self._devices * width
        arrays: dict[str, Any] = {
            "slot": np.full(total, self._slots, np.int32),
            "prompt": np.zeros(total, np.int32),
            "last_token": np.zeros(total, np.int32),
            "length": np.zeros(total, np.int32),
            "key": np.zeros((total, 2), np.uint32),
        }
        rows = sampling_params.default_params(total)
        inserted = [0] * self._devices
        for slot, row in now.items():
            device = slot // self._slots
            at = device * width + inserted[device]
            inserted[device] += 1
            arrays["slot"][at] = slot % self._slots
            arrays["prompt"][at] = places[slot]
            arrays["last_token"][at] = row.prompt[-1]
            arrays["length"][at] = len(row.prompt) - 1
            arrays["key"][at] = row.key
            sampling_params.write_params(rows, at, row)
        return Insertion(rows=rows, **arrays)
