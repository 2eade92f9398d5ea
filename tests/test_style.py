"""Checks of language, docstrings, line lengths, file sizes and names.

`python tests/test_style.py ROOM [CHECK ...]` lists the findings of one room (a folder
of `fr`, `root` for the files beside them, `tests`, `scripts`, `configs`, `benchmarks`,
`docs`, `top`, or `all`).
"""

import ast
import io
import pathlib
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parent.parent
COLUMNS = 88
LONGEST_FILE = 350  # lines
ROOM_LINES = {"routing": 2100, "report": 1300, "pipeline": 1600}


class Finding(NamedTuple):
    """A place that breaks a rule."""

    path: pathlib.Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


class Prose(NamedTuple):
    """A text and the line that it starts on; kind: docstring, comment, message,
    page."""

    line: int
    kind: str
    text: str


# ---------------------------------------------------------------- language
_COUNTED = (
    r"answers?|attempts?|batch(?:es)?|bytes?|cells?|characters?|columns?|completions?"
    r"|cuts?|devices?|draws?|entr(?:y|ies)|examples?|failures?|figures?|files?"
    r"|folders?|keys?|labels?|lines?|names?|nats?|numbers?|operators?|pages?|pairs?"
    r"|parts?|points?|positions?|probes?|problems?|process(?:es)?|programs?|prompts?"
    r"|queries|questions?|records?|rollouts?|rows?|samples?|seconds?|sequences?"
    r"|shards?|shots?|slots?|solutions?|splits?|stages?|steps?|tables?|tensors?"
    r"|threads?|tokens?|updates?|values?|words?"
)
_UNIT = (
    r"answer|arm|attempt|batch|box|cell|chunk|column|completion|core|cut|day|device"
    r"|draw|entry|example|failure|family|figure|file|fold|folder|head|hour|job|key"
    r"|label|layer|line|machine|minute|model|operator|page|pair|part|pass|policy"
    r"|position|probe|problem|process|prompt|question|resample|rollout|room|row|run"
    r"|sample|second|seed|sentence|sequence|shard|side|slot|split|stage|step|task"
    r"|tensor|text|token|trace|update|value|word"
)
_NUMBER = (
    r"(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen"
    r"|a few|many|several|a|an|half a)"
)
_PLURAL = r"(?:\w*[^s\W]s|batches|entries|queries|processes)"
# Plurals that are verbs, too: those count only after a number.
_VERBS = (
    r"(?:answers|cuts|draws|keys|labels|names|pages|pairs|parts|points|probes|processes"
    r"|programs|questions|records|samples|slots|splits|stages|steps|updates|values)"
)
_START = r"(?:^[-*] |^|(?<=[.!?;:] ))"
_QUESTION = r"(?:What|Whatever|Whether|When|Where|Which|Who|Whoever|Whose|Why|How)\b"


class Idiom(NamedTuple):
    """A pattern that is banned, the reason, what it catches and what it must not."""

    pattern: str
    reason: str
    catches: tuple[str, ...]
    passes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("docstring", "comment", "message", "page")


