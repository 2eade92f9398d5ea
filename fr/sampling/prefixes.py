"""The host's record of the prompts that one device keeps, found by longest prefix."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Int

from fr.sampling import sampling_params
from fr.sampling.state import part_of
from fr.types import Request

_REMEMBERED = 256  # prompts of coming requests that are kept as arrays


def read_tokens(request: Request) -> Int[np.ndarray, "T"]:
    """Tokens of a request that may be read before its row starts.

    Args:
        request: The request.

    Returns:
        Its prompt and what followed that in its trace. A row reads its prompt's last
        token itself, so that without a trace it is left out.
    """
    known = (*request.prompt, *request.rest) if request.rest else request.prompt[:-1]
    return np.array(known, np.int32)


@dataclasses.dataclass
class Kept:
    """A place of the prompt cache.

    Attributes:
        tokens: Tokens whose entries are there once the planned parts are read.
        vector: Index and strength of the vectors that they are read with.
        used: Time of its last use.
    """

    tokens: Int[np.ndarray, "T"]
    vector: tuple[int, float]
    used: int = 0

    def shared(self, tokens: Int[np.ndarray, "T"], vector: tuple[int, float]) -> int:
        """Count the first tokens of a sequence whose entries are here.

        Args:
            tokens: The sequence.
            vector: Index and strength of its vectors.

        Returns:
            Number of tokens.
        """
        if vector != self.vector:
            return 0
        both = min(len(tokens), len(self.tokens))
        other = np.flatnonzero(tokens[:both] != self.tokens[:both])
        return int(other[0]) if len(other) else both


@dataclasses.dataclass(frozen=True)
class Part:
    """Tokens of one prompt that are read together.

    Attributes:
        begin: Entry of the first one.
        tokens: Token ids, at most as many as the part is wide.
        source: Place whose entries before `begin` they see.
        into: Place that has these entries then, too, and the new ones.
        vector: Index and strength of the vectors that they are read with.
    """

    begin: int
    tokens: Int[np.ndarray, "T"]
    source: int
    into: int
    vector: tuple[int, float]


class Prefixes:
    """Places of one device's prompt cache and what is in them."""

    def __init__(self, places: int):
        """Start without prompts.

        Args:
            places: Number of places.
        """
        self._places: list[Kept | None] = [None] * places
        self._busy: set[int] = set()
        self._prompts: dict[str, Int[np.ndarray, "T"]] = {}
        self._clock = 0

    def begin_round(self) -> None:
        """Let places that earlier rounds read from be used for other prompts."""
        self._busy.clear()

    def place(
        self, request: Request, coming: Callable[[], Iterable[Request]]
    ) -> tuple[int, list[Part]] | None:
        """Find a place that has a request's prompt, or will once parts are read.

        Args:
            request: The request; its prompt has more than one token.
            coming: Gives requests that follow, as far as they are known.

        Returns:
            The place, and parts to read in order; None if the round needs all places.
        """
        tokens, vector = read_tokens(request), sampling_params.vector_of(request)
        need = len(request.prompt) - 1
        best, shared = self._longest(tokens[:need], vector)
        if shared == need:
            self._use(best)
            return best, []
        begin, kept = part_of(shared)[0], self._places[best]
        if kept is not None and shared == len(kept.tokens):
            into = best  # its entries stay, and more follow them
        else:
            found = self._free({best} if begin else set(), coming)
            if found is None:
                return None
            into = found
        end = min(part_of(need - 1)[1], len(tokens))
        parts, source = [], best if begin else into
        while begin < end:
            after = part_of(begin)[1]
            some = tokens[begin : min(after, end)]
            parts.append(Part(begin, some, source, into, vector))
            begin, source = after, into
        self._busy.add(parts[0].source)
        self._places[into] = Kept(tokens[:end], vector)
        self._use(into)
        return into, parts

    def _longest(
        self, tokens: np.ndarray, vector: tuple[int, float]
    ) -> tuple[int, int]:
        """The place that has most of a sequence's first tokens, and their number."""
        each = [p.shared(tokens, vector) if p else 0 for p in self._places]
        best = int(np.argmax(each))
        return best, each[best]

    def _prompt(self, request: Request) -> Int[np.ndarray, "T"]:
        """Tokens of a prompt that are read, as an array that is made once."""
        if request.id not in self._prompts:
            if len(self._prompts) == _REMEMBERED:
                self._prompts.clear()
            self._prompts[request.id] = np.array(request.prompt[:-1], np.int32)
        return self._prompts[request.id]

    def _use(self, place: int) -> None:
        self._clock += 1
        self._busy.add(place)
        kept = self._places[place]
        assert kept is not None
        kept.used = self._clock

    def _free(
        self, besides: set[int], coming: Callable[[], Iterable[Request]]
    ) -> int | None:
        """A place for another prompt: empty, or wanted last of those that are known."""
        if None in self._places:
            return self._places.index(None)
        free = set(range(len(self._places))) - self._busy - besides
        if len(free) < 2:
            return min(free, default=None)
        wanted: dict[int, int] = {}
        for i, request in enumerate(coming()):
            if free <= wanted.keys():
                break
            given = self._prompt(request)
            best, shared = self._longest(given, sampling_params.vector_of(request))
            if part_of(shared)[0] or shared == len(given):
                wanted.setdefault(best, i)

        def later(place: int) -> tuple[float, int]:
            kept = self._places[place]
            return wanted.get(place, np.inf), -kept.used if kept else 0

        return max(sorted(free), key=later)
