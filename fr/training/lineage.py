"""Train a lineage: an ancestor from random numbers, a specialist from an ancestor."""

import dataclasses
from collections.abc import Collection

from etils import epath

from fr import compile_cache, distributed, tasks
from fr.config import (
    PREFERENCES,
    VECTOR,
    Config,
    LoraConfig,
    check_rollouts,
)
from fr.errors import UserError
from fr.models import load, save
from fr.models.orbax import save_outline
from fr.models.sharding import on_host
from fr.models.vector_files import write_vectors
from fr.runs import stages
from fr.runs.compatibility import with_strict, with_template
from fr.runs.inputs import begin_training
from fr.runs.run import check_chat
from fr.sampling.devices import Devices
from fr.training.checks import (
    check_lineage,
    check_policy,
    check_start,
    policy_problems,
    reward_mix,
    trains_specialist,
)
from fr.training.learner import Learner
from fr.training.lora import master_dtype, with_vectors
from fr.training.microbatches import (
    training_mesh,
)
from fr.training.preferences import train_preferences
from fr.training.rl_records import ROLLOUTS
from fr.training.steering_vectors import VECTORS, train_vector
from fr.training.supervised import random_model, train_supervised
from fr.training.trainer import Evaluator, fit
from fr.workdir import PathLike


def train_policy(
    config: Config, workdir: PathLike, ancestor: str, folder: PathLike
) -> None:
    """Train a model by policy optimisation (`config.algorithm`) on `config.rewards`.

    Args:
        config: The whole configuration.
        workdir: Folder of the models.
        ancestor: Name of the model that training starts from.
        folder: Receives checkpoints, metrics and in the end the model.

    Raises:
        UserError: Settings do not fit together; raised before anything is written.
    """
    check_rollouts(config)
    compile_cache.keep()
    task = tasks.make(config.task)
    mix = reward_mix(config)
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(config.policy.model_axis, devices.all_devices)
    check_policy(config.policy, mesh)
    start = load(
        ancestor, dtype=master_dtype(config.policy.dtype, config.lora), mesh=mesh
    )
    start = with_strict(with_template(start, config), config, devices)
    start = with_vectors(start, config.lora)
    if start.tokenizer is None or not start.stop_tokens:
        raise UserError(
            f"{ancestor} has no tokenizer or no stop token, so it cannot be asked "
            "problems"
        )
    check_chat(config, start, task.prompt(task.problems("train", 1)[0]))
    kept = epath.Path(folder) / ROLLOUTS if config.policy.rollouts_every else None
    problems = policy_problems(config, task)
    learner = Learner(config, start, task, problems, mix, devices, mesh, kept)
    state = learner.state()
    if distributed.is_first():
        begin_training(workdir, epath.Path(folder).name, config, ancestor, start)
    distributed.wait("policy")
    save_outline(folder, start, ancestor, config.lora)
    if distributed.is_first():
        compile_cache.compile_log().write_to(epath.Path(folder) / "compilations.jsonl")
    evaluator = Evaluator(
        config.policy.eval_every, learner.measure, "held_out/accuracy"
    )
    state = fit(
        state,
        learner.advance,
        config.policy,
        folder,
        evaluator if evaluator.every else None,
    )
    if config.lora.vectors:
        offset = on_host(state.params["layers"]["offset"])
        if distributed.is_first():
            made = {"source": config.algorithm, "model": start.name}
            write_vectors(epath.Path(folder) / VECTORS, offset, made)
    save(
        folder,
        start.config,
        learner.merged(state.params),
        start.tokenizer,
        start.stop_tokens,
    )


def train_lineage(
    config: Config, workdir: PathLike, redo: Collection[str] = ()
) -> list[str]:
    """Train the models that the config does not name, `ancestor/` and `specialist/`.

    An ancestor is trained if `config.ancestor` is "scratch".
    Without steps of its algorithm no specialist is trained. Finished models are left
    alone. Several processes train together, on all devices of all of them.

    Args:
        config: The whole configuration.
        workdir: Folder of the models.
        redo: Stages to make again, with all that follows from them.

    Returns:
        Folders of the models.

    Raises:
        UserError: A name is unknown, or a folder was made with other settings.
    """
    ancestor, made = config.ancestor, []
    check_lineage(config, workdir, redo)
    if distributed.is_first():
        stages.drop(workdir, redo)
    distributed.wait("lineage")
    if ancestor == "scratch":
        ancestor = train_ancestor(config, workdir)
        made.append(ancestor)
    if trains_specialist(config):
        made.append(train_specialist(config, workdir, ancestor))
    return made


def train_ancestor(config: Config, workdir: PathLike) -> str:
    """Train `architecture` from random parameters on `pretraining`.

    Args:
        config: The whole configuration.
        workdir: Folder of the models.

    Returns:
        The exported folder, `workdir/ancestor`.
    """
    folder = epath.Path(workdir) / "ancestor"
    if not _finished(folder):
        # Random parameters are trained whole, not adapted.
        whole = dataclasses.replace(config, lora=LoraConfig())
        train_supervised(
            whole, config.pretraining, workdir, random_model(config), folder
        )
    distributed.wait(folder.name)
    return str(folder)


def train_specialist(config: Config, workdir: PathLike, ancestor: str) -> str:
    """Train a model by `config.algorithm`.

    Training on a run's attempts starts from the specialist of that run
    (`training.start`).

    Args:
        config: The whole configuration.
        workdir: Folder of the models.
        ancestor: Name of a model, of any form that `load` takes.

    Returns:
        The exported folder: `workdir/specialist`, or `workdir/reward_model`, a model
        that answers nothing, for the algorithm of that name.

    Raises:
        UserError: No model is named, or the workdir is the run that is learnt
            from.
    """
    folder = epath.Path(workdir) / "specialist"
    ancestor = check_start(config, workdir, ancestor)
    if config.algorithm in PREFERENCES:
        return train_preferences(config, workdir, ancestor)
    if not _finished(folder):
        if config.algorithm == "sft":
            _tune(config, workdir, ancestor, folder)
        elif config.algorithm == VECTOR:
            train_vector(config, workdir, ancestor, folder)
        else:
            train_policy(config, workdir, ancestor, folder)
    distributed.wait(folder.name)
    return str(folder)


def _tune(config: Config, workdir: PathLike, name: str, folder: epath.Path) -> None:
    """Supervised training of a named model, or of random parameters, whole."""
    c = config.training
    if name == "scratch":
        config = dataclasses.replace(config, lora=LoraConfig())
        train_supervised(config, c, workdir, random_model(config), folder)
        return
    # Float32 masters, also if the ancestor is sampled in bfloat16.
    start = load(
        name,
        dtype=master_dtype(c.dtype, config.lora),
        mesh=training_mesh(c.model_axis),
    )
    start = with_vectors(with_template(start, config), config.lora)
    train_supervised(config, c, workdir, start, folder, name)


def _finished(folder: epath.Path) -> bool:
    """An export ends with its config.json."""
    return distributed.agree(
        f"{folder.name}/finished", (folder / "config.json").exists()
    )
