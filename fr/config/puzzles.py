"""Settings of the task `maze`."""

import dataclasses

from fr.config.fields import Bound, setting


@dataclasses.dataclass(frozen=True)
class MazeConfig:
    """Mazes with traces of A* search (arXiv 2505.13775)."""

    generator: str = setting("walls", "maze: walls, depth_first or drunkard")
    size: int = setting(
        5,
        "maze: cells of a side",
        Bound("3 to 7: the vocabulary has no other cells", lambda v: 3 <= v <= 7),
    )
