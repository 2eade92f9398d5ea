"""The one exception that a user is meant to read, and what is quoted of others."""

import errno
import os

GO_ON = "what is finished is kept, the same command goes on from there"
_LONGEST = 2000  # characters of a message
# Errors of a disk, by number and as native code spells them.
_DISK = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EROFS: "Read-only file system",
    errno.EFBIG: "File too large",
    errno.EIO: "Input/output error",
    errno.EACCES: "Permission denied",
    errno.EPERM: "Operation not permitted",
}


class UserError(Exception):
    """Bad input: the message is one line that names the thing and what would do; scripts exit with code 2.

    What it quotes of a file may hold anything: line ends and what cannot be printed are escaped, and it is cut.
    """

    def __init__(self, message: object = ""):
        super().__init__(_one_line(str(message)))


def _one_line(text: str) -> str:
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message, its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def cannot_write(path: str | os.PathLike, error: OSError) -> UserError:
    """The error of a file that could not be written: why, and how to go on."""
    why = error.strerror or first_line(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{os.fspath(path)}: cannot be written ({why}); free some space: {GO_ON}"
        )
    return UserError(
        f"{os.fspath(path)}: cannot be written ({why}); use another --workdir"
    )


def disk_error(error: BaseException) -> UserError | None:
    """The UserError for an exception that the disk has caused, directly or inside of a library; else None."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _DISK:
            return cannot_write(error.filename or "a file of the run", error)
        for number, text in _DISK.items():
            if (
                not isinstance(error, OSError)
                and text in str(error)
                and number not in (errno.EIO, errno.EPERM)
            ):
                return cannot_write("a file of the run", OSError(number, text))
        error = error.__cause__ or error.__context__
    return None
