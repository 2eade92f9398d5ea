"""Steps of arithmetic in a text: which there are, whether they are true, and what
completes one.
"""

from fractions import Fraction

import pytest

from fr.tasks.steps import complete_step, find_steps, format_number


@pytest.mark.parametrize(
    "text, wanted",
    [
        (
            "10 - 3 = 7 , 7 + 7 = 15 no 7 * 7 = 49 yes",
            [("10 - 3 =", True), ("7 + 7 =", False), ("7 * 7 =", True)],
        ),
        ("12 + 7 = 19. 19 + 5 = 25.", [("12 + 7 =", True), ("19 + 5 =", False)]),
        ("3 + 4 * 5 = 23", [("3 + 4 * 5 =", True)]),
        # bullets
        ("- 3 + 4 = 7\n* 5 × 6 = 30", [("3 + 4 =", True), ("5 × 6 =", True)]),
        (
            "$5 * 3 = $15, 1,000 + 5 = 1,006",
            [("$5 * 3 =", True), ("1,000 + 5 =", False)],
        ),
        (
            "10 / 3 = 3.33 and 7 / 2 = 3 and 7 / 0 = 7",
            [("10 / 3 =", True), ("7 / 2 =", False), ("7 / 0 =", False)],
        ),
        (
            "answer 4 * ( 6 / 6 ) 6 / 6 = 1 , 4 - 1 = 2",
            [("6 / 6 =", True), ("4 - 1 =", False)],
        ),
        ("(1 + 2)3 + 4 = 13", []),
        ("3+4=7,7+5=12", [("3+4=", True), ("7+5=", True)]),
        # a run-on: its first half states no result
        ("3 + 4 = 7 + 5 = 12", [("7 + 5 =", True)]),
        # parts of larger expressions
        (
            "2x + 3 * 4 = 9 ; (1 + 2) * 3 = 8 ; 2 ^ 3 * 4 = 1 ; x - 3 + 4 = 5 ; "
            "3 + 4 = 7up",
            [],
        ),
    ],
)
def test_steps_of_a_text(text, wanted):
    found = find_steps(text)
    assert [(text[step.start : step.equals], step.true) for step in found] == wanted


def test_places_and_parts():
    (step,) = find_steps("so 7 + 8 = 14 no")
    assert (step.start, step.equals, step.end, step.gap) == (3, 10, 16, " ")
    assert (step.terms, step.value, step.result, step.mark) == ((7, 8), 15, 14, "no")


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("so 3 + 4 =", " 7"),
        ("3+4=", "7"),
        ("12 * 3 = ", "36"),
        ("2 * 3 - 14 =", " -8"),
        ("10 / 4 =", " 2.5"),
        ("7 / 3 =", None),
        ("7 / 0 =", None),
        ("x + 3 + 4 =", None),
        ("3 + 4 = 7", None),
        ("n =", None),
    ],
)
def test_completion(text, wanted):
    assert complete_step(text) == wanted


def test_what_a_step_is_completed_with_makes_it_true():
    for a in range(0, 40, 3):
        for b in range(1, 40, 7):
            for sign in "+-*/":
                if result := complete_step(f"{a} {sign} {b} ="):
                    found = find_steps(f"{a} {sign} {b} ={result}")
                    assert result.startswith(" -") or (
                        len(found) == 1 and found[0].true
                    )
    assert (
        format_number(Fraction(1, 1 << 20)) is None
        and format_number(Fraction(-5, 2)) == "-2.5"
    )
