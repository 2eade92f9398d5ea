"""Extension points: a dict from name to function, with one fixed signature each."""

import difflib
import os
import sys
import typing
from collections.abc import Callable, Iterator

from fr.errors import UserError

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
REGISTRIES: list["Registry"] = []  # all of this process, in the order of their making


class Place(typing.NamedTuple):
    """The line of code that registered a name."""

    file: str  # absolute path
    line: int

    @property
    def own(self) -> bool:
        """True if it is not a line of the package."""
        return not self.file.startswith(PACKAGE)

    def __str__(self) -> str:
        known = PACKAGE if not self.own else os.getcwd() + os.sep
        prefix = "fr/" * (not self.own)
        return f"{prefix}{self.file.removeprefix(known)}:{self.line}"


class Registry:
    """Names of one kind of thing; a duplicate raises, an unknown name lists the known
    ones.

    Attributes:
      kind: of the things, as errors call it.
      places: the line that registered each name.
    """

    def __init__(self, kind: str, complete: Callable[[], None] | None = None):
        """Make an empty registry.

        Args:
          kind: of the things, as errors call it.
          complete: imports the modules of the package that register names here. It is
            called before code outside the package registers a name, so that a name
            that they will take is refused at once.
        """
        self.kind = kind
        self.places: dict[str, Place] = {}
        self._entries: dict[str, object] = {}
        self.complete = complete or (lambda: None)
        REGISTRIES.append(self)

    def register(self, name: str) -> Callable:
        """Decorator that files an object under a name.

        Args:
          name: of the entry.

        Returns:
          The decorator, which returns its object unchanged and raises ValueError if the
          name is taken.
        """

        def add(entry):
            place = _calling_line()
            if place.own:
                self.complete()
            if name in self._entries:
                first = self.places[name]
                also = f" and {place}" if place != first else ""
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice: {first}{also}"
                )
            self._entries[name], self.places[name] = entry, place
            return entry

        return add

    def __getitem__(self, name: str):
        if name not in self._entries:
            raise UserError(
                f"unknown {self.kind} {name!r}{suggest(name, self._entries)}"
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries


def _calling_line() -> Place:
    """The line of a module's own code that leads here."""
    frame = sys._getframe(1)
    while frame.f_code.co_name != "<module>" and frame.f_back:
        frame = frame.f_back
    return Place(os.path.abspath(frame.f_code.co_filename), frame.f_lineno)


def own_names() -> list[tuple[Registry, str, Place]]:
    """Names that code outside the package registered.

    Returns:
      Their registry, the name and its line, in the order of registries.
    """
    return [
        (registry, name, place)
        for registry in REGISTRIES
        for name, place in registry.places.items()
        if place.own and name in registry
    ]


def suggest(name: str, known) -> str:
    """The tail of an error line.

    Args:
      name: the unknown name.
      known: all known names.

    Returns:
      The nearest known name, or all of them.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return (
        f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
    )
