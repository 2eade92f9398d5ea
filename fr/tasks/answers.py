"""The answer that a completion ends with: as it is written, and in a form that is the same for the same answer."""

from collections.abc import Sequence

from fr.tasks import countdown_rules, extract, reasoning_gym
from fr.tasks.claims import number_undone, read
from fr.tasks.equality import same_formulas
from fr.tasks.graders import letter_of, literal_key, literal_of
from fr.tasks.undress import normalised


def canonical_answer(task: str, completion: str) -> str | None:
    """The key of an answer: completions whose keys are equal give the same answer.

    Countdown: the expression, one space between words. GPQA: the letter. CruxEval: the literal as
    Python writes it. reasoning_gym: all words after the cue. Others: the value that is stated, or
    else the words. None where there is no answer.
    """
    if task == "countdown":
        expression = countdown_rules.extract(completion)
        return None if expression is None else countdown_rules.spaced(expression)
    if task == "gpqa":
        return letter_of(completion)
    if task == "cruxeval":
        stated = literal_of(completion)
        return None if stated is None else literal_key(stated[0])
    if task.startswith(reasoning_gym.PACKAGE):
        forms = reasoning_gym.readings(completion)
        return normalised(forms[-1]) if forms else None
    found = extract.find(completion)
    if found is None:
        return None
    value = read(found.text, found.how == "bare")
    # a sum that is left to the reader is not its result, to graders neither
    return (
        normalised(found.text)
        if value.number is not None and number_undone(found.text)
        else value.key or None
    )


def canonical_answers(task: str, completions: Sequence[str | None]) -> list[str | None]:
    """The keys of completions, where formulas that math-verify finds equal share the first one's key.

    Exact values have one key each. Only formulas without one (sines, roots of sums) are compared,
    each with those before it. None stays None.
    """
    keys = [
        None if text is None else canonical_answer(task, text) for text in completions
    ]
    firsts = {
        key: text
        for key, text in reversed(list(zip(keys, completions)))
        if key is not None
    }
    shared: dict[str, str] = {}
    for key in dict.fromkeys(keys):
        if key is not None:
            shared[key] = next(
                (
                    k
                    for k in dict.fromkeys(shared.values())
                    if _alike(task, firsts, k, key)
                ),
                key,
            )
    return [None if key is None else shared[key] for key in keys]


def _alike(task: str, completions: dict[str, str], one: str, other: str) -> bool:
    """Whether two keys of formulas stand for one value."""
    if task in ("countdown", "gpqa", "cruxeval") or task.startswith(
        reasoning_gym.PACKAGE
    ):
        return False
    found = [extract.find(completions[key]) for key in (one, other)]
    return same_formulas(*(each.text for each in found))


def extracted_answer(task: str, completion: str) -> str | None:
    """The answer that the grader of a task finds in a completion, as it is written; None where it finds none."""
    if task == "countdown":
        return countdown_rules.extract(completion)
    if task.startswith(reasoning_gym.PACKAGE):
        return next(iter(reasoning_gym.readings(completion)), None)
    kind = {"gpqa": extract.LETTER, "cruxeval": extract.LITERAL}.get(task, extract.MATH)
    return extract.final_answer(completion, kind)
