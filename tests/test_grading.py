"""Grades of tricky answers."""

import os

import pytest
from growth import assert_linear

from fr.config import TaskConfig
from fr.tasks import make
from fr.tasks.extract import MAX_CHARACTERS
from fr.tasks.grading import grade_all, grade_answer
from fr.types import RIGHT, UNPARSED, WRONG

# (completion, reference): what was seen in model output, and what must not pass for an
# answer
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
        ("Answer: 7", "seven"),
        ("Answer: forty-two apples", "42"),
        ("Answer: 12 345", "12345"),
        ("Answer: 0.1\\overline{6}", "1/6"),
        ("\\boxed{]0, 1[}", "(0,1)"),
        ("\\boxed{\\log_2 8}", "3"),
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
        ("Answer: 12 345", "12"),  # thousands parted by a blank
        ("Answer: 3 4/5", "34/5"),
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
        ("Answer: 10^2", "10"),
        ("Answer: 2\\sqrt{3}", "2"),
        ("Answer: 2x", "2"),
        ("Answer: N", "7"),
    ],
    UNPARSED: [
        ("", "7"),
        ("   ", "7"),
        ("Answer: ", "7"),
        ("Answer: ", "Paris"),
        ("I think it is hard", "7"),
        ("Thinking\nabout 12 things", "12"),
        ("No answer\nin these lines.", "Paris"),
        ("The answer is not 7", "7"),
        ("Answer: 1 8", "18"),
        ("Answer: anything but 18", "18"),
        ("\\boxed{84", "840"),
        # ambiguous, or an expression that is not evaluated here
        ("Answer: 7 or 8", "7"),
        ("Answer: 7, 8", "7"),
        ("Answer: 7 and 8", "8"),
        ("Answer: 5-6", "5"),
        ("Answer: 1,5", "1"),
        ("Answer: 12:30", "12"),
        ("Answer: 1.2.3", "1.2"),
        ("Answer: 7/2/3", "3.5"),
        ("Answer: 3 + 4", "7"),
        ("Answer: 3 + 4", "4"),
        ("Answer: 3/0", "0"),
        ("Answer: __import__('os')", "0"),
        # would fill the memory if it were computed
        ("Answer: 1e999999999", "1"),
        ("Answer: " + "9" * 5000, "9"),
    ],
}


@pytest.mark.parametrize("grade", AUDIT)
def test_audit(grade):
    wrong = [
        (c[:60], r, got)
        for c, r in AUDIT[grade]
        if (got := grade_answer(c, r)) != grade
    ]
    assert not wrong


@pytest.mark.parametrize(
    "unit",
    ["Answer: ", "\\boxed{", "1/", "9", "1,111", "####\n", "the answer is x ", " "],
)
def test_reading_a_long_text_is_linear_in_its_length(unit):
    assert_linear(lambda text: grade_answer(text, "7"), unit, MAX_CHARACTERS // 4)


@pytest.mark.parametrize("name", ["sums", "gcd", "letters", "word_problems"])
def test_worked_examples_of_the_prompt_are_never_graded(name):
    task = make(TaskConfig(name=name, shots=2))
    for problem in task.problems("test", 20):
        assert task.grade(problem, "") == UNPARSED
        assert task.grade(problem, "I do not know,\nit is hard.") == UNPARSED
        assert (
            task.grade(problem, f"{problem.meta['chain']}\nAnswer: {problem.answer}")
            == RIGHT
        )


def test_formulas_are_right_where_they_are_equal(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"question": "q", "answer": "$\\\\frac{\\\\sqrt{3}}{2}$", "split": "test"}\n'
    )
    task = make(TaskConfig(name="questions", path=os.fspath(path)))
    (problem,) = task.problems("test")
    assert grade_all(
        task,
        [
            (problem, "Answer: \\sqrt{3}/2"),
            (problem, "Answer: \\sqrt{2}/2"),
            (problem, "a\nb"),
        ],
    ) == [RIGHT, WRONG, UNPARSED]
