"""Operators that start from the prompt: hotter, told to check, kept to a thought, or with a calculator."""

import numpy as np

from fr.diagnosis.junction import tokens_of
from fr.errors import UserError
from fr.interventions.base import Change, Setting, register
from fr.sampling.work import Resume
from fr.tasks.formats import spell
from fr.tasks.steps import completion_of

HINT = "Check each step before you go on to the next one."


@register("hot")
def hot(setting: Setting) -> dict:
    """Sample the specialist again, hotter; attempts take turns through the temperatures."""
    temperatures = setting.config.intervention.hot_temperatures
    return {"temperature": temperatures[setting.attempt % len(temperatures)]}


@register("hint", words=lambda form: (HINT,))
def hint(setting: Setting) -> Change:
    """Ask again, and to check each step."""
    if isinstance(setting.prompt, str):
        return Change(prompt=f"{HINT}\n{setting.prompt}")
    *before, last = setting.prompt
    return Change(prompt=[*before, {**last, "content": f"{last['content']}\n{HINT}"}])


@register("tip")
def tip(setting: Setting) -> dict:
    """Switch words are made less likely while a thought is young (TIP, arXiv 2501.18585).

    Only those that are one token, with a space before them or without. Raises UserError if none is.
    """
    c, words = setting.config.intervention, setting.format.switches
    spelled = (spell(setting.codec, before + word) for word in words for before in ("", " "))
    tokens = tuple(dict.fromkeys(ids[0] for ids in spelled if ids and len(ids) == 1))
    if not tokens:
        raise UserError(
            f"operator 'tip': none of {', '.join(words)} is one token of the model; leave it out of "
            "config.intervention.operators"
        )
    window = tokens_of(c.switch_window, setting.calibration.lengths)
    return {"switch_penalty": c.switch_penalty, "switch_window": window, "switch_tokens": tokens}


@register("calculator", outside=True, words=lambda form: ("=",))
def calculator(setting: Setting) -> Change:
    """The row pauses at every equals sign; behind `a op b =` the true result is pushed, and it goes on.

    What the tokenizer cannot write, or has no short decimal form, is left to the model.
    """
    codec = setting.codec
    spelled = (spell(codec, text) for text in ("=", " =", "1=", "1 ="))
    signs = {ids[-1] for ids in spelled if ids}

    def speak(tokens: np.ndarray) -> Resume:
        result = completion_of(codec.decode(tokens))
        return Resume(forced=(result and spell(codec, result)) or ())

    return Change({"pause": tuple(sorted(signs))}, speak=speak)
