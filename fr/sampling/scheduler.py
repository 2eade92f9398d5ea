"""How rows enter: prompts are read once, in few shapes, and kept while rows of theirs may still come."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from fr.errors import UserError
from fr.sampling import rows, state, steering
from fr.sampling.sources import Resume, WorkSource
from fr.types import Request, Rollout

KEPT = 8  # prompts that a device keeps; rows come problem by problem, so the last ones are those that come again
AT_ONCE = 8  # rows that enter a device in one call: few in the steady state, and its cost is theirs alone


@dataclasses.dataclass
class Round:
    """Prompts to read, each call's tokens [D * G, P] and places [D * G], and the rows that then can enter."""

    reads: list[tuple[Int[np.ndarray, "G P"], Int[np.ndarray, "G"]]]
    entry: state.Entry
    rows: dict[int, Request]  # by slot


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

    def rounds(self, placed: dict[int, Request]) -> Iterator[Round]:
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
                        state.cache_size(len(prefix)), [[] for _ in wanted]
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

    def _entry(self, now: dict[int, Request], places: dict[int, int]) -> state.Entry:
        width = min(AT_ONCE, self._slots)
        total = self._devices * width
        entry = state.Entry(
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


# The fields of an emission that are not statistics; float32 like these, for one fetch a chunk.
FLAGS = ("token", "valid", "forced", "fired", "sample_logp")


@dataclasses.dataclass
class Slot:
    """A row in flight: pieces of its emissions, one a chunk, and the parameters that it runs under."""

    row: Request
    forced: tuple[int, ...]  # what waits in its forced queue
    length: int  # cache entries that it has written
    tokens: list[int] = dataclasses.field(default_factory=list)
    pieces: list[np.ndarray] = dataclasses.field(default_factory=list)  # [F, n] each
    decoded: int = 0
    rewinds: int = 0

    @property
    def need(self) -> int:
        """Cache entries that the row may come to write in all."""
        return len(self.row.prompt) - 1 + rows.value(self.row, "budget")

    def collect(self, block: Float[np.ndarray, "F steps"]) -> None:
        """Append what the row emitted in a chunk: it is live for the first steps of it, then no more."""
        count = int(block[FLAGS.index("valid")].sum())
        if count:
            piece = block[:, :count].copy()
            self.pieces.append(piece)
            self.tokens += piece[FLAGS.index("token")].astype(int).tolist()
            self.decoded += count
            self.forced = self.forced[int(piece[FLAGS.index("forced")].sum()) :]

    def values(self) -> Float[np.ndarray, "F T"]:
        """What its tokens came with, so far."""
        return np.concatenate(self.pieces, axis=1)

    def rewind(self, cut: int) -> None:
        """Forget all but the first `cut` tokens, and what waited to be forced behind them."""
        self.rewinds += cut < len(self.tokens)
        self.pieces, self.tokens, self.forced = (
            [self.values()[:, :cut]],
            self.tokens[:cut],
            (),
        )

    def memory(self) -> tuple[bool, int, int]:
        """What the loop remembers behind the tokens that are left: fired, still hot, age of the thought."""
        fires = np.flatnonzero(self.values()[FLAGS.index("fired")])
        hot = 0
        if len(fires) and rows.value(self.row, "operator") == steering.HEAT:
            hot = max(
                0,
                rows.value(self.row, "local_span") - (len(self.tokens) - 1 - fires[-1]),
            )
        switches = np.flatnonzero(
            np.isin(self.tokens, self.row.params.get("switch_tokens", ()))
        )
        last = switches[-1] if len(switches) else -1
        return bool(len(fires)), hot, len(self.tokens) - 1 - last

    def rollout(self, statistics: tuple[str, ...]) -> Rollout:
        """The finished row; `statistics` names the fields behind the flags.

        Raises UserError, with the row's name and the token, where logits were no numbers.
        """
        table = self.values()
        if len(broken := np.flatnonzero(np.isnan(table).any(axis=0))):
            raise UserError(
                f"row {self.row.id}: logits are not finite at token {broken[0]} of its completion, after a prompt of "
                f"{len(self.row.prompt)} tokens; check the weights of the model (and its ancestor) for NaN, or "
                "compute in float32"
            )
        values = dict(zip((*FLAGS, *statistics), table))
        tokens = values["token"].astype(np.int32)
        return Rollout(
            row=self.row,
            tokens=tokens,
            forced=values["forced"].astype(bool),
            fired=values["fired"].astype(bool),
            sample_logp=values["sample_logp"],
            stats={name: values[name] for name in statistics},
            truncated=not (
                len(tokens) and int(tokens[-1]) in self.row.params.get("stop", ())
            ),
            generated=self.decoded,
        )


def ask(source: WorkSource, slots: list[Slot | None], paused: list[int]) -> state.Edit:
    """Let the source speak for every paused row; the rows' slots change with their edits.

    Raises ValueError for a cut behind a row's end and for a forced queue that does not fit.
    """
    total = len(slots)
    change = state.Edit(
        mask=np.zeros(total, bool),
        done=np.zeros(total, bool),
        last=np.zeros(total, np.int32),
        length=np.zeros(total, np.int32),
        generated=np.zeros(total, np.int32),
        fired=np.zeros(total, bool),
        hot=np.zeros(total, np.int32),
        thought=np.zeros(total, np.int32),
        key=np.zeros((total, 2), np.uint32),
        forced=np.full((total, rows.WIDTHS["forced"]), -1, np.int32),
    )
    for i in paused:
        _edit(
            change, i, slots[i], source.resume(slots[i].row, np.array(slots[i].tokens))
        )
    return change


def _edit(change: state.Edit, i: int, slot: Slot, answer: Resume) -> None:
    row = slot.row
    if answer.cut is not None:
        if not 0 <= answer.cut <= len(slot.tokens):
            raise ValueError(
                f"row {row.id}: cannot keep {answer.cut} of {len(slot.tokens)} tokens"
            )
        slot.rewind(answer.cut)
    slot.forced = (*answer.forced, *slot.forced)
    sequence = [*row.prompt, *slot.tokens]
    slot.length = len(sequence) - 1
    change.mask[i] = True
    change.done[i] = answer.finish
    change.last[i] = sequence[-1]
    change.length[i] = slot.length
    change.generated[i] = len(slot.tokens)
    change.fired[i], change.hot[i], change.thought[i] = slot.memory()
    # After a rewind the same token indices are drawn again, and must not repeat their draws.
    change.key[i] = rows.row_key(slot.rewinds, *row.key) if slot.rewinds else row.key
    change.forced[i] = rows.padded(slot.forced, "forced", row.id)
