"""SmolLM2-135M-Instruct learns to count letters by GRPO, in adapters of rank 8."""

from fr.config import default


def get_config():
    """Two worked examples in the chat; 64 rollouts a step, four at a time in the update (5 GB in all)."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "smollm2"
    c.task.name = "letters"
    c.task.shots = 2
    c.task.problems = 64
    c.lora.rank = 8
    c.lora.alpha = 16.0
    c.policy.steps = 40
    c.policy.prompts = 8
    c.policy.rollouts = 8
    c.policy.learning_rate = 2e-4
    c.policy.max_new_tokens = 64
    c.policy.microbatch = 4
    c.policy.eval_problems = 64
    c.policy.eval_rollouts = 2
    c.sampling.max_new_tokens = 64
    c.sampling.slots = 64
    c.sampling.chunk = 8
    c.intervention.operators = ("retry", "local_temp")
    return c
