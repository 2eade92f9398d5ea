"""Measures of plans apart from execution and of chains apart from answers, by hand."""

import functools
import random
from types import SimpleNamespace

import pytest

from fr import tasks
from fr.config import TaskConfig
from fr.config.puzzles import AlphabetConfig
from fr.errors import UserError
from fr.evaluation.measures import MEASURES
from fr.evaluation.measures_plans import edit_distance
from fr.tasks.alphabet import transform
from fr.tasks.plan_checks import check_sum
from fr.types import Problem

SUM = Problem("s", "What is 3 + 4 + 4 + 9?", "20", "sums", {"chain": ""})
LETTERS = Problem(
    "a", "a b : f1 f2 ->", "o n", "alphabet", {"chain": "f1 n o . f2 o n ."}
)


def measured(name, problem, *texts):
    attempts = [SimpleNamespace(text=text, read=None) for text in texts]
    return MEASURES[name](problem, attempts, None)


def values(name, problem, *texts):
    found = measured(name, problem, *texts)
    return {metric: counted for metric, (counted, _) in found.items()}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("3 + 4 = 7. 7 + 4 = 11. 11 + 9 = 20.", (3, 3, 3, True)),
        # a false result that is used counts against execution alone
        ("3 + 4 = 8. 8 + 4 = 12. 12 + 9 = 21.", (3, 3, 2, True)),
        # any order, several terms in one step
        ("9 + 4 + 4 = 17. 17 + 3 = 20.", (2, 2, 2, True)),
        ("4 + 4 = 8. 3 + 9 = 12. 8 + 12 = 20.", (3, 3, 3, True)),
        # a term left out, one used twice, one that is not there
        ("3 + 4 = 7. 7 + 4 = 11.", (2, 2, 2, False)),
        ("3 + 4 = 7. 7 + 3 = 10.", (2, 1, 2, False)),
        ("3 + 4 = 7. 7 + 5 = 12. 12 + 9 = 21.", (3, 2, 3, False)),
        # the result as it was stated is what may be used
        ("3 + 4 = 8. 7 + 4 = 11.", (2, 1, 1, False)),
        # another operation
        ("3 * 4 = 12. 12 + 4 = 16. 16 + 9 = 25.", (3, 2, 3, False)),
        ("It is 20.", (0, 0, 0, False)),
        ("", (0, 0, 0, False)),
    ],
)
def test_plans_by_hand(text, counts):
    assert check_sum([3, 4, 4, 9], text) == counts


def test_shares_of_plans():
    good = "3 + 4 = 7. 7 + 4 = 11. 11 + 9 = 21.\nAnswer: 21"
    # what stands after the answer is not of the reasoning
    more = "3 + 4 = 7.\nAnswer: 7\n1 + 1 = 2."
    assert measured("plan_validity", SUM, good, more, "Answer: 20") == {
        "plan_validity": (4, 4),
        "whole_plan": (1, 3),
        "steps_true": (3, 4),
    }
    with pytest.raises(UserError, match="'plan_validity' follows .* not of 'gcd'"):
        measured("plan_validity", Problem("g", "", "", "gcd", {}), "")


@pytest.mark.parametrize("terms", [2, 5, 12])
def test_worked_solutions_are_whole_plans_and_exact(terms):
    task = tasks.make(TaskConfig(name="sums", digits=2, terms=terms))
    for problem in task.problems("test", 20):
        text = f"{problem.meta['chain']}\nAnswer: {problem.answer}"
        found = measured("plan_validity", problem, text)
        assert found == {
            "plan_validity": (terms - 1, terms - 1),
            "whole_plan": (1, 1),
            "steps_true": (terms - 1, terms - 1),
        }
        assert values("imitation", problem, text) == {
            "chain_exact": 1,
            "answer_exact": 1,
            "chain_only": 0,
            "answer_only": 0,
            "edit_distance": 0,
        }


