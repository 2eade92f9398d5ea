"""Problems and scores of reasoning_gym; imported in grader processes only."""

import functools
from collections.abc import Callable
from typing import Any

import reasoning_gym
from reasoning_gym.factory import DATASETS

# The only seed: item i of seed s is drawn by s + i, so near seeds share their items.
SEED = 0
SIZE = 4000  # items of a data set; some of them depend on it


def call(what: str, *given: Any) -> Any:
    """Call one of the functions below: one process serves them all.

    Args:
        what: Name of the function.
        *given: Its arguments.

    Returns:
        Its result.
    """
    functions: dict[str, Callable] = {
        "names": names,
        "item": item,
        "score": score,
        "accepts_junk": accepts_junk,
    }
    return functions[what](*given)


def names() -> list[str]:
    """Names of all data sets but `composite`, which is made of others."""
    return sorted(set(DATASETS) - {"composite"})


def item(name: str, index: int) -> tuple[str, str] | None:
    """One item of a data set.

    Args:
        name: The data set.
        index: Number of the item, from 0.

    Returns:
        (question, right answer or ""); None after the last item.
    """
    if index >= SIZE:
        return None
    entry = _entry(name, index)
    answer = entry["answer"]
    return str(entry["question"]), "" if answer is None else str(answer)


# These answer no question, and neither does the question itself.
JUNK = ("", "I do not know")


def score(name: str, index: int, question: str, answers: list[str]) -> float:
    """Best score that the data set's own scorer gives to the readings of one answer.

    A reading that its scorer cannot read scores 0. So do `JUNK` and the question, which
    some scorers pay for. The item is made again, since JSON loses a part of the entry
    that some data sets score by.

    Args:
        name: The data set.
        index: Number of the item.
        question: The item's question.
        answers: Readings of the answer.

    Returns:
        The score, in [0, 1].

    Raises:
        ValueError: The item made again has another question.
    """
    entry = _entry(name, index)
    if str(entry["question"]) != question:
        raise ValueError(f"item {index} of {name} is not the same in two processes")
    junk = {text for text in (*JUNK, question) if text != str(entry["answer"] or "")}
    return max(
        (
            _bounded(name, answer, entry)
            for answer in answers
            if answer.strip() not in junk
        ),
        default=0.0,
    )


def accepts_junk(name: str, index: int) -> str | None:
    """Junk that gets the full score of an item.

    Args:
        name: The data set.
        index: Number of the item.

    Returns:
        One of `JUNK` or the question, unless it is the right answer; else None.
    """
    entry = _entry(name, index)
    for junk in (*JUNK, str(entry["question"])):
        if junk != str(entry["answer"] or "") and _bounded(name, junk, entry) == 1.0:
            return junk
    return None


def _bounded(name: str, answer: str, entry: dict) -> float:
    try:
        found = float(_dataset(name).score_answer(answer, entry))
    except MemoryError:
        raise
    except Exception:  # an answer that the scorer cannot read is wrong
        return 0.0
    return min(max(found, 0.0), 1.0) if found == found else 0.0


@functools.cache
def _dataset(name: str) -> Any:
    return reasoning_gym.create_dataset(name, seed=SEED, size=SIZE)


@functools.lru_cache(maxsize=1024)
def _entry(name: str, index: int) -> dict:
    return _dataset(name)[index]
