"""The memory that a training run would need, known before a model is loaded."""

from fr import tasks
from fr.config import PREFERENCES, Config, check_rollouts, check_source
from fr.errors import UserError
from fr.models import Model, ModelConfig
from fr.models.loading import read_shape
from fr.sampling.devices import Devices
from fr.training.lineage import check_policy, start_model
from fr.training.memory import (
    memory_table,
    policy_memory,
    preference_memory,
    supervised_memory,
)
from fr.training.microbatches import training_mesh
from fr.training.preference_loss import check_preference
from fr.training.supervised import check_training, scratch_shape

_PROMPT = 256  # tokens, where there is no tokenizer to count them
_SOME = 256  # problems whose prompts are counted


def dry_run(config: Config) -> str:
    """A table of the memory of a training per device, from shapes alone.

    Only the ancestor's config.json is read, and its tokenizer, if there is one, to
    count the tokens of prompts. Types follow the training's `dtype`, else the machine.

    Args:
        config: The whole configuration.

    Returns:
        The text to print.

    Raises:
        UserError: Settings do not fit together.
    """
    check_rollouts(config)
    check_source(config)
    if (
        config.algorithm == "sft"
        and config.ancestor == "scratch"
        and not config.training.start
    ):
        raise UserError(
            "--dry_run needs a model whose shape it can read: config.ancestor = "
            "'scratch' is not made yet"
        )
    by_run = config.algorithm in ("sft", *PREFERENCES)
    name = start_model(config, config.ancestor) if by_run else config.ancestor
    made = config.algorithm == "sft" and name == "scratch"
    shape, tokenizer = scratch_shape(config) if made else read_shape(name)
    if config.algorithm == "sft":
        return _supervised(config, shape)
    by_pairs = config.algorithm in PREFERENCES
    c, policy = config.preference, config.policy
    settings = c if by_pairs else policy
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(settings.model_axis, devices.all_devices)
    if by_pairs:
        check_preference(c, mesh)
    else:
        check_policy(policy, mesh)
    prompt, source = _PROMPT, "assumed, without a tokenizer"
    if tokenizer is not None:
        task, codec = tasks.make(config.task), Model(shape, {}, tokenizer)
        some = task.problems("train", _SOME)
        prompt, source = (
            max(len(codec.encode(task.prompt(p))) for p in some),
            f"the longest of {len(some)}",
        )
    given = shape, config, mesh.shape["data"], prompt, settings.dtype or None
    head = (
        f"{_heading(config, mesh.shape)}; prompts of {prompt} tokens ({source}), "
        "completions of "
    )
    if not by_pairs:
        return f"{head}{policy.max_new_tokens}\n{memory_table(policy_memory(*given))}"
    sampling, learning = map(memory_table, preference_memory(*given))
    if config.training.run:  # its attempts are there
        return f"{head}{config.sampling.max_new_tokens}\n{learning}"
    rows = c.problems * c.candidates
    return (
        f"{head}{config.sampling.max_new_tokens}\n\nfirst {rows} candidates are "
        f"sampled\n{sampling}\n\nthen pairs of them are learnt from\n{learning}"
    )


def _supervised(config: Config, shape: ModelConfig) -> str:
    c = config.training
    mesh = training_mesh(c.model_axis)
    check_training(c, mesh)
    table = memory_table(
        supervised_memory(shape, config, mesh.shape["data"], c.dtype or None)
    )
    head = _heading(config, mesh.shape)
    return f"{head}; packed sequences of {c.sequence} tokens\n{table}"


def _heading(config: Config, mesh: dict[str, int]) -> str:
    lora = f", adapters of rank {config.lora.rank}" if config.lora.rank else ""
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
