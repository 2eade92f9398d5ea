"""The one exception that a user is meant to read, and what is quoted of others."""


class UserError(Exception):
    """Bad input: the message is one line that names the thing and what would do; scripts exit with code 2."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
