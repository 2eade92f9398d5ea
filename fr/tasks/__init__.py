"""Problems and their graders.

The modules of the tasks are imported when a task is made, not with the package: a
grader process (`fr.worker`) imports this package for its function and must not pay for
jax.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    import fr.config
    import fr.tasks.task
    import fr.types
    from fr.registry import Registry


def make(config: "fr.config.TaskConfig") -> "fr.tasks.task.Task":
    """Build the task that `config.name` names.

    Args:
        config: Settings of the task.

    Returns:
        The task. An unknown name and bad settings raise UserError.
    """
    return _registered(config.name)(config)


def grader_of(name: str) -> Callable[["fr.types.Problem", str], str] | None:
    """Grader of a task that grades without its settings and its problems.

    Args:
        name: Registered name of the task.

    Returns:
        The static method `grade`, or None if the task needs its settings to grade.
    """
    task = _registered(name)
    grade = inspect.getattr_static(getattr(task, "func", task), "grade")
    return grade.__func__ if isinstance(grade, staticmethod) else None


def traces_of(name: str) -> "Registry | None":
    """Kinds of traces that a task writes for its problems.

    Args:
        name: Registered name of the task.

    Returns:
        Functions (random generator, problem) -> completion by kind, the attribute
        `traces` of the task's class; None if it has none. `answer_first` is the kind
        without a step, which `training.source = solutions` learns.
    """
    return getattr(_registered(name), "traces", None)


def tokenizer_of(config: "fr.config.TaskConfig") -> "PreTrainedTokenizerFast":
    """Vocabulary of a task for models that are made from scratch.

    Args:
        config: Settings of the task.

    Returns:
        What the task's method `tokenizer()` gives.

    Raises:
        UserError: The task has no such method.
    """
    task = _registered(config.name)
    if not hasattr(task, "tokenizer"):
        from fr.errors import UserError

        raise UserError(
            f"config.task.name = {config.name!r} has no vocabulary for "
            "config.ancestor = 'scratch'; name a model as config.ancestor"
        )
    return task(config).tokenizer()


def _registered(name: str) -> Callable:
    from fr.tasks.task import TASKS

    TASKS.complete()
    # the only task whose name goes on with the name of a data set
    package = "reasoning_gym"
    return TASKS[package if name.startswith(f"{package}:") else name]
