"""Grades of a stored run, given again by today's graders without model or questions."""

import collections
import dataclasses
import functools
import json
from collections.abc import Callable

from etils import epath

from fr import store, tasks
from fr.config import freeze
from fr.errors import UserError
from fr.files import read_json
from fr.locks import hold
from fr.runs import stages
from fr.runs.inputs import grader
from fr.tasks.canonical import extracted_answer
from fr.tasks.grading import grade_all, grader_version
from fr.types import Problem, is_failure
from fr.user_modules import fingerprints
from fr.workdir import PathLike

EXAMPLES = 12  # changed grades that are shown
_COLUMNS = [
    "problem",
    "task",
    "operator",
    "question",
    "reference",
    "meta",
    "text",
    "read",
]
_MAX_CONFIG = 16 << 20  # bytes

# Files that are made of the grades in a folder, and the command that makes them again.
_MADE_OF = {
    "rollouts": (
        ("scores", "profiles*.csv"),
        "run scripts/diagnose.py with --redo=scores",
    ),
    "scores": (("profiles*.csv",), "run scripts/diagnose.py with --redo=scores"),
    "attempts": (("profiles*.csv",), "run scripts/intervene.py"),
    "evaluation": (
        ("evaluation.json", "evaluation_problems.json"),
        "run scripts/evaluate.py",
    ),
    "answers": (("evaluation.json",), "run scripts/evaluate.py"),
    "online": (("online.json",), "run scripts/intervene.py with --router"),
    "candidates": (
        ("specialist", "reward_model"),
        "run scripts/train.py in another --workdir",
    ),
}
_MADE_OF_PROFILES = (
    ("routing.json", "report.html", "plots", "head", "schedule"),
    "run scripts/route.py",
)


@dataclasses.dataclass(frozen=True)
class Change:
    """An attempt whose grade has changed."""

    folder: str  # of the run, such as "rollouts"
    task: str  # name of the task
    operator: str  # name of the operator
    question: str  # as it was asked
    reference: str  # the reference answer
    answer: str | None  # the answer that today's grader reads; None: not parsed
    before: str  # stored grade
    after: str  # today's grade


@dataclasses.dataclass
class Regraded:
    """The result of grading a run again."""

    # Number of attempts by (folder, task, operator, old grade, new grade).
    counts: collections.Counter
    changes: list[Change]  # examples, at most EXAMPLES
    graders: set[str]  # versions of the graders that gave the stored grades
    moved: set[str]  # folders in which an attempt became a failure, or no longer is one
    stale: list[tuple[str, str]]  # file, and the command that makes it again
    wrote: int  # shards that were replaced

    @property
    def changed(self) -> int:
        """Number of attempts whose grade has changed."""
        return sum(
            n for (*_, before, after), n in self.counts.items() if before != after
        )


def regrade(workdir: PathLike, write: bool = False) -> Regraded:
    """Grade every stored attempt of a run again, from the store alone.

    A shard is replaced whole or not at all; its old grades and the version of their
    grader stay in `earlier_grade` and `earlier_grader`.

    Args:
        workdir: Folder of the run.
        write: Replace the shards whose grades or answers differ.

    Returns:
        Counts, examples of changes, and the files that are stale.

    Raises:
        UserError: The folder holds no attempts, or damaged ones (from reading them).
    """
    if write:
        with hold(workdir):
            return _regrade(epath.Path(workdir), True)
    return _regrade(epath.Path(workdir), False)


def _regrade(workdir: epath.Path, write: bool) -> Regraded:
    if not workdir.is_dir():
        raise UserError(
            f"--workdir={workdir}: is not a folder; give the folder of a run"
        )
    # A bucket cannot be listed to an unknown depth.
    places = ("*/" * depth + "shard-*.parquet" for depth in range(4))
    folders = sorted(
        {str(path.parent) for place in places for path in workdir.glob(place)}
    )
    if not folders:
        raise UserError(
            f"--workdir={workdir}: holds no attempts (shard-*.parquet); "
            "give the folder of a run"
        )
    found = Regraded(collections.Counter(), [], set(), set(), [], 0)
    graders = _Grader(workdir)
    kinds: collections.Counter = collections.Counter()
    for folder in folders:
        name = str(epath.Path(folder).relative_to(workdir))
        for index in sorted(store.finished(folder)):
            _regrade_shard(folder, name, index, graders, found, kinds, write)
    if write:
        for name, made in stages.read_stages(workdir).items():
            # The stored grades are today's grader's now.
            inputs = made["inputs"] | {"grader": grader()}
            if stages.OWN in inputs and "grader" in made["inputs"]:
                now = fingerprints()
                inputs[stages.OWN] = {
                    part: now.get(part, text) if part.startswith("task: ") else text
                    for part, text in inputs[stages.OWN].items()
                }
            stages.begin(workdir, name, made["settings"], inputs)
    found.changes = _spread(found.changes)
    found.stale = _stale(workdir, found)
    return found


