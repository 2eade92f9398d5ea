"""The one place where text becomes HTML."""

import html

from fr.errors import readable


def escaped(text: str, keep: str = "") -> str:
    """A text as HTML: without markup, hidden characters and an end beyond all measure.

    Args:
        text: Any text.
        keep: Characters that stay, such as line feeds.

    Returns:
        HTML.
    """
    return html.escape(readable(text, keep))
