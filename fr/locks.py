"""One run at a time in a folder.

On a local or network file system the kernel holds the lock (flock) and releases it with
its process, in every case. A bucket or a file system without locks has a marker file
instead, which only one process can make and which its owner renews.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator

from etils import epath

from fr import buckets
from fr.errors import UserError, cannot_write
from fr.workdir import PathLike, is_local, write_whole

NAME = ".lock"
BEAT = 20.0  # seconds between two renewals of a marker
STALE = 6 * BEAT  # age of a marker whose owner is gone
_SETTLE = 2.0  # seconds after which the last of two writers of a marker is visible
_WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

_held: set[tuple[str, int]] = set()  # folder and thread
_tokens: set[str] = set()  # of the renewed files of this process


@contextlib.contextmanager
def hold(folder: PathLike) -> Iterator[None]:
    """Hold a folder for the length of the block.

    A missing folder is made, and removed if it is still empty at the end. A thread that
    holds a folder may hold it again.

    Args:
      folder: local or in a bucket.

    Yields:
      None.

    Raises:
      UserError: another run holds it; the line names the owner.
    """
    folder = epath.Path(folder)
    mine = (
        os.path.realpath(folder) if is_local(folder) else os.fspath(folder),
        threading.get_ident(),
    )
    if mine in _held:
        yield
        return
    made = _make(folder)
    try:
        lock = _File(folder) if is_local(folder) else _Marker(folder)
        _held.add(mine)
        try:
            yield
        finally:
            _held.discard(mine)
            lock.release()
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _make(folder: epath.Path) -> list[epath.Path]:
    """Make a folder; returns the missing folders, the outermost first."""
    if not is_local(folder):
        buckets.check(folder)
        return []
    made: list[epath.Path] = []
    try:
        path = folder
        while not path.exists():
            made.insert(0, path)
            path = path.parent
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir={folder}: cannot be used ({error.strerror or error})"
        ) from error
    return made


def _owner() -> dict:
    started = datetime.datetime.now().isoformat(" ", "seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started}


def _refusal(folder: epath.Path, owner: dict) -> UserError:
    who = "another process"
    if owner:
        pid, host, started = (owner.get(k) for k in ("pid", "host", "started"))
        who = f"process {pid} on {host} since {started}"
    return UserError(
        f"{folder}: is in use by {who}; wait until it ends, or use another --workdir"
    )


def read_owner(path: epath.Path) -> dict:
    """Read the record of a file's owner.

    Args:
      path: of the file.

    Returns:
      The record; empty while it is being written, and without a file.
    """
    try:
        found = json.loads(path.read_text())
    except Exception as error:
        if isinstance(error, (OSError, ValueError)) or buckets.bucket_error(error):
            return {}
        raise
    return found if isinstance(found, dict) else {}


class _File:
    """A lock of the kernel on a file, or the marker where the file system has no
    locks."""

    def __init__(self, folder: epath.Path):
        self._path, self._marker = folder / NAME, None
        while True:
            try:
                number = os.open(
                    self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
                )
            except OSError as error:
                raise cannot_write(folder, error) from error
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The previous owner may have removed the file after we opened it.
                if self._same(number):
                    break
            except BlockingIOError:
                os.close(number)
                raise _refusal(folder, read_owner(self._path)) from None
            except OSError as error:
                os.close(number)
                if error.errno not in _WITHOUT:
                    raise cannot_write(folder, error) from error
                self._marker = _Marker(folder)
                return
            os.close(number)
        self._number = number
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(number, 0)
            os.write(number, json.dumps(_owner()).encode())

    def release(self) -> None:
        """Release the folder."""
        if self._marker:
            self._marker.release()
            return
        with contextlib.suppress(OSError):
            if self._same(self._number):
                os.unlink(self._path)
        os.close(self._number)

    def _same(self, number: int) -> bool:
        try:
            return os.path.samestat(os.fstat(number), os.stat(self._path))
        except OSError:
            return False


class Renewed:
    """A small file that one process can make, and that its owner renews.

    Attributes:
      path: of the file.
      beat: seconds between two renewals.
    """

    def __init__(self, path: epath.Path, beat: float, **more):
        """Prepare the record; no file is made.

        Args:
          path: of the file, whose folder exists.
          beat: seconds between two renewals.
          **more: further values of the record; JSON-able.
        """
        self.path, self.beat = path, beat
        self._token, self._given = uuid.uuid4().hex, _owner() | more

    def create(self) -> bool:
        """Make the file if there is none.

        Returns:
          True if this process made it.
        """
        _tokens.add(self._token)  # first, so that no thread takes it for another's
        made = buckets.create(self.path, self._record())
        if not made:
            _tokens.discard(self._token)
        return made

    def start(self) -> None:
        """Start to renew the file, in a thread."""
        _tokens.add(self._token)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Stop to renew the file, and remove it if it is still this owner's."""
        self._over.set()
        self._thread.join()
        _tokens.discard(self._token)
        if self.is_ours():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def lost(self, found: dict) -> None:
        """Hear that the file is another's; it is not renewed again.

        Args:
          found: its record.
        """

    def works(self) -> bool:
        """True if the owner is at work; else the file is not renewed."""
        return True

    def _record(self) -> bytes:
        now = {"token": self._token, "beat": time.time()}
        return json.dumps(self._given | now).encode()

    def is_ours(self) -> bool:
        """True if the file is there and of this owner."""
        return read_owner(self.path).get("token") == self._token

    def _renew(self) -> None:
        while not self._over.wait(self.beat):
            found = read_owner(self.path)
            if found and found.get("token") != self._token:
                return self.lost(found)
            if self.works():
                with contextlib.suppress(UserError):
                    write_whole(self.path, self._record())


