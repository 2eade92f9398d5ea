"""Questions that are read, not made: what such tasks share, and files of a user's own (docs/tasks.md)."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

from fr import distributed
from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks.base import SPLITS, TASKS, ask, split_by
from fr.tasks.extract import MATH, boxed_parts
from fr.tasks.grading import grade_answer
from fr.tasks.records import check_id, read_records, texts
from fr.tasks.references import check_references
from fr.types import Problem, Prompt

_ALIASES = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}

Found = tuple[str, str, Problem]  # file:line, split, problem


class QuestionTask:
    """A task over questions in the order of their files.

    `source` names the files, `found` are their questions. A problem's `meta["solution"]` is what a worked
    example shows; examples come from `config.examples`, else from the training split, else from `examples`.
    Raises UserError for an id that comes twice, for a reference that does not grade itself right, and where
    `config.shots` examples cannot be had.
    """

    kind = MATH  # of the answers

    def __init__(
        self,
        config: TaskConfig,
        source: str,
        found: Iterable[Found],
        examples: Sequence[Problem] = (),
    ):
        self.config, self.source = config, source
        self._splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
        seen: dict[str, str] = {}
        for where, split, problem in found:
            if check_id(where, problem.id) in seen:
                raise UserError(
                    f"{where}: id {problem.id!r} is taken by {seen[problem.id]}; ids must differ"
                )
            seen[problem.id] = where
            self._splits[split].append(problem)
        everything = itertools.chain.from_iterable(self._splits.values())
        check_references(
            self.kind, [(seen[problem.id], problem.answer) for problem in everything]
        )
        self._shots = self._examples(examples) if config.shots else []

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """The first `count` problems of a split in their order; all of them if None."""
        if not self._splits.get(split):
            raise UserError(
                f"{self.source} has no question for config.task.split = {split!r}; it has: {self.sizes()}"
                f"{self.remedy(split)}"
            )
        return self._splits[split][:count]

    def sizes(self) -> str:
        """How many questions each split has, for messages."""
        return ", ".join(
            f"{name} {len(problems)}" for name, problems in self._splits.items()
        )

    def remedy(self, split: str) -> str:
        """The end of an error about a split without questions."""
        return ""

    def prompt(self, problem: Problem) -> Prompt:
        """`config.shots` worked examples, then the question."""
        others = (p for p in self._shots if p.question != problem.question)
        few = itertools.islice(others, self.config.shots)
        shots = ((p.question, p.meta["solution"], p.answer) for p in few)
        return ask(self.config, problem.question, shots)

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Grade the final answer by value or by words (`grade_answer`)."""
        return grade_answer(completion, problem.answer)

    def _examples(self, others: Sequence[Problem]) -> Sequence[Problem]:
        """Worked examples, one more than are shown: the question itself is never one of them."""
        wanted = self.config.shots
        if self.config.examples:
            read = _read(self.config, self.config.examples)
            given = [problem for _, _, problem in read][: wanted + 1]
            source = f"{len(given)} questions of config.task.examples = {self.config.examples!r}"
        else:
            train = self._splits["train"][: wanted + 1]
            given = (
                train if len(train) >= wanted or not others else others[: wanted + 1]
            )
            kind = (
                "examples that are known for"
                if given is not train and others
                else "training questions of"
            )
            source = f"{len(given)} {kind} {self.source}"
        if len(given) < wanted:
            raise UserError(
                f"config.task.shots = {wanted} is more than the {source}; lower it, or give a file of "
                "examples by config.task.examples"
            )
        return given


@TASKS.register("questions")
class Questions(QuestionTask):
    """The file `config.path`: a question and its answer a line; `id` and `split` if wanted.

    A reference may be a worked solution that ends with `#### 7` or a last `\\boxed{7}`. Where no line has a
    split, all questions are `test`, or `config.split_shares` divides them by a hash of each question. Raises
    UserError for a file that cannot be read, naming the line and the field.
    """

    def __init__(self, config: TaskConfig):
        if not config.path:
            raise UserError(
                "config.task.path is empty; the task 'questions' needs a file of questions"
            )
        found = list(_read(config, config.path))
        divided, self._why = _divided(config, found)
        super().__init__(config, config.path, divided)
        distributed.print0(f"{config.path}: {self.sizes()} ({self._why})")

    def remedy(self, split: str) -> str:
        """How the questions were divided, and what gives `split` some."""
        return (
            f" ({self._why}); set config.task.split_shares=(0.8,0.1,0.1) to divide questions without a split "
            f"by hash, or write {self.config.split_field!r}: {split!r} into their lines"
        )


def reference_of(where: str, answer: str) -> tuple[str, str]:
    """(solution, reference) of an `answer` field: a solution states its answer after #### or in a last box."""
    solution, reference = "", answer
    if "####" in answer:
        solution, _, reference = map(str.strip, answer.rpartition("####"))
    elif boxes := boxed_parts(answer):
        solution, reference = answer, ", ".join(boxes)
    if not reference:
        raise UserError(
            f"{where}: field 'answer' ends without an answer; write it after ####"
        )
    return solution, reference


def _read(config: TaskConfig, path: str) -> Iterator[Found]:
    """The questions of a file, with the split that each states; "" where it states none."""
    stem, asked = epath.Path(path).stem, (config.question_field, config.answer_field)
    for where, number, record in read_records(
        path, (*asked, config.id_field, config.split_field)
    ):
        question, answer = texts(where, record, asked)
        solution, reference = reference_of(where, answer)
        name, split = f"{stem}-{number}", ""
        if record.get(config.id_field) is not None:
            (name,) = texts(where, record, (config.id_field,))
        if record.get(config.split_field) is not None:
            (given,) = texts(where, record, (config.split_field,))
            split = _ALIASES.get(given.casefold(), given.casefold())
            if split not in SPLITS:
                raise UserError(
                    f"{where}: split {given[:60]!r} is not known{suggest(given, SPLITS)}"
                )
        yield (
            where,
            split,
            Problem(name, question, reference, "questions", {"solution": solution}),
        )


def _divided(config: TaskConfig, found: Sequence[Found]) -> tuple[list[Found], str]:
    """The questions, each with a split, and why they are divided so."""
    field, shares = config.split_field, config.split_shares
    without = [where for where, split, _ in found if not split]
    if not without:
        return list(found), f"by their field {field!r}"
    if shares:
        divided = [
            (w, split or split_by(p.question, shares), p) for w, split, p in found
        ]
        which = "all" if len(without) == len(found) else f"{len(without)} of them"
        return (
            divided,
            f"{which} by a hash of the question, config.task.split_shares = {shares}",
        )
    if len(without) < len(found):
        raise UserError(
            f"{without[0]}: has no field {field!r}, and other lines have one; write it into every line, or set "
            "config.task.split_shares=(0.8,0.1,0.1) to divide those without"
        )
    return [
        (w, "test", p) for w, _, p in found
    ], f"no line has a field {field!r}, so all are test"
