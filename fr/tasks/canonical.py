"""Canonical answers: one key for all completions that give the same answer."""

from collections.abc import Sequence

from fr.tasks import countdown_rules, extract, reasoning_gym
from fr.tasks.equality import same_formulas
from fr.tasks.grading import letter_of, literal_key, literal_of
from fr.tasks.normalise import normalise_words
from fr.tasks.stated import is_unevaluated, read_value


def canonical_answer(task: str, completion: str) -> str | None:
    """Key of the answer that a completion ends with; equal answers have equal keys.

    Countdown and mazes: the expression or plan, one space between words. GPQA: the
    letter. CruxEval: the literal as Python writes it. reasoning_gym: all words after
    the cue. Other tasks: the value that is stated, or else the words.

    Args:
        task: Registered name of the task.
        completion: New text of an attempt.

    Returns:
        The key, or None without an answer.
    """
    if task == "countdown":
        expression = countdown_rules.extract_expression(completion)
        return expression and countdown_rules.space_expression(expression)
    if task == "maze":
        plan = extract.final_answer(completion, extract.EXPRESSION)
        return plan and " ".join(plan.split())
    if task == "gpqa":
        return letter_of(completion)
    if task == "cruxeval":
        stated = literal_of(completion)
        return None if stated is None else literal_key(stated[0])
    if task.startswith(reasoning_gym.PACKAGE):
        forms = reasoning_gym.readings(completion)
        return normalise_words(forms[-1]) if forms else None
    found = extract.find_answer(completion)
    if found is None:
        return None
    value = read_value(found.text, found.how == "bare")
    # A sum that is left to the reader is not its result; graders agree.
    if value.number is not None and is_unevaluated(found.text):
        return normalise_words(found.text)
    return value.key or None


def canonical_answers(task: str, completions: Sequence[str | None]) -> list[str | None]:
    """Keys of completions; equal formulas share the first one's key.

    Exact values have one key each. Only formulas without an exact value (sines, roots
    of sums) are compared by math-verify, each with those before it.

    Args:
        task: Registered name of the task.
        completions: New texts of attempts; None for an attempt without a text.

    Returns:
        A key or None per completion.
    """
    keys = [
        None if text is None else canonical_answer(task, text) for text in completions
    ]
    firsts: dict[str, str] = {}
    for key, text in zip(keys, completions):
        if key is not None and text is not None:
            firsts.setdefault(key, text)
    shared: dict[str, str] = {}
    for key in firsts:
        known = dict.fromkeys(shared.values())
        shared[key] = next((k for k in known if _alike(task, firsts, k, key)), key)
    return [None if key is None else shared[key] for key in keys]


def _alike(task: str, completions: dict[str, str], one: str, other: str) -> bool:
    """True if two keys of formulas stand for one value."""
    if extract.kind_of(task) != extract.MATH:
        return False
    found = [extract.find_answer(completions[key]) for key in (one, other)]
    first, second = (each.text if each else "" for each in found)
    return same_formulas(first, second)


def extracted_answer(task: str, completion: str) -> str | None:
    """Answer that the grader of a task finds in a completion.

    Args:
        task: Registered name of the task.
        completion: New text of an attempt.

    Returns:
        The answer as written, or None.
    """
    if task == "countdown":
        return countdown_rules.extract_expression(completion)
    if task.startswith(reasoning_gym.PACKAGE):
        return next(iter(reasoning_gym.readings(completion)), None)
    return extract.final_answer(completion, extract.kind_of(task))
