"""What a run compares, written and hashed before its outcomes are read: declaration.json in the workdir."""

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
    """What is compared (`content`, plain values), its hash and when it was made; `changes` are the ones before it.

    `outcomes` is when the first of the outcomes was written, None where there was none yet. Times are ISO 8601, UTC.
    """

    content: dict
    sha256: str
    declared: str
    outcomes: str | None
    changes: tuple[dict, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether the content is what was hashed."""
        return _hash(self.content) == self.sha256

    @property
    def beforehand(self) -> bool:
        """Whether it stands as it was made, and no outcome had been written then."""
        return self.intact and (self.outcomes is None or self.declared < self.outcomes)

    def __str__(self) -> str:
        if not self.intact:
            return f"{DECLARATION} was altered: its content is not what was hashed; nothing counts as declared"
        named = f"sha256 {self.sha256[:12]}"
        changed = (
            f"; it changes the declaration of {self.changes[-1]['declared'][:19]}"
            if self.changes
            else ""
        )
        if self.beforehand:
            return f"declared on {self.declared[:19]} UTC, before outcomes were read or written ({named}){changed}"
        return (
            f"written down on {self.declared[:19]} UTC ({named}), when outcomes of {self.outcomes[:19]} lay there "
            f"already: not declared beforehand{changed}"
        )


def declare(
    workdir: PathLike, content: dict, outcomes: Iterable[PathLike]
) -> Declaration:
    """The declaration of a run, dated now or when the same content was declared here first; `record` writes it.

    Another content than the one that lies there is a change: it is dated anew and the earlier ones stay listed.
    `outcomes` are files of outcomes: the times of those that exist are looked at, not what they hold.
    """
    written = [path.stat().mtime for path in map(epath.Path, outcomes) if path.exists()]
    first = (
        _iso(datetime.datetime.fromtimestamp(min(written), datetime.UTC))
        if written
        else None
    )
    made = Declaration(
        content, _hash(content), _iso(datetime.datetime.now(datetime.UTC)), first
    )
    there = restore(workdir)
    if there is None:
        return made
    # A file that is written again later does not make a declaration earlier.
    first = min((time for time in (first, there.outcomes) if time), default=None)
    if there.sha256 == made.sha256 and there.intact:
        return dataclasses.replace(there, outcomes=first)
    earlier = {"sha256": there.sha256, "declared": there.declared}
    return dataclasses.replace(made, outcomes=first, changes=(*there.changes, earlier))


def record(workdir: PathLike, declaration: Declaration) -> None:
    """Write it into the workdir."""
    write_json(epath.Path(workdir) / DECLARATION, dataclasses.asdict(declaration))


def restore(workdir: PathLike) -> Declaration | None:
    """What `record` wrote; None without. Raises UserError where it is no declaration."""
    path = epath.Path(workdir) / DECLARATION
    if not path.exists():
        return None
    found = read_object(path)
    if found.keys() != {field.name for field in dataclasses.fields(Declaration)}:
        raise UserError(
            f"{path}: is no declaration of this version; remove it to declare anew"
        )
    return Declaration(**found | {"changes": tuple(found["changes"])})


def _hash(content: dict) -> str:
    return hashlib.sha256(to_json(content).encode()).hexdigest()


def _iso(time: datetime.datetime) -> str:
    return time.isoformat(timespec="microseconds")
