"""Problems and their graders.

The modules of the tasks are imported when a task is made, not with the package: a
grader process (`fr.worker`) imports this package for its function and must not pay for
jax.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import fr.config
    import fr.tasks.task
    import fr.types


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


def _registered(name: str) -> Callable:
    # these register themselves
    from fr.tasks import (  # noqa: F401
        arithmetic,
        countdown,
        datasets,
        mixed,
        questions,
        reasoning_gym,
        word_problems,
    )
    from fr.tasks.task import TASKS

    # the only task whose name goes on with the name of a data set
    package = reasoning_gym.PACKAGE
    return TASKS[package if name.startswith(f"{package}:") else name]
