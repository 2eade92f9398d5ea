"""Problems and their graders. The modules of the tasks are imported when one is made, not before.

So a grader process (`fr.worker`), which imports this package for its function, pays for no jax.
"""

import inspect
from collections.abc import Callable


def make(config: "fr.config.TaskConfig") -> "fr.tasks.base.Task":  # noqa: F821 (see above)
    """The task that `config.name` names; raises UserError for an unknown name and for bad settings."""
    return _registered(config.name)(config)


def grader_of(name: str) -> Callable[["fr.types.Problem", str], str] | None:  # noqa: F821
    """The `grade` of the task `name`, which needs none of its problems; None where it needs a task's settings."""
    task = _registered(name)
    grade = inspect.getattr_static(getattr(task, "func", task), "grade")
    return grade.__func__ if isinstance(grade, staticmethod) else None


def _registered(name: str) -> Callable:
    # these register themselves
    from fr.tasks import (  # noqa: F401
        arithmetic,
        countdown,
        datasets,  # noqa: F401
        mixed,
        questions,
        reasoning_gym,  # noqa: F401
        word_problems,
    )
    from fr.tasks.base import TASKS

    # only there a data set's own name follows
    return TASKS[
        reasoning_gym.PACKAGE if name.startswith(f"{reasoning_gym.PACKAGE}:") else name
    ]
