"""All formats; importing this module registers them."""

from pathlib import PurePath

from fr.errors import UserError
from fr.exchange import (  # noqa: F401
    inspect_files,
    openai_files,
    own_files,
    prime_files,
    trainer_files,
    vllm_files,
)
from fr.exchange.sampled import FORMATS, Format


def format_of(name: str, files: tuple[str, ...] = ()) -> Format:
    """A format by its name.

    Args:
        name: `fr`, or the name of a tool.
        files: Files to read, whose endings are checked.

    Returns:
        The format.

    Raises:
        UserError: The name is unknown, or a file has another ending.
    """
    if name not in FORMATS:
        names = ", ".join(sorted(FORMATS))
        raise UserError(f"--format={name} is not known; there are: {names}")
    found: Format = FORMATS[name]
    for file in files:
        if not PurePath(file).name.lower().endswith(found.suffixes):
            raise UserError(
                f"{file}: a file of --format={name} ends in {', '.join(found.suffixes)}"
            )
    return found
