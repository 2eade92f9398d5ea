"""reasoning_gym's problems and scores; only ever imported in a grader process, where its time is bounded."""

import functools

import reasoning_gym
from reasoning_gym.factory import DATASETS

SEED = 0  # and no other: item i of seed s is drawn by s + i, so that neighbouring seeds share their items
SIZE = 4000  # items of a data set; some of them depend on it


def ask(what: str, *given):
    """The answer of one of the functions below, so that one process serves them all."""
    return {
        "names": names,
        "item": item,
        "score": score,
        "pays_for_junk": pays_for_junk,
    }[what](*given)


def names() -> list[str]:
    """The data sets that can be made by name alone; the one that is left is composed of others."""
    return sorted(set(DATASETS) - {"composite"})


def item(name: str, index: int) -> tuple[str, str] | None:
    """(question, reference or "" where there is none) of an item; None behind the last."""
    if index >= SIZE:
        return None
    entry = _entry(name, index)
    return str(entry["question"]), "" if entry["answer"] is None else str(
        entry["answer"]
    )


JUNK = (
    "",
    "I do not know",
)  # is no answer to any question, and neither is the question itself


def score(name: str, index: int, question: str, answers: list[str]) -> float:
    """The data set's own score of the best of several readings of one answer, in [0, 1].

    A reading that the data set cannot read (its scorer raises) scores 0, and so does what is no answer
    (`JUNK`, the question itself), which some scorers pay for. The item is made again: an entry
    that has been through JSON loses what some data sets score by. Raises ValueError if it is not the
    item that was asked.
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


def pays_for_junk(name: str, index: int) -> str | None:
    """What is no answer and still gets the full score, or None; an item whose right answer it is does not count."""
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
    except Exception:  # what a scorer cannot read is a wrong answer
        return 0.0
    return min(max(found, 0.0), 1.0) if found == found else 0.0


@functools.cache
def _dataset(name: str):
    return reasoning_gym.create_dataset(name, seed=SEED, size=SIZE)


@functools.lru_cache(maxsize=1024)
def _entry(name: str, index: int) -> dict:
    return _dataset(name)[index]
