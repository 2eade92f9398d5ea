"""Operators that start from the prompt: hotter, reworded, or with a calculator."""

import dataclasses
import functools

import numpy as np

from fr import tasks
from fr.config import TaskConfig
from fr.diagnosis.junction import tokens_of
from fr.errors import UserError
from fr.interventions.intervention import Intervention, OperatorContext
from fr.interventions.operator_registry import register
from fr.prompts import plain_text
from fr.sampling.sources import PauseAction
from fr.tasks.formats import Codec, encode_text
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
def hot(context: OperatorContext) -> dict:
    """Sample the specialist again, hotter; attempts rotate the temperatures."""
    temperatures = context.config.intervention.hot_temperatures
    return {"temperature": temperatures[context.attempt % len(temperatures)]}


@register("hint", words=lambda form: (HINT,))
def hint(context: OperatorContext) -> Intervention:
    """Add the instruction to check each step."""
    return _told(context, HINT)


def _told(context: OperatorContext, words: str) -> Intervention:
    """The prompt with more words: after the user's turn, or before a plain text."""
    if isinstance(context.prompt, str):
        return Intervention(prompt=f"{words}\n{context.prompt}")
    *before, last = context.prompt
    return Intervention(
        prompt=[*before, {**last, "content": f"{last['content']}\n{words}"}]
    )


@register("reread", words=lambda form: (AGAIN,))
def reread(context: OperatorContext) -> Intervention:
    """Ask the question twice (re-reading, arXiv 2309.06275)."""
    if isinstance(context.prompt, str):
        return Intervention(prompt=f"{context.prompt}\n{AGAIN}\n{context.prompt}")
    return _told(context, f"{AGAIN}\n{context.prompt[-1]['content']}")


@register("critique", reads_failures=True, words=lambda form: (FAULT, MEND))
def critique(context: OperatorContext) -> Intervention:
    """Show a failed attempt, ask for its error and for another (see 2303.17651).

    It reads no reference, but the attempt must be known to have failed. Attempts rotate
    the failures.
    """
    return _told(context, f"{FAULT}\n{context.failure.written.text.strip()}\n{MEND}")


@register("not_this", reads_failures=True, words=lambda form: (NOT.format(""),))
def not_this(context: OperatorContext) -> Intervention:
    """Name the answer of a failed attempt as wrong.

    Without a readable answer of a failure it is a fresh sample. It reads no reference,
    but the attempt must be known to have failed. Attempts rotate the answers.
    """
    answers = [failure.written.own_answer for failure in context.failures]
    known = list(dict.fromkeys(answer for answer in answers if answer))
    return (
        _told(context, NOT.format(known[context.attempt % len(known)]))
        if known
        else Intervention()
    )


@register("other_examples")
def other_examples(context: OperatorContext) -> Intervention:
    """Show other worked examples than a plain attempt, the task's next ones.

    At least two. Raises UserError if the task has no more of them.
    """
    c = context.config.task
    count = max(c.shots, _EXAMPLES)
    try:
        prompt = _task_with(c, c.shots + count).prompt(context.problem)
    except UserError as error:
        raise _too_few(c, count, str(error)) from None
    turns: list = prompt.split("\n") if isinstance(prompt, str) else prompt
    each = 1 if isinstance(prompt, str) else 2  # lines, or turns, of an example
    before = len(turns) - 1 - each * (c.shots + count)  # a system message
    if before < 0:
        raise _too_few(c, count, f"{context.problem.task} shows none")
    turns = [*turns[:before], *turns[before + each * c.shots :]]
    if isinstance(prompt, str):
        return Intervention(prompt="\n".join(turns))
    return Intervention(prompt=plain_text(turns) if c.chat == "plain" else turns)


def _too_few(config: TaskConfig, count: int, why: str) -> UserError:
    return UserError(
        f"operator 'other_examples' needs {count} worked examples beside the "
        f"{config.shots} of config.task.shots ({why}); leave it out of "
        "config.intervention.operators"
    )


@functools.cache
def _task_with(config: TaskConfig, shots: int) -> Task:
    """The task with `shots` examples, as messages also where it is asked as text."""
    chat = "auto" if config.chat == "plain" else config.chat
    return tasks.make(dataclasses.replace(config, shots=shots, chat=chat))


@register("tip")
def tip(context: OperatorContext) -> dict:
    """Lower the logits of switch words in young thoughts (TIP, arXiv 2501.18585).

    z_v - `switch_penalty` for each switch token v within the first `switch_window`
    tokens of a thought, which begins at a switch token. Only words that are one token,
    with or without a space before them. Raises UserError if there is none.
    """
    tokens = _switch_tokens(context)
    return _penalise(context, tokens, tokens)


@register("tip_random")
def tip_random(context: OperatorContext) -> dict:
    """Control of `tip`: the same penalty on as many other tokens, in the same windows.

    Each attempt draws its own tokens, all words of the vocabulary alike, switch words
    and stop tokens left out. A thought still begins at a switch token.
    """
    codec, tokens = context.codec, _switch_tokens(context)
    assert codec is not None
    taken, draw = {*tokens, *codec.stop_tokens}, context.generator()
    others: list[int] = []
    for token in map(int, draw.permutation(codec.vocab)):
        if len(others) == len(tokens):
            break
        text = codec.decode((token,))
        if token not in taken and encode_text(codec, text) == (token,):
            others.append(token)
    return _penalise(context, tokens, tuple(others))


def _penalise(
    context: OperatorContext, tokens: tuple[int, ...], penalised: tuple[int, ...]
) -> dict:
    """The penalty on tokens in the young thoughts that switch tokens begin."""
    c = context.config.intervention
    return {
        "switch_penalty": c.switch_penalty,
        "switch_window": tokens_of(c.switch_window, context.calibration.lengths),
        "switch_tokens": tokens,
        "penalised": penalised,
    }


def _switch_tokens(context: OperatorContext) -> tuple[int, ...]:
    """Ids of the format's switch words; UserError if none of them is one token."""
    words = context.format.switches
    assert context.codec is not None
    spelled = (
        encode_text(context.codec, before + word)
        for word in words
        for before in ("", " ")
    )
    tokens = tuple(dict.fromkeys(ids[0] for ids in spelled if ids and len(ids) == 1))
    if not tokens:
        raise UserError(
            f"operator 'tip': none of {', '.join(words)} is one token of the model; "
            "leave it out of config.intervention.operators"
        )
    return tokens


@register("calculator", uses_oracle=True, words=lambda form: ("=",))
def calculator(context: OperatorContext) -> Intervention:
    """Pause at every equals sign; after `a op b =` push the true result, and go on.

    Results that the tokenizer cannot write, or without a short decimal form, are left
    to the model.
    """
    codec = context.codec
    assert codec is not None

    def on_pause(tokens: np.ndarray) -> PauseAction:
        result = complete_step(codec.decode(tokens.tolist()))
        return PauseAction(forced=(result and encode_text(codec, result)) or ())

    return Intervention({"pause": equals_tokens(codec)}, on_pause=on_pause)


def equals_tokens(codec: Codec) -> tuple[int, ...]:
    """Tokens that end with an equals sign.

    Args:
        codec: The tokenizer.

    Returns:
        Ids in ascending order.
    """
    spelled = (encode_text(codec, text) for text in ("=", " =", "1=", "1 ="))
    return tuple(sorted({ids[-1] for ids in spelled if ids}))
