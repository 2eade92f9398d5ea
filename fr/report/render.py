"""Reports of records by name, for a terminal or for a page."""

from typing import Any

from fr.layout.html import to_html
from fr.layout.tables import REPORTS
from fr.layout.text import to_text
from fr.report import certificate_tables, stage_tables  # noqa: F401


def render(name: str, found: Any, html: bool = False, full: bool = True) -> str:
    """A report of a record, or of a whole JSON file, for a terminal or for a page.

    Args:
        name: One of `REPORTS`: a function from the record to blocks.
        found: The record.
        html: Write HTML elements in place of text.
        full: Text also of sections that a page folds.

    Returns:
        Text (see `to_text`) or HTML.
    """
    blocks = REPORTS[name](found)
    return to_html(blocks) if html else to_text(blocks, full)
