"""Where rows come from: what a work source is asked, what it answers, and the plainest one, a list."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from fr.types import Probe, Request, Rollout

# What to ask of a finished row, from the row and its tokens; None: nothing.
Plan = Callable[[Request, np.ndarray], Probe | None]
# What to say to a paused row, from the row and its tokens so far.
Speak = Callable[[Request, np.ndarray], "Resume"]


@dataclasses.dataclass(frozen=True)
class Resume:
    """What a work source wants of a paused row: keep `cut` of its tokens (None: all), push tokens, or end it.

    Pushed tokens come before those that still wait in the row's forced queue; a cut empties the queue.
    """

    forced: tuple[int, ...] = ()
    cut: int | None = None
    finish: bool = False


@runtime_checkable
class WorkSource(Protocol):
    """Where rows come from; sampling knows nothing else about why they exist.

    A source may have a `plan` too: its rollouts then carry the `confidence` that it asked for.
    """

    def next(self, finished: Sequence[Rollout], free: int) -> list[Request]:
        """Hear what has finished and give at most `free` new rows; none, with no row in flight, ends the run."""

    def resume(self, row: Request, tokens: np.ndarray) -> Resume:
        """Speak for a row that emitted one of its pause tokens; `tokens` are all it has so far."""


class ListSource:
    """A fixed list of rows; what finishes is kept in the order of the list."""

    def __init__(
        self,
        todo: Iterable[Request],
        progress: Callable[[int], object] = lambda count: None,
        plan: Plan | None = None,
        speak: Speak | None = None,
    ):
        self.plan, self._speak = plan, speak
        self._todo = list(todo)
        self._order = {row.id: i for i, row in enumerate(self._todo)}
        if len(self._order) != len(self._todo):
            raise ValueError("two rows have the same id")
        self._done: list[Rollout | None] = [None] * len(self._todo)
        self._given = 0
        self._progress = progress

    def next(self, finished: Sequence[Rollout], free: int) -> list[Request]:
        """The next rows of the list."""
        for rollout in finished:
            self._done[self._order[rollout.row.id]] = rollout
        self._progress(len(finished))
        given = self._todo[self._given : self._given + free]
        self._given += len(given)
        return given

    def resume(self, row: Request, tokens: np.ndarray) -> Resume:
        """What `speak` says; without it the row goes on."""
        return self._speak(row, tokens) if self._speak else Resume()

    @property
    def rollouts(self) -> list[Rollout]:
        """All rollouts, in the order of the list."""
        return list(self._done)
