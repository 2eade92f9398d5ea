"""Refusal of runs that asked questions which the trained model is evaluated on."""

from collections.abc import Iterable

from fr import tasks
from fr.config import Config
from fr.errors import UserError


def check_disjoint(config: Config, asked: Iterable[str]) -> None:
    """Check that the run asked no question of the split that this config evaluates on.

    Questions are compared by their words: a copy under another id is the same question.

    Args:
        config: The whole configuration.
        asked: Questions of the run.

    Raises:
        UserError: There are such questions.
    """
    c, words = config.task, lambda text: " ".join(text.split())
    evaluated = {words(problem.question) for problem in tasks.make(c).problems(c.split)}
    if shared := {words(question) for question in asked} & evaluated:
        raise UserError(
            f"config.training.run = {config.training.run!r} asked {len(shared)} of the "
            f"questions of config.task.split = {c.split!r} (as {min(shared)[:60]!r}), "
            "which the trained model would be evaluated on; set config.task.split to "
            "another split, or make the run with config.task.split = 'train'"
        )
