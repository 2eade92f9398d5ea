"""Problems and graders; importing this files every task of the package in `TASKS`."""

from fr.tasks import countdown  # noqa: F401
from fr.tasks.base import TASKS, Task

__all__ = ["TASKS", "Task"]
