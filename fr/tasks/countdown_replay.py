"""A Countdown trace played on a board: which steps are true and legal, which candidates reach the target."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fr.tasks.countdown_checker import steps
from fr.tasks.steps import SIGNS, Step

_UPS = re.compile(r"(?: up\b)*")


class Played(NamedTuple):
    """One step as the board saw it. A thought is a candidate: the steps that leave one number."""

    step: Step
    sign: str  # of its operation
    true: bool  # its result is what the operation gives
    legal: bool  # its operands were on the board, now or before it went back
    again: bool  # it leads to numbers that the trace has led to before
    thought: bool  # it ends a candidate
    reaches: bool  # ... which is right: every step of it true and legal, the target at its end
    words: int  # of the completion up to and including it


def replay(completion: str, numbers: Sequence[int], target: int) -> tuple[Played, ...]:
    """Play the steps of a completion from `numbers`; false results stay on the board as they were stated.

    A step whose mark is `up` goes back a level, and one more for each `up` behind it. Of the levels that are
    open, a step is played on the last one that has its operands; an illegal one changes nothing.
    """
    levels = [
        (Counter(numbers), True)
    ]  # numbers left, and whether all that led there is true
    seen, played = set(), []
    words, counted = 0, 0
    for step in steps(completion):
        operands = Counter(step.terms)
        at = next(
            (i for i in reversed(range(len(levels))) if operands <= levels[i][0]), None
        )
        true, again, thought, reaches = step.true, False, False, False
        if at is not None:
            levels = levels[: at + 1]
            board, clean = levels[-1]
            left, clean = board - operands + Counter((step.result,)), clean and true
            state = tuple(sorted(left.elements()))
            again, thought = state in seen, len(state) == 1
            seen.add(state)
            reaches = thought and clean and state == (target,)
            levels += [(left, clean)] * (not thought)
            ups = (step.mark == "up") + len(_UPS.match(completion, step.end)[0].split())
            levels = levels[: max(1, len(levels) - ups)]
        piece = completion[counted : step.end]
        goes_on = (
            counted
            and not completion[counted - 1].isspace()
            and not piece[:1].isspace()
        )
        words, counted = words + len(piece.split()) - bool(goes_on), step.end
        sign = re.search(
            r"[-+*/]", completion[step.start : step.equals].translate(SIGNS)
        )[0]
        played.append(
            Played(step, sign, true, at is not None, again, thought, reaches, words)
        )
    return tuple(played)
