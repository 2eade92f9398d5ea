"""The exception that a user is meant to read, and one-line forms of other
exceptions."""

import errno
import os
import re
import traceback
import unicodedata

GO_ON = "what is finished is kept, the same command goes on from there"
_LONGEST = 2000  # characters of a message
_LONGEST_WORD, _LONGEST_LINE = 300, 6000  # characters of a table or a page
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")
_MARKS = 6  # on one character
# What has no ink though it is a letter, a mark or a symbol.
_FILLS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00016fe4\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_PICTURES = re.compile("[‼⁉ℹ↔⤴⤵◻◼◽◾〰〽]")  # beside other symbols
_DARKEST = "\U0001f3ff"  # the last modifier of a picture
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

    Quoted parts of a file may hold anything: hidden characters become signs, and long
    messages are cut.
    """

    def __init__(self, message: object = ""):
        super().__init__(_one_line(str(message)))


def printable(text: str, keep: str = "") -> str:
    """Put signs in place of characters that are not seen, or that move others.

    The same signs as the viewer's (`static/dom.js`): ␛ for an escape, ⟨202E⟩ for what
    reverses a text. Hidden are all controls, formats, private and unassigned ones, all
    spaces but the plain one, fillers, and marks beyond the sixth on one character. What
    joins the parts of a picture stays.

    Args:
        text: Any text, such as the output of a model.
        keep: Characters that stay, such as line feeds.

    Returns:
        The text with signs, such that a terminal or a page shows all of it in order.
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for i, c in enumerate(f"{text}."):  # the dot ends the last run of marks
        kind = unicodedata.category(c)
        hidden = kind[0] in "CZ" and c != " " or _FILLS.match(c)
        marks = marks + 1 if kind[0] == "M" and not hidden else -max(marks - _MARKS, 0)
        if marks < 0:
            shown.append(f"⟨+{-marks} marks⟩")
            marks = 0
        if hidden and c not in keep and not _joins(text, i):
            shown.append(_sign(ord(c)))
        elif marks <= _MARKS:
            shown.append(c)
    return "".join(shown[:-1])


def _joins(text: str, i: int) -> bool:
    """True of a character that belongs to a picture made of several."""
    picture = lambda c: unicodedata.category(c) == "So" or bool(_PICTURES.match(c))
    before, after = text[max(i - 1, 0) : i], text[i + 1 : i + 2]
    if text[i] == "\ufe0f":
        return bool(before) and picture(before)
    if text[i] != "\u200d" or not before or not after:
        return False
    told = picture(before) or before == "\ufe0f" or "\U0001f3fb" <= before <= _DARKEST
    return told and picture(after)


def _sign(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨{code:04X}⟩"


def readable(text: str, keep: str = "") -> str:
    """Prepare a text for a terminal or a page: signs as by `printable`, and an end.

    Args:
        text: Any text, such as a name of a file.
        keep: Characters that stay, such as line feeds.

    Returns:
        The text; of a word or a line beyond all measure, its start and how much is
        left out.
    """
    if len(text) > _LONGEST_WORD:
        text = _LONG_WORD.sub(lambda word: _cut(word[0], _LONGEST_WORD), text)
    if len(text) > _LONGEST_LINE:
        lines = text.split("\n") if "\n" in keep else [text]
        text = "\n".join(_cut(line, _LONGEST_LINE) for line in lines)
    return printable(text, keep)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text) - longest:,} more characters)"


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
