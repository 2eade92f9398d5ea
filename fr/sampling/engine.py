"""The host side of sampling: rows come from a work source into slots, and leave as finished rollouts."""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np

from fr import distributed
from fr.errors import UserError
from fr.models.model import check_ids
from fr.models.transformer import Transformer, unstack
from fr.sampling import decode, probe_trees, rows, steering
from fr.sampling import scheduler as edits
from fr.sampling import state as batch
from fr.sampling.devices import Devices
from fr.sampling.probes import Prober
from fr.sampling.scheduler import Admission, Slot
from fr.sampling.sources import ListSource, Plan, Speak, WorkSource
from fr.sampling.state import cache_size
from fr.sampling.structs import LineageStats, TokenStats
from fr.types import Request, Rollout


@dataclasses.dataclass
class Counts:
    """What an engine has done so far; a step is one of all slots."""

    full_steps: int = 0  # of chunks that began with a row in every slot
    full_live: int = 0  # rows that were live in them, summed over steps
    drain_steps: int = 0  # of chunks that began with a free slot, for want of rows
    drain_live: int = 0
    prompts: int = 0  # read
    prompt_tokens: int = 0  # and their tokens, pads not counted
    entered: int = 0  # rows
    resized: int = 0  # times that the cache changed its size
    probe_tokens: int = 0  # of forced answers that were scored
    probe_padded: int = 0  # what the shapes made of them


@dataclasses.dataclass
class _Chunk:
    """A chunk that has run and that the host has not looked into: its block, who was where, who is done."""

    block: jax.Array  # [D, steps, F, B]
    owners: list[Slot | None]
    done: np.ndarray | None = None


