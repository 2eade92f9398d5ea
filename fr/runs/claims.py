"""Shards that processes claim one at a time, so that a slow host makes fewer of them.

A claim is a file beside the shards, `.shard-000003.claim-0`, that names its holder. One
process can make it, and renews it while it is at work. A claim that is not renewed is
taken over by the next number, `.claim-1`, which again one process can make: no claim is
ever written over. A shard's bytes do not depend on its maker, so a holder that was only
slow does no harm.

Claims are for work without a collective between processes: each decodes and scores on
its own devices. Training is one program of all processes and has none.
"""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator

import pyarrow as pa
from etils import epath

from fr import distributed, store
from fr.errors import UserError, cannot_write
from fr.interrupts import check
from fr.locks import Renewed, is_gone, is_own, read_owner
from fr.workdir import PathLike, is_local, temporary_path

_NAME = re.compile(r"\.shard-(\d{6})\.claim-(\d+)")
_LEFT = re.compile(r"\.shard-(\d{6})\.claim-.*")  # with what a kill left of making one
_BEATS = 3  # renewals within the heartbeat
_FIRST_LOOK = 0.05  # seconds until a process without work looks again
_LOOKS = 30  # later looks within the heartbeat


class Claim(Renewed):
    """A shard that this process makes.

    Attributes:
      index: of the shard.
      generation: number of holders before this one.
    """

    def __init__(self, folder: epath.Path, index: int, generation: int):
        """Prepare a claim; no file is made.

        Args:
          folder: of the shards.
          index: of the shard.
          generation: number of holders before this one.
        """
        heartbeat = distributed.limits.heartbeat
        path = _path(folder, index, generation)
        super().__init__(path, heartbeat / _BEATS, heartbeat=heartbeat)
        self.index, self.generation, self._folder = index, generation, folder

    def works(self) -> bool:
        """True unless this process has made no progress for the patience of a run, or
        the claim was removed."""
        return distributed.idle() <= distributed.limits.patience and self.is_ours()

    def write(
        self, attempts: list[store.Attempt], more: dict[str, pa.Array] | None = None
    ) -> None:
        """Write the shard, unless another process was first or the claim is gone.

        It goes with the folder, where another run makes the stage again.

        Args:
          attempts: of the shard.
          more: further columns.
        """
        shard, mark = store.shard_path(self._folder, self.index), _mark(self.generation)
        try:
            if self.is_ours() and not shard.exists():
                # Again: a holder that was only slow may be writing the same bytes.
                store.write_shard(
                    self._folder, self.index, attempts, more, again=True, mark=mark
                )
        except UserError:
            if not shard.exists():
                raise
        for earlier in range(self.generation):
            _remove(_path(self._folder, self.index, earlier))
            if is_local(shard):
                _remove(temporary_path(shard, _mark(earlier)))

    def take(self) -> bool:
        """Make the claim, if no process holds this number of it.

        Returns:
          True if this process holds the shard, which is not made yet.

        Raises:
          UserError: the folder cannot be written.
        """
        try:
            if not self.create():
                return False
        except FileNotFoundError:
            return False  # a stage that ends removes claims while they are made
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.start()
        # Made after we looked; its holder has removed the claim.
        if self._made():
            self.release()
            return False
        return True

    def _made(self) -> bool:
        return store.shard_path(self._folder, self.index).exists()


