"""The host side of probes: finished rows wait for theirs, and log-probs of answers become confidence."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from fr.models.transformer import KVCache
from fr.sampling import probe_trees
from fr.sampling.devices import Devices
from fr.sampling.rows import row_key
from fr.sampling.sources import Plan
from fr.types import Confidence, Probe, Request, Rollout


class Prober:
    """Keeps finished rows in their slots until their probe has been sent, and rollouts until it is back.

    `plan` is the work source's, None if it never asks; `program` gives log-probs for a cache and `probes.Trees`.
    """

    def __init__(
        self,
        devices: Devices,
        slots: int,
        plan: Plan | None,
        program: Callable[..., jax.Array],
    ):
        self.held: dict[int, int] = {}  # cache entries of the rows that wait, by slot
        self.used = self.padded = (
            0  # tokens of all trees, and of the shapes that they were sent in
        )
        self._devices, self._slots, self._plan, self._program = (
            devices,
            slots,
            plan,
            program,
        )
        self._planned: list[_Planned] = []
        self._flights: list[tuple[jax.Array, list[probe_trees.Block]]] = []

    @property
    def flying(self) -> bool:
        """Whether there are rollouts to come."""
        return bool(self._planned)

    def hold(self, slot: int, length: int) -> None:
        """Note that a row is done: its cache may be asked for."""
        if self._plan is not None:
            self.held[slot] = length

    def exchange(
        self, cache: KVCache, finished: Sequence[tuple[int, Rollout]]
    ) -> list[Rollout]:
        """Send the probes of rollouts (by slot) that have been collected; returns those that are complete.

        They are scored behind prefixes of `cache`, [D, ...] as the engine holds it; what they find comes with the
        next call. Raises ValueError, by the row's name, for a probe that cannot be.
        """
        complete = self._land()
        for slot, rollout in finished:
            probe = (
                self._plan(rollout.row, rollout.tokens)
                if self._plan is not None
                else None
            )
            self.held.pop(slot, None)
            if probe is None:
                complete.append(rollout)
            else:
                self._planned.append(_plan(rollout, probe, *divmod(slot, self._slots)))
        self._send(cache)
        return complete

    def _send(self, cache: KVCache) -> None:
        """One pass over everything that is planned, in as many calls as its shapes take."""
        queues = [[] for _ in range(self._devices.count)]
        for planned in self._planned:
            queues[planned.device].append([block for _, block in planned.blocks])
        for trees, blocks in probe_trees.calls(queues, cache.size):
            self._flights.append(
                (self._program(cache, self._devices.split(trees)), blocks)
            )
            self.used += sum(len(block.tree.tokens) for block in blocks)
            self.padded += trees.tokens.size

    def _land(self) -> list[Rollout]:
        """Wait for what has been sent; returns the rollouts that it was for."""
        for logp, blocks in self._flights:
            found = np.asarray(jax.device_get(logp), np.float64)
            for block in blocks:
                block.fetch(found)
        landed = [planned.finish() for planned in self._planned]
        self._planned, self._flights = [], []
        return landed


@dataclasses.dataclass
class _Planned:
    """A rollout, what is asked of it, and by cut the blocks that find it."""

    rollout: Rollout
    probe: Probe
    device: int
    blocks: list[tuple[int, probe_trees.Block]]

    def finish(self) -> Rollout:
        """The rollout with what was found."""
        found = {
            (cut, answer): block.logp[path].sum()
            for cut, block in self.blocks
            for answer, path in block.tree.answers.items()
        }
        cuts, sets = self.probe.cuts, self.probe.answers
        table = lambda group: np.array(
            [found[cut, a] for cut in cuts for a in group], np.float32
        )
        confidence = Confidence(
            cuts=np.array(cuts, np.int32),
            logp={
                name: table(group).reshape(len(cuts), len(group))
                for name, group in sets.items()
            },
            lengths={
                name: np.array([len(answer) for answer in group])
                for name, group in sets.items()
            },
            positions=sum(len(block.tree.tokens) for _, block in self.blocks),
        )
        return dataclasses.replace(self.rollout, confidence=confidence)


def _plan(rollout: Rollout, probe: Probe, device: int, slot: int) -> _Planned:
    """What must be read for a probe, a cut once; checks the probe."""
    row, count = rollout.row, rollout.length
    for cut in probe.cuts:
        if not 0 <= cut <= count:
            raise ValueError(
                f"row {row.id}: a probe cuts it at {cut}, it has {count} tokens"
            )
    for name, answers in probe.answers.items():
        if not answers or not all(answers) or len(set(answers)) < len(answers):
            raise ValueError(
                f"row {row.id}: answers {name!r} of its probe must be different and not empty"
            )
    trees = probe_trees.trees_of(
        probe.cue, tuple(sorted({a for group in probe.answers.values() for a in group}))
    )
    last = lambda cut: int(rollout.tokens[cut - 1]) if cut else row.prompt[-1]
    block = lambda cut, tree: probe_trees.Block(
        slot, last(cut), len(row.prompt) + cut - 1, tree, device
    )
    blocks = [
        (cut, block(cut, tree)) for cut in dict.fromkeys(probe.cuts) for tree in trees
    ]
    return _Planned(rollout, probe, device, blocks)


SAMPLES, BUDGET = 10, 32  # of a cut, and tokens of each (arXiv 2605.24396)


def forced_rows(
    rollout: Rollout, probe: Probe, seed: int, samples: int = SAMPLES
) -> list[Request]:
    """Rows that answer behind the cuts of a probe, `samples` of each cut in turn, at temperature 1.

    They stop where the rollout's own row does.
    """
    row, params = (
        rollout.row,
        {"budget": BUDGET, "stop": rollout.row.params.get("stop", ())},
    )
    return [
        Request(
            f"{row.id}/cut {c}/{i}",
            (*row.prompt, *rollout.tokens[:cut].tolist(), *probe.cue),
            row_key(seed, row.id, "forced answer", c, i),
            params,
        )
        for c, cut in enumerate(probe.cuts)
        for i in range(samples)
    ]


def shares(
    answers: Sequence[Rollout],
    accept: Callable[[Int[np.ndarray, "T"]], bool],
    samples: int = SAMPLES,
) -> Float[np.ndarray, "C"]:
    """Share of accepted tokens behind each cut; `answers` are the rollouts of `forced_rows` in their order."""
    accepted = np.array([accept(answer.tokens) for answer in answers], np.float32)
    return accepted.reshape(-1, samples).mean(axis=1)
