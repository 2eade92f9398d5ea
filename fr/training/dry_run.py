"""The memory of a training run, and its checks, before a model is loaded."""

from collections.abc import Collection

from fr import tasks
from fr.config import PREFERENCES, VECTOR, Config, check_rollouts
from fr.errors import UserError
from fr.models import Model
from fr.models.loading import read_shape
from fr.models.model import check_context
from fr.runs.compatibility import with_template
from fr.runs.run import check_chat
from fr.sampling.devices import Devices
from fr.tasks.behaviours import words_of
from fr.tasks.formats import format_of
from fr.training.checks import (
    check_lineage,
    check_policy,
    encode_prompts,
    policy_problems,
    reward_mix,
    start_model,
    vector_problems,
)
from fr.training.examples import examples_of
from fr.training.memory import (
    memory_table,
    policy_memory,
    preference_memory,
    supervised_memory,
)
from fr.training.microbatches import training_mesh
from fr.training.pairs import failed_and_rescued
from fr.training.past_runs import PastRun
from fr.training.preference_loss import check_preference
from fr.training.reward_model import check_reward_model
from fr.training.supervised import check_training, scratch_shape
from fr.workdir import PathLike

_PROMPT = 256  # tokens, where there is no tokenizer to count them
_NONE = "assumed, without a tokenizer, which the training needs"


def dry_run(config: Config, workdir: PathLike, redo: Collection[str] = ()) -> str:
    """A table of the memory of a training per device, from shapes alone.

    What the training would refuse before its first step is refused with the same line:
    names, settings, problems, prompts, examples of a run and the folder. The model's
    config.json and tokenizer are read, but no weights. A folder without tokenizer is
    sized too; the table says that a training needs one. Types follow the training's
    `dtype`, else the machine.

    Args:
        config: The whole configuration.
        workdir: Folder of the models; nothing is written.
        redo: Stages that would be made again.

    Returns:
        The text to print.

    Raises:
        UserError: The training would refuse its settings, names or data.
    """
    check_rollouts(config)
    check_lineage(config, workdir, redo)
    by_pairs = config.algorithm in PREFERENCES
    name = config.ancestor
    if config.algorithm == "sft" or by_pairs:
        name = start_model(config, name)
    # In a study, policy optimisation goes on from a model that is not made yet.
    made = config.training.start == "scratch" and name in ("", "scratch")
    if name == "scratch" and not made:
        raise UserError(
            "--dry_run needs a model whose shape it can read: config.ancestor = "
            "'scratch' is not made yet"
        )
    if made:
        shape, tokenizer = scratch_shape(config)
        start = Model(shape, {}, tokenizer, (tokenizer.eos_token_id,), name)
    else:
        start = with_template(read_shape(name), config)
    if config.algorithm == "sft":
        return _supervised(config, start)
    if config.algorithm == VECTOR:
        return _vector(config, start)
    return _pairs(config, start) if by_pairs else _policy(config, start)


def _policy(config: Config, start: Model) -> str:
    c = config.policy
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(c.model_axis, devices.all_devices)
    check_policy(c, mesh)
    task = tasks.make(config.task)
    problems = policy_problems(config, task)
    if reward_mix(config).needs_model:
        check_reward_model(config.rewards.model, start)
    prompt, source = _PROMPT, _NONE
    if _answers(start):
        check_chat(config, start, task.prompt(problems["train"][0]))
        prompts = encode_prompts(config, task, start, problems)
        prompt = max(map(len, prompts.values()))
        source = f"the longest of {len(prompts)}"
    given = start.config, config, mesh.shape["data"], prompt, c.dtype or None
    return (
        f"{_heading(config, mesh.shape)}; prompts of {prompt} tokens ({source}), "
        f"completions of {c.max_new_tokens}\n{memory_table(policy_memory(*given))}"
    )


def _vector(config: Config, start: Model) -> str:
    task, new = tasks.make(config.task), config.sampling.max_new_tokens
    problems = vector_problems(config, task)
    words_of(config.steering.behaviour, format_of(config.task.name))
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    prompt, source = _PROMPT, _NONE
    if _answers(start):
        every = [problem for some in problems.values() for problem in some]
        prompt = max(len(start.encode(task.prompt(problem))) for problem in every)
        source = f"the longest of {len(every)}"
        what, where = "the longest row", "config.sampling.max_new_tokens"
        check_context([start], prompt + new, what, where)
    sampling, _ = preference_memory(start.config, config, devices.count, prompt)
    return (
        f"a steering vector of {config.ancestor}; prompts of {prompt} tokens "
        f"({source}), completions of {new}\n{memory_table(sampling)}"
    )


def _pairs(config: Config, start: Model) -> str:
    c, new = config.preference, config.sampling.max_new_tokens
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(c.model_axis, devices.all_devices)
    check_preference(c, mesh)
    prompt, source = _PROMPT, _NONE
    if _answers(start):
        task = tasks.make(config.task)
        some = task.problems("train", c.problems)
        check_chat(config, start, task.prompt(some[0]))
        prompt = max(len(start.encode(task.prompt(problem))) for problem in some)
        source = f"the longest of {len(some)}"
        if config.training.source:
            failed_and_rescued(PastRun(config, start), config)
        else:
            what, where = "the longest row of candidates", "sampling.max_new_tokens"
            check_context([start], prompt + new, what, f"config.{where}")
    given = start.config, config, mesh.shape["data"], prompt, c.dtype or None
    sampling, learning = map(memory_table, preference_memory(*given))
    head = (
        f"{_heading(config, mesh.shape)}; prompts of {prompt} tokens ({source}), "
        f"completions of {new}\n"
    )
    if config.training.run:  # its attempts are there
        return head + learning
    rows = c.problems * c.candidates
    return (
        f"{head}\nfirst {rows} candidates are sampled\n{sampling}\n\nthen pairs of "
        f"them are learnt from\n{learning}"
    )


def _supervised(config: Config, start: Model) -> str:
    c = config.training
    mesh = training_mesh(c.model_axis)
    check_training(c, mesh)
    if _answers(start):
        examples_of(config, c, start)
    table = memory_table(
        supervised_memory(start.config, config, mesh.shape["data"], c.dtype or None)
    )
    head = _heading(config, mesh.shape)
    return f"{head}; packed sequences of {c.sequence} tokens\n{table}"


def _answers(start: Model) -> bool:
    """True if texts can be encoded and ended; a training refuses other models."""
    return start.tokenizer is not None and bool(start.stop_tokens)


def _heading(config: Config, mesh: dict[str, int]) -> str:
    lora = f", adapters of rank {config.lora.rank}" if config.lora.rank else ""
    lora = ", one vector a layer" if config.lora.vectors else lora
    if config.algorithm in PREFERENCES:
        pairs = config.preference
        rows = f"{pairs.pairs} pairs per step, {pairs.steps} steps"
    elif config.algorithm == "sft":
        training = config.training
        rows = f"{training.batch} rows per step, {training.steps} steps"
    else:
        c = config.policy
        rows = f"{c.prompts} x {c.rollouts} rows per step, {c.steps} steps"
    return (
        f"{config.ancestor}{lora} by {config.algorithm}: {rows}\n"
        f"devices {mesh['data']} (data) x {mesh['model']} (model)"
    )
