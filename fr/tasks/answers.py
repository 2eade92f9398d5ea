"""The answer that a completion ends with, in a form that is the same for the same answer."""

from fr.tasks import countdown_checker, gym
from fr.tasks.extract import final_answer, normalised, stated_number
from fr.tasks.graders import letter_of, literal_of


def canonical_answer(task: str, completion: str) -> str | None:
    """Countdown: the expression, one space between words. Others: the number that is stated, or else the words.

    GPQA: the letter. CruxEval: the literal as Python writes it. reasoning_gym: all words behind the cue. None
    where there is none. Two answers that are the same may still be written in ways that this does not see
    through, such as the operands of a sum in another order.
    """
    if task == "countdown":
        expression = countdown_checker.extract(completion)
        return None if expression is None else " ".join(expression.split())
    if task == "gpqa":
        return letter_of(completion)
    if task == "cruxeval":
        stated = literal_of(completion)
        return None if stated is None else repr(stated[0])
    if task.startswith(gym.PACKAGE):
        forms = gym.readings(completion)
        return normalised(forms[-1]) if forms else None
    answer = final_answer(completion, numeric=False)
    number = None if answer is None else stated_number(answer)
    return str(number) if number is not None else answer and normalised(answer)
