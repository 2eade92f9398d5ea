"""Thoughts and repetition in a text, without an understanding of it."""

from collections.abc import Sequence


def repeated(tokens: Sequence[int], n: int) -> float:
    """Share of the n-grams of a row that are not new, in [0, 1)."""
    total = len(tokens) - n + 1
    return 1 - len(set(zip(*(tokens[i:] for i in range(n))))) / total if total > 0 else 0.0


def thoughts(text: str, switch_words: Sequence[str]) -> list[int]:
    """Words of each thought, the last one the one that is not left; several switch words in a row are one switch.

    A text that ends with a switch word has a last thought of 0 words.
    """
    switches = {word.casefold() for word in switch_words}
    ages = [0]
    for word in text.casefold().split():
        if word.strip(".,:;!?") not in switches:
            ages[-1] += 1
        elif ages[-1]:
            ages.append(0)
    return ages


def left_early(text: str, switch_words: Sequence[str], words: int) -> float:
    """Share of the thoughts of a text that a switch word ends before they have so many words."""
    ages = thoughts(text, switch_words)
    return sum(age < words for age in ages[:-1]) / max(sum(age > 0 for age in ages), 1)
