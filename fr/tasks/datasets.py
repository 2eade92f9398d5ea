"""Data sets of the model hub by name, or from a local copy at `config.task.path`.

The test questions of a set are the whole test split. A hash splits its training
questions again, a tenth for validation. A set without training questions cannot be
trained on by mistake.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from etils import epath

from fr.config import TaskConfig
from fr.errors import UserError, first_line
from fr.tasks.grading import GRADERS
from fr.tasks.markers import LETTER, LETTERS, LITERAL, MATH
from fr.tasks.questions import QuestionTask, split_solution
from fr.tasks.records import read_records, text_fields
from fr.tasks.task import TASKS, split_of, stable_hash
from fr.tasks.worked_examples import WORKED
from fr.types import Problem


class HubSet(NamedTuple):
    """A data set: its files, the fields of its records and the kind of its answers."""

    repository: str  # its name on the hub
    files: dict[str, str]  # split -> path in the repository
    fields: tuple[str, ...]  # of every record
    # (where, *fields) -> (id or "", question, solution, reference)
    read: Callable[..., tuple[str, str, str, str]]
    kind: str = MATH  # of its answers


_Record = tuple[str, str, str, str]


def _gsm8k(where: str, question: str, answer: str) -> _Record:
    solution, reference = split_solution(where, answer)
    # annotations for a calculator tool
    return "", question, re.sub(r"<<[^<>]*>>", "", solution), reference


def _math(where: str, name: str, question: str, solution: str, answer: str) -> _Record:
    return name, question, solution, answer


def _cruxeval(where: str, name: str, code: str, given: str, output: str) -> _Record:
    asked = f"What does f({given}) return? Give the value as a Python literal."
    return name, f"{asked}\n\n{code}", "", output


def _gpqa(where: str, name: str, question: str, *options: str) -> _Record:
    """The right option is the first one; a hash of the record decides its letter."""
    order = sorted(range(len(options)), key=lambda i: stable_hash(f"{name} {i}"))
    lines = [f"{letter}) {options[i]}" for letter, i in zip(LETTERS, order)]
    asked = "Which of these is right? Answer with its letter."
    return name, "\n".join([question, "", asked, *lines]), "", LETTERS[order.index(0)]


HUB_SETS = {
    # arXiv 2110.14168
    "gsm8k": HubSet(
        "openai/gsm8k",
        {
            "train": "main/train-00000-of-00001.parquet",
            "test": "main/test-00000-of-00001.parquet",
        },
        ("question", "answer"),
        _gsm8k,
    ),
    # the 500 problems of arXiv 2305.20050
    "math500": HubSet(
        "HuggingFaceH4/MATH-500",
        {"test": "test.jsonl"},
        ("unique_id", "problem", "solution", "answer"),
        _math,
    ),
    # output prediction (arXiv 2401.03065)
    "cruxeval": HubSet(
        "cruxeval-org/cruxeval",
        {"test": "test.jsonl"},
        ("id", "code", "input", "output"),
        _cruxeval,
        LITERAL,
    ),
    # diamond (arXiv 2311.12022); gated: the hub wants its terms accepted and a token
    "gpqa": HubSet(
        "Idavidrein/gpqa",
        {"test": "gpqa_diamond.csv"},
        (
            "Record ID",
            "Question",
            "Correct Answer",
            *(f"Incorrect Answer {i}" for i in (1, 2, 3)),
        ),
        _gpqa,
        LETTER,
    ),
}


class HubTask(QuestionTask):
    """A data set of `HUB_SETS` as a task.

    A set that cannot be fetched and a record that lacks a field raise UserError.
    """

    def __init__(self, name: str, config: TaskConfig):
        self.kind = HUB_SETS[name].kind
        source = config.path or HUB_SETS[name].repository
        worked = (
            Problem(f"worked-{i}", q, a, name, {"solution": s})
            for i, (q, s, a) in enumerate(WORKED[name])
        )
        super().__init__(config, source, _problems(name, config.path), tuple(worked))

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Grade the final answer by the grader of the set's kind of answers.

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt.

        Returns:
            One of `fr.types.GRADES`.
        """
        return GRADERS[HUB_SETS[problem.task].kind](completion, problem.answer)


for _name in HUB_SETS:
    TASKS.register(_name)(functools.partial(HubTask, _name))


def _problems(name: str, path: str) -> Iterator[tuple[str, str, Problem]]:
    """(file:line, split, problem) of every record."""
    known = HUB_SETS[name]
    for part, file in _files(name, path).items():
        for where, number, record in read_records(file, known.fields):
            own, question, solution, reference = known.read(
                where, *text_fields(where, record, known.fields)
            )
            held = part == "train" and split_of(question) == "validation"
            key = f"{name}-{own or f'{part}-{number}'}"
            problem = Problem(
                key, question, reference, task=name, meta={"solution": solution}
            )
            yield where, "validation" if held else part, problem


def _files(name: str, path: str) -> dict[str, str | epath.Path]:
    """Files of a set by split: of the hub, one file, or a copy of the repository."""
    wanted = HUB_SETS[name].files
    if not path:
        return {part: _fetch(name, file) for part, file in wanted.items()}
    place = epath.Path(path)
    if not place.is_dir():
        # the name of one file tells its split
        train = "train" in wanted and place.name.startswith("train")
        return {"train" if train else "test": place}
    here: dict[str, str | epath.Path] = {
        part: place / file for part, file in wanted.items() if (place / file).exists()
    }
    if not here:
        raise UserError(
            f"config.task.path = {path!r} holds no {' or '.join(wanted.values())}; "
            f"give one file of {HUB_SETS[name].repository}, or a folder with its files"
        )
    return here


def _fetch(name: str, file: str) -> str:
    from huggingface_hub import hf_hub_download

    repository = HUB_SETS[name].repository
    try:
        return hf_hub_download(repository, file, repo_type="dataset")
    # The hub's errors share no base, and its HTTP library's come through.
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"config.task.name = {name!r}: {repository} cannot be had from the hub "
            f"({why}); give a copy of it by --config.task.path="
        ) from error
