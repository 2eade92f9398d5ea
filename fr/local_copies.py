"""Copies of a bucket's objects on the local disk, for libraries that map files into
memory."""

import atexit
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from fr.buckets import PathLike, is_local, system

_copies: dict[str, tuple] = {}  # version of every object that was fetched
_copying = threading.Lock()


def local_copy(
    path: PathLike,
    inner: bool = False,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Path:
    """A file or folder on this machine's disk; one of a bucket is fetched.

    Copies lie as the objects do, are kept until the process ends, and are fetched again
    if an object has changed.

    Args:
      path: a path or URL; it need not exist.
      inner: also fetch what folders within the folder hold.
      wanted: chooses among the names of files.

    Returns:
      The path of the copy, or the given local path.
    """
    if is_local(path):
        return Path(path)
    store, name = system(path), _name(path)
    depth = None if inner else 1
    found = store.find(name, maxdepth=depth, withdirs=False, detail=True)
    with _copying:
        held = {n: _version(info) for n, info in found.items() if wanted(_last(n))}
        for gone in [n for n in _copies if _within(n, name, inner) and n not in found]:
            (_mirror() / gone).unlink(missing_ok=True)
            del _copies[gone]
        new = [n for n, version in held.items() if _copies.get(n) != version]
        for each in new:
            (_mirror() / each).parent.mkdir(parents=True, exist_ok=True)
        if new:
            store.get(new, [os.fspath(_mirror() / each) for each in new])
        _copies.update({each: held[each] for each in new})
        return _mirror() / name


@functools.cache
def _mirror() -> Path:
    folder = tempfile.mkdtemp(prefix="fr-bucket-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _name(path: PathLike) -> str:
    return os.fspath(path).partition("://")[2].rstrip("/")


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _within(name: str, folder: str, inner: bool) -> bool:
    """True if an object lies in a folder: directly, or at any depth."""
    rest = name.removeprefix(f"{folder}/")
    return rest != name and (inner or "/" not in rest)


def _version(info: dict) -> tuple:
    return tuple(info.get(key) for key in ("generation", "etag", "mtime", "size"))
