"""The host side of sampling: rows come from a work source into slots, and leave as finished rollouts."""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jaxtyping import Float

from fr.models.transformer import Transformer
from fr.sampling import decode, rows, steering
from fr.sampling.devices import Devices
from fr.sampling.work import ListSource, Resume, WorkSource
from fr.types import LineageStats, Rollout, Row, TokenStats


@dataclasses.dataclass
class _Slot:
    """A row in flight: pieces of its emissions, one a chunk, and the parameters that it runs under."""

    row: Row
    forced: tuple[int, ...]  # what waits in its forced queue
    tokens: list[int] = dataclasses.field(default_factory=list)
    pieces: list[np.ndarray] = dataclasses.field(default_factory=list)  # [F, n] each
    decoded: int = 0
    rewinds: int = 0

    def values(self) -> Float[np.ndarray, "F T"]:
        """What its tokens came with, so far."""
        return np.concatenate(self.pieces, axis=1)

    def rewind(self, cut: int) -> None:
        """Forget all but the first `cut` tokens, and what waited to be forced behind them."""
        self.rewinds += cut < len(self.tokens)
        self.pieces, self.tokens, self.forced = [self.values()[:, :cut]], self.tokens[:cut], ()

    def memory(self) -> tuple[bool, int, int]:
        """What the loop remembers behind the tokens that are left: fired, still hot, age of the thought."""
        fires = np.flatnonzero(self.values()[2])
        hot = 0
        if len(fires) and rows.value(self.row, "operator") == steering.HEAT:
            hot = max(0, rows.value(self.row, "local_span") - (len(self.tokens) - 1 - fires[-1]))
        switches = np.flatnonzero(np.isin(self.tokens, self.row.params.get("switch_tokens", ())))
        last = switches[-1] if len(switches) else -1
        return bool(len(fires)), hot, len(self.tokens) - 1 - last


