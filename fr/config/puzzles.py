"""Settings of the tasks `alphabet` and `maze`."""

import dataclasses

from fr.config.fields import POSITIVE, SHARE, Bound, each, one_of, setting

NOISES = ("insert", "delete", "change")
FUNCTIONS = ("f1", "f2")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _chain(text: str) -> bool:
    words = text.split()
    return bool(words) and all(word in FUNCTIONS for word in words)


@dataclasses.dataclass(frozen=True)
class AlphabetConfig:
    """Strings of letters under chains of transformations (arXiv 2508.01191)."""

    chains: tuple[str, ...] = setting(
        ("f1 f1", "f1 f2", "f2 f1", "f2 f2"),
        "alphabet: chains of transformations, in equal shares",
        each(Bound("", _chain), "texts such as 'f1 f2', of f1 and f2", empty=False),
    )
    length: int = setting(4, "alphabet: letters of a string", POSITIVE)
    letters: str = setting(
        LETTERS,
        "alphabet: the letters that strings are made of; fewer leave some unseen",
        Bound(
            "different letters from a to z",
            lambda v: 0 < len(v) == len(set(v)) and set(v) <= set(LETTERS),
        ),
    )
    rotation: int = setting(
        13, "alphabet: letters by which f1 moves every letter on; a follows z"
    )
    shift: int = setting(
        1, "alphabet: places by which f2 moves the string, to the left and around"
    )
    noise: str = setting(
        "",
        "alphabet: the question has '?' before words (insert), in place of words "
        "(change), or lacks words (delete); '': none",
        one_of("", *NOISES),
    )
    noise_share: float = setting(
        0.1, "alphabet: chance of the noise at each word of the question", SHARE
    )


@dataclasses.dataclass(frozen=True)
class MazeConfig:
    """Mazes with traces of A* search (arXiv 2505.13775)."""

    generator: str = setting("walls", "maze: walls, depth_first or drunkard")
    size: int = setting(
        5,
        "maze: cells of a side",
        Bound("3 to 7: the vocabulary has no other cells", lambda v: 3 <= v <= 7),
    )
