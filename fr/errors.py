"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input: the message is one line that names the thing and what would do; scripts exit with code 2."""
