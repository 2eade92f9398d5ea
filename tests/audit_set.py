"""The audit set of graders: completions with the grade that a careful reader gives, and
fr's grade of each.
"""

import functools
import json
import pathlib
from collections.abc import Callable

FOLDER = pathlib.Path(__file__).parent / "audit"
# a reader can say no more: a hedge, or words where an answer should stand
NOT_RIGHT = "not right"


def load() -> list[dict]:
    """The records of `audit/completions.jsonl`.

    Each has `task`, `question`, `reference`, `completion`, `grade` (right, wrong,
    unparsed or NOT_RIGHT), `tag` (the kind of difficulty), `source` where a model wrote
    it, and `meta` where the grader needs it.
    """
    text = (FOLDER / "completions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def references() -> list[str]:
    """The 500 reference answers of MATH-500."""
    return json.loads((FOLDER / "math500_answers.json").read_text(encoding="utf-8"))[
        "answers"
    ]


def grade(record: dict) -> str:
    """fr's grade of a record's completion."""
    return grader(record["task"])(record)


@functools.cache
def grader(task: str) -> Callable[[dict], str]:
    """The grader of a task by its name, as a function of a record."""
    from fr.config import TaskConfig
    from fr.tasks import make
    from fr.tasks.grading import grade_answer, grade_letter, grade_literal
    from fr.types import Problem

    of_sets = {"gpqa": grade_letter, "cruxeval": grade_literal}
    of_sets |= dict.fromkeys(("questions", "gsm8k", "math500"), grade_answer)
    if task in of_sets:
        return lambda record: of_sets[task](record["completion"], record["reference"])
    made = make(TaskConfig(name=task))

    def by_task(record: dict) -> str:
        problem = Problem(
            "audit",
            record["question"],
            record["reference"],
            task,
            record.get("meta", {}),
        )
        return made.grade(problem, record["completion"])

    return by_task


def agrees(truth: str, got: str) -> bool:
    """True if a grade is the reader's; NOT_RIGHT takes both wrong and unparsed."""
    return got == truth or truth == NOT_RIGHT and got in ("wrong", "unparsed")
