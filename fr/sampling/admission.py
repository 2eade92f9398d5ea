"""How rows enter: prompts are read once, in few shapes, and kept while rows of theirs may still come."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from fr.sampling import batch, rows
from fr.types import Row

KEPT = 8  # prompts that a device keeps; rows come problem by problem, so the last ones are those that come again
AT_ONCE = 8  # rows that enter a device in one call: few in the steady state, and its cost is theirs alone


@dataclasses.dataclass
class Round:
    """Prompts to read, each call's tokens [D * G, P] and places [D * G], and the rows that then can enter."""

    reads: list[tuple[Int[np.ndarray, "G P"], Int[np.ndarray, "G"]]]
    entry: batch.Entry
    rows: dict[int, Row]  # by slot


class Admission:
    """The host's picture of what prompts each device keeps."""

    def __init__(self, devices: int, slots: int, prefill: int):
        self.kept = max(KEPT, prefill)
        self._devices, self._slots, self._prefill = devices, slots, prefill
        self.forget()

    def forget(self) -> None:
        """No prompt is kept any more."""
        # Prompt to place, the one that was used longest ago first.
        self._known: list[dict[tuple[int, ...], int]] = [
            {} for _ in range(self._devices)
        ]

    def rounds(self, placed: dict[int, Row]) -> Iterator[Round]:
        """Let rows into their slots, as many at a time as prompts and one call hold."""
        while placed:
            now, wanted, places = {}, [{} for _ in range(self._devices)], {}
            for slot, row in placed.items():
                device = slot // self._slots
                place = self._place(device, row.prompt[:-1], wanted[device])
                if (
                    place is not None
                    and sum(s // self._slots == device for s in now) < AT_ONCE
                ):
                    now[slot], places[slot] = row, place
            yield Round(list(self._reads(wanted)), self._entry(now, places), now)
            placed = {slot: row for slot, row in placed.items() if slot not in now}

    def _place(
        self, device: int, prefix: tuple[int, ...], wanted: dict[tuple[int, ...], bool]
    ) -> int | None:
        """Where a prompt is or will be; None if all places are taken in this round. Marks what must be read."""
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
        """Prompts of one padded length together, in groups of a power of two, at most `prefill` a call."""
        shapes: dict[int, list[list]] = {}
        for device, prompts in enumerate(wanted):
            for prefix, unread in prompts.items():
                if unread:
                    queues = shapes.setdefault(
                        batch.cache_size(len(prefix)), [[] for _ in wanted]
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

    def _entry(self, now: dict[int, Row], places: dict[int, int]) -> batch.Entry:
        width = min(AT_ONCE, self._slots)
        total = self._devices * width
        entry = batch.Entry(
            slot=np.full(total, self._slots, np.int32),
            prompt=np.zeros(total, np.int32),
            last=np.zeros(total, np.int32),
            length=np.zeros(total, np.int32),
            key=np.zeros((total, 2), np.uint32),
            rows=rows.defaults(total),
        )
        entered = [0] * self._devices
        for slot, row in now.items():
            device = slot // self._slots
            at = device * width + entered[device]
            entered[device] += 1
            entry.slot[at] = slot % self._slots
            entry.prompt[at] = places[slot]
            entry.last[at] = row.prompt[-1]
            entry.length[at] = len(row.prompt) - 1
            entry.key[at] = row.key
            rows.fill(entry.rows, at, row)
        return entry
