"""What a training run would need, said before anything is loaded."""

from fr import tasks
from fr.config import Config
from fr.errors import UserError
from fr.models import Model
from fr.models.loading import read_shape
from fr.sampling.devices import Devices
from fr.training.memory import memory_table, policy_memory
from fr.training.policy import check_policy
from fr.training.state import training_mesh

_PROMPT = 256  # tokens, where there is no tokenizer to count them
_SOME = 256  # problems whose prompts are counted


def dry_run(config: Config) -> str:
    """A table of what policy optimisation holds on every device of this machine, from shapes alone.

    Of the ancestor its config.json is enough, and its tokenizer, if there is one, tells how long prompts are. Types
    are those of `policy.dtype`, else of this machine. Raises UserError for settings that do not fit together.
    """
    if config.algorithm in ("sft", "dpo"):
        raise UserError(
            f"--dry_run knows policy optimisation alone, and config.algorithm is {config.algorithm!r}"
        )
    shape, tokenizer = read_shape(config.ancestor)
    c, devices = config.policy, Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(c.model_axis, devices.devices)
    check_policy(c, mesh)
    prompt, source = _PROMPT, "assumed, without a tokenizer"
    if tokenizer is not None:
        task, codec = tasks.make(config.task), Model(shape, {}, tokenizer)
        some = task.problems("train", _SOME)
        prompt, source = max(len(codec.encode(task.prompt(p))) for p in some), f"the longest of {len(some)}"
    held = policy_memory(shape, config, mesh.shape["data"], prompt, c.dtype or None)
    return f"{_heading(config, mesh.shape, prompt, source)}\n{memory_table(held)}"


def _heading(config: Config, mesh: dict[str, int], prompt: int, source: str) -> str:
    c = config.policy
    lora = f", adapters of rank {config.lora.rank}" if config.lora.rank else ""
    return (
        f"{config.ancestor}{lora} by {config.algorithm}: {c.prompts} x {c.rollouts} rows a step, {c.steps} steps\n"
        f"devices {mesh['data']} (data) x {mesh['model']} (model); prompts of {prompt} tokens ({source}), "
        f"completions of {c.max_new_tokens}"
    )
