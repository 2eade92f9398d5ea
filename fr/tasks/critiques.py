"""Critiques of responses by an exact checker, the teacher of critique fine-tuning."""

from fractions import Fraction

from fr.tasks.canonical import extracted_answer
from fr.tasks.countdown_rules import (
    expression_value,
    extract_expression,
    space_expression,
)
from fr.tasks.countdown_solver import ReplayedStep, replay
from fr.tasks.countdown_traces import LARGEST
from fr.tasks.extract import ANSWER
from fr.tasks.steps import Step, find_steps, format_number
from fr.types import RIGHT, UNPARSED, Problem, Prompt

ASK = "Say which steps of this response are right, and whether its answer is."
_STEPS = 40  # of a response that a critique goes through


def ask_critique(prompt: Prompt, task: str, response: str) -> Prompt:
    """Prompt that shows a problem and a response, and asks for a critique.

    Countdown's vocabulary has no words for it: there a second colon asks, as the first
    one asks for a response.

    Args:
        prompt: Prompt of the problem.
        task: Registered name of the task.
        response: Text of the response.

    Returns:
        Plain text, or messages where the prompt has messages.
    """
    if task == "countdown":
        return f"{prompt} {response} :"
    more = f"\n\nResponse:\n{response.strip()}\n\n{ASK}"
    if isinstance(prompt, str):
        return f"{prompt}{more}\n"
    *before, last = prompt
    return [*before, {**last, "content": last["content"] + more}]


def critique(problem: Problem, response: str, grade: str) -> str:
    """Critique of a response: each step, then the answer; what is wrong is corrected.

    Countdown, in the words of its vocabulary: `3 + 7 = 10 : yes` for a right step, `3 +
    7 = 11 : no 10` for a false result, `3 + 9 = 12 : up` for numbers that are not
    there, and `answer 3 + 7 = 10 : no 3 * 7` for a wrong answer, with a right one after
    it. Other tasks say the same in sentences.

    Args:
        problem: The problem, with its reference.
        response: Text of the response.
        grade: Grade of the response, one of `fr.types.GRADES`.

    Returns:
        The critique.
    """
    write = _countdown if problem.task == "countdown" else _sentences
    return write(problem, response, grade)


def _countdown(problem: Problem, response: str, grade: str) -> str:
    numbers, target = problem.meta["numbers"], problem.meta["target"]
    played = replay(response, numbers, target)[:_STEPS]
    parts = [_judged(step) for step in played]
    expression = extract_expression(response) if grade != UNPARSED else None
    stated = [ANSWER]
    if expression is not None:
        value = expression_value(expression)
        left = expression.partition("=")[0]
        stated += [space_expression(left), *_written("=", value)]
    verdict = ["yes"] if grade == RIGHT else ["no", problem.answer]
    return " , ".join([*parts, " ".join([*stated, ":", *verdict])])


def _judged(played: ReplayedStep) -> str:
    step = played.step
    first, second = (format_number(term) for term in step.terms)
    text = f"{first} {played.sign} {second} = {format_number(step.result)} :"
    if not played.legal:
        return f"{text} up"
    return f"{text} yes" if step.true else " ".join([text, "no", *_written(step.value)])


def _written(*parts) -> list[str]:
    """Words that end in a value; none where the vocabulary has no word for it."""
    *before, value = parts
    known = value is not None and value == int(value) and 0 <= value <= LARGEST
    return [*before, str(int(value))] if known else []


def _sentences(problem: Problem, response: str, grade: str) -> str:
    lines = [_sentence(response, step) for step in find_steps(response)[:_STEPS]]
    own = None if grade == UNPARSED else extracted_answer(problem.task, response)
    subject = "There is no answer" if own is None else f"The answer {own.strip()} is"
    if grade == RIGHT:
        end = f"{subject} right."
    else:
        end = subject + " wrong" * (own is not None)
        end += f": it is {problem.answer}." if problem.answer else "."
    return "\n".join([*dict.fromkeys(lines), end])


def _sentence(response: str, step: Step) -> str:
    text = f"{response[step.start : step.equals].strip()} {format_number(step.result)}"
    if step.true:
        return f"{text}: right."
    value: Fraction | None = step.value
    true = format_number(value)
    return f"{text}: wrong" + (f", it is {true}." if true else ".")
