"""Question-answer files: JSON lines or Parquet with `question`, `answer` and, if wanted, `id` and `split`."""

import functools
import importlib.util
import itertools
import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks.base import TASKS
from fr.tasks.bounded import Bounded, GraderFailure
from fr.tasks.chat import chat
from fr.tasks.extract import final_answer
from fr.tasks.grading import grade_answer
from fr.tasks.splits import SPLITS, split_of
from fr.types import GRADER_ERROR, RIGHT, Problem

_ALIASES = {"valid": "validation", "val": "validation", "dev": "validation"}


@TASKS.register("questions")
class Questions:
    """The problems of the file `config.path`; without a `split` of its own, a question's hash decides.

    A reference may be a worked solution that ends with `#### 7` or a last `\\boxed{7}`. Raises UserError for
    a file that cannot be read, naming the line and the field.
    """

    def __init__(self, config: TaskConfig):
        self.config = config
        self._splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
        seen: dict[str, str] = {}
        for number, record in _records(config.path):
            where = f"{config.path}:{number}"
            problem, split = _problem(where, f"{epath.Path(config.path).stem}-{number}", record)
            if problem.id in seen:
                raise UserError(f"{where}: id {problem.id!r} is taken by {seen[problem.id]}; ids must differ")
            seen[problem.id] = where
            self._splits[split].append(problem)
        if len(self._splits["train"]) < config.shots:
            raise UserError(
                f"config.task.shots = {config.shots} is more than the {len(self._splits['train'])} training "
                f"questions of {config.path}; lower it"
            )

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """The first `count` problems of a split in the file's order; all of them if None."""
        if not self._splits.get(split):
            sizes = ", ".join(f"{name} {len(problems)}" for name, problems in self._splits.items())
            raise UserError(
                f"{self.config.path} has no question for config.task.split = {split!r}; it has: {sizes}"
            )
        return self._splits[split][:count]

    def prompt(self, problem: Problem) -> list[dict[str, str]]:
        """Chat messages: `config.shots` solved training questions as turns, then the question."""
        shots = (p for p in self._splits["train"] if p.question != problem.question)
        few = itertools.islice(shots, self.config.shots)
        return chat(problem.question, ((p.question, p.meta["solution"], p.answer) for p in few))

    def grade(self, problem: Problem, completion: str) -> str:
        """Compare the final answer with the reference; what is not right may be equal LaTeX (math-verify)."""
        grade = grade_answer(completion, problem.answer)
        answer = final_answer(completion, numeric=False)
        if (
            grade == RIGHT
            or answer is None
            or not _is_latex(problem.answer + answer)
            or not _has_math_verify()
        ):
            return grade
        try:
            return RIGHT if _latex().call(problem.answer, answer) else grade
        except GraderFailure:
            return GRADER_ERROR


def _is_latex(text: str) -> bool:
    return any(sign in text for sign in "\\^_")


def _has_math_verify() -> bool:
    return importlib.util.find_spec("math_verify") is not None


@functools.cache
def _latex() -> Bounded:
    return Bounded("fr.tasks.latex:equivalent")


def _problem(where: str, name: str, record: dict) -> tuple[Problem, str]:
    question, answer = _field(where, record, "question"), _field(where, record, "answer")
    solution, reference = _reference(answer)
    if not reference:
        raise UserError(f"{where}: field 'answer' ends without an answer; write it after ####")
    split = record.get("split") or split_of(question)
    split = _ALIASES.get(split, split)
    if split not in SPLITS:
        raise UserError(f"{where}: split {split!r} is not known{suggest(str(split), SPLITS)}")
    if record.get("id") is not None:
        name = str(record["id"])
    return Problem(name, question, reference, task="questions", meta={"solution": solution}), split


def _field(where: str, record: dict, name: str) -> str:
    value = record.get(name)
    # a table tool writes a missing number as NaN, which differs from itself
    if value is None or value != value:
        raise UserError(f"{where}: field {name!r} is missing; every line needs 'question' and 'answer'")
    if isinstance(value, (bool, dict, list)) or not str(value).strip():
        raise UserError(f"{where}: field {name!r} = {str(value)[:60]!r} must be a text or a number")
    return str(value).strip()


def _reference(answer: str) -> tuple[str, str]:
    """(solution, reference) of an `answer` field: a solution states its answer after #### or in a box."""
    if "####" in answer:
        solution, _, reference = answer.rpartition("####")
        return solution.strip(), reference.strip()
    if "\\boxed" in answer:
        return answer, final_answer(answer, numeric=False) or ""
    return "", answer


def _records(path: str) -> Iterator[tuple[int, dict]]:
    """(line, record) of every question; numbers arrive as they are written."""
    if not path:
        raise UserError("config.task.path is empty; the task 'questions' needs a .jsonl or .parquet file")
    file = epath.Path(path)
    readers = {".jsonl": _json_lines, ".parquet": _parquet}
    if file.suffix not in readers:
        raise UserError(f"config.task.path = {path!r} must end in .jsonl or .parquet")
    try:
        records = list(readers[file.suffix](file))
    except OSError as error:
        raise UserError(f"config.task.path = {path!r}: {error.strerror or 'cannot be read'}") from error
    if not records:
        raise UserError(f"{path} is empty; it must have a question on every line")
    yield from records


def _json_lines(file: epath.Path) -> Iterator[tuple[int, dict]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start})") from error
    # only \n ends a line: JSON texts may hold other separators as they are
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{file}:{number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_int=str, parse_float=str)
        except ValueError as error:
            raise UserError(f"{where}: is not JSON ({error}); every line must be one object") from error
        if not isinstance(record, dict):
            raise UserError(f'{where}: is not a JSON object; write {{"question": ..., "answer": ...}}')
        yield number, record


def _parquet(file: epath.Path) -> Iterator[tuple[int, dict]]:
    try:
        with file.open("rb") as source:
            table = pq.read_table(source)
    except pa.ArrowInvalid as error:
        raise UserError(f"{file} is no Parquet file") from error
    columns = [name for name in ("id", "question", "answer", "split") if name in table.column_names]
    yield from enumerate(table.select(columns).to_pylist(), 1)
