"""Places of answers, equality of two, and the cost of reading them: by kinds, not by
examples.
"""

import re

import pytest
from growth import assert_linear

from fr.tasks import extract
from fr.tasks.canonical import canonical_answer, canonical_answers
from fr.tasks.countdown import Countdown
from fr.tasks.countdown_rules import extract_expression as expression_of
from fr.tasks.countdown_rules import trace_steps
from fr.tasks.countdown_solver import replay
from fr.tasks.grading import (
    grade_answer,
    grade_letter,
    grade_literal,
    grader_version,
)
from fr.tasks.reasoning_gym import readings
from fr.tasks.reference_checks import reference_problem
from fr.tasks.steps import find_steps
from fr.types import RIGHT, UNPARSED, WRONG, Problem

WRITTEN = {  # ways to state an answer, each of which any reader finds
    "line": "So it is.\nAnswer: {}",
    "bold": "So it is.\n**Answer:** {}",
    "all bold": "So it is.\n**Answer: {}**",
    "heading": "So it is.\n\n### Final Answer\n\n{}",
    "bold heading": "So it is.\n\n**Final Answer**\n\n{}",
    "tag": "<think>\nlet me see\n</think>\n<answer>{}</answer>",
    "square tag": "So it is.\n[ANSWER]{}[/ANSWER]",
    "after a thought": "<think>\nThe answer is 99? No.\n</think>\n\nAnswer: {}",
    "far text": "Answer: {}\n\n"
    + "The steps above agree with this in every respect. " * 2000,
    "remark": "Answer: {}\n\nI am sure that the answer is correct.",
    "fence": "Answer:\n```\n{}\n```",
    "German": "Antwort: {}",
    "next question": "Answer: {}\n\nQuestion: What is 5 + 5?\nAnswer: 10",
    "end of turn": "Answer: {}<|im_end|>\n<|im_start|>user\nAnswer: 10",
}
MATHS = WRITTEN | {
    "box": "Therefore $\\boxed{{{}}}$.",
    "display": "Answer:\n\\[\n{}\n\\]",
    "dollars": "Answer:\n$$\n{}\n$$",
    "box in a tag": "<answer>\\boxed{{{}}}</answer>",
    "box again": "\\boxed{{{0}}}, that is \\boxed{{{0}}}.",
    "taken back": "\\boxed{{1}}? No, that was per day. \\boxed{{{}}}",
    "sentence": "The final answer is ${}$. I hope it is correct.",
}
VALUES = [
    "42",
    "-3",
    "\\frac{7}{3}",
    "[0,1)",
    "(3, \\frac{\\pi}{2})",
    "\\{1, 2\\}",
    "6 - 5i",
    "2k+2",
    "3\\sqrt{13}",
]


@pytest.mark.parametrize("form", MATHS)
def test_a_value_is_found_wherever_it_stands(form):
    assert [v for v in VALUES if grade_answer(MATHS[form].format(v), v) != RIGHT] == []
    assert grade_answer(MATHS[form].format("41"), "42") == WRONG


@pytest.mark.parametrize("form", WRITTEN)
def test_letters_literals_and_expressions_stand_in_the_same_places(form):
    problem = Problem("p", "", "", "countdown", {"numbers": [3, 7, 10], "target": 49})
    write = WRITTEN[form].format
    assert grade_letter(write("C"), "C") == grade_letter(write("(C)"), "C") == RIGHT
    assert grade_letter(write("B"), "C") == WRONG
    assert grade_literal(write("['a', 1]"), "['a', 1]") == RIGHT
    assert Countdown.grade(problem, write("(10 - 3) * 7")) == RIGHT
    assert Countdown.grade(problem, write("(10 - 3) + 7")) == WRONG
    assert "2 × 7" in readings(write("2 × 7"))


@pytest.mark.parametrize("opening", ["<think>", "<thinking>", "[THINK]", "◁think▷"])
@pytest.mark.parametrize(
    "stated", ["Answer: 7", "\\boxed{7}", "<answer>7</answer>", "#### 7"]
)
def test_a_thought_without_an_end_holds_no_answer(opening, stated):
    assert grade_answer(f"{opening}\n{stated}\nbut then", "7") == UNPARSED
    assert grade_answer(f"Answer: 7\n{opening}\n{stated}", "7") == UNPARSED
    closing = opening.replace("<", "</").replace("[", "[/").replace("◁", "◁/")
    assert grade_answer(f"{opening}\n{stated}\n{closing}\n", "7") == UNPARSED
    assert grade_answer(f"{opening}\n{stated}\n{closing}\nAnswer: 8", "8") == RIGHT


def test_a_template_that_begins_a_thought_is_seen_at_the_end_of_the_prompt():
    assert extract.opens_thought("user: hi\nassistant: <think>\n")
    assert not extract.opens_thought("assistant: <think>\n\n</think>\n\n")
    assert not extract.opens_thought("what does <think> mean? assistant:")


