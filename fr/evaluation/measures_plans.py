"""Measures of plans apart from execution, and of chains apart from answers."""

from collections.abc import Sequence

from fr.errors import UserError
from fr.evaluation.measures import MeasureContext, Sums, register_measure
from fr.store import Attempt
from fr.tasks.extract import CUE, find_answer, kind_of
from fr.tasks.hanoi import count_legal
from fr.tasks.plan_checks import check_plan
from fr.types import Problem

_WORDS = 512  # of a completion that are compared


@register_measure("plan_validity")
def plan_validity(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Left sides of steps that are right, given the results before them.

    Only steps before the answer count (arXiv 2506.06941 claims that execution fails
    where the plan is known).

    Args:
        problem: A problem of `sums` or `countdown`.
        attempts: All attempts at it.
        context: Not read.

    Returns:
        `plan_validity`, share of the steps with a right left side. `whole_plan`, share
        of the attempts with right left sides alone that end with one number.
        `steps_true`, share of the steps whose result is the value of their left side.

    Raises:
        UserError: The task has no numbers to plan with.
    """
    kind = kind_of(problem.task)
    checks = []
    for attempt in attempts:
        found = find_answer(attempt.text, kind)
        check = check_plan(
            problem, attempt.text[: found.start] if found else attempt.text
        )
        if check is None:
            raise UserError(
                "config.evaluation.measures: 'plan_validity' follows the numbers of "
                f"sums and countdown, not of {problem.task!r}; leave it out"
            )
        checks.append(check)
    steps = float(sum(check.steps for check in checks))
    return {
        "plan_validity": (float(sum(check.planned for check in checks)), steps),
        "whole_plan": (float(sum(check.whole for check in checks)), len(attempts)),
        "steps_true": (float(sum(check.true for check in checks)), steps),
    }


@register_measure("legal_moves")
def legal_moves(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Moves of `hanoi` that are legal in the true state (arXiv 2506.06941).

    Args:
        problem: A problem of `hanoi`.
        attempts: All attempts at it.
        context: Not read.

    Returns:
        `legal_moves`, share of the moves after the last thought; the state is the one
        after the legal moves before. `all_legal`, share of the attempts with a move
        whose moves are all legal.

    Raises:
        UserError: The problem is of another task.
    """
    if problem.task != "hanoi":
        raise UserError(
            "config.evaluation.measures: 'legal_moves' plays the moves of hanoi, not "
            f"of {problem.task!r}; leave it out"
        )
    counts = [count_legal(problem, a.read or a.text) for a in attempts]
    made = [(legal, moves) for legal, moves in counts if moves]
    return {
        "legal_moves": (sum(legal for legal, _ in made), sum(m for _, m in made)),
        "all_legal": (sum(legal == moves for legal, moves in made), len(made)),
    }


@register_measure("imitation")
def imitation(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Chains and answers that have the words of the worked solution, in its order.

    The chain of an attempt is what stands before its last `Answer:`, the answer what
    stands after it; white space does not count (arXiv 2508.01191).

    Args:
        problem: A problem with a worked solution, `meta["chain"]`.
        attempts: All attempts at it.
        context: Not read.

    Returns:
        Shares of attempts: `chain_exact`, `answer_exact`, `chain_only` (a right chain
        and a wrong answer) and `answer_only` (a wrong chain and a right answer).
        `edit_distance`: words inserted, left out or changed between the attempt and the
        solution, as a share of the words of the longer one.

    Raises:
        UserError: The problem has no worked solution.
    """
    if "chain" not in problem.meta:
        raise UserError(
            "config.evaluation.measures: 'imitation' compares with worked solutions, "
            f"and problems of {problem.task!r} have none; leave it out"
        )
    chain, answer = problem.meta["chain"].split(), problem.answer.split()
    exact, edits, words = [], 0, 0
    for attempt in attempts:
        before, cue, after = attempt.text.rpartition(CUE)
        if not cue:
            before, after = after, before
        exact.append((before.split() == chain, bool(cue) and after.split() == answer))
        written = attempt.text.split()[:_WORDS]
        right = [*chain, CUE, *answer][:_WORDS]
        edits += edit_distance(written, right)
        words += max(len(written), len(right))
    counts = {
        "chain_exact": sum(chain_right for chain_right, _ in exact),
        "answer_exact": sum(answer_right for _, answer_right in exact),
        "chain_only": exact.count((True, False)),
        "answer_only": exact.count((False, True)),
    }
    shares = {name: (float(n), float(len(attempts))) for name, n in counts.items()}
    return shares | {"edit_distance": (float(edits), float(words))}


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Fewest insertions, deletions and changes of words between two texts.

    Args:
        one: Words.
        other: Words.

    Returns:
        Their number (Levenshtein).
    """
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, against in enumerate(other, 1):
            last, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, last + (word != against)),
            )
    return row[-1]