def test_a_plan_of_countdown_may_go_back_and_use_every_operation():
    problem = Problem("c", "", "", "countdown", {"numbers": [3, 7, 10], "target": 49})
    found = lambda text: measured("plan_validity", problem, f"{text} answer 10")
    search = "10 + 3 = 13 , 13 + 7 = 20 up 10 - 3 = 7 , 7 * 7 = 49 yes"
    assert found(search) == {
        "plan_validity": (4, 4),
        "whole_plan": (1, 1),
        "steps_true": (4, 4),
    }
    # a false result is used as it was stated; 8 is not there in the second search
    assert found("10 - 3 = 8 , 8 * 7 = 56 no")["plan_validity"] == (2, 2)
    assert found("10 - 3 = 7 , 8 * 7 = 56 no")["plan_validity"] == (1, 2)
    assert found("10 - 3 = 7 ,")["whole_plan"] == (0, 1)


def test_imitation_by_hand():
    right = "f1 n o . f2 o n ."
    found = measured(
        "imitation",
        LETTERS,
        f"{right} Answer: o n",
        f"{right}\nAnswer: n o",  # chain only; two words changed
        "f2 b a . f1 o n . Answer: o n",  # answer only; four words changed
        "f1 n o . f2 o n .",  # no answer: three words left out
        "",  # eleven
    )
    assert found == {
        "chain_exact": (3, 5),
        "answer_exact": (2, 5),
        "chain_only": (2, 5),
        "answer_only": (1, 5),
        "edit_distance": (2 + 4 + 3 + 11, 55),
    }
    with pytest.raises(
        UserError, match="'imitation' compares .* 'countdown' have none"
    ):
        measured("imitation", Problem("c", "", "", "countdown", {}), "")


def test_a_commuted_chain_has_the_right_answer():
    """f1 and f2 commute: the steps of the other order end in the same letters."""
    settings = AlphabetConfig(chains=("f2 f1",))
    task = tasks.make(TaskConfig(name="alphabet", alphabet=settings))
    for problem in task.problems("test", 20):
        element = "".join(problem.question.split()[:4])
        first = transform(element, "f1", settings)
        second = transform(first, "f2", settings)
        chain = f"f1 {' '.join(first)} . f2 {' '.join(second)} ."
        text = f"{chain} Answer: {' '.join(second)}"
        assert values("imitation", problem, text)["answer_only"] == 1
        assert task.grade(problem, text) == "right"


def test_the_edit_distance_is_the_least_number_of_edits():
    @functools.cache
    def least(one, other):
        if not one or not other:
            return len(one) + len(other)
        change = least(one[1:], other[1:]) + (one[0] != other[0])
        return min(change, least(one[1:], other) + 1, least(one, other[1:]) + 1)

    chance = random.Random(0)
    for _ in range(60):
        one, other = (
            "".join(chance.choices("abc", k=chance.randrange(7))) for _ in "xy"
        )
        assert (
            edit_distance(one, other) == least(one, other) == edit_distance(other, one)
        )
    assert edit_distance("kitten", "sitting") == 3


def test_legal_moves_by_hand():
    problem = Problem("h", "", "C", "hanoi", {"disks": 2, "pegs": "ABC"})
    right = "disk 1: A -> B\ndisk 2: A -> C\ndisk 1: B -> C"
    wrong = "disk 2: A -> C\ndisk 1: A -> B\ndisk 1: B -> C\n"  # the first is illegal
    draft = "<think>disk 2: A -> B</think>disk 1: A -> C"
    assert measured("legal_moves", problem, right, wrong, draft, "none") == {
        "legal_moves": (3 + 2 + 1, 7),
        "all_legal": (2, 3),
    }
    # a template began the thought, which never ends
    cut = SimpleNamespace(text=right, read=f"<think>{right}")
    found = MEASURES["legal_moves"](problem, [cut], None)
    assert found == {"legal_moves": (0, 0), "all_legal": (0, 0)}
    with pytest.raises(UserError, match="moves of hanoi, not of 'sums'"):
        measured("legal_moves", SUM, "")
