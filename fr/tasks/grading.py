"""Grades of attempts: exact comparison of the final answer with the reference; many attempts at once."""

from concurrent.futures import ThreadPoolExecutor

from absl import logging

from fr.tasks.base import Task
from fr.tasks.extract import exact_number, final_answer, is_percentage, normalised, stated_number
from fr.types import GRADER_ERROR, GRADES, RIGHT, UNPARSED, WRONG, Problem

_BOOLEANS = ("yes", "no", "true", "false")
_THREADS = 8  # they only wait for grader processes; graders of our own share one thread's time


def grade_answer(completion: str, reference: str) -> str:
    """Grade the final answer of the new text `completion` against `reference`, by value if that is a number.

    Numbers are compared as exact rationals, a percentage also as its hundredth; text normalised.
    """
    number = exact_number(reference)
    answer = final_answer(completion, numeric=number is not None)
    if answer is None:
        return UNPARSED
    if number is None:
        return RIGHT if _same_text(answer, reference) else WRONG
    stated = stated_number(answer)
    if stated is None:
        return UNPARSED
    return RIGHT if _same_number(number, (stated, is_percentage(answer))) else WRONG


def grade_all(task: Task, attempts: list[tuple[Problem, str]]) -> list[str]:
    """The grades of (problem, completion) pairs, in order; a completion is the new text of an attempt only.

    An exception in a grader, or a grade that does not exist, is a `grader_error`, never `wrong`; each is
    logged.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda attempt: _grade(task, *attempt), attempts))


def _grade(task: Task, problem: Problem, completion: str) -> str:
    try:
        grade = task.grade(problem, completion)
    except Exception as error:  # whatever it is, the attempt was not judged
        logging.error("grader of %s failed: %s: %s", problem.id, type(error).__name__, error)
        return GRADER_ERROR
    if grade not in GRADES:
        logging.error("grader of %s gave %r, which is no grade", problem.id, grade)
        return GRADER_ERROR
    return grade


def _same_number(a, b) -> bool:
    (x, x_percent), (y, y_percent) = a, b
    if x == y:
        return True
    return x_percent != y_percent and (x == 100 * y if x_percent else 100 * x == y)


def _same_text(answer: str, reference: str) -> bool:
    wanted = normalised(reference)
    forms = [answer, answer.partition(". ")[0]]
    if wanted in _BOOLEANS:
        forms.append(answer.partition(",")[0])
    return any(normalised(form) == wanted for form in forms)
