"""Grades of tricky answers, and graders that raise, hang or die."""

import os
import subprocess
import sys
import time

import pytest

from fr.config import TaskConfig
from fr.tasks import make
from fr.tasks.bounded import Bounded, GraderFailure
from fr.tasks.extract import MAX_CHARACTERS
from fr.tasks.grading import grade_all, grade_answer
from fr.types import GRADER_ERROR, RIGHT, UNPARSED, WRONG, Problem

# (completion, reference): what was seen in model output, and what must not pass for an answer
AUDIT = {
    RIGHT: [
        # where an answer may stand
        ("Answer: 7", "7"),
        ("Answer:\n7", "7"),
        ("Answer:\n\n  7.", "7"),
        ("answer : 7", "7"),
        ("ANSWER = 7", "7"),
        ("**Answer: 7**", "7"),
        ("**Answer:** 7", "7"),
        ("Answer: **7**", "7"),
        ("The answer is 7.", "7"),
        ("the correct answer is 7 dollars", "7"),
        ("The final answer is: $\\boxed{7}$.", "7"),
        ("Answer: \\(7\\)", "7"),
        ("Answer: $7$", "7"),
        ("#### 7", "7"),
        ("so\n#### 1,234", "1234"),
        ("Answer: 7<|im_end|>", "7"),
        ("7", "7"),
        ("3 + 4 = 7", "7"),
        ("So 3 + 4 = 7 apples.", "7"),
        # boxes
        ("\\boxed{840} and again \\boxed{840}", "840"),
        ("\\boxed{\\frac{1}{2}}", "1/2"),
        ("\\boxed{\\text{7 apples}}", "7"),
        ("\\boxed{x = {7}}", "7"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        # which of several
        ("Answer: 7\nWait, that is wrong.\nAnswer: 8", "8"),
        ("Answer: 7\n\nThe answer is correct.", "7"),
        ("Answer: 7\nAnswer:", "7"),
        ("#### Step 1: add\n3 + 4 = 7\nAnswer: 7", "7"),
        ("Answer: 7\n#### 3. Check the result", "7"),
        ("Answer: 7\n\nQuestion: What is 5 + 5?\nAnswer: 10", "7"),
        ("Answer: 7\nUser: and 5 + 5?\nAnswer: 10", "7"),
        ("Question: what is 3 + 4?\nAnswer: 7", "7"),
        # how a number may be written
        ("Answer: 3 + 4 = 7", "7"),
        ("Answer: x = 7", "7"),
        ("Answer: 1,234,567", "1234567"),
        ("Answer: 1{,}234", "1234"),
        ("Answer: 1\\,234", "1234"),
        ("Answer: $1,250.50", "1250.5"),
        ("Answer: \\$18", "18"),
        ("Answer: 7$", "7"),
        ("Answer: $5 each", "5"),
        ("Answer: £3", "3"),
        ("Answer: -$5", "-5"),
        ("Answer: $-5$", "-5"),
        ("Answer: \u22125", "-5"),
        ("Answer: +7", "7"),
        ("Answer: 007", "7"),
        ("Answer: 7.0", "7"),
        ("Answer: 5.", "5"),
        ("Answer: .5", "1/2"),
        ("Answer: 0.50", "1/2"),
        ("Answer: 2 1/2", "5/2"),
        ("Answer: 2½", "5/2"),
        ("Answer: 1 / 2", "0.5"),
        ("Answer: \\dfrac{3}{4}", "0.75"),
        ("Answer: -\\frac12", "-0.5"),
        ("Answer: 50%", "50%"),
        ("Answer: 50\\%", "50"),
        ("Answer: 0.5", "50%"),
        ("Answer: 50 %", "0.5"),
        ("Answer: 1e3", "1000"),
        ("Answer: 3 \\times 10^{2}", "300"),
        ("Answer: 12 apples.", "12"),
        ("Answer: 12km", "12"),
        ("Answer: 45^\\circ", "45"),
        ("Answer: There are 12 apples left.", "12"),
        ("Answer: 7 (seven)", "7"),
        ("Answer: 7, since 3 + 4 is 7", "7"),
        ("Answer: 7 I think", "7"),
        # text
        ("Answer: paris.", "Paris"),
        ('Answer:\n"Paris"', "Paris"),
        ("The answer is **Paris**. It is the capital.", "Paris"),
        ("Answer: the Moon", "Moon"),
        ("Paris", "Paris"),
        ("Answer: Yes, because", "yes"),
        ("Answer: (1, 2)", "(1, 2)"),
        ("Answer: \\frac{\\sqrt{3}}{2}", "\\dfrac{\\sqrt{3}}{2}"),
    ],
    WRONG: [
        ("Answer: 70", "7"),
        ("Answer: 7.5", "7"),
        ("Answer: -7", "7"),
        ("Answer: 1,234", "1.234"),
        ("Answer: 0.333", "1/3"),
        ("Answer: 0.5%", "50%"),
        ("Answer: 0.5", "50"),
        ("\\boxed{840}\\boxed{840}", "840840"),
        ("\\boxed{1} no, \\boxed{2}", "1"),
        ("The answer is not 7.\nAnswer: 8", "7"),
        ("Answer: London", "Paris"),
        ("Answer: Paris, Texas", "Paris"),
        ("Answer: No", "yes"),
        ("Answer: 7", "seven"),
    ],
    UNPARSED: [
        ("", "7"),
        ("   ", "7"),
        ("Answer: ", "7"),
        ("Answer: ", "Paris"),
        ("Answer: N", "7"),
        ("I think it is hard", "7"),
        ("Thinking\nabout 12 things", "12"),
        ("No answer\nin these lines.", "Paris"),
        ("The answer is not 7", "7"),
        ("\\boxed{84", "840"),
        # ambiguous, or an expression that nobody here evaluates
        ("Answer: 7 or 8", "7"),
        ("Answer: 7, 8", "7"),
        ("Answer: 7 and 8", "8"),
        ("Answer: 5-6", "5"),
        ("Answer: 1,5", "1"),
        ("Answer: 12 345", "12"),
        ("Answer: 12:30", "12"),
        ("Answer: 1.2.3", "1.2"),
        ("Answer: 7/2/3", "3.5"),
        ("Answer: 3 + 4", "7"),
        ("Answer: 3 + 4", "4"),
        ("Answer: 2x", "2"),
        ("Answer: 2\\sqrt{3}", "2"),
        ("Answer: 10^2", "10"),
        ("Answer: 3/0", "0"),
        ("Answer: __import__('os')", "0"),
        # would fill the memory if it were computed
        ("Answer: 1e999999999", "1"),
        ("Answer: " + "9" * 5000, "9"),
    ],
}


@pytest.mark.parametrize("grade", AUDIT)
def test_audit(grade):
    wrong = [(c[:60], r, got) for c, r in AUDIT[grade] if (got := grade_answer(c, r)) != grade]
    assert not wrong


@pytest.mark.parametrize(
    "unit", ["Answer: ", "\\boxed{", "1/", "9", "1,111", "####\n", "the answer is x ", " "]
)
def test_time_is_bounded_by_the_length(unit):
    start = time.process_time()
    grade_answer(unit * (2 * MAX_CHARACTERS // len(unit)), "7")
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", ["sums", "gcd", "letters", "word_problems"])
def test_worked_examples_of_the_prompt_are_never_graded(name):
    task = make(TaskConfig(name=name, shots=2))
    for problem in task.problems("test", 20):
        assert task.grade(problem, "") == UNPARSED
        assert task.grade(problem, "I do not know,\nit is hard.") == UNPARSED
        assert task.grade(problem, f"{problem.meta['chain']}\nAnswer: {problem.answer}") == RIGHT


# --- graders that fail ---

GRADERS = """
import os, time

def hang(text):
    time.sleep(1000)

def once(path):
    "Hangs at the first call only."
    if not os.path.exists(path):
        open(path, "w").close()
        time.sleep(1000)
    return "right"

def die(text):
    os._exit(3)

def explode(text):
    raise ZeroDivisionError(text)

def chatty(text):
    print("noise on stdout")
    return "wrong"

def modules(text):
    import sys
    return "jax" in sys.modules or "flax" in sys.modules

def memory(text):
    return len(bytearray(8 << 30))
"""


@pytest.fixture
def graders(tmp_path, monkeypatch):
    (tmp_path / "odd_graders.py").write_text(GRADERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make_one(name, seconds=20.0):
        made.append(Bounded(f"odd_graders:{name}", seconds, workers=1))
        return made[-1]

    yield make_one
    for bounded in made:
        bounded.close()


PROBLEM = Problem("p", "?", "7", "t")


class Odd:
    """A task whose grader is somebody else's code."""

    def __init__(self, grader):
        self.grader = grader

    def grade(self, problem, completion):
        """Ask the grader."""
        return self.grader(completion)


def test_hanging_grader_is_a_grader_error_after_one_retry(graders):
    bounded = graders("hang", seconds=0.3)
    start = time.monotonic()
    assert grade_all(Odd(bounded.call), [(PROBLEM, "a"), (PROBLEM, "b")]) == [GRADER_ERROR, GRADER_ERROR]
    assert time.monotonic() - start < 60


def test_time_out_is_tried_again(graders, tmp_path):
    # the first call writes its mark within the limit, which must leave room for a busy machine
    assert graders("once", seconds=3).call(str(tmp_path / "mark")) == "right"


def test_dead_worker_does_not_hang_the_pool(graders):
    bounded = graders("die")
    for _ in range(2):
        with pytest.raises(GraderFailure, match="the process ended"):
            bounded.call("x")


def test_exception_is_a_grader_error_and_the_worker_lives_on(graders):
    bounded = graders("explode")
    for _ in range(2):
        with pytest.raises(GraderFailure, match="ZeroDivisionError: x"):
            bounded.call("x")

    def explode(_):
        raise RecursionError

    assert grade_all(Odd(explode), [(PROBLEM, "a")]) == [GRADER_ERROR]
    assert grade_all(Odd(bounded.call), [(PROBLEM, "a")]) == [GRADER_ERROR]


def test_a_grade_that_does_not_exist_is_a_grader_error():
    assert grade_all(Odd(lambda text: text), [(PROBLEM, g) for g in ("right", "good", "wrong")]) == [
        RIGHT,
        GRADER_ERROR,
        WRONG,
    ]


def test_unknown_grader_is_refused_and_does_not_hang():
    with pytest.raises(GraderFailure):
        Bounded("no_such_module:grade", workers=1).call("x")


def test_workers_print_what_they_like_and_import_no_jax(graders):
    assert graders("chatty").call("x") == "wrong"
    assert graders("modules").call("x") is False


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited on Linux only")
def test_runaway_memory_fails_in_the_worker(graders):
    with pytest.raises(GraderFailure, match="MemoryError"):
        graders("memory").call("x")


def test_worker_ends_with_its_parent(graders):
    bounded = graders("chatty")
    bounded.call("x")
    worker = bounded._idle.queue[0].process
    worker.stdin.close()  # what the end of the parent does
    assert worker.wait(timeout=30) == 0


def test_equal_latex_is_right_where_math_verify_is_installed(tmp_path):
    pytest.importorskip("math_verify")
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "q", "answer": "$\\\\frac{\\\\sqrt{3}}{2}$", "split": "test"}\n')
    task = make(TaskConfig(name="questions", path=os.fspath(path)))
    (problem,) = task.problems("test")
    assert grade_all(
        task, [(problem, "Answer: \\sqrt{3}/2"), (problem, "Answer: \\sqrt{2}/2"), (problem, "a\nb")]
    ) == [RIGHT, WRONG, UNPARSED]


def test_importing_the_grader_process_costs_no_jax():
    code = "import sys, fr.tasks.worker, fr.tasks.bounded; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
