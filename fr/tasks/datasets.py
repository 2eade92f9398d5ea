"""Data sets of the model hub by name, a row of one table each; or a local copy at `config.task.path`.

What they call their test questions is the test split, whole. Training questions of their own are split again by
hash, a tenth for validation; a set without any cannot be trained on by mistake.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from etils import epath

from fr.config import TaskConfig
from fr.errors import UserError, first_line
from fr.tasks import extract
from fr.tasks.base import TASKS, digest, split_of
from fr.tasks.graders import LETTERS, grade_letter, grade_literal
from fr.tasks.grading import grade_answer
from fr.tasks.questions import QuestionTask, reference_of
from fr.tasks.records import read_records, texts
from fr.tasks.worked import WORKED
from fr.types import Problem


class HubSet(NamedTuple):
    """A data set: where it lies, what its records hold, how they are read and how answers are graded."""

    repository: str
    files: dict[str, str]  # by split: path in the repository
    fields: tuple[str, ...]  # of every record
    read: Callable[
        ..., tuple[str, str, str, str]
    ]  # where, *fields -> id or "", question, solution, reference
    kind: str = extract.MATH  # of its answers


_GRADE = {
    extract.MATH: grade_answer,
    extract.LETTER: grade_letter,
    extract.LITERAL: grade_literal,
}


def _gsm8k(where: str, question: str, answer: str):
    solution, reference = reference_of(where, answer)
    # annotations for a calculator that nobody calls here
    return "", question, re.sub(r"<<[^<>]*>>", "", solution), reference


def _math(where: str, name: str, question: str, solution: str, answer: str):
    return name, question, solution, answer


def _cruxeval(where: str, name: str, code: str, given: str, output: str):
    return (
        name,
        f"What does f({given}) return? Give the value as a Python literal.\n\n{code}",
        "",
        output,
    )


def _gpqa(where: str, name: str, question: str, *options: str):
    """The right option is the first; which letter it gets is decided by a hash of the record."""
    order = sorted(range(len(options)), key=lambda i: digest(f"{name} {i}"))
    lines = [f"{letter}) {options[i]}" for letter, i in zip(LETTERS, order)]
    asked = "Which of these is right? Answer with its letter."
    return name, "\n".join([question, "", asked, *lines]), "", LETTERS[order.index(0)]


SETS = {
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
        extract.LITERAL,
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
        extract.LETTER,
    ),
}


class HubTask(QuestionTask):
    """The data set `name` of SETS. Raises UserError where it cannot be had, and for a record that lacks a field."""

    def __init__(self, name: str, config: TaskConfig):
        self.kind = SETS[name].kind
        source = config.path or SETS[name].repository
        worked = (
            Problem(f"worked-{i}", q, a, name, {"solution": s})
            for i, (q, s, a) in enumerate(WORKED[name])
        )
        super().__init__(config, source, _problems(name, config.path), tuple(worked))

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Grade the final answer as the set's own kind of answer."""
        return _GRADE[SETS[problem.task].kind](completion, problem.answer)


for _name in SETS:
    TASKS.register(_name)(functools.partial(HubTask, _name))


def _problems(name: str, path: str) -> Iterator[tuple[str, str, Problem]]:
    """(file:line, split, problem) of every record."""
    known = SETS[name]
    for part, file in _files(name, path).items():
        for where, number, record in read_records(file, known.fields):
            own, question, solution, reference = known.read(
                where, *texts(where, record, known.fields)
            )
            held = part == "train" and split_of(question) == "validation"
            key = f"{name}-{own or f'{part}-{number}'}"
            problem = Problem(
                key, question, reference, task=name, meta={"solution": solution}
            )
            yield where, "validation" if held else part, problem


def _files(name: str, path: str) -> dict[str, str | epath.Path]:
    """The files of a set by split: those of a folder that mirrors the repository, one file, or the hub's."""
    wanted = SETS[name].files
    if not path:
        return {part: _fetch(name, file) for part, file in wanted.items()}
    place = epath.Path(path)
    if not place.is_dir():
        # the one file may be that of either split, and is called by it
        return {
            "train"
            if "train" in wanted and place.name.startswith("train")
            else "test": place
        }
    here = {
        part: place / file for part, file in wanted.items() if (place / file).exists()
    }
    if not here:
        raise UserError(
            f"config.task.path = {path!r} holds no {' or '.join(wanted.values())}; "
            f"give one file of {SETS[name].repository}, or a folder with its files"
        )
    return here


def _fetch(name: str, file: str) -> str:
    from huggingface_hub import hf_hub_download

    repository = SETS[name].repository
    try:
        return hf_hub_download(repository, file, repo_type="dataset")
    # The hub's errors share no base, and its HTTP library's come through.
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"config.task.name = {name!r}: {repository} cannot be had from the hub ({why}); "
            "give a copy of it by --config.task.path="
        ) from error