class Engine:
    """Decodes rows of one model (beside its ancestor, if given) on the local devices.

    `slots` rows a device, `chunk` steps and `prefill` prompts at a time are the shapes of the compiled
    programs. Raises ValueError for a row that cannot fit the cache, has nothing to read or to emit, or would
    steer without an ancestor.
    """

    def __init__(
        self,
        model: Transformer,
        params: dict,
        *,
        ancestor: Transformer | None = None,
        ancestor_params: dict | None = None,
        slots: int = 64,
        chunk: int = 16,
        prefill: int = 8,
        tau: float = 0.6,
        devices: Devices | None = None,
    ):
        self.devices = devices or Devices()
        self.slots, self._prompts = slots, prefill
        self._params = self.devices.replicate(decode.Models(params, ancestor_params))
        self._tau = np.full(self.devices.count, tau, np.float32)
        self._has_ancestor = ancestor is not None
        bound = lambda fn, *more: lambda *args: fn(model, ancestor, *more, *args)
        wrap = self.devices.wrap
        self._enter = wrap(bound(decode.enter), donate=(1,))
        self._decode = wrap(bound(decode.decode_chunk, chunk), donate=(1,))
        self._edit = wrap(lambda params, *args: decode.edit(*args), donate=(1,))
        # One compiled function a cache size: a run is a shard, and a fresh function would compile for each.
        self._init = functools.cache(
            lambda size: wrap(lambda params, empty: decode.init_state(model, ancestor, empty, size))
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the per-token statistics of a rollout."""
        names = [f.name for f in dataclasses.fields(TokenStats)]
        return tuple(names + [f.name for f in dataclasses.fields(LineageStats)] * self._has_ancestor)

    def run(self, source: WorkSource, max_length: int) -> None:
        """Decode all that the source gives; prompts and budgets must fit `max_length` positions together."""
        self._size = -(-max_length // 32) * 32  # a few sizes, not one program for every length
        empty = self.devices.split(rows.defaults(self.slots * self.devices.count))
        state = self._init(self._size)(self._params, empty)
        slots: list[_Slot | None] = [None] * (self.slots * self.devices.count)
        finished: list[Rollout] = []
        while True:
            free = sum(s is None for s in slots)
            new = source.next(finished, free)
            if len(new) > free:
                raise ValueError(f"the work source gave {len(new)} rows for {free} free slots")
            state = self._admit(state, slots, new)
            if not any(slots):
                return
            state, emission = self._decode(self._params, state, self._tau)
            flags = (state.done, state.paused)
            emission, (done, paused) = jax.device_get((emission, flags))
            self._collect(slots, emission)
            finished = self._leave(slots, done.reshape(-1))
            state = self._resume(state, slots, paused.reshape(-1), source)

    def sample(
        self, todo: Iterable[Row], max_length: int = 0, progress: Callable[[int], object] = lambda count: None
    ) -> list[Rollout]:
        """Decode a fixed list of rows; the rollouts come back in its order. `max_length` 0: that of the rows."""
        todo = list(todo)
        source = ListSource(todo, progress)
        longest = max((len(r.prompt) + rows.value(r, "budget") for r in todo), default=1)
        self.run(source, max_length or longest)
        return source.rollouts

    def _admit(self, state: decode.DecodeState, slots: list, new: list[Row]) -> decode.DecodeState:
        """Place new rows in free slots; each device reads at most `prefill` different prompts at a time."""
        free = [i for i, slot in enumerate(slots) if slot is None]
        placed = dict(zip(free, new))
        for row in new:
            self._check(row)
        while placed:
            batch, rest, prompts = {}, {}, [{} for _ in range(self.devices.count)]
            for slot, row in placed.items():
                known = prompts[slot // self.slots]
                if row.prompt in known or len(known) < self._prompts:
                    known.setdefault(row.prompt, len(known))
                    batch[slot] = row
                else:
                    rest[slot] = row
            state = self._enter(self._params, state, self.devices.split(self._entry(batch, prompts)))
            for slot, row in batch.items():
                slots[slot] = _Slot(row, tuple(row.params.get("forced", ())))
            placed = rest
        return state

    def _check(self, row: Row) -> None:
        if not row.prompt:
            raise ValueError(f"row {row.id}: its prompt is empty")
        if rows.value(row, "budget") < 1:
            raise ValueError(f"row {row.id}: a budget of {rows.value(row, 'budget')} leaves nothing to emit")
        if rows.value(row, "operator") in steering.NEEDS_ANCESTOR and not self._has_ancestor:
            raise ValueError(f"row {row.id}: its operator mixes with an ancestor, and this engine has none")
        need = len(row.prompt) - 1 + int(rows.value(row, "budget"))
        if need > self._size:
            raise ValueError(
                f"row {row.id}: prompt and budget need {need} cache entries, the cache has {self._size}"
            )

    def _entry(self, batch: dict[int, Row], prompts: list[dict]) -> decode.Entry:
        total = self.slots * self.devices.count
        longest = max(len(row.prompt) - 1 for row in batch.values())
        bucket = max(16, 1 << (longest - 1).bit_length() if longest > 1 else 16)
        tokens = np.full((self.devices.count * self._prompts, bucket), -1, np.int32)
        for device, known in enumerate(prompts):
            for prompt, index in known.items():
                tokens[device * self._prompts + index, : len(prompt) - 1] = prompt[:-1]
        entry = decode.Entry(
            prompts=tokens,
            mask=np.zeros(total, bool),
            prompt=np.zeros(total, np.int32),
            last=np.zeros(total, np.int32),
            length=np.zeros(total, np.int32),
            key=np.zeros((total, 2), np.uint32),
            rows=rows.defaults(total),
        )
        for slot, row in batch.items():
            entry.mask[slot] = True
            entry.prompt[slot] = prompts[slot // self.slots][row.prompt]
            entry.last[slot] = row.prompt[-1]
            entry.length[slot] = len(row.prompt) - 1
            entry.key[slot] = row.key
            rows.fill(entry.rows, slot, row)
        return entry

    def _collect(self, slots: list, emission) -> None:
        """Append what each live slot emitted in the last chunk."""
        parts = [emission.token, emission.forced, emission.fired, emission.sample_logp]
        parts += [getattr(emission.stats, f.name) for f in dataclasses.fields(TokenStats)]
        if self._has_ancestor:
            parts += [getattr(emission.lineage, f.name) for f in dataclasses.fields(LineageStats)]
        # [F, D, steps, B] -> [F, D * B, steps]; float32 holds every token id below 2**24 exactly.
        block = np.stack(parts).astype(np.float32).swapaxes(2, 3).reshape(len(parts), len(slots), -1)
        counts = emission.valid.swapaxes(1, 2).reshape(len(slots), -1).sum(axis=1)
        for i, slot in enumerate(slots):
            if slot is not None and counts[i]:
                piece = block[:, i, : counts[i]].copy()
                slot.pieces.append(piece)
                slot.tokens += piece[0].astype(int).tolist()
                slot.decoded += int(counts[i])
                slot.forced = slot.forced[int(piece[1].sum()) :]

    def _leave(self, slots: list, done: np.ndarray) -> list[Rollout]:
        finished = []
        for i, slot in enumerate(slots):
            if slot is not None and done[i]:
                finished.append(self._rollout(slot))
                slots[i] = None
        return finished

    def _rollout(self, slot: _Slot) -> Rollout:
        values = slot.values()
        tokens = values[0].astype(np.int32)
        return Rollout(
            row=slot.row,
            tokens=tokens,
            forced=values[1].astype(bool),
            fired=values[2].astype(bool),
            sample_logp=values[3],
            stats=dict(zip(self.fields, values[4:])),
            truncated=not (len(tokens) and int(tokens[-1]) in slot.row.params.get("stop", ())),
            generated=slot.decoded,
        )

    def _resume(self, state, slots: list, paused: np.ndarray, source: WorkSource) -> decode.DecodeState:
        """Ask the source about every paused row and send its edits back in one call."""
        waiting = [i for i, slot in enumerate(slots) if slot is not None and paused[i]]
        if not waiting:
            return state
        total = len(slots)
        change = decode.Edit(
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
        for i in waiting:
            self._edit_slot(change, i, slots[i], source.resume(slots[i].row, np.array(slots[i].tokens)))
        return self._edit(self._params, state, self.devices.split(change))

    def _edit_slot(self, change: decode.Edit, i: int, slot: _Slot, answer: Resume) -> None:
        row = slot.row
        if answer.cut is not None:
            if not 0 <= answer.cut <= len(slot.tokens):
                raise ValueError(f"row {row.id}: cannot keep {answer.cut} of {len(slot.tokens)} tokens")
            slot.rewind(answer.cut)
        slot.forced = (*answer.forced, *slot.forced)
        sequence = [*row.prompt, *slot.tokens]
        change.mask[i] = True
        change.done[i] = answer.finish
        change.last[i] = sequence[-1]
        change.length[i] = len(sequence) - 1
        change.generated[i] = len(slot.tokens)
        change.fired[i], change.hot[i], change.thought[i] = slot.memory()
        # After a rewind the same token indices are drawn again, and must not repeat their draws.
        change.key[i] = rows.row_key(slot.rewinds, *row.key) if slot.rewinds else row.key
        change.forced[i] = rows.padded(slot.forced, "forced", row.id)