IDIOMS = [
    Idiom(
        rf"(?<!give )(?<!gives )\b{_NUMBER} (?:[\w-]+ )?(?:{_COUNTED}) an? "
        rf"(?:{_UNIT})\b",
        "write 'per X', not 'a X'",
        ("One row a problem and one cell a part", "a line a room", "8 tokens a second"),
        (
            "one file of a run",
            "give a record a line",
            "Two answers give a problem its label",
        ),
    ),
    Idiom(
        rf"\b(?=(?:{_COUNTED})\b)(?!{_VERBS}\b){_PLURAL} an? (?:{_UNIT})\b",
        "write 'per X', not 'a X'",
        ("tokens a second", "nats a token", "attempts an operator"),
        ("values of a row", "the tokens that a row has", "It names a file."),
    ),
    Idiom(
        rf"(?:\d ?(?:%|[KMG]i?B|ms|s|µs)|tokens/s|\btimes|\btwice) an? (?:{_UNIT})\b",
        "write 'per X', not 'a X'",
        ("3 ms a step", "40 MB a row", "twice a step"),
        ("3 % of a step",),
    ),
    Idiom(
        rf"\A\s*{_QUESTION}",
        "a docstring starts with what the thing is or does, not with a question word",
        (
            "Whether a head keeps its promises.",
            "What is written of a step of policy optimisation.",
            "Where the answer of a completion stands.",
        ),
        ("Calibration of the router: predicted against observed rescue rates.",),
        ("docstring",),
    ),
    Idiom(
        rf"^#+ (?!(?:How|Where) to\b){_QUESTION}",
        "a heading is a noun or an imperative, not a question",
        ("## What is here", "# Whether it comes"),
        ("## Where to read on", "## Contents", "### How to add a task"),
        ("page",),
    ),
    Idiom(
        rf"{_START}Of (?!course\b)(?!the \d)(?!these,)",
        "put the subject first: 'Each process writes ...'",
        (
            "Of several processes each writes what its devices hold.",
            "Read once. Of every `group` rows in turn the prompt is read once",
            "Of values for each token it is the mean",
        ),
        ("Of course.", "The share of rows", "Of the 135 failures, 53 are steerable."),
    ),
    Idiom(
        rf"{_START}(?:Behind|Beside|Among|In|With) (?:it|them|these|those) "
        r"(?:stands?|is|are|comes?|goes|those|that)\b",
        "put the subject first",
        ("Behind them those of the training.", "In it stands the plan."),
        ("With it, calls are cheap.",),
    ),
    Idiom(
        r"\b(?:[Ww]ho|[Ww]hom|[Ww]hat|[Ww]hich|[Ww]here|[Ww]hen)(?:so)?ever\b",
        "name the thing: 'every caller', 'all values'",
        ("whoever came to route", "whatever it reads"),
        ("however", "forever"),
    ),
    Idiom(
        r"\b[Ss]o many\b",
        "give the number's name: 'n times'",
        ("resampled so many times", "every so many steps"),
        ("so that many rows fit",),
    ),
    Idiom(r"\b[Aa]new\b", "write 'again'", ("counted anew",), ("a new run",)),
    Idiom(
        r"\b(?:[Tt]hat|[Tt]hose) of(?! course)\b",
        "repeat the noun, or drop the filler",
        ("Defaults are those of the source", "less that of the training rows"),
        ("those often used", "that of course"),
    ),
    Idiom(
        r"\b[Bb]ehind\b",
        "write 'after' (order), or say what depends on what",
        ("tokens behind the prompt", "Go on behind the first answer"),
        ("tokens after the prompt",),
    ),
    Idiom(
        r"\b(?:is|are|was|were) said(?: so)?\b|\bsaid so\b|\bsays so\b|\bsay so\b",
        "say who prints, raises or returns what",
        ("a protocol that cannot be is said so", "which is said"),
        ("Unsupported protocols return the reason.",),
    ),
    Idiom(
        r"\b[Nn]othing else\b",
        "say what is done: 'only X'",
        ("reads numbers and nothing else",),
        ("nothing more than a list",),
    ),
    Idiom(
        r"\bas (?:it|they) stands?\b",
        "write 'unchanged'",
        ("the file as it stands",),
        ("as it is written",),
    ),
    Idiom(
        r"\b(?:charged|known|left|told) to nobody\b|\bnobody\b",
        "name the actor",
        ("The first failures are charged to nobody",),
    ),
    Idiom(
        r"\b[Bb]ut for\b(?! (?:example|instance)\b)",
        "write 'except'",
        ("the same but for the seed", "But for these, all are read"),
        ("but for example",),
    ),
    Idiom(
        r"\b(?:has|have) the say\b|\bearns? (?:its|their) keep\b|\bkeeps? its "
        r"promises\b"
        r"|\bhas it in hand\b|\bthe day of\b",
        "plain words for a figure of speech",
        ("where memory has the say", "signals that earn their keep"),
    ),
    Idiom(
        r"\b(?:that|which|it|they|this|where) (?:is|are) none\b",
        "write 'is not one', or name the noun",
        ("a folder that is none", "if they are none of"),
        ("None where there is no answer",),
    ),
    Idiom(
        r"(?<![Tt]here )\b(?:is|are) no (?!(?:longer|more|less|fewer|better|worse|other"
        r"|larger|smaller|one)\b)(?=[a-z])",
        "write 'is not a ...'",
        ("x is no number", "they are no family's"),
        ("there is no file", "is no longer read", "is not a number"),
    ),
    Idiom(
        r"\b(?:lest|thereof|therein|whereof|wherein|hereby|aught|naught|thence"
        r"|whence|thither|ere|nigh)\b",
        "archaic",
        ("whence it came",),
    ),
]
# Texts that models read, and quotations: their bytes are data.
ALLOWED = {
    # path -> phrases
    "fr/tasks/worked_examples.py": ("pages a day", "is no key"),
    "fr/interventions/prompted.py": ("solve the problem anew",),
}