SAME = [
    ("0.5", "\\frac{1}{2}", "1/2", "\\dfrac12", ".50", "one half"),
    ("2\\frac{1}{3}", "7/3", "2 1/3"),
    ("1,234", "1234", "1{,}234", "1\\,234", "1234.0"),
    ("x = 4", "4", "4\\text{ cm}", "$4$"),
    ("6-5i", "6 - 5i", "-5i + 6"),
    ("2+2k", "2k+2", "2(k+1)"),
    ("y=2x+3", "2x+3", "3 + 2x"),
    ("(3,4)", "(3, 4)", "\\left( 3, 4 \\right)"),
    ("3, 5", "5,3", "3 and 5", "x = 3 or x = 5", "\\{3,5\\}"),
    ("x \\ge 3", "[3,\\infty)", "3 \\le x"),
    ("0 \\le x < 1", "[0,1)", "x \\in [0, 1)"),
    ("7 \\pm 2", "9, 5"),
    ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}", "\\sqrt{3}/3"),
    (
        "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
        "\\begin{bmatrix} 1\\\\2 \\end{bmatrix}",
    ),
    ("\\sin(2x)", "2\\sin x\\cos x"),
    ("Paris", "paris.", "\\text{Paris}"),
]
APART = [
    *[
        (a, "[0,1)")
        for a in ("(0,1)", "(0,1]", "[0,1]", "0,1", "\\{0,1\\}", "[0,2)", "[1,0)")
    ],
    *[
        (a, "4")
        for a in (
            "\\frac{\\pi}{4}",
            "\\sqrt{4x}",
            "4!",
            "|4|",
            "x > 4",
            "4_{8}",
            "\\pm 4",
            "4 \\mod 7",
        )
    ],
    *[
        (a, "5")
        for a in (
            "√5",
            "log 5",
            "5 million",
            "less than 5",
            "it is not 5",
            "5**2",
            "5k",
            "half of 5",
        )
    ],
    *[
        (a, "3")
        for a in (
            "3 cm and 4 cm",
            "11 R 3",
            "3 or 4",
            "2x+3",
            "x \\ne 3",
            "3:1",
            "3/0",
            "(3)(2)",
        )
    ],
    ("5_8", "5"),
    ("2 - 3", "-1"),
    ("x+1", "y+1"),
    ("\\text{June 20}", "\\text{May 20}"),
    ("5 \\text{ cm}", "5 \\text{ m}"),
    ("\\sin x", "\\cos x"),
    ("(5, \\frac{\\pi}{2})", "(3, \\frac{\\pi}{2})"),
]


@pytest.mark.parametrize("group", SAME, ids=lambda group: group[0])
def test_what_means_the_same_is_right_in_every_direction(group):
    pairs = [(a, r) for a in group for r in group]
    assert [p for p in pairs if grade_answer(f"Answer: {p[0]}", p[1]) != RIGHT] == []


@pytest.mark.parametrize(("answer", "reference"), APART)
def test_what_differs_is_never_right(answer, reference):
    assert grade_answer(f"Therefore \\boxed{{{answer}}}.", reference) != RIGHT
    assert grade_answer(f"Answer: {answer}", reference) != RIGHT


def test_votes_join_and_part_answers_as_grades_do():
    write = "So \\boxed{{{}}}.".format
    for group in SAME[1:]:
        keys = canonical_answers("math500", [write(a) for a in group])
        assert len(set(keys)) == 1, (group, keys)
    # except units: 5 is 5 cm and 5 m to a grade, and a vote has one key for all three
    for one, other in (pair for pair in APART if "cm}" not in pair[0]):
        assert canonical_answer("math500", write(one)) != canonical_answer(
            "math500", write(other)
        )
    assert canonical_answers("sums", ["Answer: 7", None, "Answer: 7.0"]) == [
        "7",
        None,
        "7",
    ]


def test_truth_values_are_no_numbers():
    assert (
        grade_literal("Answer: 1", "True")
        == grade_literal("Answer: [True]", "[1]")
        == WRONG
    )
    assert grade_literal("Answer: {2: 'b', 1: 'a'}", "{1: 'a', 2: 'b'}") == RIGHT


def test_references_that_cannot_be_graded_are_told():
    assert reference_problem("math", "7") is reference_problem("letter", "B") is None
    assert (
        reference_problem("literal", "[1, 2]")
        is reference_problem("math", "\\text{Evelyn}")
        is None
    )
    assert "print of bytes" in reference_problem("math", "b'7'")
    assert "empty" in reference_problem("math", "  ")
    assert "must be one of A, B, C, D" in reference_problem("letter", "E")
    assert "unparsed" in reference_problem("literal", "[1, ")
    assert grader_version().startswith("fr ") and "math-verify" in grader_version()


def test_an_answer_that_nobody_can_compute_is_not_right():
    towers = ("9^{9^{9^{9^9}}}", "(10^{10^{10}})!", "\\int_0^1 x^{x^{x^x}} dx")
    grades = {grade_answer(f"Answer: {tower}", "\\sin x") for tower in towers}
    assert grades <= {WRONG, UNPARSED}


NASTY = [
    "Answer: ",
    "\\boxed{",
    "<think>",
    "1 + 1 = 2 ",
    "(",
    "answer 1 ",
    "1,111",
    "\\[ ",
    "'[",
    "x^",
]


@pytest.mark.parametrize("unit", NASTY)
def test_reading_is_linear_in_the_length_of_a_text(unit):
    readers = (
        lambda text: grade_answer(text, "\\sin x"),
        lambda text: grade_letter(text, "C"),
        lambda text: grade_literal(text, "[1]"),
        lambda text: canonical_answer("math500", text),
        lambda text: replay(text, [1, 2, 3], 6),
        readings,
        expression_of,
        trace_steps,
        find_steps,
    )
    for reader in readers:
        assert_linear(reader, unit, 64_000)


def test_a_pattern_that_starts_over_at_every_character_is_not_linear():
    with pytest.raises(AssertionError):
        assert_linear(re.compile("a+b").findall, "a", 32_000)
