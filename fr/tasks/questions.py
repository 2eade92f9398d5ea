"""Questions that are read, not made: what such tasks share, and files of a user's own."""

import itertools
from collections.abc import Iterable

from etils import epath

from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks.base import TASKS
from fr.tasks.chat import chat
from fr.tasks.extract import final_answer
from fr.tasks.graders import grade_math
from fr.tasks.records import read_records, texts
from fr.tasks.splits import SPLITS, split_of
from fr.types import Problem

_ALIASES = {"valid": "validation", "val": "validation", "dev": "validation"}


class QuestionTask:
    """A task over questions in their files' order; `found` are (file:line, split, problem), `source` names them.

    A problem's `meta["solution"]` is what a worked example shows. Raises UserError for an id that comes twice.
    """

    def __init__(self, config: TaskConfig, source: str, found: Iterable[tuple[str, str, Problem]]):
        self.config, self.source = config, source
        self._splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
        seen: dict[str, str] = {}
        for where, split, problem in found:
            if problem.id in seen:
                raise UserError(f"{where}: id {problem.id!r} is taken by {seen[problem.id]}; ids must differ")
            seen[problem.id] = where
            self._splits[split].append(problem)
        if len(self._splits["train"]) < config.shots:
            raise UserError(
                f"config.task.shots = {config.shots} is more than the {len(self._splits['train'])} training "
                f"questions of {source}; lower it"
            )

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """The first `count` problems of a split in their order; all of them if None."""
        if not self._splits.get(split):
            sizes = ", ".join(f"{name} {len(problems)}" for name, problems in self._splits.items())
            raise UserError(
                f"{self.source} has no question for config.task.split = {split!r}; it has: {sizes}"
            )
        return self._splits[split][:count]

    def prompt(self, problem: Problem) -> list[dict[str, str]]:
        """Chat messages: `config.shots` solved training questions as turns, then the question."""
        shots = (p for p in self._splits["train"] if p.question != problem.question)
        few = itertools.islice(shots, self.config.shots)
        return chat(problem.question, ((p.question, p.meta["solution"], p.answer) for p in few))

    def grade(self, problem: Problem, completion: str) -> str:
        """Grade the final answer by value, by words or as LaTeX (`grade_math`)."""
        return grade_math(completion, problem.answer)


@TASKS.register("questions")
class Questions(QuestionTask):
    """The file `config.path`: `question`, `answer` and, if wanted, `id` and `split`; else a question's hash decides.

    A reference may be a worked solution that ends with `#### 7` or a last `\\boxed{7}`. Raises UserError for
    a file that cannot be read, naming the line and the field.
    """

    def __init__(self, config: TaskConfig):
        if not config.path:
            raise UserError("config.task.path is empty; the task 'questions' needs a file of questions")
        stem = epath.Path(config.path).stem
        records = read_records(config.path)
        found = (_problem(where, f"{stem}-{number}", record) for where, number, record in records)
        super().__init__(config, config.path, found)


def reference_of(where: str, answer: str) -> tuple[str, str]:
    """(solution, reference) of an `answer` field: a solution states its answer after #### or in a last box."""
    solution, reference = "", answer
    if "####" in answer:
        solution, _, reference = map(str.strip, answer.rpartition("####"))
    elif "\\boxed" in answer:
        solution, reference = answer, final_answer(answer, numeric=False)
    if not reference:
        raise UserError(f"{where}: field 'answer' ends without an answer; write it after ####")
    return solution, reference


def _problem(where: str, name: str, record: dict) -> tuple[str, str, Problem]:
    question, answer = texts(where, record, ("question", "answer"))
    solution, reference = reference_of(where, answer)
    split = record.get("split") or split_of(question)
    split = _ALIASES.get(split, split)
    if split not in SPLITS:
        raise UserError(f"{where}: split {split!r} is not known{suggest(str(split), SPLITS)}")
    if record.get("id") is not None:
        name = str(record["id"])
    return where, split, Problem(name, question, reference, task="questions", meta={"solution": solution})
