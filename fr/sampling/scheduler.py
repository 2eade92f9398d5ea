"""Admission of requests: prompts are prefilled once and kept while rows need them."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fr.sampling import sampling_params
from fr.sampling.prefixes import Part, Prefixes
from fr.sampling.state import Insertion, Reading, part_of, seen_entries
from fr.sampling.transitions import rows_in_turn
from fr.types import Request

# Prompts kept per device: one problem's prompt and its traces.
KEPT_PROMPTS = 8
# Rows per device and insertion: few enter at once in the steady state, and the program
# costs in proportion to this number.
ROWS_PER_INSERT = 8
# Requests after those that enter whose prompts are looked at before one is dropped.
HORIZON = 64


@dataclasses.dataclass
class Round:
    """One insertion: parts of prompts to read, and the rows that can then start."""

    reads: list[tuple[int, Reading]]  # entries that are seen, and parts [D * G]
    prompts: int  # prompts that the parts are of
    insertion: Insertion  # [D * R]
    requests: dict[int, Request]  # by slot


class Admission:
    """The host's record of the prompts that each device keeps."""

    def __init__(
        self,
        devices: int,
        slots: int,
        prefill: int,
        steered: bool = False,
        together: bool = False,
    ):
        """Start without prompts.

        Args:
            devices: Number of data shards, D.
            slots: Rows per shard, B.
            prefill: Largest number of prompts per shard and prefill call.
            steered: The engine has a table of steering vectors. A prompt is then kept
                once for each vector that it is read with.
            together: The prompts of a call are in one product.
        """
        self._steered, self._together = steered, together
        self.kept = max(KEPT_PROMPTS, prefill)
        self._devices, self._slots, self._prefill = devices, slots, prefill
        self.forget()

    def forget(self) -> None:
        """Drop all prompts."""
        self._known = [Prefixes(self.kept) for _ in range(self._devices)]

    def rounds(
        self, placed: dict[int, Request], coming: Sequence[Request] = ()
    ) -> Iterator[Round]:
        """Split new requests into insertions that the programs can hold.

        Args:
            placed: Requests by slot, in [0, D * B).
            coming: Requests that follow, as far as they are known: prompts that they
                begin with are kept.

        Yields:
            Rounds, in order.
        """
        # The longest first: it has the entries of those that it begins with.
        placed = dict(sorted(placed.items(), key=lambda item: -len(item[1].prompt)))
        while placed:
            now: dict[int, Request] = {}
            places: dict[int, int] = {}
            parts: list[list[Part]] = [[] for _ in range(self._devices)]
            here, prompts = [0] * self._devices, 0
            for known in self._known:
                known.begin_round()

            def later(placed=placed, now=now) -> Iterator[Request]:
                waiting = (row for slot, row in placed.items() if slot not in now)
                return itertools.islice(itertools.chain(waiting, coming), HORIZON)

            for slot, row in placed.items():
                device = slot // self._slots
                if here[device] == ROWS_PER_INSERT:
                    continue
                found: tuple[int, list[Part]] | None = (0, [])
                if len(row.prompt) > 1:
                    found = self._known[device].place(row, later)
                if found is not None:
                    now[slot], places[slot] = row, found[0]
                    here[device] += 1
                    prompts += bool(found[1])
                    parts[device] += found[1]
            reads = list(self._reads(parts))
            yield Round(reads, prompts, self._insertion(now, places), now)
            placed = {slot: row for slot, row in placed.items() if slot not in now}

    def _reads(self, parts: list[list[Part]]) -> Iterator[tuple[int, Reading]]:
        """Parts with the same begin; a part comes after those that it goes on from."""
        for begin in sorted({part.begin for own in parts for part in own}):
            end = part_of(begin)[1]
            queues = [[p for p in own if p.begin == begin] for own in parts]
            size = seen_entries(end, self._together)
            while waiting := max(map(len, queues)):
                group = self._group(waiting, end - begin, size)
                yield (
                    size,
                    self._reading(
                        [queue[:group] for queue in queues], group, end - begin
                    ),
                )
                queues = [queue[group:] for queue in queues]

    def _group(self, waiting: int, width: int, size: int) -> int:
        """Prompts per call. A call that reads in turn costs nothing for unused ones."""
        rows = rows_in_turn(self._together, width, size)
        if self._together and rows >= self._prefill:
            return min(self._prefill, 1 << (waiting - 1).bit_length())
        return -(-self._prefill // rows) * rows

    def _reading(self, parts: list[list[Part]], group: int, width: int) -> Reading:
        total = self._devices * group
        arrays: dict[str, Any] = {
            "tokens": np.full((total, width), -1, np.int32),
            "begin": np.full(total, -1, np.int32),
            "source": np.zeros(total, np.int32),
            "into": np.full(total, self.kept, np.int32),
        }
        if self._steered:
            arrays["vector"] = np.zeros(total, np.int32)
            arrays["strength"] = np.zeros(total, np.float32)
        for device, own in enumerate(parts):
            for i, part in enumerate(own, device * group):
                arrays["tokens"][i, : len(part.tokens)] = part.tokens
                arrays["begin"][i] = part.begin
                arrays["source"][i], arrays["into"][i] = part.source, part.into
                if self._steered:
                    arrays["vector"][i], arrays["strength"][i] = part.vector
        return Reading(**arrays)

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
