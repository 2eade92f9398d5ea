"""Compatibility checks: vocabularies, row lengths, chat templates, strict sums."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from fr.config import Config
from fr.errors import UserError
from fr.models import Model
from fr.models.model import check_context
from fr.sampling.devices import Devices
from fr.tasks.task import Task
from fr.types import Problem

_EXAMPLE = '{"enable_thinking": false}'


def check_lengths(
    config: Config, task: Task, problems: Sequence[Problem], models: Sequence[Model]
) -> str:
    """Check that the models have positions for the longest prompt and its new tokens.

    Args:
        config: `sampling.max_new_tokens` is read.
        task: Makes the prompts.
        problems: All problems of the run.
        models: Models that read the rows; the tokenizer of the first encodes the
            prompts.

    Returns:
        A warning to print; "" for none.

    Raises:
        UserError: A model has too few positions (from `check_context`).
    """
    longest = max(
        (len(models[0].encode(task.prompt(problem))) for problem in problems), default=0
    )
    new, what = config.sampling.max_new_tokens, f"the longest prompt ({longest} tokens)"
    return check_context(models, longest + new, what, "config.sampling.max_new_tokens")


def with_template(model: Model, config: Config) -> Model:
    """Add the variables of `config.task.template_kwargs` to a model's chat template.

    Args:
        model: The model.
        config: `task.template_kwargs`, a JSON object, is read.

    Returns:
        The model, unchanged without such variables.

    Raises:
        UserError: The setting is not a JSON object, or the model has no chat template.
    """
    given = config.task.template_kwargs
    if not given:
        return model
    try:
        values = json.loads(given)
    except ValueError as error:
        raise UserError(
            f"config.task.template_kwargs = {given!r} is not JSON: {error}"
        ) from error
    if not isinstance(values, dict):
        raise UserError(
            f"config.task.template_kwargs = {given!r} must be an object, as {_EXAMPLE}"
        )
    if not model.chat:
        raise UserError(
            f"{model.name} has no chat template for config.task.template_kwargs"
        )
    return dataclasses.replace(model, template_kwargs=tuple(values.items()))


def with_strict(model: Model, config: Config, devices: Devices) -> Model:
    """Give a model the arithmetic of `config.sampling.strict`.

    Args:
        model: The model.
        config: The whole configuration.
        devices: Devices that it is sampled on.

    Returns:
        The model; unchanged unless the setting is on.

    Raises:
        UserError: There is more than one device, or it is not a CPU, or the model is
            not in float32.
    """
    if not config.sampling.strict:
        return model
    given = f"{len(devices.all_devices)} x {devices.devices[0].platform}"
    if given != "1 x cpu" or model.dtype != jnp.float32:
        raise UserError(
            f"config.sampling.strict is for one CPU in float32, and this is {given} in "
            f"{model.dtype.name}; set config.sampling.strict = False"
        )
    shape = dataclasses.replace(model.config, by_rows=True)
    return dataclasses.replace(model, config=shape)


def pair_ancestor(specialist: Model, ancestor: Model) -> tuple[Model, str]:
    """Prepare an ancestor to read the specialist's tokens.

    Ids that are other special or added tokens for the ancestor are left out of its
    distribution in statistics and mixtures (`ModelConfig.masked`).

    Args:
        specialist: The model that is sampled.
        ancestor: The model that it was trained from.

    Returns:
        The ancestor, and a message about the vocabularies; "" for none.

    Raises:
        UserError: An ordinary token differs (from `check_vocabularies`).
    """
    if ancestor.tokenizer is None and ancestor.config.vocab == specialist.config.vocab:
        return (
            ancestor,
            f"{ancestor.name} has no tokenizer: "
            f"the tokenizer of {specialist.name} is used",
        )
    masked = check_vocabularies(specialist, ancestor, "an ancestor")
    if not masked:
        return ancestor, ""
    config = dataclasses.replace(ancestor.config, masked=tuple(masked))
    shown = ", ".join(masked[i] for i in list(masked)[:5]) + (
        ", ..." if len(masked) > 5 else ""
    )
    message = (
        f"{ancestor.name} has {len(masked)} other special or added tokens, "
        f"left out of comparisons: {shown}"
    )
    return dataclasses.replace(ancestor, config=config), message


def check_vocabularies(specialist: Model, other: Model, role: str) -> dict[int, str]:
    """Compare the vocabularies of two models, token by token.

    An id that ends a text for both models counts as the same token.

    Args:
        specialist: The model that is sampled.
        other: The model that reads its tokens.
        role: What `other` is, for the message: "an ancestor".

    Returns:
        Ids that are another special or added token for `other`, with both tokens.

    Raises:
        UserError: An ordinary token differs (the message shows the first three), or a
            model has no tokenizer.
    """
    for model in (specialist, other):
        if model.tokenizer is None:
            raise UserError(
                f"{model.name} has no tokenizer, so that its ids cannot be compared; "
                f"{role} needs one"
            )
    tokenizers: list[Any] = [specialist.tokenizer, other.tokenizer]
    ours, theirs = (
        {i: text for text, i in tokenizer.get_vocab().items()}
        for tokenizer in tokenizers
    )
    added = [tokenizer.added_tokens_decoder.keys() for tokenizer in tokenizers]
    ends = set(specialist.stop_tokens) & set(other.stop_tokens)
    ordinary, masked = [], {}
    for i in sorted(ours.keys() | theirs.keys()):
        if ours.get(i) == theirs.get(i) or i in ends:
            continue
        line = f"{i} ({ours.get(i, 'nothing')!r}, there {theirs.get(i, 'nothing')!r})"
        if (i in ours and i not in added[0]) or (i in theirs and i not in added[1]):
            ordinary.append(line)
        else:
            masked[i] = line
    if ordinary:
        raise UserError(
            f"{other.name}: {len(ordinary)} ids are other tokens than in "
            f"{specialist.name}, as {', '.join(ordinary[:3])}; "
            f"{role} must share the vocabulary"
        )
    return masked
