"""Object stores (`gs://…`): what they do otherwise than a file system.

An object appears whole when its upload ends, and cannot be appended to or renamed in
one step. A folder is the common beginning of names. Reading and listing go through
`etils.epath`; what differs is here: writes that wait for the network, and objects that
only one of several writers can make.
"""

import errno
import json
import logging
import os
import re
import sys
import tempfile
import time
import typing
from collections.abc import Callable

from fr.errors import GO_ON, UserError, first_line

PathLike: typing.TypeAlias = str | os.PathLike
WAITS = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0)  # seconds between tries
_RETRIED = (408, 429, 500, 502, 503, 504)  # status codes
_LIBRARIES = re.compile(r"(aiohttp|gcsfs|google\.(auth|api_core|cloud))\b")
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)

# Lists of names are not kept, since other processes write; every upload is compared.
_SETTINGS = {"use_listings_cache": False, "consistency": "md5"}
os.environ.setdefault("FSSPEC_GCS", json.dumps(_SETTINGS))
if "fsspec" in sys.modules:  # it has read its environment
    sys.modules["fsspec"].config.conf.setdefault("gcs", dict(_SETTINGS))
# One library for all paths, also where TensorFlow is installed.
os.environ.setdefault("EPATH_USE_TF", "false")
# Errors are raised; the library would print its own traceback before each.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)

_Result = typing.TypeVar("_Result")


def is_local(path: PathLike) -> bool:
    """True for a path of this machine's file systems, False for a bucket.

    Args:
      path: a path or URL.

    Returns:
      True or False.
    """
    return "://" not in os.fspath(path)


def check(path: PathLike) -> None:
    """Check that a bucket can be used, before any work is done.

    Args:
      path: a path or URL; a local path is not looked at.

    Raises:
      UserError: the library is missing, the bucket does not exist or is closed to this
        account.
    """
    if is_local(path):
        return
    scheme, _, rest = os.fspath(path).partition("://")
    bucket = f"{scheme}://{rest.partition('/')[0]}"
    try:
        system(bucket).info(bucket)
    except ImportError as error:
        raise UserError(
            f"{path}: buckets need a package that is missing ({first_line(error)}); "
            "pip install 'failed-reasoning[gcs]'"
        ) from error
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: there is no bucket {bucket}; make it first"
        ) from error
    except Exception as error:
        if not (isinstance(error, (OSError, ValueError)) or _of_library(error)):
            raise
        raise UserError(
            f"{path}: {bucket} cannot be read ({first_line(error)}); see `gcloud auth "
            "application-default login`"
        ) from error


def system(path: PathLike) -> typing.Any:
    """The fsspec file system of a URL.

    Args:
      path: URL.

    Returns:
      The file system, the same one for all of its URLs.
    """
    import fsspec  # here: it takes a tenth of a second

    return fsspec.filesystem(os.fspath(path).partition("://")[0])


def write(path: PathLike, data: bytes) -> None:
    """Write one object; readers see the old one or the new one.

    Args:
      path: URL.
      data: the content.

    Raises:
      OSError: the bucket could not be reached for minutes, or refuses.
    """
    _patiently(lambda: system(path).pipe_file(os.fspath(path), data))


def upload(path: PathLike, source: PathLike) -> None:
    """Write one object from a local file.

    Args:
      path: URL.
      source: the file.

    Raises:
      OSError: the bucket could not be reached for minutes, or refuses.
    """
    _patiently(lambda: system(path).put_file(os.fspath(source), os.fspath(path)))


def create(path: PathLike, data: bytes) -> bool:
    """Write a small file if there is none: of several writers one succeeds.

    Args:
      path: a path or URL; the folder of a path exists.
      data: the content; every writer has another.

    Returns:
      True if this writer made it.

    Raises:
      OSError: it cannot be written.
    """
    if is_local(path):
        return _link(os.fspath(path), data)
    try:
        _patiently(lambda: system(path).pipe_file(os.fspath(path), data, mode="create"))
    except FileExistsError:
        # Its own first try may have succeeded, and only the answer was lost.
        return system(path).cat_file(os.fspath(path)) == data
    return True


def bucket_error(error: BaseException) -> UserError | None:
    """The error for an exception that a bucket caused.

    Args:
      error: any exception.

    Returns:
      A UserError; None if a bucket was not the cause.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if _of_library(current):
            return UserError(f"the bucket failed ({first_line(current)}): {GO_ON}")
        current = current.__cause__ or current.__context__
    return None


def _patiently(act: Callable[[], _Result]) -> _Result:
    """Try again while the network is away; the library tries for half a minute."""
    for wait in (*WAITS, None):
        try:
            return act()
        except Exception as error:
            if wait is None or not _passing(error):
                if isinstance(error, OSError) or not _of_library(error):
                    raise
                raise OSError(first_line(error)) from error
            time.sleep(wait)
    raise AssertionError


def _passing(error: BaseException) -> bool:
    """True for an error that may go away by itself."""
    code = getattr(error, "code", None)
    if code is not None:
        return str(code).isdigit() and int(code) in _RETRIED
    return isinstance(error, (ConnectionError, TimeoutError)) or (
        _of_library(error) and type(error).__name__ != "HttpError"
    )


def _of_library(error: BaseException) -> bool:
    return any(_LIBRARIES.match(kind.__module__) for kind in type(error).mro())


def _link(path: str, data: bytes) -> bool:
    """A local file appears whole under its name, if the name is free."""
    folder, name = os.path.split(path)
    # A kill may leave it: its name says what it is of.
    prefix = f".{name.removeprefix('.')}."
    number, temporary = tempfile.mkstemp(dir=folder, prefix=prefix)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with open(path, "xb") as file:
                file.write(data)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True