def _strings(tree: ast.Module) -> Iterator[Prose]:
    """Docstrings, and other string constants that read like sentences."""
    docs = set()
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node):
            constant = node.body[0].value
            docs.add(id(constant))
            yield Prose(constant.lineno, "docstring", constant.value)
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            text = "".join(
                p.value if isinstance(p, ast.Constant) else "X" for p in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in docs or id(node) in inside:
                continue
            text = node.value
        else:
            continue
        sentence = len(re.findall(r"\b[a-zA-Z]{2,}\b", text)) >= 3 and " " in text
        if sentence and not re.search(r"\\[bsdwA]|\(\?|\.\*", text):
            yield Prose(node.lineno, "message", text)


def _comments(source: str) -> Iterator[Prose]:
    """Comments; those on lines in a row are one text."""
    block: list[str] = []
    first = last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("#").strip()
        alone = token.line.lstrip().startswith("#")
        if alone and block and token.start[0] == last + 1:
            block.append(text)
        else:
            if block:
                yield Prose(first, "comment", "\n".join(block))
            block, first = [text], token.start[0]
        last = token.start[0]
        if not alone:
            yield Prose(first, "comment", text)
            block = []
    if block:
        yield Prose(first, "comment", "\n".join(block))


def prose(path: pathlib.Path) -> Iterator[Prose]:
    """Everything of a file that a person reads as text; of tests no string
    constants."""
    source = path.read_text()
    if path.suffix == ".md":
        fenced = re.sub(
            r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), source, flags=re.M | re.S
        )
        line = 1
        for block in re.split(r"(\n(?=\n|[|#>*-]))", fenced):
            if block.strip():
                lead = len(block) - len(block.lstrip("\n"))
                yield Prose(line + lead, "page", block.lstrip("\n"))
            line += block.count("\n")
        return
    texts = _strings(ast.parse(source))
    yield from (t for t in texts if t.kind == "docstring" or room(path) != "tests")
    yield from _comments(source)


def plain(text: str) -> str:
    """Text without code and short quotations; line breaks kept."""
    keep = lambda m: "`x`" + "\n" * m[0].count("\n")  # noqa: E731
    text = re.sub(r"``?[^`]+``?", keep, text)
    return re.sub(r"[\"“][^\"“”\n]{1,60}[\"”]|(?<!\w)'[^'\n]{1,60}'(?!\w)", "`x`", text)


def paragraphs(prose_: Prose) -> tuple[str, list[tuple[int, int]]]:
    """A text whose wrapped lines are joined, and (offset, line) of each of its lines.

    Items, arguments, headings and rows of tables stay lines; a blank line separates
    paragraphs.
    """
    text, starts = "", []
    for i, line in enumerate(plain(prose_.text).split("\n")):
        bare = line.strip()
        if not bare:
            text = text.rstrip("\n ") + "\n\n" if text else text
            continue
        item = re.match(r"[-*|#]|\*{0,2}\w+(?:, \w+)*:", bare)
        if text and not text.endswith("\n"):
            text += "\n" if item else " "
        starts.append((len(text), prose_.line + i))
        text += bare
    return text, starts


