"""A lineage: an ancestor from random numbers, and a specialist trained from an ancestor."""

import dataclasses
from collections.abc import Collection

from etils import epath

from fr import distributed
from fr.config import PREFERENCES, Config, LoraConfig, as_dict, check_source
from fr.errors import UserError
from fr.models import load
from fr.runs import stages
from fr.runs.compatibility import with_template
from fr.runs.names import check_names
from fr.training.lora import master_type
from fr.training.past_runs import model_of
from fr.training.rl import train_policy
from fr.training.rlsf import train_preferences
from fr.training.supervised import from_scratch, train_supervised
from fr.training.update import training_mesh
from fr.workdir import PathLike


def train_lineage(
    config: Config, workdir: PathLike, redo: Collection[str] = ()
) -> list[str]:
    """Train what the config does not name: `ancestor/` if it is "scratch", `specialist/` if it is "".

    Without steps of its algorithm no specialist is trained. Finished models are left alone, but for the stages
    `redo`, which are made again with all that follows. Returns their folders. Several processes train together, on
    all devices of all of them. Raises UserError for a name that is not known, and for a folder that was made with
    other settings.
    """
    ancestor, made = config.ancestor, []
    check_source(config)
    if config.ancestor == "scratch" or (not config.specialist and _steps(config)):
        check_names(config, training=True)
    if distributed.is_first():
        stages.check(workdir, as_dict(config), redo=redo)
        stages.drop(workdir, redo)
    distributed.wait("lineage")
    if ancestor == "scratch":
        ancestor = train_ancestor(config, workdir)
        made.append(ancestor)
    if not config.specialist and _steps(config):
        made.append(train_specialist(config, workdir, ancestor))
    return made


def train_ancestor(config: Config, workdir: PathLike) -> str:
    """Train `architecture` on `pretraining`; returns the exported folder `workdir/ancestor`."""
    folder = epath.Path(workdir) / "ancestor"
    if not _finished(folder):
        # Of random numbers there is nothing to adapt.
        whole = dataclasses.replace(config, lora=LoraConfig())
        train_supervised(
            whole, config.pretraining, workdir, from_scratch(config), folder
        )
    distributed.wait(folder.name)
    return str(folder)


def train_specialist(config: Config, workdir: PathLike, ancestor: str) -> str:
    """Train the model `ancestor` (any name that `load` takes) by `algorithm`; returns `workdir/specialist`.

    Training on a run's attempts starts from the specialist of the run (`training.start`). What the algorithm
    reward_model makes answers nothing and is `workdir/reward_model`.
    """
    folder = epath.Path(workdir) / "specialist"
    if config.algorithm in ("sft", *PREFERENCES):
        ancestor = model_of(config, ancestor)
    if not ancestor:
        raise UserError(
            'config.specialist and config.ancestor are both empty; name a model, or ancestor "scratch"'
        )
    if (
        config.training.run
        and epath.Path(workdir).resolve() == epath.Path(config.training.run).resolve()
    ):
        raise UserError(
            f"--workdir={workdir} is config.training.run itself, whose specialist stays; use another --workdir"
        )
    if config.algorithm in PREFERENCES:
        return train_preferences(config, workdir, ancestor)
    if not _finished(folder):
        if config.algorithm == "sft":
            c = config.training
            # Float32 masters, whatever the type that the ancestor is sampled in.
            start = load(
                ancestor,
                dtype=master_type(c.dtype, config.lora),
                mesh=training_mesh(c.model_axis),
            )
            train_supervised(
                config, c, workdir, with_template(start, config), folder, ancestor
            )
        else:
            train_policy(config, workdir, ancestor, folder)
    distributed.wait(folder.name)
    return str(folder)


def _steps(config: Config) -> int:
    """Steps of the specialist's training."""
    pairs = dict.fromkeys(PREFERENCES, config.preference)
    return ({"sft": config.training} | pairs).get(config.algorithm, config.policy).steps


def _finished(folder: epath.Path) -> bool:
    """An export ends with its config.json."""
    return distributed.agree(
        f"{folder.name}/finished", (folder / "config.json").exists()
    )
