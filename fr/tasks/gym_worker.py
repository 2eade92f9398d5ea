"""reasoning_gym's problems and scores; only ever imported in a grader process, where its time is bounded."""

import functools

import reasoning_gym
from reasoning_gym.factory import DATASETS

SEED = 0  # and no other: item i of seed s is drawn by s + i, so that neighbouring seeds share their items
SIZE = 4000  # items of a data set; some of them depend on it


def ask(what: str, *given):
    """The answer of one of the functions below, so that one process serves them all."""
    return {"names": names, "item": item, "score": score}[what](*given)


def names() -> list[str]:
    """The data sets that can be made by name alone; the one that is left is composed of others."""
    return sorted(set(DATASETS) - {"composite"})


def item(name: str, index: int) -> tuple[str, str] | None:
    """(question, reference or "" where there is none) of an item; None behind the last."""
    if index >= SIZE:
        return None
    entry = _entry(name, index)
    return str(entry["question"]), "" if entry["answer"] is None else str(entry["answer"])


def score(name: str, index: int, question: str, answers: list[str]) -> float:
    """The data set's own score of the best of several readings of one answer.

    The item is made again: an entry that has been through JSON loses what some data sets score by. Raises
    ValueError if it is not the item that was asked.
    """
    entry = _entry(name, index)
    if str(entry["question"]) != question:
        raise ValueError(f"item {index} of {name} is not the same in two processes")
    return max(float(_dataset(name).score_answer(answer, entry)) for answer in answers)


@functools.cache
def _dataset(name: str):
    return reasoning_gym.create_dataset(name, seed=SEED, size=SIZE)


@functools.lru_cache(maxsize=1024)
def _entry(name: str, index: int) -> dict:
    return _dataset(name)[index]
