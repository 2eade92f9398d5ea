"""Work sources: the protocol by which requests come and rollouts leave, and a list."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Int

from fr.types import Probe, Request, Rollout

# The probe of a finished row, from the request and its tokens; None: no probe.
ProbePlan = Callable[[Request, Int[np.ndarray, "T"]], Probe | None]
# The action on a paused row, from the request and its tokens so far.
OnPause = Callable[[Request, Int[np.ndarray, "T"]], "PauseAction"]


@dataclasses.dataclass(frozen=True)
class PauseAction:
    """The answer of a work source to a paused row: cut it, push tokens, or end it.

    A row that paused at a stop token ends there, unless it is cut or tokens are pushed.

    Attributes:
        forced: Token ids to emit next, before those left in the row's forced queue.
        cut: Number of the row's own tokens to keep; None keeps all. A cut empties the
            forced queue.
        finish: End the row here.
    """

    forced: tuple[int, ...] = ()
    cut: int | None = None
    finish: bool = False


@runtime_checkable
class WorkSource(Protocol):
    """The origin of requests; the engine calls it between chunks.

    A source may also have a method `probe_plan` (see `ProbePlan`): its rollouts then
    carry the `confidence` that the probes measured. And a method `coming(count)`, which
    gives at most `count` requests that will follow: the engine keeps what they begin
    with.
    """

    def next(self, finished: Sequence[Rollout], free: int) -> list[Request]:
        """Take finished rollouts and give new requests.

        Args:
            finished: Rollouts completed since the last call.
            free: Number of free slots.

        Returns:
            At most `free` requests. An empty list while no row is in flight ends the
            run.
        """

    def on_pause(self, row: Request, tokens: Int[np.ndarray, "T"]) -> PauseAction:
        """Decide about a row that emitted one of its pause tokens.

        Args:
            row: The row's request.
            tokens: All tokens that it has emitted so far.

        Returns:
            The action.
        """


class ListSource:
    """A fixed list of requests; rollouts are kept in its order."""

    def __init__(
        self,
        todo: Iterable[Request],
        progress: Callable[[int], object] = lambda count: None,
        probe_plan: ProbePlan | None = None,
        on_pause: OnPause | None = None,
    ):
        self.probe_plan, self._on_pause = probe_plan, on_pause
        self._todo = list(todo)
        self._order = {row.id: i for i, row in enumerate(self._todo)}
        if len(self._order) != len(self._todo):
            raise ValueError("two rows have the same id")
        self._done: list[Rollout | None] = [None] * len(self._todo)
        self._given = 0
        self._progress = progress

    def next(self, finished: Sequence[Rollout], free: int) -> list[Request]:
        """Keep finished rollouts and give the next requests of the list.

        Args:
            finished: Rollouts completed since the last call.
            free: Number of free slots.

        Returns:
            At most `free` requests.
        """
        for rollout in finished:
            self._done[self._order[rollout.row.id]] = rollout
        self._progress(len(finished))
        given = self._todo[self._given : self._given + free]
        self._given += len(given)
        return given

    def coming(self, count: int) -> list[Request]:
        """The requests of the list that will be given next.

        Args:
            count: Largest number of them.

        Returns:
            The requests.
        """
        return self._todo[self._given : self._given + count]

    def on_pause(self, row: Request, tokens: Int[np.ndarray, "T"]) -> PauseAction:
        """Call the function given for pauses; without one the row continues.

        Args:
            row: The row's request.
            tokens: All tokens that it has emitted so far.

        Returns:
            The action.
        """
        return self._on_pause(row, tokens) if self._on_pause else PauseAction()

    @property
    def rollouts(self) -> list[Rollout]:
        """All rollouts, in the order of the list; complete once the run has ended."""
        return cast(list[Rollout], list(self._done))
