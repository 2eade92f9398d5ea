"""Thoughts of a reasoning: the pieces between words that leave one for another."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\S+")
_MARKS = ".,:;!?"  # around a word


def thought_ends(reasoning: str, switches: Sequence[str]) -> list[int]:
    """Characters up to the end of each thought (arXiv 2501.18585).

    A thought ends where a switch word begins; several in a row are one switch. What
    follows the last one is a thought too, unless nothing does.

    Args:
        reasoning: Text before the answer.
        switches: Words that leave a thought, in any case.

    Returns:
        The ends in order, the last of them the end of the last word; none for a text
        without another word than switches.
    """
    leaves = {word.casefold() for word in switches}
    ends: list[int] = []
    goes_on = False
    for word in _WORD.finditer(reasoning):
        if word[0].casefold().strip(_MARKS) in leaves:
            goes_on = False
        elif goes_on:
            ends[-1] = word.end()
        else:
            ends.append(word.end())
            goes_on = True
    return ends