def _regrade_shard(
    folder: str,
    name: str,
    index: int,
    graders: "_Grader",
    found: Regraded,
    kinds: collections.Counter,
    write: bool,
) -> None:
    table = store.read_table(folder, [*_COLUMNS, *store.GRADING], [index])
    rows = table.to_pylist()
    problems = [
        Problem(
            row["problem"],
            row["question"],
            row["reference"],
            row["task"],
            json.loads(row["meta"]),
        )
        for row in rows
    ]
    texts = [row["text"] if row["read"] is None else row["read"] for row in rows]
    grades = grade_all(graders, list(zip(problems, texts)))
    answers = [extracted_answer(row["task"], text) for row, text in zip(rows, texts)]
    for row, answer, grade in zip(rows, answers, grades):
        before = row["grade"]
        found.counts[name, row["task"], row["operator"], before, grade] += 1
        found.graders.add(row["grader"])
        if before == grade:
            continue
        if is_failure(before) != is_failure(grade):
            found.moved.add(name)
        kinds[before, grade] += name != "scores"  # copies of rollouts
        if name != "scores" and kinds[before, grade] <= EXAMPLES:
            asked = row["task"], row["operator"], row["question"], row["reference"]
            found.changes.append(Change(name, *asked, answer, before, grade))
    version, n = grader_version(), len(rows)
    now: dict[str, list[str | None]] = {
        "answer": [*answers],
        "grade": [*grades],
        "grader": [version] * n,
    }
    stored = {column: [row[column] for row in rows] for column in now}
    if write and now != stored:
        kept = {"earlier_grade": stored["grade"], "earlier_grader": stored["grader"]}
        store.regrade_shard(folder, index, now | kept)
        found.wrote += 1


class _Grader:
    """The graders of all tasks as one task; each problem has its own task's grader."""

    def __init__(self, workdir: epath.Path):
        self._workdir = workdir
        self._of = functools.cache(self._named)

    def grade(self, problem: Problem, completion: str) -> str:
        """The grade that the problem's own task gives."""
        return self._of(problem.task)(problem, completion)

    def _named(self, name: str) -> Callable[[Problem, str], str]:
        known = tasks.grader_of(name)
        if known:
            return known
        # A task of a user's own reads its settings to grade.
        settings = read_json(self._workdir / "config.json", _MAX_CONFIG)
        return tasks.make(freeze(settings).task).grade


def _spread(changes: list[Change]) -> list[Change]:
    """At most EXAMPLES changes, spread evenly over the pairs (old, new)."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.before, change.after), []).append(change)
    turns = [
        group[i] for i in range(EXAMPLES) for group in groups.values() if i < len(group)
    ]
    return turns[:EXAMPLES]


def _stale(workdir: epath.Path, found: Regraded) -> list[tuple[str, str]]:
    """Files made of grades that have changed, and the command to remake each."""
    changed = {name.split("/")[0] for name, *_, old, new in found.counts if old != new}
    out: dict[str, str] = {}
    for folder in sorted(changed):
        made, how = _MADE_OF.get(folder, ((), ""))
        for pattern in made:
            for path in sorted(workdir.glob(pattern)):
                out.setdefault(path.name, how)
    if "rollouts" in found.moved and (workdir / "attempts").exists():
        out["attempts"] = "other attempts failed: after that run scripts/intervene.py"
    if any(name.startswith("profiles") for name in out):
        made, how = _MADE_OF_PROFILES
        out |= {name: how for name in made if (workdir / name).exists()}
    return list(out.items())
