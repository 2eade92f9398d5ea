"""Admission of requests: prompts are prefilled once and kept while rows need them."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from fr.sampling import sampling_params
from fr.sampling.state import Insertion, cache_size
from fr.types import Request

# Prompts kept per device. Requests come problem by problem, so only the latest recur.
KEPT_PROMPTS = 8
# Rows per device and insertion: few enter at once in the steady state, and the program
# costs in proportion to this number.
ROWS_PER_INSERT = 8


# Tokens of a prompt without the last one, and the index and strength of its vectors.
_Prefix = tuple[tuple[int, ...], int, float]


@dataclasses.dataclass
class Round:
    """One insertion: prompts to prefill, and the rows that can then start."""

    # Per call of the prefill program: token ids [D * G, P] and places [D * G]; in an
    # engine with vectors also their indices and strengths [D * G].
    reads: list[tuple[np.ndarray, ...]]
    insertion: Insertion  # [D * R]
    requests: dict[int, Request]  # by slot


class Admission:
    """The host's record of the prompts that each device keeps."""

    def __init__(self, devices: int, slots: int, prefill: int, steered: bool = False):
        """Start without prompts.

        Args:
            devices: Number of data shards, D.
            slots: Rows per shard, B.
            prefill: Largest number of prompts per shard and prefill call.
            steered: The engine has a table of steering vectors. A prompt is then kept
                once for each vector that it is read with.
        """
        self._steered = steered
        self.kept = max(KEPT_PROMPTS, prefill)
        self._devices, self._slots, self._prefill = devices, slots, prefill
        self.forget()

    def forget(self) -> None:
        """Drop all prompts."""
        # Prompt -> place; the least recently used comes first.
        self._known: list[dict[_Prefix, int]] = [{} for _ in range(self._devices)]

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
            wanted: list[dict[_Prefix, bool]] = [{} for _ in range(self._devices)]
            for slot, row in placed.items():
                device = slot // self._slots
                prefix = (row.prompt[:-1], *sampling_params.vector_of(row))
                place = self._place(device, prefix, wanted[device])
                here = sum(s // self._slots == device for s in now)
                if place is not None and here < ROWS_PER_INSERT:
                    now[slot], places[slot] = row, place
            yield Round(list(self._reads(wanted)), self._insertion(now, places), now)
            placed = {slot: row for slot, row in placed.items() if slot not in now}

    def _place(
        self, device: int, prefix: _Prefix, wanted: dict[_Prefix, bool]
    ) -> int | None:
        """Place of a prompt, marked to prefill; None if this round has none left."""
        known = self._known[device]
        if not prefix[0]:
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

    def _reads(self, wanted: list[dict]) -> Iterator[tuple[np.ndarray, ...]]:
        """Prompts of equal padded length, in groups of a power of two."""
        shapes: dict[int, list[list]] = {}
        for device, prompts in enumerate(wanted):
            for prefix, unread in prompts.items():
                if unread:
                    queues = shapes.setdefault(
                        cache_size(len(prefix[0])), [[] for _ in wanted]
                    )
                    queues[device].append(prefix)
        for length, queues in sorted(shapes.items()):
            while waiting := max(map(len, queues)):
                group = min(self._prefill, 1 << (waiting - 1).bit_length())
                tokens = np.full((len(wanted) * group, length), -1, np.int32)
                into = np.full(len(wanted) * group, self.kept, np.int32)
                vectors = np.zeros(len(into), np.int32)
                strengths = np.zeros(len(into), np.float32)
                for device, queue in enumerate(queues):
                    for i, prefix in enumerate(queue[:group], device * group):
                        tokens[i, : len(prefix[0])] = prefix[0]
                        into[i] = self._known[device][prefix]
                        vectors[i], strengths[i] = prefix[1:]
                    del queue[:group]
                yield tokens, into, *((vectors, strengths) if self._steered else ())

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
        rows = sampling_params.default_params(total, self._steered)
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