class Claims:
    """The shards of a stage that are not made yet, as one process sees them.

    Attributes:
      mine: shards that this process has claimed.
    """

    def __init__(
        self,
        folder: PathLike,
        shards: Collection[int],
        elsewhere: Callable[[int], object] = lambda index: None,
        follow: Callable[[], object] = lambda: None,
    ):
        """Look at the folder.

        Args:
          folder: of the shards; it is made.
          shards: indices of the shards to make, in order.
          elsewhere: is told each shard that another process has made meanwhile.
          follow: raises an error if the stage is not to be made any more.

        Raises:
          UserError: the folder cannot be made.
        """
        self._folder, self._elsewhere = epath.Path(folder), elsewhere
        self._follow = follow
        self._left = _in_turn(list(shards))
        self._held: dict[int, int] = {}  # number of the last claim by shard
        # The record of each claim, and when it was first seen.
        self._seen: dict[tuple[int, int], tuple[dict, float]] = {}
        self._own: Claim | None = None
        self.mine: set[int] = set()
        if self._left and is_local(folder):
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(folder, error) from error
        self._look()
        self._late()  # claims of a killed run grow old while other shards are made

    def __iter__(self) -> Iterator[Claim]:
        """Claim shard after shard, until all are made by one process or another.

        Yields:
          The claim of a shard, which the loop's body writes.
        """
        while claim := self._next():
            self._own = claim
            self._check()
            self.mine.add(claim.index)
            yield claim
            self.release()
        self._tidy()

    def release(self) -> None:
        """Give back the shard that was claimed last; it is free if it is not made."""
        if self._own:
            self._own.release()
        self._own = None

    def _next(self) -> Claim | None:
        """Claim a shard that no process holds; wait for one if there must be."""
        pause = _FIRST_LOOK
        while self._look():
            free: dict[int, dict] = {i: {} for i in self._left if i not in self._held}
            for i, last in (free or self._late()).items():
                claim = Claim(self._folder, i, self._held.get(i, -1) + 1)
                if claim.take():
                    if last and not is_gone(last):
                        self._tell(i, last)
                    return claim
            self._check()
            time.sleep(pause)
            pause = min(2 * pause, distributed.limits.heartbeat / _LOOKS)
        return None

    def _check(self) -> None:
        """Go on only if nothing speaks against it; to claim or to wait is progress."""
        check()
        self._follow()
        distributed.beat()

    def _look(self) -> bool:
        """Read the names in the folder; True while shards are missing."""
        names = {path.name for path in self._listed()}
        path_of = lambda i: store.shard_path(self._folder, i).name
        made = [i for i in self._left if path_of(i) in names]
        self._left = [i for i in self._left if path_of(i) not in names]
        self._held = {}
        for match in filter(None, map(_NAME.fullmatch, names)):
            index, generation = int(match[1]), int(match[2])
            self._held[index] = max(generation, self._held.get(index, 0))
        for index in made:
            if index not in self.mine:
                self._elsewhere(index)
        return bool(self._left)

    def _tidy(self) -> None:
        """Remove what dead processes have left of claims of shards that are made."""
        paths = self._listed()
        names = {path.name for path in paths}
        for path in paths:
            match = _LEFT.fullmatch(path.name)
            if match and store.shard_path(self._folder, int(match[1])).name in names:
                _remove(path)

    def _listed(self) -> list[epath.Path]:
        return list(self._folder.iterdir()) if self._folder.exists() else []

    def _late(self) -> dict[int, dict]:
        """Records of holders that are gone or have not renewed their claims, by shard.

        Clocks of two hosts differ: a claim's age is the time since this process first
        saw its record.
        """
        late, now = {}, time.monotonic()
        for index, generation in self._held.items():
            found = read_owner(_path(self._folder, index, generation))
            known, since = self._seen.get((index, generation), (found, now))
            since = since if found == known else now
            self._seen[index, generation] = found, since
            if index in self._left and not is_own(found):
                if is_gone(found) or now - since > _limit(found):
                    late[index] = found
        return late

    def _tell(self, index: int, last: dict) -> None:
        shard, limit = store.shard_path(self._folder, index), _limit(last)
        who = f"process {last.get('pid')} on {last.get('host')}"
        line = f"{shard} is made again: {who} was silent for {limit:.0f} s"
        print(f"\n{line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def claimed(
    folder: PathLike,
    shards: Collection[int],
    elsewhere: Callable[[int], object] = lambda index: None,
    follow: Callable[[], object] = lambda: None,
) -> Iterator[Claims]:
    """Share the shards of a stage with all processes that make them.

    A single process makes all of them in order.

    Args:
      folder: of the shards.
      shards: indices of the shards that are not made yet.
      elsewhere: is told each shard that another process has made meanwhile.
      follow: raises an error if the stage is not to be made any more.

    Yields:
      Claims of this process, one at a time; they end when all shards are made. An error
      in the block gives the shard back.
    """
    claims = Claims(folder, shards, elsewhere, follow)
    try:
        yield claims
    finally:
        claims.release()
    if distributed.is_joined():
        own = len(claims.mine)
        print(f"{folder} is whole; this process made {own} of {len(shards)} shards")


def _in_turn(shards: list[int]) -> list[int]:
    """Every n-th shard first, n processes; then what others would begin last.

    So processes that are equally fast do not meet. One that has joined a run begins
    with the last.
    """
    if distributed.is_joined():
        return shards[::-1]
    index, count = distributed.index(), distributed.count()
    later = (shards[(index + i) % count :: count][::-1] for i in range(1, count))
    return [*shards[index::count], *(i for part in later for i in part)]


def _path(folder: epath.Path, index: int, generation: int) -> epath.Path:
    name = store.shard_path(folder, index).stem
    return folder / f".{name}.claim-{generation}"


def _limit(found: dict) -> float:
    """Seconds without a renewal after which a holder is gone, by its own flag."""
    given = found.get("heartbeat")
    return given if isinstance(given, int | float) else distributed.limits.heartbeat


def _mark(generation: int) -> str:
    """Part of a temporary name, different for all holders of a shard."""
    return f".{generation}" if generation else ""


def _remove(path: epath.Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
