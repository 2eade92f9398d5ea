"""Operators that start from the prompt: hotter, with other words, kept to a thought, or with a calculator."""

import dataclasses
import functools

import numpy as np

from fr import tasks
from fr.config import TaskConfig
from fr.diagnosis.junction import tokens_of
from fr.errors import UserError
from fr.interventions.intervention import Change, Setting, register
from fr.prompts import plain_text
from fr.sampling.sources import Resume
from fr.tasks.formats import encode_text
from fr.tasks.steps import complete_step
from fr.tasks.task import Task

HINT = "Check each step before you go on to the next one."
AGAIN = "Read the question again:"
FAULT, MEND = (
    "This attempt is wrong:",
    "Say what is wrong with it, then solve the problem anew.",
)
NOT = "The answer is not {}."
_EXAMPLES = 2  # worked ones, where a plain attempt reads none


@register("hot")
def hot(setting: Setting) -> dict:
    """Sample the specialist again, hotter; attempts take turns through the temperatures."""
    temperatures = setting.config.intervention.hot_temperatures
    return {"temperature": temperatures[setting.attempt % len(temperatures)]}


@register("hint", words=lambda form: (HINT,))
def hint(setting: Setting) -> Change:
    """Ask again, and to check each step."""
    return _told(setting, HINT)


def _told(setting: Setting, words: str) -> Change:
    """The prompt with more words: behind what the user says, in a plain text before it, whose end is to go on."""
    if isinstance(setting.prompt, str):
        return Change(prompt=f"{words}\n{setting.prompt}")
    *before, last = setting.prompt
    return Change(prompt=[*before, {**last, "content": f"{last['content']}\n{words}"}])


@register("reread", words=lambda form: (AGAIN,))
def reread(setting: Setting) -> Change:
    """Ask the question twice (re-reading, arXiv 2309.06275)."""
    if isinstance(setting.prompt, str):
        return Change(prompt=f"{setting.prompt}\n{AGAIN}\n{setting.prompt}")
    return _told(setting, f"{AGAIN}\n{setting.prompt[-1]['content']}")


@register("critique", words=lambda form: (FAULT, MEND))
def critique(setting: Setting) -> Change:
    """Show a failed attempt, ask what is wrong with it, and for another one (after arXiv 2303.17651).

    No reference is read, but that the attempt failed must be known. Attempts take turns through the failures.
    """
    return _told(setting, f"{FAULT}\n{setting.failure.written.text.strip()}\n{MEND}")


@register("not_this", words=lambda form: (NOT.format(""),))
def not_this(setting: Setting) -> Change:
    """Name the answer of a failed attempt as wrong; sampled anew where no failure has a readable answer.

    No reference is read, but that the attempt failed must be known. Attempts take turns through the answers.
    """
    answers = [failure.written.own_answer for failure in setting.failures]
    known = list(dict.fromkeys(answer for answer in answers if answer))
    return (
        _told(setting, NOT.format(known[setting.attempt % len(known)]))
        if known
        else Change()
    )


@register("other_examples")
def other_examples(setting: Setting) -> Change:
    """Ask behind other worked examples than a plain attempt reads: the task's next ones, two or as many as those.

    Raises UserError where the task has no more of them.
    """
    c = setting.config.task
    count = max(c.shots, _EXAMPLES)
    try:
        prompt = _task_with(c, c.shots + count).prompt(setting.problem)
    except UserError as error:
        raise _too_few(c, count, str(error)) from None
    turns = prompt.split("\n") if isinstance(prompt, str) else prompt
    each = 1 if isinstance(prompt, str) else 2  # lines, or turns, of an example
    before = len(turns) - 1 - each * (c.shots + count)  # a system message
    if before < 0:
        raise _too_few(c, count, f"{setting.problem.task} shows none")
    turns = [*turns[:before], *turns[before + each * c.shots :]]
    if isinstance(prompt, str):
        return Change(prompt="\n".join(turns))
    return Change(prompt=plain_text(turns) if c.chat == "plain" else turns)


def _too_few(config: TaskConfig, count: int, why: str) -> UserError:
    return UserError(
        f"operator 'other_examples' needs {count} worked examples beside the {config.shots} of config.task.shots "
        f"({why}); leave it out of config.intervention.operators"
    )


@functools.cache
def _task_with(config: TaskConfig, shots: int) -> Task:
    """The task with so many examples, as messages even where it is asked in plain text."""
    chat = "auto" if config.chat == "plain" else config.chat
    return tasks.make(dataclasses.replace(config, shots=shots, chat=chat))


@register("tip")
def tip(setting: Setting) -> dict:
    """Switch words are made less likely while a thought is young (TIP, arXiv 2501.18585).

    Only those that are one token, with a space before them or without. Raises UserError if none is.
    """
    c, words = setting.config.intervention, setting.format.switches
    spelled = (
        encode_text(setting.codec, before + word)
        for word in words
        for before in ("", " ")
    )
    tokens = tuple(dict.fromkeys(ids[0] for ids in spelled if ids and len(ids) == 1))
    if not tokens:
        raise UserError(
            f"operator 'tip': none of {', '.join(words)} is one token of the model; leave it out of "
            "config.intervention.operators"
        )
    window = tokens_of(c.switch_window, setting.calibration.lengths)
    return {
        "switch_penalty": c.switch_penalty,
        "switch_window": window,
        "switch_tokens": tokens,
    }


@register("calculator", outside=True, words=lambda form: ("=",))
def calculator(setting: Setting) -> Change:
    """The row pauses at every equals sign; behind `a op b =` the true result is pushed, and it goes on.

    What the tokenizer cannot write, or has no short decimal form, is left to the model.
    """
    codec = setting.codec
    spelled = (encode_text(codec, text) for text in ("=", " =", "1=", "1 ="))
    signs = {ids[-1] for ids in spelled if ids}

    def speak(tokens: np.ndarray) -> Resume:
        result = complete_step(codec.decode(tokens))
        return Resume(forced=(result and encode_text(codec, result)) or ())

    return Change({"pause": tuple(sorted(signs))}, speak=speak)
