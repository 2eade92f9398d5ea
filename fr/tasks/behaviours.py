"""Behaviours of reasoning as words in a completion, and the tokens around them.

A behaviour is a registered name, whose words depend on the task's format, or a regular
expression of one's own (`config.steering.behaviour`).
"""

import re
from collections.abc import Callable, Sequence

from fr.errors import UserError
from fr.registry import Registry
from fr.tasks.formats import CompletionText, Format

Words = Callable[[Format], Sequence[str]]

BEHAVIOURS = Registry("behaviour")
_REASONING = (
    "wait but however alternatively so therefore because since if let check verify "
    "maybe hmm"
).split()


def register_behaviour(name: str) -> Callable[[Words], Words]:
    """Decorator that registers the words by which a behaviour is known.

    Args:
        name: Name in `config.steering.behaviour`.

    Returns:
        The decorator of a function `format -> words`, which it leaves unchanged.
    """
    return BEHAVIOURS.register(name)


@register_behaviour("backtracking")
def backtracking(form: Format) -> Sequence[str]:
    """Words that leave a thought: `up` of a search, else the format's switches."""
    return ("up",) if form.claim else form.switches


@register_behaviour("verdict")
def verdict(form: Format) -> Sequence[str]:
    """Words that judge a candidate or conclude: `yes`, `no`; `so`, `therefore`."""
    return ("yes", "no") if form.claim else ("So", "so", "Therefore", "therefore")


@register_behaviour("success")
def success(form: Format) -> Sequence[str]:
    """Words that accept a candidate: `yes` of a search; `correct`, `indeed`."""
    return ("yes",) if form.claim else ("correct", "Correct", "indeed", "Indeed")


@register_behaviour("reasoning")
def reasoning(form: Format) -> Sequence[str]:
    """All words of reasoning: a search's marks; connectives and doubts of a chat."""
    if form.claim:
        return ("up", "yes", "no")
    return (*_REASONING, *(word.capitalize() for word in _REASONING))


def words_of(behaviour: str, form: Format) -> list[tuple[str, re.Pattern]]:
    """The words of a behaviour, each with the expression that finds it.

    In chats a behaviour lasts to the end of its sentence, in a search its word alone.

    Args:
        behaviour: A registered name, or a regular expression.
        form: Format of the task's completions.

    Returns:
        (word, expression) of each; one pair for an expression of one's own.

    Raises:
        UserError: It is neither.
    """
    if behaviour in BEHAVIOURS:
        tail = "" if form.claim else r"[^.!?\n]*"
        words = BEHAVIOURS[behaviour](form)
        return [(w, re.compile(rf"\b{re.escape(w)}\b{tail}")) for w in words]
    try:
        return [(behaviour, re.compile(behaviour))]
    except re.error as error:
        raise UserError(
            f"config.steering.behaviour = {behaviour!r} is not a behaviour "
            f"({', '.join(BEHAVIOURS)}) or a regular expression: {error}"
        ) from None


def windows(
    text: CompletionText, pattern: re.Pattern, before: int, most: int, after: int = 0
) -> list[range]:
    """Tokens around every match of an expression.

    Args:
        text: A completion.
        pattern: The expression; matches of no characters are left out.
        before: Tokens before the match that belong to its window.
        most: Largest number of tokens of a window.
        after: Tokens after the first one of the match at which a window ends; 0: at
            the end of the match.

    Returns:
        Places in `text.tokens` in order; -1 is the token before the completion, and
        the first place may not be before it.
    """
    found = []
    for match in pattern.finditer(text.text):
        if match.end() > match.start():
            first = text.count(match.start() + 1) - 1
            last = first + after if after else text.count(match.end()) - 1
            begin = max(first - before, -1)
            end = min(last + 1, begin + most, len(text.tokens))
            found.append(range(begin, end))
    return found
