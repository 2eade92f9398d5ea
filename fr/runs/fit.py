"""Whether models fit each other and what they are asked: vocabularies, and the length of rows."""

import dataclasses
import json
from collections.abc import Sequence

from fr.config import Config
from fr.errors import UserError
from fr.models import Model
from fr.models.model import check_context
from fr.tasks.task import Task
from fr.types import Problem

_EXAMPLE = '{"enable_thinking": false}'


def check_lengths(
    config: Config, task: Task, problems: Sequence[Problem], models: Sequence[Model]
) -> str:
    """What to warn of the length of rows, "" for nothing; the first model's tokenizer reads the prompts.

    Raises UserError where a model has too few positions for the longest prompt and what is sampled behind it.
    """
    longest = max(
        (len(models[0].encode(task.prompt(problem))) for problem in problems), default=0
    )
    new, what = config.sampling.max_new_tokens, f"the longest prompt ({longest} tokens)"
    return check_context(models, longest + new, what, "config.sampling.max_new_tokens")


def with_template(model: Model, config: Config) -> Model:
    """The model with the variables of `config.task.template_kwargs` for its chat template."""
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


def pair(specialist: Model, ancestor: Model) -> tuple[Model, str]:
    """The ancestor as it is read beside the specialist, and what to say of their vocabularies, "" for nothing.

    Rows of its table that are other special or added tokens there say nothing in statistics and mixtures
    (`ModelConfig.masked`). Raises UserError where an ordinary token differs.
    """
    if ancestor.tokenizer is None and ancestor.config.vocab == specialist.config.vocab:
        return (
            ancestor,
            f"{ancestor.name} has no tokenizer: that of {specialist.name} is taken for it",
        )
    masked = check_vocabularies(specialist, ancestor, "an ancestor")
    if not masked:
        return ancestor, ""
    config = dataclasses.replace(ancestor.config, masked=tuple(masked))
    shown = ", ".join(masked[i] for i in list(masked)[:5]) + (
        ", ..." if len(masked) > 5 else ""
    )
    said = f"{ancestor.name} has {len(masked)} other special or added tokens, left out of comparisons: {shown}"
    return dataclasses.replace(ancestor, config=config), said


def check_vocabularies(specialist: Model, other: Model, role: str) -> dict[int, str]:
    """Ids that are another special or added token for `other`, with what they are on both sides.

    One that ends a text for both is none of them. Raises UserError, with the first differences, if `other`,
    which has a `role` beside the specialist, reads an ordinary token otherwise, or has no tokenizer.
    """
    for model in (specialist, other):
        if model.tokenizer is None:
            raise UserError(
                f"{model.name} has no tokenizer, so that its ids cannot be compared; {role} needs one"
            )
    ours, theirs = _by_id(specialist), _by_id(other)
    added = (
        specialist.tokenizer.added_tokens_decoder.keys(),
        other.tokenizer.added_tokens_decoder.keys(),
    )
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
            f"{other.name}: {len(ordinary)} ids are other tokens than in {specialist.name}, as "
            f"{', '.join(ordinary[:3])}; {role} must share the vocabulary"
        )
    return masked


def _by_id(model: Model) -> dict[int, str]:
    return {i: text for text, i in model.tokenizer.get_vocab().items()}