def idioms(prose_: Prose) -> list[tuple[int, str]]:
    """(line, the words and the reason) of every banned idiom of a text."""
    text, starts = paragraphs(prose_)
    line = lambda offset: max(
        (n for o, n in starts if o <= offset), default=prose_.line
    )  # noqa: E731
    found = []
    for idiom in IDIOMS:
        if prose_.kind not in idiom.kinds:
            continue
        for hit in re.finditer(idiom.pattern, text, re.M):
            shown = text[max(0, hit.start() - 25) : hit.end() + 25].replace("\n", " ")
            found.append((line(hit.start()), f"'{shown}': {idiom.reason}"))
    for start, sentence in sentences(text):
        bare = re.sub(r"\([^()]*\)|&\w+;", "", sentence)
        if len(re.findall(r";(?=\s)", bare)) > 1:
            shown = " ".join(sentence.split())[:70]
            found.append((line(start), f"'{shown}...': more than one semicolon"))
    return found


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """(offset, sentence) of a text of joined lines."""
    start = 0
    for end in re.finditer(r"[.!?:](?=\s)| \| |\n+|\Z", text):
        if text[start : end.end()].strip():
            yield start, text[start : end.end()]
        start = end.end()


def language(path: pathlib.Path) -> Iterator[Finding]:
    """Banned idioms of a file."""
    allowed = ALLOWED.get(str(path.relative_to(ROOT)), ())
    for text in prose(path):
        for line, message in idioms(text):
            if not any(phrase in message for phrase in allowed):
                yield Finding(path, line, message)


# --------------------------------------------------------------- docstrings
def _decorators(node: ast.AST) -> list[str]:
    names = []
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        names.append(ast.unparse(call))
    return names


def _registered(node: ast.AST) -> bool:
    """Made known by a registry, which describes the signature once."""
    return any(n.split(".")[-1].startswith("register") for n in _decorators(node))


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function's body, without the functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own(child)


def _section(doc: str, name: str) -> str | None:
    match = re.search(
        rf"^{name}:\n((?:[ \t]+.*\n?|\n)+)|^{name}:[ \t]*(\S.*)", doc, re.M
    )
    return match and (match[1] or match[2])


def _function(node: ast.FunctionDef, method: bool) -> Iterator[str]:
    doc = ast.get_docstring(node)
    if not doc:
        yield f"{node.name} has no docstring"
        return
    decorators = _decorators(node)
    if _registered(node) or any(
        d.split(".")[-1] in ("override", "overload", "setter") for d in decorators
    ):
        return
    inputs = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    if method and "staticmethod" not in decorators:
        inputs = inputs[1:]
    inputs += [extra for extra in (node.args.vararg, node.args.kwarg) if extra]
    names = [a.arg for a in inputs if not a.arg.startswith("_")]
    described = _section(doc, "Args") or ""
    entries = re.findall(
        r"^[ \t]*((?:\*{0,2}\w+(?:, )?)+)(?: \([^)]*\))?:", described, re.M
    )
    entries = {e.strip("* ") for entry in entries for e in entry.split(",")}
    if missing := [n for n in names if n not in entries]:
        yield f"{node.name}: no `Args:` for {', '.join(missing)}"
    returns = node.returns is not None and ast.unparse(node.returns) not in (
        *("None", "'None'", "NoReturn"),
    )
    if names and returns and not (_section(doc, "Returns") or _section(doc, "Yields")):
        yield f"{node.name}: no `Returns:`"
    raises = any(isinstance(n, ast.Raise) and n.exc is not None for n in _own(node))
    if raises and not _section(doc, "Raises"):
        yield f"{node.name}: no `Raises:`"


def docstrings(path: pathlib.Path) -> Iterator[Finding]:
    """Public functions, classes and methods whose docstring lacks a part."""
    tree = ast.parse(path.read_text())
    if path.name != "__init__.py" and not ast.get_docstring(tree):
        yield Finding(path, 1, "the file has no docstring")

    def of(body: list, method: bool) -> Iterator[Finding]:
        for node in body:
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from of(node.body, method)
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_"):
                continue
            if isinstance(node, ast.ClassDef):
                if not ast.get_docstring(node):
                    yield Finding(path, node.lineno, f"{node.name} has no docstring")
                yield from of(node.body, True)
            else:
                yield from (
                    Finding(path, node.lineno, text) for text in _function(node, method)
                )

    yield from of(tree.body, False)


