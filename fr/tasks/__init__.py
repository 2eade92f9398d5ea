"""Problems and their graders. The modules of the tasks are imported when one is made, not before.

So a grader process, which imports this package for `fr.tasks.worker`, pays for no jax.
"""


def make(config: "fr.config.TaskConfig") -> "fr.tasks.base.Task":  # noqa: F821 (see above)
    """The task that `config.name` names; raises UserError for an unknown name and for bad settings."""
    # these register themselves
    from fr.tasks import arithmetic, countdown, gym, hub, mixed, questions, word_problems  # noqa: F401
    from fr.tasks.base import TASKS

    # only there a data set's own name follows
    name = gym.PACKAGE if config.name.startswith(f"{gym.PACKAGE}:") else config.name
    return TASKS[name](config)
