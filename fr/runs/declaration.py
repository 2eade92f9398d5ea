"""Declaration of a run's comparisons, hashed before its outcomes are read.

`declaration.json` in the workdir holds it.
"""

import dataclasses
import datetime
import hashlib
from collections.abc import Iterable

from etils import epath

from fr.errors import UserError
from fr.workdir import PathLike, read_object, to_json, write_json

DECLARATION = "declaration.json"


@dataclasses.dataclass(frozen=True)
class Declaration:
    """The comparisons of a run, and the time at which they were written down.

    Attributes:
        content: Plain values.
        sha256: Hash of the content.
        declared: Time of writing, ISO 8601, UTC.
        outcomes: Time of the earliest outcome that existed then; None without any.
        changes: `sha256` and `declared` of each declaration that this one changes.
    """

    content: dict
    sha256: str
    declared: str
    outcomes: str | None
    changes: tuple[dict, ...] = ()

    @property
    def intact(self) -> bool:
        """True if the content is the one that was hashed."""
        return _hash(self.content) == self.sha256

    @property
    def beforehand(self) -> bool:
        """True if it is intact and was written before any outcome."""
        return self.intact and (self.outcomes is None or self.declared < self.outcomes)

    def __str__(self) -> str:
        if not self.intact:
            return (
                f"{DECLARATION} was altered: its content is not what was hashed; "
                "nothing counts as declared"
            )
        at, named = self.declared[:19], f"(sha256 {self.sha256[:12]})"
        changed = ""
        if self.changes:
            before = self.changes[-1]["declared"][:19]
            changed = f"; it changes the declaration of {before}"
        if self.beforehand:
            when = "before outcomes were read or written"
            return f"declared on {at} UTC, {when} {named}{changed}"
        when = (self.outcomes or "")[:19]
        return (
            f"written down on {at} UTC {named}, when outcomes of {when} "
            f"existed already: not declared beforehand{changed}"
        )


def declare(
    workdir: PathLike, content: dict, outcomes: Iterable[PathLike]
) -> Declaration:
    """Make the declaration of a run; `record` writes it.

    The same content keeps its first date. Other content than the stored one is a
    change: it gets a new date and lists the earlier ones.

    Args:
        workdir: Folder of the run.
        content: What is compared, as plain values.
        outcomes: Files of outcomes; only the times of those that exist are read.

    Returns:
        The declaration.
    """
    written = [path.stat().mtime for path in map(epath.Path, outcomes) if path.exists()]
    utc = datetime.UTC
    first = (
        _iso(datetime.datetime.fromtimestamp(min(written), utc)) if written else None
    )
    now = _iso(datetime.datetime.now(utc))
    made = Declaration(content, _hash(content), now, first)
    there = restore(workdir)
    if there is None:
        return made
    # A file that is written again later does not make a declaration earlier.
    first = min((time for time in (first, there.outcomes) if time), default=None)
    if there.sha256 == made.sha256 and there.intact:
        return dataclasses.replace(there, outcomes=first)
    earlier = {"sha256": there.sha256, "declared": there.declared}
    changes = (*there.changes, earlier)
    return dataclasses.replace(made, outcomes=first, changes=changes)


def record(workdir: PathLike, declaration: Declaration) -> None:
    """Write a declaration.

    Args:
        workdir: Folder of the run.
        declaration: What `declare` returned.
    """
    write_json(epath.Path(workdir) / DECLARATION, dataclasses.asdict(declaration))


def restore(workdir: PathLike) -> Declaration | None:
    """Read a declaration.

    Args:
        workdir: Folder of the run.

    Returns:
        What `record` wrote; None without a file.

    Raises:
        UserError: The file is not a declaration.
    """
    path = epath.Path(workdir) / DECLARATION
    if not path.exists():
        return None
    found = read_object(path)
    if found.keys() != {field.name for field in dataclasses.fields(Declaration)}:
        raise UserError(
            f"{path}: is not a declaration of this version; remove it to declare again"
        )
    return Declaration(**found | {"changes": tuple(found["changes"])})


def _hash(content: dict) -> str:
    return hashlib.sha256(to_json(content).encode()).hexdigest()


def _iso(time: datetime.datetime) -> str:
    return time.isoformat(timespec="microseconds")
