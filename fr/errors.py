"""The exception that a user is meant to read, and one-line forms of other
exceptions."""

import errno
import os
import traceback

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
    """Bad input: one line that names the thing and the remedy; scripts exit with code
    2.

    Quoted parts of a file may hold anything: unprintable characters are escaped, and
    long messages are cut.
    """

    def __init__(self, message: object = ""):
        super().__init__(_one_line(str(message)))


def printable(text: str) -> str:
    """Escape the characters that a terminal would obey.

    Args:
        text: Any text, such as the output of a model.

    Returns:
        The text with escapes in place of unprintable characters.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _one_line(text: str) -> str:
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def first_line(error: BaseException) -> str:
    """The first line of an error's message.

    Args:
      error: any exception.

    Returns:
      The line; the error's type if it has no message.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def describe_error(error: BaseException, *files: str) -> str:
    """An exception in one line, with the deepest line of some files that raised it.

    Args:
      error: the exception.
      files: paths of the files.

    Returns:
      "FILE:LINE: TYPE: MESSAGE", without the type of a UserError.
    """
    places = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename in files
    ]
    text = " ".join(str(error).split())
    # A file that cannot be parsed has no frame of its own.
    if isinstance(error, SyntaxError) and error.filename in files:
        places, text = [(error.filename, error.lineno)], error.msg
    file, line = places[-1] if places else (files[-1], None)
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{os.path.basename(file)}:{line or '?'}: {kind}{text}"


def cannot_write(path: str | os.PathLike, error: OSError) -> UserError:
    """The error for a file that could not be written.

    Args:
      path: of the file.
      error: the system's error.

    Returns:
      A UserError with reason and remedy.
    """
    why = error.strerror or first_line(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{os.fspath(path)}: cannot be written ({why}); free some space: {GO_ON}"
        )
    return UserError(
        f"{os.fspath(path)}: cannot be written ({why}); use another --workdir"
    )


def disk_error(error: BaseException) -> UserError | None:
    """The error for an exception that the disk caused, directly or within a library.

    Args:
      error: any exception.

    Returns:
      A UserError; None if the disk was not the cause.
    """
    seen = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno in _DISK:
            return cannot_write(current.filename or "a file of the run", current)
        for number, text in _DISK.items():
            if (
                not isinstance(current, OSError)
                and text in str(current)
                and number not in (errno.EIO, errno.EPERM)
            ):
                return cannot_write("a file of the run", OSError(number, text))
        current = current.__cause__ or current.__context__
    return None
