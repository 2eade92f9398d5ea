"""Fill the tables of README and docs from docs/results/data.

    python docs/generate/render.py            # write
    python docs/generate/render.py --check    # exit code 1 if a table is stale

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`. NAME is a
function registered in a `tables_*.py`, or FILE.KEY: the table KEY (columns and rows) of
docs/results/data/FILE.json.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

import tables_atlas  # noqa: E402, F401
import tables_engineering  # noqa: E402, F401
import tables_power  # noqa: E402, F401
import tables_routing  # noqa: E402, F401
import tables_studies  # noqa: E402, F401
from cells import Table, cell  # noqa: E402
from registry import TABLES  # noqa: E402

DATA = ROOT / "docs" / "results" / "data"
_MARK = re.compile(
    r"(<!-- table: (?P<name>[\w.-]+) -->\n)(?P<body>.*?)(<!-- end of table -->)", re.S
)


def pages() -> list[Path]:
    """README and every page of docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def table(name: str) -> Table:
    """The table of a name.

    Raises:
        KeyError: There is no such table.
    """
    if name in TABLES:
        return TABLES[name]()
    file, key = name.split(".", 1)
    stored = json.loads((DATA / f"{file}.json").read_text())["tables"][key]
    rows = [[cell(each) for each in row] for row in stored["rows"]]
    return Table(stored["columns"], rows)


def render(text: str) -> str:
    """A page with its tables as the data say."""

    def fill(found: re.Match) -> str:
        lines = "\n".join(table(found["name"]).lines())
        return f"{found[1]}{lines}\n{found[4]}"

    return _MARK.sub(fill, text)


def main() -> None:
    """Render every page; with --check only compare."""
    stale = []
    for page in pages():
        text = page.read_text()
        if (new := render(text)) != text:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv:
                page.write_text(new)
    if stale:
        print("\n".join(stale))
        sys.exit("--check" in sys.argv)


if __name__ == "__main__":
    main()
