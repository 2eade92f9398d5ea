"""The Countdown task: its problems, its solver and a grader that is hard to fool."""

import pytest

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks.countdown import Countdown, problem_id
from fr.tasks.countdown_rules import StepCount, step_errors, trace_steps
from fr.tasks.countdown_solver import reachable, solutions
from fr.tasks.task import TASKS
from fr.types import RIGHT, UNPARSED, WRONG, Problem

TASK = Countdown(TaskConfig())


def problem(numbers, target) -> Problem:
    meta = {"numbers": numbers, "target": target}
    return Problem(id="x", question="", answer="", task="countdown", meta=meta)


# completion -> grade, for the numbers 3, 7, 10 and the target 49
AUDIT = {
    "answer ( 10 - 3 ) * 7": RIGHT,
    "answer 7*(10-3)": RIGHT,
    "Answer: ( 10 − 3 ) × 7": RIGHT,
    "The answer is (10-3)*7.": RIGHT,
    "<answer> (10-3)*7 </answer>": RIGHT,
    "answer\n( 10 - 3 ) * 7": RIGHT,
    "answer:\n\n( 10 - 3 ) * 7\nand that is all": RIGHT,
    "answer ( 10 - 3 ) * 7 = 49": RIGHT,
    "answer 3 answer ( 10 - 3 ) * 7": RIGHT,
    "answer ((((10 - 3)))) * 7": RIGHT,
    "answer ( 10 - 3 ) * 7 = 48": WRONG,
    "answer 3 * 10 + 7": WRONG,
    "answer 7 * 7": WRONG,
    "answer ( 10 - 3 ) * 7 + 7 - 7": WRONG,
    "answer 49": WRONG,
    "answer 10 * 7 / 3": WRONG,
    "answer 3 / ( 10 - 10 )": WRONG,
    "answer 7 / 0 * 10 * 3": WRONG,
    "answer ( 10 - 3 ) * 7 answer 3": WRONG,
    "answer 999999999 * 999999999": WRONG,
    "answer 3 + 4 = 7": WRONG,
    "": UNPARSED,
    "( 10 - 3 ) * 7": UNPARSED,
    "answer": UNPARSED,
    "answer ( 10 - 3 * 7": UNPARSED,
    "answer 10 - 3 ) * 7": UNPARSED,
    "answer ( 10 - 3 ) * 7 = 49 = 49": UNPARSED,
    "answer 10 3 7": UNPARSED,
    "answer -7 * ( 3 - 10 )": UNPARSED,
    "answer 10 ** 7": UNPARSED,
    "answer 10.0 * 7": UNPARSED,
    "answer 1e3 * 7": UNPARSED,
    "answer __import__('os')": UNPARSED,
    "answer ( ٣ + 7 ) * 10": UNPARSED,
    "answer ² * 7": UNPARSED,
    "answer " + "9" * 40 + " * 7": UNPARSED,
    "answer " + "(" * 100_000 + "1" + ")" * 100_000: UNPARSED,
    "answer " + "(" * 30 + "1" + ")" * 30: UNPARSED,
    "answer " + "1 + " * 100_000 + "1": UNPARSED,
    "answer \x00": UNPARSED,
    "🙂 answer 🙂": UNPARSED,
}


@pytest.mark.parametrize("completion", AUDIT, ids=lambda text: ascii(text[:40]))
def test_audit(completion):
    assert TASK.grade(problem([3, 7, 10], 49), completion) == AUDIT[completion]


def test_rationals_are_exact():
    assert TASK.grade(problem([3, 8, 8], 3), "answer 8 / 8 * 3") == RIGHT
    # 8 / ( 3 - 8 / 3 ) = 24 goes through eight thirds.
    assert TASK.grade(problem([3, 3, 8, 8], 24), "answer 8 / ( 3 - 8 / 3 )") == RIGHT
    assert TASK.grade(problem([3, 7, 10], 23), "answer 10 * 7 / 3") == WRONG


def test_number_of_problems_and_splits():
    splits = {name: TASK.problems(name) for name in ("train", "validation", "test")}
    ids = {name: {p.id for p in problems} for name, problems in splits.items()}
    assert sum(map(len, ids.values())) == len(set().union(*ids.values())) == 2915
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [
        2354,
        288,
        273,
    ]
    # Fixed for good: results of different versions are about the same problems.
    assert [p.id for p in TASK.problems("test", 2)] == [
        "countdown-2-6-7-to-84",
        "countdown-5-5-5-to-5",
    ]
    assert TASK.problems("test", 5) == splits["test"][:5]


def test_problems_of_few_solutions_stay_in_their_split():
    few = Countdown(TaskConfig(solutions=1))
    for split in ("train", "validation", "test"):
        scarce = [
            p.id
            for p in TASK.problems(split)
            if len(solutions(tuple(p.meta["numbers"]), p.meta["target"])) == 1
        ]
        assert scarce and [p.id for p in few.problems(split)] == scarce


def test_every_problem_is_solvable_and_its_solutions_are_graded_right():
    for p in TASK.problems("test") + Countdown(TaskConfig(operands=4)).problems(
        "test", 50
    ):
        found = solutions(tuple(p.meta["numbers"]), p.meta["target"])
        assert (
            found
            and p.answer == found[0]
            and p.id == problem_id(p.meta["numbers"], p.meta["target"])
        )
        assert all(TASK.grade(p, f"answer {s}") == RIGHT for s in found)


def test_solutions_are_complete_on_a_case_by_hand():
    assert solutions((3, 7, 10), 49) == ("( 10 - 3 ) * 7", "7 * ( 10 - 3 )")
    assert solutions((1, 1, 1), 3) == ("( 1 + 1 ) + 1",)
    assert reachable((2, 1)) == {3, 2, 1}


def test_steps_and_their_arithmetic():
    text = "10 - 3 = 7 , 7 + 7 = 15 no 7 * 7 = 49 yes answer ( 10 - 3 ) * 7 = 50"
    assert step_errors(text) == StepCount(right=2, wrong=1)
    assert [(step.result, step.mark) for step in trace_steps(text)] == [
        (7, ","),
        (15, "no"),
        (49, "yes"),
    ]
    assert step_errors("7 / 0 = 7 , 7 / 2 = 3 no") == StepCount(right=0, wrong=2)
    assert step_errors("answer 3 + 4 = 7") == StepCount(0, 0)


def test_prompt_and_shots():
    p = problem([3, 7, 10], 49)
    p = Problem(p.id, "3 7 10 -> 49 :", "", p.task, p.meta)
    assert TASKS["countdown"](TaskConfig()).prompt(p) == "3 7 10 -> 49 :"
    lines = Countdown(TaskConfig(shots=2)).prompt(p).split("\n")
    assert (
        len(lines) == 3
        and lines[-1] == "3 7 10 -> 49 :"
        and all(" answer " in line for line in lines[:2])
    )


def test_bad_settings_are_refused():
    with pytest.raises(UserError, match="largest = 100 with operands = 4"):
        Countdown(TaskConfig(operands=4, largest=100))
    with pytest.raises(UserError, match="split = 'dev'"):
        TASK.problems("dev")
