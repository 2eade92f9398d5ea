"""Policy optimisation: settings are checked, the parts of a step are made, and the loop runs."""

import dataclasses

from etils import epath

from fr import compile_cache, distributed, tasks
from fr.config import Config, check_rollouts
from fr.errors import UserError
from fr.models import load, save
from fr.models.orbax import save_outline
from fr.rewards import Mix
from fr.runs.compatibility import with_template
from fr.runs.inputs import begin_training
from fr.runs.run import check_chat
from fr.sampling.devices import Devices
from fr.tasks.formats import format_of
from fr.training.algorithms import ALGORITHMS, with_settings
from fr.training.kept_rollouts import ROLLOUTS
from fr.training.learner import Learner
from fr.training.lora import master_type
from fr.training.policy_loss import check_policy
from fr.training.trainer import Exam, fit
from fr.training.update import training_mesh
from fr.workdir import PathLike


def train_policy(
    config: Config, workdir: PathLike, ancestor: str, folder: PathLike
) -> None:
    """Train the model `ancestor` by `config.algorithm` on `config.rewards`; `folder` holds what `fit` leaves.

    In the end also the model. Raises UserError, before anything is written, for settings that do not fit together.
    """
    check_rollouts(config)
    compile_cache.keep()
    task = tasks.make(config.task)
    switches = config.rewards.switch_words or format_of(config.task.name).switches
    mix = Mix(dataclasses.replace(config.rewards, switch_words=switches))
    check_terms(config, mix)
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(config.policy.model_axis, devices.everywhere)
    check_policy(config.policy, mesh)
    start = load(
        ancestor, dtype=master_type(config.policy.dtype, config.lora), mesh=mesh
    )
    start = with_template(start, config)
    if start.tokenizer is None or not start.stop_tokens:
        raise UserError(
            f"{ancestor} has no tokenizer or no stop token, so it cannot be asked problems"
        )
    check_chat(config, start, task.prompt(task.problems("train", 1)[0]))
    kept = epath.Path(folder) / ROLLOUTS if config.policy.rollouts_every else None
    learner = Learner(config, start, task, mix, devices, mesh, kept)
    state = learner.state()
    if distributed.is_first():
        begin_training(workdir, epath.Path(folder).name, config, ancestor, start)
    distributed.wait("policy")
    save_outline(folder, start, ancestor, config.lora)
    if distributed.is_first():
        compile_cache.compile_log().write_to(epath.Path(folder) / "compilations.jsonl")
    exam = Exam(config.policy.eval_every, learner.measure, "held_out/accuracy")
    state = fit(
        state, learner.advance, config.policy, folder, exam if exam.every else None
    )
    save(
        folder,
        start.config,
        learner.merged(state.params),
        start.tokenizer,
        start.stop_tokens,
    )


def check_terms(config: Config, mix: Mix) -> None:
    """Raise UserError for terms in the advantage that would pay for length without a word from the user."""
    mean = with_settings(ALGORITHMS[config.algorithm], config.policy).mean
    if mix.uncentred and mean == "sequence" and not config.policy.center_terms:
        raise UserError(
            f"reward term {mix.uncentred[0]!r} is added to advantages uncentred, and {config.algorithm} takes the "
            "mean of each row's tokens: whatever the term pays on average then pays for short or long rows; set "
            "config.policy.center_terms = 'group' (less the group's mean), or config.policy.mean = 'token', or "
            "center_terms = 'none' to keep it so"
        )
