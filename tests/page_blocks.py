"""The code blocks of README and docs, and how each is checked.

A comment in the line above a block says more than its language does:

    <!-- printed: FILE -->    text: lines of docs/results/data/FILE
    <!-- test -->             bash: the command that `.ci/run` calls
"""

import dataclasses
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parent.parent
LANGUAGES = ("python", "bash", "text", "json", "csv", "mermaid")
_FENCE = re.compile(r"^```(?P<language>\w*)(?: title=\"(?P<title>[\w./-]+)\")?$")
_NOTE = re.compile(r"<!-- (?P<key>printed|test)(?:: (?P<value>[\w.-]+))? -->")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str  # path from the root of the repository
    line: int  # of its fence
    language: str
    title: str  # name of the file that it is; "": none
    notes: tuple[tuple[str, str], ...]  # comments above it: (key, value)
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def note(self, key: str) -> str | None:
        """The value of a comment above the block; None if it is absent."""
        return dict(self.notes).get(key)


def pages() -> list[pathlib.Path]:
    """README, the other pages of the root, and every page of docs."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: pathlib.Path) -> list[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: A fence has no known language, or is not closed.
    """
    lines = path.read_text().splitlines()
    where, found, i = str(path.relative_to(ROOT)), [], 0
    while i < len(lines):
        if not lines[i].startswith("```"):
            i += 1
            continue
        fence = _FENCE.match(lines[i])
        if not fence or fence["language"] not in LANGUAGES:
            raise ValueError(f"{where}:{i + 1}: {lines[i]!r} names no known language")
        end = next((j for j in range(i + 1, len(lines)) if lines[j] == "```"), None)
        if end is None:
            raise ValueError(f"{where}:{i + 1}: the block is not closed")
        above = _NOTE.fullmatch(lines[i - 1]) if i else None
        notes = ((above["key"], above["value"] or ""),) if above else ()
        code = "\n".join(lines[i + 1 : end]) + "\n"
        title = fence["title"] or ""
        found.append(Block(where, i + 1, fence["language"], title, notes, code))
        i = end + 1
    return found


def all_blocks(language: str) -> list[Block]:
    """The blocks of a language on all pages."""
    every = (block for page in pages() for block in blocks(page))
    return [block for block in every if block.language == language]


def commands(code: str) -> list[list[str]]:
    """The words of each command of a bash block.

    Comments and leading assignments of variables are dropped; `&&` divides commands.
    """
    found: list[list[str]] = []
    for line in code.replace("\\\n", " ").replace("&&\n", "&& ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            found.append(words[: words.index("&&")])
            words = words[words.index("&&") + 1 :]
        found.append(words)
    plain = ([*_without_assignments(words)] for words in found)
    return [words for words in plain if words]


def _without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words
