"""Extension points: a dict from name to function, with one fixed signature each."""

import difflib
from collections.abc import Callable, Iterator

from fr.errors import UserError


class Registry:
    """Names of one kind of thing; a duplicate raises, an unknown name lists the known
    ones."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, object] = {}

    def register(self, name: str) -> Callable:
        """Decorator that files an object under a name.

        Args:
          name: of the entry.

        Returns:
          The decorator, which returns its object unchanged and raises ValueError if the
          name is taken.
        """

        def add(entry):
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
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

    def __contains__(self, name: str) -> bool:
        return name in self._entries


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
