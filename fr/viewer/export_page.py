"""Some problems of a run as one HTML file, without a server and without a network."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from typing import Any

from fr.errors import UserError
from fr.types import ROLLOUT
from fr.viewer.atlas_values import VALUE
from fr.viewer.attempt_filter import AttemptFilter, problems_sql, rows_of
from fr.viewer.lists import Viewer
from fr.viewer.one_trace import STATISTICS
from fr.viewer.page_server import COMMON_POLICY, static_files
from fr.workdir import write_whole

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";\n', re.M)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|const|class) (\w+))", re.M)
_STYLES = ("view.css", "trace.css")


def export_page(
    viewer: Viewer, path: str, names: Sequence[str], count: int, attempts: int
) -> int:
    """Write one file with some problems, their attempts and all statistics.

    Args:
      viewer: of the run.
      path: of the file.
      names: of problems; (): the first that failed.
      count: problems without names.
      attempts: of each operator at each problem, at most.

    Returns:
      Size of the file in bytes.

    Raises:
      UserError: a problem is not in the run, or the file cannot be written.
    """
    data = _data(viewer, _problems(viewer, names, count), attempts)
    page = one_file(data)
    write_whole(path, page)
    return len(page)


def _problems(viewer: Viewer, names: Sequence[str], count: int) -> list[dict]:
    sql, values = problems_sql(AttemptFilter(grade="" if names else "failed"))
    sql = f"SELECT * EXCLUDE share FROM ({sql})"
    cursor = viewer.index.cursor()
    if not names:
        return rows_of(cursor, f"{sql} LIMIT $count", values | {"count": count})
    ask = "SELECT given, short_name(given) AS name FROM (SELECT unnest(?) AS given)"
    given = {row["name"]: row["given"] for row in rows_of(cursor, ask, [list(names)])}
    sql = f"{sql} WHERE list_contains($names, name)"
    rows = rows_of(cursor, sql, values | {"names": list(given)})
    if missing := given.keys() - {row["name"] for row in rows}:
        raise UserError(
            f"--problems={given[min(missing)]}: the run has no such problem"
        )
    return rows


def _data(viewer: Viewer, problems: list[dict], most: int) -> dict[str, Any]:
    """All that the page would ask the server for."""
    run = viewer.run({})
    listed: dict[str, Any] = {}
    traces: dict[str, Any] = {}
    regimes: dict[str, Any] = {}
    for problem in problems:
        asked = {"task": problem["task"], "name": problem["name"]}
        found = viewer.attempts(asked)
        while found["next"] is not None:
            more = viewer.attempts(asked | {"from": str(found["next"])})
            found["rows"] += more["rows"]
            found["next"] = more["next"]
        found["rows"] = _some(found["rows"], most)
        listed[f"{problem['task']}\n{problem['name']}"] = found
        names = [row["trace"] for row in found["rows"]]
        regimes |= viewer.regimes({"traces": ",".join(names)})
        for name in names:
            traces[name] = viewer.trace({"trace": name})
            every = [*STATISTICS, *(VALUE + one for one in traces[name]["values"])]
            whole = viewer.statistics({"trace": name, "names": ",".join(every)})
            traces[name]["stats"] = {k: v for k, v in whole.items() if v is not None}
            if traces[name]["retry"] not in names:
                traces[name]["retry"] = None
    held = sum(len(found["rows"]) for found in listed.values())
    return {
        "run": {**run, "problems": len(problems), "attempts": held},
        "problems": problems,
        "attempts": listed,
        "traces": traces,
        "regimes": regimes,
    }


def _some(rows: list[dict], most: int) -> list[dict]:
    """The first attempts of each operator, those that failed before the others."""
    kept: list[dict] = []
    columns: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        columns.setdefault((row["folder"], row["operator"]), []).append(row)
    for (_, operator), own in columns.items():
        first = own[:most]
        if operator == ROLLOUT:
            first = sorted(own, key=lambda row: row["grade"] == "right")[:most]
        kept += sorted(first, key=lambda row: row["attempt"])
    return kept


def one_file(data: Any) -> bytes:
    """The page with its styles, its code and its data in one file.

    The code may run because its hash stands in the policy; a text of the data has no
    hash, and no `<`.

    Args:
      data: of plain types.

    Returns:
      The file.
    """
    files = {name: content.decode() for name, content in static_files().items()}
    style = "\n".join(files[name] for name in _STYLES)
    code = joined_modules(files, "app")
    held = json.dumps(data, allow_nan=False, separators=(",", ":"))
    held = held.replace("<", "\\u003c").replace("&", "\\u0026")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(code)}'",
            f"style-src '{_hash(style)}'",
            *COMMON_POLICY,
        )
    )
    rule = html.escape(policy)
    head = f"""<meta http-equiv="Content-Security-Policy" content="{rule}">
<style>{style}</style>
"""
    page = re.sub(r"<link [^>]*>\n|<script [^>]*></script>\n", "", files["index.html"])
    page = page.replace("</head>", f"{head}</head>")
    inside = f"""<script type="application/json" id="data">{held}</script>
<script type="module">{code}</script>
</body>"""
    return page.replace("</body>", inside).encode()


def joined_modules(files: dict[str, str], first: str) -> str:
    """Join modules to one, each after those that it imports.

    Args:
      files: texts by name.
      first: the module that imports the others.

    Returns:
      The code: every other module is a function that is called once and gives what the
      module exports.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        code = files[f"{name}.js"]
        for _, other in _IMPORT.findall(code):
            add(other)
        code = _IMPORT.sub(r"const \1 = module_\2;\n", code)
        names = ", ".join(found[1] for found in _EXPORT.findall(code))
        code = _EXPORT.sub(r"\1", code)
        whole = (
            f"const module_{name} = (() => {{\n{code}return {{ {names} }};\n}})();\n"
        )
        done[name] = code if name == first else whole

    add(first)
    return "".join(done.values())


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
