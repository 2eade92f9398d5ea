"""MATH-500's references are right in any spelling, and altered ones are not."""

from concurrent.futures import ThreadPoolExecutor

import answer_forms
import audit_set
import pytest

from fr.tasks.grading import grade_answer


def graded(pairs: list[tuple[str, str]]) -> list[str]:
    """The grades of (completion, reference) pairs; threads only wait for the grader's
    processes.
    """
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda pair: grade_answer(*pair), pairs))


def check_spellings(references: list[str]) -> int:
    """Fails with what is not right though it should be; returns how many were tried."""
    tried = [
        (name, text, r)
        for r in references
        for name, text in answer_forms.spellings(r).items()
    ]
    grades = graded([(text, reference) for _, text, reference in tried])
    assert [
        (case, grade) for case, grade in zip(tried, grades) if grade != "right"
    ] == []
    return len(tried)


def check_alterations(references: list[str]) -> int:
    """Fails with what is right though it is another answer; returns how many were
    tried.
    """
    tried = [
        (a.kind, a.text, r) for r in references for a in answer_forms.alterations(r)
    ]
    grades = graded(
        [(f"Therefore \\boxed{{{text}}}.", reference) for _, text, reference in tried]
    )
    assert [case for case, grade in zip(tried, grades) if grade == "right"] == []
    assert (
        grades.count("grader_error") <= len(tried) // 100
    )  # of a busy machine, where processes start late
    return len(tried)


def test_all_references_are_right_in_six_spellings():
    assert check_spellings(audit_set.references()) == 3000


def test_no_altered_reference_is_right():
    assert check_alterations(audit_set.references()) >= 1700


def test_alterations_leave_out_what_changes_nothing():
    assert {a.kind for a in answer_forms.alterations("0")} == {"+ 1"}
    assert answer_forms.Altered("negated", "0") not in answer_forms.alterations("(0,9)")
    swapped = [
        a.text for a in answer_forms.alterations("3, 5, 7") if a.kind == "swapped part"
    ]
    assert swapped == []  # roots are a set
    assert ("swapped part", "(6, -1, 31)") in answer_forms.alterations("(6,31,-1)")
    assert ("negated", "-5x - 7y + 11z + 4 = 0") in answer_forms.alterations(
        "5x - 7y + 11z + 4 = 0"
    )


def test_alterations_are_written_exactly():
    assert ("+ 1", "1.0000672") in answer_forms.alterations(".0000672")
    assert ("× 10", r"\frac{15}{28}") in answer_forms.alterations(r"\frac{3}{56}")
    assert ("+ 1", r"\$32349") in answer_forms.alterations(r"\$32,\!348")


@pytest.mark.slow
def test_random_answers_of_twelve_forms_keep_their_grades_in_spelling_and_change():
    drawn = [
        reference for _, reference in answer_forms.random_references(seed=13, count=540)
    ]
    assert check_spellings(drawn) + check_alterations(drawn) >= 5000


def test_a_random_answer_of_each_form_is_right_in_six_spellings_and_unaltered_only():
    drawn = [
        reference for _, reference in answer_forms.random_references(seed=1, count=12)
    ]
    assert check_spellings(drawn) + check_alterations(drawn) >= 110
