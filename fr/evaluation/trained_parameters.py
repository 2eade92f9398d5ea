"""Analysis `parameters`: the number of parameters that each arm trains."""

from etils import epath

from fr.config import Config
from fr.evaluation.analyses import register_analysis
from fr.evaluation.study import arm_folder, arms_of, is_made
from fr.models.orbax import checkpoints_in, count_trained
from fr.workdir import PathLike


@register_analysis("parameters")
def parameters(config: Config, workdir: PathLike) -> dict:
    """Trained values of each arm, from its newest checkpoint.

    They are all parameters, adapters, or steering vectors; 0 without a training.
    """
    return {arm: _trained(config, workdir, arm) for arm in arms_of(config)}


def _trained(config: Config, workdir: PathLike, arm: str) -> int:
    if not is_made(arms_of(config)[arm]):
        return 0
    folder = arm_folder(workdir, arm, config.study.seeds[0])
    checkpoints = epath.Path(folder) / "specialist" / "checkpoints"
    steps = checkpoints_in(checkpoints)
    return count_trained(checkpoints / steps[-1]) if steps else 0
