"""A hash of the files of a model, so that a run records which weights it had."""

import concurrent.futures
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from fr.errors import UserError
from fr.workdir import cache_folder, write_whole

_SHA256 = re.compile("[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")


def fingerprint(files: Iterable[Path]) -> str:
    """A hash over names, sizes and contents of files.

    Large files are hashed in parallel and once: later calls take hashes from a cache,
    by path, size and time of change. For a file of the hub's cache that is stored under
    its hash, that name is the hash.

    Args:
        files: Paths.

    Returns:
        32 digits of a SHA-256, followed by "@" and the hub's commit if there is one; ""
        without files.
    """
    files = sorted(files)
    if not files:
        return ""
    known, digest = _known(), hashlib.sha256()
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        hashes = list(pool.map(lambda path: _hash(path, known), files))
    base = os.path.commonpath([path.parent for path in files])
    for path, content in zip(files, hashes):
        digest.update(
            f"{path.relative_to(base)} {path.stat().st_size} {content}\n".encode()
        )
    _remember(known)
    return digest.hexdigest()[:32] + (
        f"@{commit}" if (commit := revision(files[0])) else ""
    )


def revision(path: Path) -> str:
    """The commit that a file of the hub's cache belongs to.

    Args:
        path: Path of the file.

    Returns:
        40 hexadecimal digits; "" for a file outside the cache.
    """
    parts = path.parts
    return next(
        (
            b
            for a, b in zip(parts, parts[1:])
            if a == "snapshots" and _COMMIT.fullmatch(b)
        ),
        "",
    )


def _hash(path: Path, known: dict[str, str]) -> str:
    stored = path.resolve()
    if stored.parent.name == "blobs" and _SHA256.fullmatch(stored.name):
        return stored.name
    about = stored.stat()
    key = f"{stored}|{about.st_size}|{about.st_mtime_ns}"
    if key not in known:
        with stored.open("rb") as file:
            known[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return known[key]


def _known() -> dict[str, str]:
    try:
        found = json.loads((cache_folder() / "hashes.json").read_text())
    except (OSError, RuntimeError, UserError, ValueError):  # no home, no file, or other
        return {}
    return found if isinstance(found, dict) else {}


def _remember(known: dict[str, str]) -> None:
    try:  # without a cache, the next call only takes longer
        write_whole(
            cache_folder() / "hashes.json",
            json.dumps(dict(list(known.items())[-1000:])).encode(),
        )
    except (OSError, RuntimeError, UserError):
        pass
