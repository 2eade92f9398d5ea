"""Operators that pause and write for the model, and their controls."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from fr.errors import UserError
from fr.interventions.intervention import Intervention, OperatorContext
from fr.interventions.operator_registry import register
from fr.interventions.prompted import equals_tokens
from fr.sampling.sampling_params import WIDTHS, row_key
from fr.sampling.sources import PauseAction
from fr.tasks.formats import Codec, encode_text
from fr.tasks.hanoi import State, find_moves, own_part, play, write_state
from fr.tasks.steps import complete_step, find_steps, format_number
from fr.types import Problem

_ENDS = (".", ",", ";", "\n")  # signs after a number, at which it is complete
_OFF = (-10, -2, -1, 1, 2, 10)  # of a wrong number from the true one


@register("calculator_own", words=lambda form: ("=",))
def calculator_own(context: OperatorContext) -> Intervention:
    """Control of `calculator`: the same pauses, and the model's own number.

    The model draws the number at its own temperature. If a sign follows it (`. , ;` or
    the end of the line), the number is cut and pushed again in the spelling that
    `calculator` uses, so that its value is exactly the one that was drawn. Where the
    spelling is the same already, the attempt is a plain one.
    """
    codec = context.codec
    assert codec is not None
    ends = {ids[-1] for end in _ENDS if (ids := encode_text(codec, f"1{end}"))}
    pauses = (*equals_tokens(codec), *sorted(ends))[: WIDTHS["pause"]]

    def on_pause(tokens: np.ndarray) -> PauseAction:
        return _spelled_again(codec, [int(t) for t in tokens], ends)

    return Intervention({"pause": pauses}, on_pause=on_pause)


def _spelled_again(codec: Codec, tokens: list[int], ends: set[int]) -> PauseAction:
    """Cut the number before the last token and push it as `calculator` spells it."""
    text = codec.decode(tokens[:-1])
    steps = find_steps(text) if tokens[-1] in ends else []
    if not steps or steps[-1].end != len(text):
        return PauseAction()
    before = text[: steps[-1].equals]
    true, own = complete_step(before), format_number(steps[-1].result)
    length = lambda n: len(codec.decode(tokens[:n]))
    kept = next(n for n in range(len(tokens), -1, -1) if length(n) <= len(before))
    if not true or not own or length(kept) < len(before):
        return PauseAction()
    space = true[: len(true) - len(true.lstrip())]
    forced = (*(encode_text(codec, space + own) or ()), tokens[-1])
    if len(forced) == 1 or list(forced) == tokens[kept:]:
        return PauseAction()
    return PauseAction(forced, cut=kept)


@register("calculator_wrong", uses_oracle=True, words=lambda form: ("=",))
def calculator_wrong(context: OperatorContext) -> Intervention:
    """Control of `calculator`: the same pauses, and a wrong number is pushed.

    It is off by 1, 2 or 10, with as many digits as the true one where there is such a
    number. The same place of an attempt has the same number every time.
    """
    codec = context.codec
    assert codec is not None

    def on_pause(tokens: np.ndarray) -> PauseAction:
        true = complete_step(codec.decode(tokens.tolist()))
        if not true:
            return PauseAction()
        key = ("operator", context.problem.id, context.attempt, len(tokens))
        chance = np.random.default_rng(row_key(context.config.seed, *key))
        return PauseAction(encode_text(codec, _wrong(true, chance)) or ())

    return Intervention({"pause": equals_tokens(codec)}, on_pause=on_pause)


def _wrong(true: str, chance: np.random.Generator) -> str:
    """A number that a true one is not, in its spelling."""
    digits = true.lstrip()
    near = [format_number(Fraction(digits) + off) or digits for off in _OFF]
    alike = [n for n in near if len(n) == len(digits) and n != digits] or near
    return true[: len(true) - len(digits)] + alike[chance.integers(len(alike))]


@register("state_keeper", uses_oracle=True, words=lambda form: ("->",))
def state_keeper(context: OperatorContext) -> Intervention:
    """Pause after each line with a move of `hanoi` and push the true disks of each peg.

    An illegal move leaves them as they were. Raises UserError for other tasks.
    """
    return _kept(context, lambda state: state)


@register("state_keeper_wrong", uses_oracle=True, words=lambda form: ("->",))
def state_keeper_wrong(context: OperatorContext) -> Intervention:
    """Control of `state_keeper`: the same pauses, and the disks of another peg on each.

    Disks of the next peg stand at each, which is never the true state.
    """
    return _kept(context, lambda state: (*state[1:], state[0]))


def _kept(context: OperatorContext, shown: Callable[[State], State]) -> Intervention:
    codec, problem = context.codec, context.problem
    assert codec is not None
    if problem.task != "hanoi":
        raise UserError(
            "operator 'state_keeper' knows the states of hanoi, not of "
            f"{problem.task}; leave it out"
        )
    lines = ("\n", "A\n", "\n\n")
    spelled = (codec.encode(line) for line in lines)
    pauses = tuple(sorted({ids[-1] for ids in spelled if ids}))

    def on_pause(tokens: np.ndarray) -> PauseAction:
        text = state_after(codec.decode(tokens.tolist()), problem, shown)
        return PauseAction((text and encode_text(codec, text)) or ())

    return Intervention({"pause": pauses}, on_pause=on_pause)


def state_after(
    text: str, problem: Problem, shown: Callable[[State], State] = lambda state: state
) -> str:
    """The line with the state that follows a text.

    Args:
        text: A completion so far.
        problem: A problem of `hanoi`.
        shown: Changes the state before it is written.

    Returns:
        The line; "" if the text does not end with a line that has a move.
    """
    *_, last, rest = ["", *text.split("\n")]
    # In a thought: the moves since it began.
    part = own_part(text) or text.rpartition("<think>")[2]
    if rest or not find_moves(last):
        return ""
    state = shown(play(problem, find_moves(part)).state)
    return f"{write_state(state, problem.meta['pegs'])}\n"
