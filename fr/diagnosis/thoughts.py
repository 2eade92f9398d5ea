"""Thoughts and repetition in a text, without an understanding of it."""

from collections.abc import Sequence

import numpy as np


def repeated(tokens: Sequence[int], n: int) -> float:
    """Share of the n-grams of a row that are not new, in [0, 1)."""
    total = len(tokens) - n + 1
    return (
        1 - len(set(zip(*(tokens[i:] for i in range(n))))) / total if total > 0 else 0.0
    )


def repeated_end(tokens: Sequence[int], n: int, share: float = 0.25) -> float:
    """Share of the n-grams that end in the last `share` of a row and that the row has had before, in [0, 1)."""
    grams = list(zip(*(tokens[i:] for i in range(n))))
    first = (
        len(tokens) - max(1, round(share * len(tokens))) - n + 1
    )  # those before it end before the last part
    seen, again = set(grams[: max(first, 0)]), 0
    for gram in grams[max(first, 0) :]:
        again += gram in seen
        seen.add(gram)
    return again / max(len(grams) - max(first, 0), 1)


def loop_length(tokens: Sequence[int], longest: int = 256) -> int:
    """Tokens of the end of a row that repeat a block of at most `longest` tokens, two whole blocks or more; else 0.

    The largest number k for which some period p has x_i = x_{i-p} for the last k - p tokens, with k >= 2p.
    """
    row, best = np.asarray(tokens)[::-1], 0
    for period in range(1, min(longest, len(row) // 2) + 1):
        differs = row[:-period] != row[period:]
        same = int(np.argmax(differs)) if differs.any() else len(differs)
        if same >= period:
            best = max(best, same + period)
    return best


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
