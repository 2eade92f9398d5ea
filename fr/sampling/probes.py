"""The host side of probes: finished rows wait, and log-probs become confidence."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import jax
import numpy as np
from jaxtyping import Float, Int

from fr.models.kv_cache import KVCache
from fr.sampling import probe_trees
from fr.sampling.devices import Devices
from fr.sampling.sampling_params import VECTOR, row_key
from fr.sampling.sources import ProbePlan
from fr.types import Confidence, Probe, Request, Rollout


class Prober:
    """Keeps finished rows in their slots until their probe is sent, and their rollouts
    until it is back.

    Attributes:
        held: Cache entries of the rows that wait, by slot.
        used: Tokens of all trees sent so far.
        padded: The same with the padding of their shapes.
    """

    def __init__(
        self,
        devices: Devices,
        slots: int,
        probe_plan: ProbePlan | None,
        program: Callable[..., jax.Array],
    ):
        """Start without rows.

        Args:
            devices: Devices of the engine.
            slots: Rows per data shard.
            probe_plan: Gives the probe of a finished row; None: no row has one.
            program: Gives log-probs for a cache and a `probe_trees.TreeBatch`.
        """
        self.held: dict[int, int] = {}
        self.used = self.padded = 0
        self._devices, self._slots = devices, slots
        self._probe_plan, self._program = probe_plan, program
        self._planned: list[_Planned] = []
        self._flights: list[tuple[jax.Array, list[probe_trees.PlacedTree]]] = []

    @property
    def flying(self) -> bool:
        """True while rollouts wait for their probe."""
        return bool(self._planned)

    def hold(self, slot: int, length: int) -> None:
        """Note that a row is done and that its cache may be needed.

        Args:
            slot: The row's slot.
            length: Cache entries that it has written.
        """
        if self._probe_plan is not None:
            self.held[slot] = length

    def exchange(
        self, cache: KVCache, finished: Sequence[tuple[int, Rollout]]
    ) -> list[Rollout]:
        """Send the probes of finished rows; take back the rollouts whose probes have
        arrived.

        Args:
            cache: The engine's cache, [D, ...]; probes are scored after prefixes of its
                rows.
            finished: Rollouts by slot.

        Returns:
            Complete rollouts: finished rows without a probe, and the rollouts whose
            probes were sent by the last call.

        Raises:
            ValueError: A probe is not valid; the row is named.
        """
        complete = self._land()
        for slot, rollout in finished:
            probe = (
                self._probe_plan(rollout.row, rollout.tokens)
                if self._probe_plan is not None
                else None
            )
            self.held.pop(slot, None)
            if probe is None:
                complete.append(rollout)
            else:
                self._planned.append(
                    _probe_plan(rollout, probe, *divmod(slot, self._slots))
                )
        self._send(cache)
        return complete

    def _send(self, cache: KVCache) -> None:
        """Send all planned trees, in as many calls as their shapes need."""
        queues: list[list] = [[] for _ in range(self._devices.count)]
        for planned in self._planned:
            queues[planned.device].append(
                [placed for _, placed in planned.placed_trees]
            )
        for trees, placed_trees in probe_trees.batches(queues, cache.size):
            self._flights.append(
                (self._program(cache, self._devices.shard_batch(trees)), placed_trees)
            )
            self.used += sum(len(placed.tree.tokens) for placed in placed_trees)
            self.padded += trees.tokens.size

    def _land(self) -> list[Rollout]:
        """Wait for all calls; returns the rollouts that they were for."""
        for logp, placed_trees in self._flights:
            found = np.asarray(jax.device_get(logp), np.float64)
            for placed in placed_trees:
                placed.fetch(found)
        landed = [planned.finish() for planned in self._planned]
        self._planned, self._flights = [], []
        return landed


@dataclasses.dataclass
class _Planned:
    """A rollout, its probe, and the trees by cut."""

    rollout: Rollout
    probe: Probe
    device: int
    placed_trees: list[tuple[int, probe_trees.PlacedTree]]

    def finish(self) -> Rollout:
        """The rollout with its confidence."""
        found = {
            (cut, answer): cast(np.ndarray, placed.logp)[path].sum()
            for cut, placed in self.placed_trees
            for answer, path in placed.tree.answers.items()
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
            positions=sum(len(placed.tree.tokens) for _, placed in self.placed_trees),
        )
        return dataclasses.replace(self.rollout, confidence=confidence)


def _probe_plan(rollout: Rollout, probe: Probe, device: int, slot: int) -> _Planned:
    """Check a probe and make its trees, once per distinct cut."""
    row, count = rollout.row, rollout.length
    for cut in probe.cuts:
        if not 0 <= cut <= count:
            raise ValueError(
                f"row {row.id}: a probe cuts it at {cut}, it has {count} tokens"
            )
    for name, answers in probe.answers.items():
        if not answers or not all(answers) or len(set(answers)) < len(answers):
            raise ValueError(
                f"row {row.id}: answers {name!r} of its probe must be different and "
                "not empty"
            )
    trees = probe_trees.build_trees(
        probe.cue, tuple(sorted({a for group in probe.answers.values() for a in group}))
    )
    last = lambda cut: int(rollout.tokens[cut - 1]) if cut else row.prompt[-1]
    placed = lambda cut, tree: probe_trees.PlacedTree(
        slot, last(cut), len(row.prompt) + cut - 1, tree, device
    )
    placed_trees = [
        (cut, placed(cut, tree)) for cut in dict.fromkeys(probe.cuts) for tree in trees
    ]
    return _Planned(rollout, probe, device, placed_trees)


SAMPLES, BUDGET = 10, 32  # samples per cut, tokens per sample (arXiv 2605.24396)


def forced_requests(
    rollout: Rollout, probe: Probe, seed: int, samples: int = SAMPLES
) -> list[Request]:
    """Requests that answer after the cuts of a probe, at temperature 1.

    They stop at the tokens where the rollout's own row does, and are steered as it is.

    Args:
        rollout: The rollout to cut.
        probe: Its cuts and its cue.
        seed: Seed of the run.
        samples: Requests per cut.

    Returns:
        Requests, cut by cut.
    """
    row = rollout.row
    params = {"budget": BUDGET, "stop": row.params.get("stop", ())}
    params |= {name: row.params[name] for name in VECTOR if name in row.params}
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


def accepted_share(
    answers: Sequence[Rollout],
    accept: Callable[[Int[np.ndarray, "T"]], bool],
    samples: int = SAMPLES,
) -> Float[np.ndarray, "C"]:
    """Share of accepted answers after each cut.

    Args:
        answers: Rollouts of `forced_requests`, in their order.
        accept: Decides about the tokens of one answer.
        samples: Answers per cut.

    Returns:
        Shares in [0, 1].
    """
    accepted = np.array([accept(answer.tokens) for answer in answers], np.float32)
    return accepted.reshape(-1, samples).mean(axis=1)
