"""SmolLM2-135M-Instruct learns to add three digits by GRPO, in adapters of rank 8."""

from fr.config import default


def get_config():
    """Two worked examples in the chat; an update has 64 rollouts, sixteen at once."""
    c = default()
    c.seed = 6
    c.algorithm = "grpo"
    c.ancestor = "smollm2"
    c.task.name = "sums"
    c.task.terms = 3
    c.task.shots = 2
    c.lora.rank = 8
    c.lora.alpha = 16.0
    c.policy.steps = 16
    c.policy.prompts = 8
    c.policy.rollouts = 8
    c.policy.ddof = 0  # as the published figures were measured
    c.policy.order = "drawn"
    c.policy.learning_rate = 3e-4
    c.policy.warmup_steps = 2
    c.policy.max_new_tokens = 32
    c.policy.microbatch = 16
    c.policy.shared_prompts = True
    c.policy.eval_every = 0
    c.policy.checkpoint_every = 4
    c.sampling.max_new_tokens = 32
    c.sampling.slots = 32
    c.sampling.chunk = 8
    c.evaluation.samples = 4
    c.evaluation.cuts = 2
    c.intervention.operators = ("retry", "local_temp")
    return c
