"""Whether models fit each other and what they are asked: vocabularies, and the length of rows."""

from collections.abc import Sequence

from fr.config import Config
from fr.errors import UserError
from fr.models import Model
from fr.models.model import check_context
from fr.tasks.base import Task
from fr.types import Problem


def check_lengths(config: Config, task: Task, problems: Sequence[Problem], models: Sequence[Model]) -> str:
    """What to warn of the length of rows, "" for nothing; the first model's tokenizer reads the prompts.

    Raises UserError where a model has too few positions for the longest prompt and what is sampled behind it.
    """
    longest = max((len(models[0].encode(task.prompt(problem))) for problem in problems), default=0)
    new, what = config.sampling.max_new_tokens, f"the longest prompt ({longest} tokens)"
    return check_context(models, longest + new, what, "config.sampling.max_new_tokens")


def check_vocabularies(specialist: Model, other: Model, role: str) -> None:
    """Raise UserError if `other`, which has a role beside the specialist, does not read the same ids."""
    ours, theirs = specialist.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    for text in sorted(ours.keys() & theirs.keys()):
        if ours[text] != theirs[text]:
            raise UserError(
                f"{other.name}: token {text!r} has id {theirs[text]}, in {specialist.name} it has {ours[text]}; "
                f"{role} must share the vocabulary"
            )
    if len(ours.keys() & theirs.keys()) < min(len(ours), len(theirs)):
        raise UserError(
            f"{other.name}: its vocabulary is not that of {specialist.name}, which {role} must share"
        )