class _Marker(Renewed):
    """The lock of a folder as a file that its owner renews. One process can make it; of
    two that replace a dead owner's, the last one wins and the other sees it."""

    def __init__(self, folder: epath.Path, settle: float = _SETTLE, beat: float = BEAT):
        super().__init__(folder / f"{NAME}.json", beat)
        self._folder = folder
        try:
            made = self.create()
        except OSError as error:
            raise cannot_write(folder, error) from error
        if not made:
            self._wait()
            write_whole(self.path, self._record())
            time.sleep(settle)
            if not self.is_ours():
                raise _refusal(folder, read_owner(self.path))
        self.start()

    def lost(self, found: dict) -> None:
        """End the run of which another process has taken the folder."""
        pid, host = found.get("pid"), found.get("host")
        line = f"{self._folder}: was taken over by process {pid} on {host}"
        print(f"\n{line}, so this run ends", file=sys.stderr, flush=True)
        os._exit(2)

    def _wait(self) -> None:
        """Return once the owner is gone.

        The clocks of two hosts may differ: another host's owner is alive if it renews
        its marker meanwhile.
        """
        found, told = read_owner(self.path), False
        if found.get("host") == self._given["host"] and self._taken(found):
            raise _refusal(self._folder, found)
        end = time.monotonic() + 6 * self.beat
        while self._taken(found) and time.monotonic() < end:
            if not told:
                pid, host = found.get("pid"), found.get("host")
                line = f"{self._folder}: is process {pid} on {host} still at work?"
                print(line, file=sys.stderr, flush=True)
            told = True
            time.sleep(self.beat / 10)
            now = read_owner(self.path)
            if now and now != found:
                raise _refusal(self._folder, now)
            found = now

    def _taken(self, found: dict) -> bool:
        """True if the marker belongs to a run that may be alive."""
        if not found or is_gone(found):
            return False
        beat = found.get("beat")
        return not isinstance(beat, (int, float)) or time.time() - beat < STALE


def is_gone(found: dict) -> bool:
    """Say whether an owner is known to be dead; only one of this host can be.

    Args:
      found: its record.

    Returns:
      True if it is; False if it may be alive.
    """
    if found.get("host") != socket.gethostname():
        return False
    # A container that is started again has the same name and number.
    if found.get("pid") == os.getpid():
        return not is_own(found)
    return not _alive(found.get("pid"))


def is_own(found: dict) -> bool:
    """Say whether a record is of this process.

    Args:
      found: the record.

    Returns:
      True or False.
    """
    return found.get("token") in _tokens


def _alive(pid) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