def fields(path: pathlib.Path) -> Iterator[Finding]:
    """Fields of public data classes that nothing describes."""
    source = path.read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        data = any("dataclass" in d for d in _decorators(node))
        if not data and not any("NamedTuple" in ast.unparse(b) for b in node.bases):
            continue
        doc = ast.get_docstring(node) or ""
        for field in node.body:
            if not isinstance(field, ast.AnnAssign) or not isinstance(
                field.target, ast.Name
            ):
                continue
            name = field.target.id
            near = "\n".join(lines[field.lineno - 1 : field.end_lineno])
            above = lines[field.lineno - 2].strip()
            # A setting of `fr.config` carries its line of help.
            helped = isinstance(field.value, ast.Call) and ast.unparse(
                field.value.func
            ) in ("setting", "shared")
            told = (
                helped
                or "#" in near
                or above.startswith("#")
                or re.search(rf"\b{name}\b", doc)
            )
            if not told and not name.startswith("_"):
                yield Finding(
                    path, field.lineno, f"{node.name}.{name} is not described"
                )


# ------------------------------------------------------------ form and size
def columns(path: pathlib.Path) -> Iterator[Finding]:
    """Lines of Python above 88 columns."""
    for i, line in enumerate(path.read_text().splitlines(), 1):
        if len(line) > COLUMNS and not re.search(r"https?://\S{60,}", line):
            yield Finding(path, i, f"{len(line)} columns")


def length(path: pathlib.Path) -> Iterator[Finding]:
    """Files above 350 lines."""
    count = len(path.read_text().splitlines())
    if count > LONGEST_FILE:
        yield Finding(path, count, f"{count} lines, more than {LONGEST_FILE}")