class Engine:
    """Decodes rows of one model (beside its ancestor, if given) on the local devices.

    `slots` rows a device, `chunk` steps and `prefill` prompts at a time are the shapes of the compiled
    programs. Without `statistics` rollouts carry tokens and their `sample_logp` alone, and rows are plain ones.
    Raises ValueError for a row that cannot fit the cache, has nothing to read or to emit, or would steer by
    what the engine does not have.
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
        statistics: bool = True,
        devices: Devices | None = None,
    ):
        if ancestor is not None and not statistics:
            raise ValueError(
                "an ancestor in the loop is there for its statistics; leave it out or keep them"
            )
        self.devices = devices or Devices()
        self.slots, self.counts, self._statistics = slots, Counts(), statistics
        self._chunk, self._has_ancestor = chunk, ancestor is not None
        self._admission = Admission(self.devices.count, slots, prefill)
        self._room = self._largest = (
            0  # entries of a kept prompt, and of the longest cache so far
        )
        second = ancestor_params and self._layered(ancestor, ancestor_params)
        self._params = self.devices.replicate(
            batch.Models(self._layered(model, params), second)
        )
        self._tau = np.full(self.devices.count, tau, np.float32)
        both = [m.config for m in (model, ancestor) if m is not None]
        self._vocab, self._context = model.config.vocab, min(c.context for c in both)
        self._programs(model, ancestor)
        self._bring = self._transfer(model)

    def _programs(self, model: Transformer, ancestor: Transformer | None) -> None:
        def program(name: str, fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
            fn.__name__ = name  # for the compile log
            return self.devices.wrap(fn, donate)

        both, kept, steps, statistics = (
            (model, ancestor),
            self._admission.kept,
            self._chunk,
            self._statistics,
        )
        chunk = lambda *args: decode.decode_chunk(*both, steps, statistics, *args)
        self._decode = program("decode", chunk, donate=(1,))
        self._read = program(
            "read", lambda *args: batch.read(*both, *args), donate=(1,)
        )
        self._enter = program("enter", lambda *args: batch.enter(*args), donate=(1,))
        self._edit = program(
            "edit", lambda params, *args: batch.edit(*args), donate=(1,)
        )
        self._probe = program(
            "probe",
            lambda params, *args: probe_trees.score(model, params.specialist, *args),
        )
        # One compiled function a size: a fresh function would compile anew for each run.
        self._resize = functools.cache(
            lambda size: program(
                "resize", lambda params, state: batch.resize(state, size)
            )
        )
        self._init = functools.cache(
            lambda size: program(
                "init", lambda params, empty: batch.init_state(*both, empty, size)
            )
        )
        self._init_prefixes = functools.cache(
            lambda size: program(
                "prefixes", lambda params, tau: batch.init_prefixes(*both, kept, size)
            )
        )

    def _layered(self, model: Transformer, params: dict) -> dict:
        if self.devices.stacked or isinstance(params["layers"], tuple):
            return params
        return {**params, "layers": unstack(params["layers"], model.config.layers)}

    def _transfer(self, model: Transformer) -> Callable[[dict], dict]:
        """The one program that gives parameters the layout, types and places of those that are decoded with."""
        types = jax.tree.map(lambda leaf: leaf.dtype, self._params.specialist)
        places = jax.tree.map(lambda leaf: leaf.sharding, self._params.specialist)
        cast = lambda leaf, kind: leaf.astype(kind)
        bring = lambda params: jax.tree.map(cast, self._layered(model, params), types)
        return self.devices.receiver(bring, places)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the per-token statistics of a rollout."""
        if not self._statistics:
            return ()
        names = [f.name for f in dataclasses.fields(TokenStats)]
        return tuple(
            names
            + [f.name for f in dataclasses.fields(LineageStats)] * self._has_ancestor
        )

    def update(self, params: dict) -> None:
        """Decode with these parameters of the same model from the next run on.

        They may be stacked, of another type, and divided otherwise over the same devices, or over those of all
        processes, which then all call this. Nothing compiles anew.
        """
        self._params = self._params.replace(specialist=self._bring(params))

    def run(self, source: WorkSource, max_length: int) -> None:
        """Decode all that the source gives; prompts and budgets must fit `max_length` positions together.

        The source hears of a rollout one chunk after its last token: the host takes a chunk apart while the
        device runs the next one. Where the source has a `plan`, a finished row keeps its slot for that chunk,
        and what it asks for comes with the rollout, another chunk later.
        """
        self._limit = -(-max_length // 32) * 32
        self._sizes = batch.cache_sizes(self._limit)
        self._size, self._room = self._sizes[0], 0
        self._admission.forget()
        self._prober = self.prober(getattr(source, "plan", None))
        empty = self.devices.split(rows.defaults(self.slots * self.devices.count))
        state = self._init(self._size)(self._params, empty)
        slots: list[Slot | None] = [None] * (self.slots * self.devices.count)
        finished, last = [], None
        while True:
            distributed.beat()
            state = self._admit(state, slots, self._ask(source, finished, slots))
            if any(slots):
                state = self._fit(state, slots)
                state, block = self._decode(self._params, state, self._tau)
                chunk = _Chunk(block, list(slots))
            elif last is None and not self._prober.flying:
                return
            else:
                chunk = None
            finished = self._collect(last, state)
            last = chunk
            if chunk is not None:
                chunk.done, paused = self._look(state, slots)
                if paused:
                    finished += self._collect(chunk, state)
                    last, state = (
                        None,
                        self._edited(state, edits.ask(source, slots, paused)),
                    )

    def sample(
        self,
        todo: Iterable[Request],
        max_length: int = 0,
        progress: Callable[[int], object] = lambda count: None,
        plan: Plan | None = None,
        speak: Speak | None = None,
    ) -> list[Rollout]:
        """Decode a fixed list of rows; the rollouts come back in its order. `max_length` 0: that of the rows."""
        todo = list(todo)
        source = ListSource(todo, progress, plan, speak)
        longest = max(
            (len(r.prompt) + rows.value(r, "budget") for r in todo), default=1
        )
        self.run(source, max_length or longest)
        return source.rollouts

    def prober(self, plan: Plan | None) -> Prober:
        """What sends the probes of this engine's finished rows."""
        return Prober(
            self.devices, self.slots, plan, functools.partial(self._probe, self._params)
        )

    def _ask(
        self, source: WorkSource, finished: list[Rollout], slots: list
    ) -> dict[int, Request]:
        """New rows, by the slots that they will take."""
        free = [
            i
            for i, slot in enumerate(slots)
            if slot is None and i not in self._prober.held
        ]
        new = source.next(finished, len(free))
        if len(new) > len(free):
            raise ValueError(
                f"the work source gave {len(new)} rows for {len(free)} free slots"
            )
        for row in new:
            self._check(row)
        return dict(zip(free, new))

    def _check(self, row: Request) -> None:
        if not row.prompt:
            raise ValueError(f"row {row.id}: its prompt is empty")
        if rows.value(row, "budget") < 1:
            raise ValueError(
                f"row {row.id}: a budget of {rows.value(row, 'budget')} leaves nothing to emit"
            )
        reads = (
            rows.value(row, "operator") != steering.PLAIN
            or rows.value(row, "floor") > -np.inf
        )
        if reads and not self._statistics:
            raise ValueError(
                f"row {row.id}: its operator reads statistics, and this engine keeps none"
            )
        if (
            rows.value(row, "operator") in steering.NEEDS_ANCESTOR
            and not self._has_ancestor
        ):
            raise ValueError(
                f"row {row.id}: its operator mixes with an ancestor, and this engine has none"
            )
        given = (
            *row.prompt,
            *row.params.get("forced", ()),
            *row.params.get("stop", ()),
        )
        check_ids((i for i in given if i != -1), self._vocab, f"row {row.id}")
        need = len(row.prompt) - 1 + int(rows.value(row, "budget"))
        if need >= self._context:
            raise UserError(
                f"row {row.id}: prompt and new tokens need {need + 1} positions, the model has {self._context}; "
                "lower max_new_tokens"
            )
        if need > self._limit:
            raise ValueError(
                f"row {row.id}: prompt and budget need {need} cache entries, the cache has {self._limit}"
            )

    def _admit(
        self, state: batch.DecodeState, slots: list, placed: dict[int, Request]
    ) -> batch.DecodeState:
        """Read the prompts that are not kept, then let the rows in."""
        longest = max(
            (cache_size(len(row.prompt) - 1) for row in placed.values()), default=0
        )
        if longest > self._room:
            self._room = longest
            self._admission.forget()
            self._prefixes = self._init_prefixes(longest)(self._params, self._tau)
        if placed:
            # Room for the prompts first: what does not fit the cache is not copied into it.
            state = self._resized(
                state, max(len(row.prompt) for row in placed.values())
            )
        for entering in self._admission.rounds(placed):
            for tokens, into in entering.reads:
                self.counts.prompts += int((into < self._admission.kept).sum())
                self.counts.prompt_tokens += int((tokens >= 0).sum())
                self._prefixes = self._read(
                    self._params, self._prefixes, *self.devices.split((tokens, into))
                )
            entry = self.devices.split(entering.entry)
            state = self._enter(self._params, state, self._prefixes, entry)
            for slot, row in entering.rows.items():
                slots[slot] = Slot(
                    row, tuple(row.params.get("forced", ())), len(row.prompt) - 1
                )
        self.counts.entered += len(placed)
        return state

    def _fit(
        self, state: batch.DecodeState, slots: list[Slot | None]
    ) -> batch.DecodeState:
        """Give the cache the size that the next chunk needs: a step costs what its cache is long."""
        need = max(
            min(slot.length + self._chunk, slot.need)
            for slot in slots
            if slot is not None
        )
        need = max(need, *self._prober.held.values(), 0)
        # Not shorter at once: rows of unequal age would have it go up and down.
        return self._resized(state, need, shrink=2 * cache_size(need) <= self._size)

    def _resized(
        self, state: batch.DecodeState, need: int, shrink: bool = False
    ) -> batch.DecodeState:
        at, to = (
            self._sizes.index(size)
            for size in (self._size, min(cache_size(need), self._limit))
        )
        # One size after the other: programs for neighbours only, so that a run soon has them all.
        while at < to or (shrink and at > to):
            last, at = at, at + (1 if at < to else -1)
            self.counts.resized += 1
            self._size = self._sizes[at]
            state = self._resize(self._size)(self._params, state)
            if self._size > self._largest:
                # The way back is compiled now: when it will be wanted is chance, and a run would stop for it.
                self._largest = self._size
                self._resize(self._sizes[last])(self._params, state)
        return state

    def _look(
        self, state: batch.DecodeState, slots: list[Slot | None]
    ) -> tuple[np.ndarray, list[int]]:
        """Wait for the chunk; free the slots of rows that are done. Returns who is done and who is paused."""
        done, paused, length = (
            x.reshape(-1)
            for x in jax.device_get((state.done, state.paused, state.length))
        )
        full = all(
            slot is not None or i in self._prober.held for i, slot in enumerate(slots)
        )
        before = sum(slot.length for slot in slots if slot is not None)
        for i, slot in enumerate(slots):
            if slot is not None:
                slot.length = int(length[i])
        live = sum(slot.length for slot in slots if slot is not None) - before
        if full:
            self.counts.full_steps += self._chunk
            self.counts.full_live += live
        else:
            self.counts.drain_steps += self._chunk
            self.counts.drain_live += live
        waiting = [i for i, slot in enumerate(slots) if slot is not None and paused[i]]
        for i in range(len(slots)):
            if done[i] and slots[i] is not None:
                self._prober.hold(i, slots[i].length)
                slots[i] = None
        return done, waiting

    def _edited(
        self, state: batch.DecodeState, change: batch.Edit
    ) -> batch.DecodeState:
        return self._edit(self._params, state, self.devices.split(change))

    def _collect(self, chunk: _Chunk | None, state: batch.DecodeState) -> list[Rollout]:
        """Hand a chunk's emissions to the rows that made them; returns the rollouts that are complete."""
        finished = [] if chunk is None else self._ended(chunk)
        complete = self._prober.exchange(state.cache, finished)
        self.counts.probe_tokens, self.counts.probe_padded = (
            self._prober.used,
            self._prober.padded,
        )
        return complete

    def _ended(self, chunk: _Chunk) -> list[tuple[int, Rollout]]:
        """The rows that are done after a chunk, by slot."""
        # [D, steps, F, B] -> [F, D * B, steps]
        block = np.asarray(jax.device_get(chunk.block)).transpose(2, 0, 3, 1)
        block = block.reshape(block.shape[0], len(chunk.owners), -1)
        finished = []
        for i, slot in enumerate(chunk.owners):
            if slot is not None:
                slot.collect(block[:, i])
                if chunk.done[i]:
                    finished.append((i, slot.rollout(self.fields)))
        return finished
