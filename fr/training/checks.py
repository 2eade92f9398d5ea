"""Checks before a training starts: what a run and its dry run refuse alike."""

import dataclasses
from collections.abc import Collection

from etils import epath
from jax.sharding import Mesh

from fr import distributed
from fr.config import PREFERENCES, VECTOR, Config, PolicyConfig, as_dict, check_source
from fr.config.algorithms import ALGORITHMS, with_settings
from fr.errors import UserError
from fr.models import Model
from fr.models.model import check_context
from fr.rewards import RewardMix
from fr.runs import stages
from fr.runs.inputs import own_parts
from fr.runs.names import check_names
from fr.tasks.formats import format_of
from fr.tasks.task import Task
from fr.training.microbatches import check_rows
from fr.training.policy_update import shared_rows
from fr.types import Problem
from fr.workdir import PathLike, absolute, read_object


def check_lineage(
    config: Config, workdir: PathLike, redo: Collection[str] = ()
) -> None:
    """Check what needs no model, before the first one is trained; nothing is written.

    Args:
        config: The whole configuration.
        workdir: Folder of the models.
        redo: Stages that are made again.

    Raises:
        UserError: A name is unknown, settings do not fit together, or the folder was
            made with other settings.
    """
    check_source(config)
    if config.ancestor == "scratch" or trains_specialist(config):
        check_names(config, training=True)
    if trains_specialist(config):
        check_start(config, workdir, config.ancestor)
        if config.algorithm in ALGORITHMS:
            # Here, so that an ancestor is not trained for hours before it is refused.
            reward_mix(config)
    if distributed.is_first():
        stages.check(workdir, as_dict(config), own_parts(config), redo)


def trains_specialist(config: Config) -> bool:
    """Say whether a specialist (or a reward model) is trained.

    Args:
        config: The whole configuration.

    Returns:
        True if none is named and its algorithm has steps, or finds a vector.
    """
    if config.algorithm == VECTOR:
        return not config.specialist
    pairs = dict.fromkeys(PREFERENCES, config.preference)
    settings = ({"sft": config.training} | pairs).get(config.algorithm, config.policy)
    return not config.specialist and settings.steps > 0


def check_start(config: Config, workdir: PathLike, ancestor: str) -> str:
    """Name the model that a specialist's training starts from.

    Training on a run's attempts starts from the specialist of that run
    (`training.start`).

    Args:
        config: The whole configuration.
        workdir: Folder of the models.
        ancestor: Name of the ancestor.

    Returns:
        The name.

    Raises:
        UserError: No model is named, or the workdir is the run that is learnt from.
    """
    if config.algorithm in ("sft", *PREFERENCES):
        ancestor = start_model(config, ancestor)
    if not ancestor:
        raise UserError(
            "config.specialist and config.ancestor are both empty; name a model, or "
            'ancestor "scratch"'
        )
    run = config.training.run
    if run and absolute(workdir) == absolute(run):
        raise UserError(
            f"--workdir={workdir} is config.training.run itself, whose specialist "
            "stays; use another --workdir"
        )
    return ancestor


def reward_mix(config: Config) -> RewardMix:
    """The terms of `config.rewards`, with the switch words of the task.

    Args:
        config: The whole configuration.

    Returns:
        The mix.

    Raises:
        UserError: The terms cannot be mixed as the settings want.
    """
    switches = config.rewards.switch_words or format_of(config.task.name).switches
    mix = RewardMix(dataclasses.replace(config.rewards, switch_words=switches))
    check_terms(config, mix)
    return mix


def check_terms(config: Config, mix: RewardMix) -> None:
    """Refuse terms in the advantage that would reward length unnoticed.

    Args:
        config: The whole configuration.
        mix: The terms of `config.rewards`.

    Raises:
        UserError: A term is added to advantages uncentred, under a mean per row.
    """
    mean = with_settings(ALGORITHMS[config.algorithm], config.policy).mean
    if mix.uncentred and mean == "sequence" and not config.policy.center_terms:
        raise UserError(
            f"reward term {mix.uncentred[0]!r} is added to advantages uncentred, and "
            f"{config.algorithm} takes the mean of each row's tokens: the term's "
            "average then rewards short or long rows; set config.policy.center_terms "
            "= 'group' (less the group's mean), or config.policy.mean = 'token', or "
            "center_terms = 'none' to keep it so"
        )


