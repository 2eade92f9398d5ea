"""The host side of sampling: requests come from a work source, rollouts go back to it.

An engine keeps the slots of one batch full. While the devices run a chunk, the host
takes the previous one apart.
"""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jaxtyping import Bool, Float

from fr import distributed
from fr.models.transformer import Transformer
from fr.sampling.device_batch import Counts, DeviceBatch
from fr.sampling.devices import Devices
from fr.sampling.probes import Prober
from fr.sampling.sampling_params import check_request, param
from fr.sampling.scheduler import HORIZON, Admission
from fr.sampling.slots import Slot, edit_paused
from fr.sampling.sources import ListSource, OnPause, ProbePlan, WorkSource
from fr.sampling.state import cache_size, prompt_entries
from fr.sampling.structs import LineageStats, TokenStats
from fr.sampling.token_stats import TOP
from fr.types import Request, Rollout


@dataclasses.dataclass
class _Chunk:
    """A chunk that the host has not taken apart yet."""

    block: jax.Array  # fields of StepOutput, [D, steps, F, B]
    owners: list[Slot | None]  # rows by slot when it began
    done: Bool[np.ndarray, "B"] | None = None  # rows that ended in it


class Engine:
    """Decodes rows of one model on the local devices, its ancestor beside it if given.

    Attributes:
        devices: Devices in use.
        slots: Rows per data shard.
        counts: Work done since the engine was made.
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
        keep_top: int = 0,
        devices: Devices | None = None,
        vectors: Float[np.ndarray, "L K D"] | None = None,
    ):
        """Place the parameters; programs compile when they are first used.

        Args:
            model: The specialist, whose tokens are drawn.
            params: Its parameters; layers are stacked or a tuple.
            ancestor: A second model on the same tokens, for lineage statistics and
                steering; None: no ancestor.
            ancestor_params: Its parameters.
            slots: Rows per data shard; like `chunk` and `prefill` a shape of programs.
            chunk: Steps per call of the decoding program.
            prefill: Largest number of prompts per prefill call and data shard.
            tau: Diagnosis temperature of the statistics.
            statistics: Keep statistics of every token. Without them rollouts carry
                tokens and `sample_logp` only, and rows cannot steer.
            keep_top: Most probable tokens that rollouts keep at every place, at most
                100 and the vocabulary; 0: none. They come from sums that statistics
                need, so an engine without statistics keeps none.
            devices: Devices to run on; None: all local devices.
            vectors: Table of K steering vectors per layer, the first of them zero. A
                row names one by `vector`; `vector_strength` times it is added to the
                residual stream after each layer, at the prompt's tokens, at new tokens
                and in probes. None: programs have no place for vectors.

        Raises:
            ValueError: There is an ancestor, but no statistics are kept; or `keep_top`
                without statistics, or too large.
        """
        if ancestor is not None and not statistics:
            raise ValueError(
                "an ancestor in the loop is there for its statistics; leave it out or "
                "keep them"
            )
        if keep_top and not statistics:
            raise ValueError("the most probable tokens are kept with statistics only")
        if not 0 <= keep_top <= min(TOP, model.config.vocab):
            raise ValueError(
                f"keep_top = {keep_top} is not in 0 ... {TOP}, or too large"
            )
        self.devices = devices or Devices()
        self.slots, self.counts, self._statistics = slots, Counts(), statistics
        self._keep_top = keep_top
        self._has_ancestor = ancestor is not None
        self._vectors = 1 if vectors is None else vectors.shape[1]
        self._admission = Admission(
            self.devices.count,
            slots,
            prefill,
            vectors is not None,
            self.devices.reads_together,
        )
        self._batch = DeviceBatch(
            model,
            params,
            ancestor,
            ancestor_params,
            devices=self.devices,
            slots=slots,
            chunk=chunk,
            kept=self._admission.kept,
            tau=tau,
            statistics=statistics,
            keep_top=keep_top,
            counts=self.counts,
            vectors=vectors,
        )
        both = [m.config for m in (model, ancestor) if m is not None]
        self._vocab, self._context = model.config.vocab, min(c.context for c in both)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the statistics per token of a rollout."""
        if not self._statistics:
            return ()
        names = [f.name for f in dataclasses.fields(TokenStats)]
        lineage = [f.name for f in dataclasses.fields(LineageStats)]
        return tuple(names + lineage * self._has_ancestor)

    def update(self, params: dict) -> None:
        """Decode with other parameters of the same model from the next run on.

        Nothing compiles again.

        Args:
            params: Parameters, stacked or not, of any type. They may be divided in
                another way over the same devices, or over the devices of all processes,
                which must then all call this method.
        """
        self._batch.update(params)

    def run(self, source: WorkSource, max_length: int) -> None:
        """Decode all requests of a work source.

        The source receives a rollout one chunk after its last token. If the source has
        a `probe_plan`, a finished row keeps its slot for that chunk, and the rollout
        comes another chunk later with its confidence.

        Args:
            source: The work source.
            max_length: Largest number of positions, prompt and budget together.
        """
        self._admission.forget()
        self._prober = self.prober(getattr(source, "probe_plan", None))
        self._batch.start(max_length)
        try:
            self._loop(source)
        finally:
            self._batch.stop()

    def _loop(self, source: WorkSource) -> None:
        slots: list[Slot | None] = [None] * (self.slots * self.devices.count)
        finished: list[Rollout] = []
        last: _Chunk | None = None
        while True:
            distributed.beat()
            placed = self._pull_requests(source, finished, slots)
            self._admit(slots, placed, source)
            chunk = None
            if any(slots):
                self._resize(slots)
                chunk = _Chunk(self._batch.decode(), list(slots))
            elif last is None and not self._prober.flying:
                return
            finished = self._collect(last)
            last = chunk
            if chunk is not None:
                chunk.done, paused = self._sync(slots)
                if paused:
                    finished += self._collect(chunk)
                    last = None
                    self._batch.apply_edit(edit_paused(source, slots, paused))

    def sample(
        self,
        todo: Iterable[Request],
        max_length: int = 0,
        progress: Callable[[int], object] = lambda count: None,
        probe_plan: ProbePlan | None = None,
        on_pause: OnPause | None = None,
    ) -> list[Rollout]:
        """Decode a fixed list of requests.

        Args:
            todo: The requests; their ids differ.
            max_length: Largest number of positions of a row; 0: as the requests need.
            progress: Called with the number of rows that have finished since its last
                call.
            probe_plan: Gives the probe of a finished row.
            on_pause: Gives the action on a paused row; without it rows continue.

        Returns:
            Rollouts in the order of the requests.
        """
        todo = list(todo)
        source = ListSource(todo, progress, probe_plan, on_pause)
        lengths = (len(r.prompt) + param(r, "budget") for r in todo)
        longest = max(lengths, default=1)
        self.run(source, max_length or longest)
        return source.rollouts

    def prober(self, probe_plan: ProbePlan | None) -> Prober:
        """A sender of the probes of this engine's finished rows.

        Args:
            probe_plan: Gives the probe of a finished row; None: no row has one.

        Returns:
            The prober.
        """
        return Prober(self.devices, self.slots, probe_plan, self._batch.probe)

    def _pull_requests(
        self,
        source: WorkSource,
        finished: list[Rollout],
        slots: list[Slot | None],
    ) -> dict[int, Request]:
        """Hand rollouts to the source; returns new requests by their free slots."""
        held = self._prober.held
        free = [i for i, slot in enumerate(slots) if slot is None and i not in held]
        new = source.next(finished, len(free))
        if len(new) > len(free):
            raise ValueError(
                f"the work source gave {len(new)} rows for {len(free)} free slots"
            )
        for row in new:
            check_request(
                row,
                vocab=self._vocab,
                context=self._context,
                limit=self._batch.limit,
                statistics=self._statistics,
                ancestor=self._has_ancestor,
                vectors=self._vectors,
            )
        return dict(zip(free, new))

    def _admit(
        self,
        slots: list[Slot | None],
        placed: dict[int, Request],
        source: WorkSource,
    ) -> None:
        """Prefill what is not kept of the prompts, then start the rows."""
        if not placed:
            return
        known = getattr(source, "coming", None)
        coming = known(HORIZON) if known else ()
        lengths = (len(row.prompt) for row in (*placed.values(), *coming))
        if self._batch.reserve_prompts(max(map(prompt_entries, lengths))):
            self._admission.forget()
        # The caches first: a prompt that does not fit would be cut when it is copied.
        self._batch.resize(max(len(row.prompt) for row in placed.values()))
        for entering in self._admission.rounds(placed, coming):
            self._batch.insert(entering)
            for slot, row in entering.requests.items():
                forced = tuple(row.params.get("forced", ()))
                slots[slot] = Slot(row, forced, len(row.prompt) - 1)
                self.counts.inserted_tokens += len(row.prompt) - 1
        self.counts.inserted += len(placed)

    def _resize(self, slots: list[Slot | None]) -> None:
        """Fit the cache to the next chunk: a step's time grows with the cache."""
        need = max(
            min(slot.length + self._batch.chunk, slot.need)
            for slot in slots
            if slot is not None
        )
        need = max(need, *self._prober.held.values(), 0)
        # Shrink late: with rows of unequal age the size would go up and down.
        self._batch.resize(need, shrink=2 * cache_size(need) <= self._batch.size)

    def _sync(
        self, slots: list[Slot | None]
    ) -> tuple[Bool[np.ndarray, "B"], list[int]]:
        """Wait for the chunk and free the slots of rows that are done.

        Returns which rows are done and the slots of paused rows.
        """
        done, paused, length = self._batch.fetch_progress()
        held, live = self._prober.held, 0
        full = all(slot is not None or i in held for i, slot in enumerate(slots))
        waiting = []
        for i, slot in enumerate(slots):
            if slot is None:
                continue
            live += int(length[i]) - slot.length
            slot.length = int(length[i])
            if paused[i]:
                waiting.append(i)
            if done[i]:
                self._prober.hold(i, slot.length)
                slots[i] = None
        if full:
            self.counts.full_steps += self._batch.chunk
            self.counts.full_live += live
        else:
            self.counts.drain_steps += self._batch.chunk
            self.counts.drain_live += live
        return done, waiting

    def _collect(self, chunk: _Chunk | None) -> list[Rollout]:
        """Give a chunk's outputs to their rows; returns the rollouts now complete."""
        finished = [] if chunk is None else self._ended(chunk)
        assert self._batch.state is not None
        complete = self._prober.exchange(self._batch.state.cache, finished)
        self.counts.probe_tokens = self._prober.used
        self.counts.probe_padded = self._prober.padded
        return complete

    def _ended(self, chunk: _Chunk) -> list[tuple[int, Rollout]]:
        """Rollouts of the rows that ended in a chunk, by slot."""
        # [D, steps, F, B] -> [F, D * B, steps]
        block = np.asarray(jax.device_get(chunk.block)).transpose(2, 0, 3, 1)
        block = block.reshape(block.shape[0], len(chunk.owners), -1)
        assert chunk.done is not None
        finished = []
        for i, slot in enumerate(chunk.owners):
            if slot is not None:
                slot.collect(block[:, i])
                if chunk.done[i]:
                    finished.append((i, slot.rollout(self.fields, self._keep_top)))
        return finished
