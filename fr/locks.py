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
_tokens: set[str] = set()  # of the markers of this process


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


def _read(path: epath.Path) -> dict:
    """The owner's record; empty while it is being written."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
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
                raise _refusal(folder, _read(self._path)) from None
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


class _Marker:
    """A file that its owner renews. One process can make it; of two that replace a dead
    owner's, the last one wins and the other sees it."""

    def __init__(self, folder: epath.Path, settle: float = _SETTLE, beat: float = BEAT):
        self._path, self._token, self._beat = (
            folder / f"{NAME}.json",
            uuid.uuid4().hex,
            beat,
        )
        self._folder, self._given = folder, _owner()
        try:
            made = buckets.create(self._path, self._record())
        except OSError as error:
            raise cannot_write(folder, error) from error
        if not made:
            self._wait()
            self._write()
            time.sleep(settle)
            if not self._ours():
                raise _refusal(folder, _read(self._path))
        _tokens.add(self._token)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Release the folder."""
        self._over.set()
        self._thread.join()
        _tokens.discard(self._token)
        if self._ours():
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _record(self) -> bytes:
        now = {"token": self._token, "beat": time.time()}
        return json.dumps(self._given | now).encode()

    def _write(self) -> None:
        write_whole(self._path, self._record())

    def _ours(self) -> bool:
        return _read(self._path).get("token") == self._token

    def _wait(self) -> None:
        """Return once the owner is gone.

        The clocks of two hosts may differ: another host's owner is alive if it renews
        its marker meanwhile.
        """
        found, told = _read(self._path), False
        if found.get("host") == self._given["host"] and self._taken(found):
            raise _refusal(self._folder, found)
        end = time.monotonic() + 6 * self._beat
        while self._taken(found) and time.monotonic() < end:
            if not told:
                pid, host = found.get("pid"), found.get("host")
                line = f"{self._folder}: is process {pid} on {host} still at work?"
                print(line, file=sys.stderr, flush=True)
            told = True
            time.sleep(self._beat / 10)
            now = _read(self._path)
            if now and now != found:
                raise _refusal(self._folder, now)
            found = now

    def _taken(self, found: dict) -> bool:
        """True if the marker belongs to a run that may be alive."""
        if not found:
            return False
        if found.get("host") == self._given["host"]:
            # A container that is started again has the same name and number.
            again = found.get("pid") == os.getpid()
            if again and found.get("token") not in _tokens:
                return False
            if not _alive(found.get("pid")):
                return False
        beat = found.get("beat")
        return not isinstance(beat, (int, float)) or time.time() - beat < STALE

    def _renew(self) -> None:
        while not self._over.wait(self._beat):
            found = _read(self._path)
            if found and found.get("token") != self._token:
                pid, host = found.get("pid"), found.get("host")
                line = f"{self._folder}: was taken over by process {pid} on {host}"
                print(f"\n{line}, so this run ends", file=sys.stderr, flush=True)
                os._exit(2)
            with contextlib.suppress(UserError):
                self._write()


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