def start_model(config: Config, ancestor: str) -> str:
    """Name of the model that training starts from.

    Args:
        config: The whole configuration.
        ancestor: Name of the ancestor.

    Returns:
        `training.start`, else the specialist of `training.run`, else the ancestor.

    Raises:
        UserError: `training.run` is not the folder of a run, or names no specialist.
    """
    c = config.training
    if c.start or not c.run:
        return c.start or ancestor
    folder = epath.Path(c.run)
    if (folder / "specialist" / "config.json").exists():
        return str(folder / "specialist")
    if not (folder / "config.json").exists():
        raise UserError(
            f"config.training.run = {c.run!r} is not the folder of a run (it has no "
            "config.json)"
        )
    source = read_object(folder / "config.json").get("specialist", "")
    if not source:
        raise UserError(
            f"config.training.run = {c.run!r} names no specialist; set "
            "config.training.start"
        )
    return source


def check_policy(config: PolicyConfig, mesh: Mesh) -> None:
    """Check that the rows of a step divide into minibatches, microbatches and devices.

    Args:
        config: Settings of policy optimisation.
        mesh: Devices as (data, model).

    Raises:
        UserError: They do not divide; the message gives the numbers.
    """
    rows = config.prompts * config.rollouts
    what = f"config.policy.prompts x rollouts = {config.prompts} x {config.rollouts}"
    if rows % config.minibatches:
        raise UserError(
            f"{what} = {rows} rows do not divide into "
            f"minibatches = {config.minibatches}"
        )
    part = what + (
        f" in {config.minibatches} minibatches" if config.minibatches > 1 else ""
    )
    rows, unit = rows // config.minibatches, shared_rows(config)
    if (config.microbatch or rows) % unit:
        raise UserError(
            f"a microbatch of {config.microbatch or rows} rows splits the {unit} of a "
            "problem, which config.policy.shared_prompts keeps together; use a "
            f"multiple of {unit}"
        )
    check_rows(rows, config.microbatch, mesh, part, unit)


def vector_problems(config: Config, task: Task) -> dict[str, list[Problem]]:
    """The problems of the algorithm `vector`.

    Args:
        config: `steering` is read.
        task: Gives problems.

    Returns:
        Problems by split: "train", whose completions are read, and "validation", on
        which layer and factor are chosen.

    Raises:
        UserError: A split has none.
    """
    counts = {"train": config.steering.problems}
    counts["validation"] = config.steering.validation
    found = {split: task.problems(split, count) for split, count in counts.items()}
    for split, problems in found.items():
        if not problems:
            raise UserError(f"{config.task.name} has no {split} problems to ask")
    return found


def policy_problems(config: Config, task: Task) -> dict[str, list[Problem]]:
    """The problems of policy optimisation.

    Args:
        config: `policy` is read.
        task: Gives problems.

    Returns:
        Problems by split: "train", and "validation" to measure on.

    Raises:
        UserError: There are fewer than a step needs, or none to measure on.
    """
    c = config.policy
    held_out = task.problems("validation", c.eval_problems) if c.eval_every else []
    found = {"train": task.problems("train"), "validation": held_out}
    if c.eval_every and not held_out:
        raise UserError(
            f"{config.task.name} has no validation problems; set "
            "config.policy.eval_every = 0"
        )
    if len(found["train"]) < c.prompts:
        raise UserError(
            f"config.policy.prompts = {c.prompts}, and there are "
            f"{len(found['train'])} to train on"
        )
    return found


def encode_prompts(
    config: Config, task: Task, codec: Model, problems: dict[str, list[Problem]]
) -> dict[str, tuple[int, ...]]:
    """Encode the prompts of policy optimisation.

    Args:
        config: `policy.max_new_tokens` is read.
        task: Makes prompts.
        codec: Encodes.
        problems: Problems by split.

    Returns:
        Token ids by id of the problem.

    Raises:
        UserError: The longest prompt leaves no room for its completion.
    """
    every = [problem for some in problems.values() for problem in some]
    prompts = {p.id: codec.encode(task.prompt(p)) for p in every}
    longest, new = max(map(len, prompts.values())), config.policy.max_new_tokens
    what = f"the longest prompt ({longest} tokens)"
    check_context([codec], longest + new, what, "config.policy.max_new_tokens")
    return prompts