def room(path: pathlib.Path) -> str:
    """The room of a file: a folder of `fr`, `root`, or a folder beside `fr`."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "fr":
        return parts[1] if len(parts) > 2 else "root"
    return parts[0] if len(parts) > 1 else "top"


def package() -> list[pathlib.Path]:
    """The Python files of `fr`."""
    return sorted((ROOT / "fr").rglob("*.py"))


def python_files() -> list[pathlib.Path]:
    """All Python files of the project."""
    folders = ("tests", "scripts", "configs", "benchmarks", "docs")
    outside = [p for f in folders for p in sorted((ROOT / f).rglob("*.py"))]
    return package() + outside + sorted(ROOT.glob("*.py"))


def pages() -> list[pathlib.Path]:
    """All Markdown files of the project."""
    inside = [p for f in ("docs", "benchmarks", "fr") for p in (ROOT / f).rglob("*.md")]
    return sorted(ROOT.glob("*.md")) + sorted(inside)


def _named_twice() -> Iterator[Finding]:
    rooms: dict[str, dict[str, pathlib.Path]] = {}
    for path in package():
        if path.name not in ("__init__.py", "__main__.py"):
            rooms.setdefault(path.name, {})[room(path)] = path
    for name, where in rooms.items():
        if len(where) > 1:
            for path in where.values():
                yield Finding(path, 1, f"{name} stands in {', '.join(where)}")


def _unused() -> Iterator[Finding]:
    """Public top-level names and files of `fr` that no code outside the tests uses."""
    used: Counter = Counter()
    files: set[str] = set()
    users = [p for p in python_files() if room(p) not in ("tests", "docs")]
    for path in users:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name):
                used[node.id] += 1
            elif isinstance(node, ast.Attribute):
                used[node.attr] += 1
            elif isinstance(node, ast.Import):
                files |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                used.update(alias.name for alias in node.names)
                files |= {f"{node.module}.{alias.name}" for alias in node.names}
                files.add(str(node.module))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.update(re.findall(r"\b\w+\b", node.value))
                files |= set(re.findall(r"\bfr(?:\.\w+)+", node.value))
                # A file beside this one that is run as a program.
                if re.fullmatch(r"\w+\.py", node.value) and path.is_relative_to(ROOT):
                    parts = path.relative_to(ROOT).parent.parts
                    files.add(".".join((*parts, node.value.removesuffix(".py"))))
    for path in package():
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name not in ("__init__.py", "__main__.py") and dotted not in files:
            yield Finding(path, 1, "no code outside the tests imports this file")
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_") or _registered(node) or used[node.name]:
                continue
            yield Finding(path, node.lineno, f"only tests use {node.name}")


def _median(files: list[pathlib.Path]) -> float:
    named = [p for p in files if p.name != "__init__.py"]
    return statistics.median(len(p.read_text().splitlines()) for p in named)


def findings(check: str) -> list[Finding]:
    """All findings of one check."""
    if check == "language":
        return [f for p in python_files() + pages() for f in language(p)]
    if check in ("docstrings", "fields"):
        of = docstrings if check == "docstrings" else fields
        bench = [p for p in python_files() if room(p) == "benchmarks"]
        return [f for p in package() + bench for f in of(p)]
    if check == "columns":
        return [f for p in python_files() for f in columns(p)]
    if check == "length":
        return [f for p in package() for f in length(p)]
    if check == "names":
        return list(_named_twice())
    return list(_unused())


CHECKS = ["language", "docstrings", "fields", "columns", "length", "names", "unused"]


# -------------------------------------------------------------------- tests
@pytest.mark.parametrize("check", CHECKS)
def test_rooms_are_clean(check):
    found = findings(check)
    assert not found, "\n" + "\n".join(map(str, found))


def test_rooms_keep_their_size():
    lines: Counter = Counter()
    for path in package():
        lines[room(path)] += len(path.read_text().splitlines())
    large = {r: lines[r] for r in ROOM_LINES if lines[r] > ROOM_LINES[r]}
    assert not large
    assert 120 <= _median(package()) <= 200


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda i: i.catches[0][:30])
def test_an_idiom_is_caught_and_plain_sentences_are_not(idiom):
    kind = idiom.kinds[0]
    reasons = lambda text: [
        m for _, m in idioms(Prose(1, kind, text)) if idiom.reason in m
    ]
    assert all(reasons(text) for text in idiom.catches)
    assert not any(reasons(text) for text in idiom.passes)


def test_idioms_are_found_across_lines_and_plain_english_is_not():
    found = idioms(
        Prose(7, "docstring", "Read it.\n\nEvery row has tokens\n    a second.")
    )
    assert [line for line, _ in found] == [9]
    chain = "One; two; three. Four; five (a; b; c)."
    assert len(idioms(Prose(1, "comment", chain))) == 1
    for text in (
        "Centred one-hot of cell and family; an unseen group gets zeros.",
        "Unsupported protocols return the reason.",
        "The first K failures are free for every policy.",
        "Metrics and warnings of one RL step.",
        "Each block of `group` consecutive rows shares one prompt, prefilled once.",
        "Args:\n    rows: Requests, one per problem; at most N.\n    key: PRNG; [2].\n",
        'Write "per token", not "tokens a token"; see `a; b; c`.',
    ):
        assert not idioms(Prose(1, "docstring", text)), text


def test_a_docstring_without_its_parts_is_found(tmp_path):
    source = '''"""File."""
def f(x: int, *, key) -> int:
    """Give x.

    Args:
        x: A number.

    Returns:
        The same.
    """
    if x < 0:
        raise ValueError(x)
    return x

def g(x: int) -> None:
    """Take x.

    Args:
        x: A number.
    """

class A:
    def h(self) -> int:
        """The number of rows."""

    def i(self, x) -> int: ...

@register_term("y")
def y(batch) -> float:
    """The mean."""
'''
    path = tmp_path / "x.py"
    path.write_text(source)
    assert [f.text for f in docstrings(path)] == [
        "f: no `Args:` for key",
        "f: no `Raises:`",
        "A has no docstring",
        "i has no docstring",
    ]


def main(argv: list[str]) -> None:
    """Print the findings of one room, of all checks or of those named."""
    name, checks = (argv or ["all"])[0], argv[1:] or CHECKS
    for check in checks:
        found = [f for f in findings(check) if name in ("all", room(f.path))]
        print(f"== {check}: {len(found)}")
        print("".join(f"{f}\n" for f in sorted(found)), end="")
    files = [p for p in package() if name in ("all", room(p))]
    if files:
        count = sum(len(p.read_text().splitlines()) for p in files)
        print(f"== {len(files)} files, {count} lines, median {_median(files):.0f}")


if __name__ == "__main__":
    main(sys.argv[1:])
