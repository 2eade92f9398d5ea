"""Tasks over files of questions: the shared base, and files of a user's own."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

from fr import distributed
from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks.boxed import boxed_parts
from fr.tasks.grading import grade_answer
from fr.tasks.markers import MATH
from fr.tasks.records import check_id, read_records, text_fields
from fr.tasks.reference_checks import check_references
from fr.tasks.task import SPLITS, TASKS, build_prompt, split_by
from fr.types import Problem, Prompt

_ALIASES = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}

Sourced = tuple[str, str, Problem]  # file:line, split, problem


class QuestionTask:
    """A task over questions in the order of their files.

    A worked example shows the problem's `meta["solution"]`. Examples come from
    `config.examples`, else from the training split, else from `examples`.

    Args:
        config: Settings of the task.
        source: Name of the files, for messages.
        found: (file:line, split, problem) of every question.
        examples: Worked examples for a set without training questions.

    Raises:
        UserError: An id comes twice, a reference is not graded right as the answer, or
            there are fewer examples than `config.shots`.
    """

    kind = MATH  # of the answers

    def __init__(
        self,
        config: TaskConfig,
        source: str,
        found: Iterable[Sourced],
        examples: Sequence[Problem] = (),
    ):
        self.config, self.source = config, source
        self._splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
        seen: dict[str, str] = {}
        for where, split, problem in found:
            if check_id(where, problem.id) in seen:
                raise UserError(
                    f"{where}: id {problem.id!r} is taken by {seen[problem.id]}; "
                    "ids must differ"
                )
            seen[problem.id] = where
            self._splits[split].append(problem)
        everything = itertools.chain.from_iterable(self._splits.values())
        check_references(
            self.kind, [(seen[problem.id], problem.answer) for problem in everything]
        )
        self._shots = self._examples(examples) if config.shots else []

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of a split in the order of their files.

        Args:
            split: One of `task.SPLITS`.
            count: Number of problems, from the first; None: all of them.

        Returns:
            At most `count` problems.

        Raises:
            UserError: The split has no question.
        """
        if not self._splits.get(split):
            raise UserError(
                f"{self.source} has no question for config.task.split = {split!r}; "
                f"it has: {self.sizes()}{self.remedy(split)}"
            )
        return self._splits[split][:count]

    def sizes(self) -> str:
        """Number of questions of each split, for messages."""
        return ", ".join(
            f"{name} {len(problems)}" for name, problems in self._splits.items()
        )

    def remedy(self, split: str) -> str:
        """End of the error about a split without questions.

        Args:
            split: Name of the split.

        Returns:
            The advice, or "".
        """
        return ""

    def prompt(self, problem: Problem) -> Prompt:
        """Prompt of a problem: `config.shots` worked examples, then it.

        Args:
            problem: A problem of this task.

        Returns:
            Text or messages.
        """
        others = (p for p in self._shots if p.question != problem.question)
        few = itertools.islice(others, self.config.shots)
        shots = ((p.question, p.meta["solution"], p.answer) for p in few)
        return build_prompt(self.config, problem.question, shots)

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Grade the final answer by value or by words (`grade_answer`).

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt.

        Returns:
            One of `fr.types.GRADES`.
        """
        return grade_answer(completion, problem.answer)

    def _examples(self, others: Sequence[Problem]) -> Sequence[Problem]:
        """Worked examples, one more than shown: no question is its own example."""
        wanted = self.config.shots
        if self.config.examples:
            read = _read(self.config, self.config.examples)
            given = [problem for _, _, problem in read][: wanted + 1]
            kind = "questions of config.task.examples ="
            source = f"{len(given)} {kind} {self.config.examples!r}"
        else:
            train = self._splits["train"][: wanted + 1]
            own = len(train) >= wanted or not others
            given = train if own else list(others[: wanted + 1])
            kind = "training questions of" if own else "examples that are known for"
            source = f"{len(given)} {kind} {self.source}"
        if len(given) < wanted:
            raise UserError(
                f"config.task.shots = {wanted} is more than the {source}; lower it, or "
                "give a file of examples by config.task.examples"
            )
        return given


@TASKS.register("questions")
class Questions(QuestionTask):
    """The file `config.path`: a question, its answer, perhaps id and split per line.

    A reference may be a worked solution that ends with `#### 7` or a last `\\boxed{7}`.
    If no line has a split, all questions are `test`, or `config.split_shares` divides
    them by a hash of each question. A file that cannot be read raises UserError with
    the line and the field.
    """

    def __init__(self, config: TaskConfig):
        if not config.path:
            raise UserError(
                "config.task.path is empty; the task 'questions' needs a file of "
                "questions"
            )
        found = list(_read(config, config.path))
        divided, self._why = _divided(config, found)
        super().__init__(config, config.path, divided)
        distributed.print0(f"{config.path}: {self.sizes()} ({self._why})")

    def remedy(self, split: str) -> str:
        """The division of the questions, and ways to give a split some of them.

        Args:
            split: Name of the split.

        Returns:
            The advice.
        """
        return (
            f" ({self._why}); set config.task.split_shares=(0.8,0.1,0.1) to divide "
            "questions without a split by hash, or write "
            f"{self.config.split_field!r}: {split!r} into their lines"
        )


def split_solution(where: str, answer: str) -> tuple[str, str]:
    """Split an `answer` field that may hold a whole solution.

    Args:
        where: `file:line`, for messages.
        answer: The field; a solution states its answer after #### or in a last box.

    Returns:
        (solution or "", reference).

    Raises:
        UserError: No answer follows ####.
    """
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


def _read(config: TaskConfig, path: str) -> Iterator[Sourced]:
    """The questions of a file, with the split that each states, or ""."""
    stem, asked = epath.Path(path).stem, (config.question_field, config.answer_field)
    for where, number, record in read_records(
        path, (*asked, config.id_field, config.split_field)
    ):
        question, answer = text_fields(where, record, asked)
        solution, reference = split_solution(where, answer)
        name, split = f"{stem}-{number}", ""
        if record.get(config.id_field) is not None:
            (name,) = text_fields(where, record, (config.id_field,))
        if record.get(config.split_field) is not None:
            (given,) = text_fields(where, record, (config.split_field,))
            split = _ALIASES.get(given.casefold(), given.casefold())
            if split not in SPLITS:
                raise UserError(
                    f"{where}: split {given[:60]!r} is not known"
                    f"{suggest(given, SPLITS)}"
                )
        yield (
            where,
            split,
            Problem(name, question, reference, "questions", {"solution": solution}),
        )


def _divided(config: TaskConfig, found: Sequence[Sourced]) -> tuple[list[Sourced], str]:
    """The questions, each with a split, and the reason for their division."""
    field, shares = config.split_field, config.split_shares
    without = [where for where, split, _ in found if not split]
    if not without:
        return list(found), f"by their field {field!r}"
    if shares:
        divided = [
            (w, split or split_by(p.question, shares), p) for w, split, p in found
        ]
        which = "all" if len(without) == len(found) else f"{len(without)} of them"
        why = f"{which} by a hash of the question, config.task.split_shares = {shares}"
        return divided, why
    if len(without) < len(found):
        raise UserError(
            f"{without[0]}: has no field {field!r}, and other lines have one; write it "
            "into every line, or set config.task.split_shares=(0.8,0.1,0.1) to divide "
            "those without"
        )
    why = f"no line has a field {field!r}, so all are test"
    return [(w, "test", p) for w, _, p in found], why
