"""Countdown as in arXiv 2605.24396 on a pod: Qwen2.5-3B by GRPO with PCS rewards."""

from fr.config import default


def get_config():
    """402 steps of 128 x 5 rollouts, for a v5p-8 (v5p:2x2x1); docs/results/pods.md has
    the memory that a device needs."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "Qwen/Qwen2.5-3B"
    c.task.name = "countdown"
    c.task.shots = 3  # a base model: it continues the pattern
    c.task.operands = 4
    c.task.largest = 20
    c.rewards.terms = (("correctness", 1.0), ("format", 0.1), ("pcs", 1.0))
    c.rewards.placement = (("pcs", "reward"),)  # as in the paper's Countdown code
    c.policy.steps = 402
    c.policy.prompts = 128
    c.policy.rollouts = 5
    # As the paper's code, with its standard deviation of ddof 1.
    c.policy.mean = "token"
    c.policy.minibatches = 2  # of 64 prompts
    c.policy.microbatch = 32
    c.policy.remat = True
    c.policy.dtype = "bfloat16"
    c.policy.model_axis = 4
    c.policy.length_buckets = 2  # each is a program of its own in every update
    c.policy.learning_rate = 1e-6
    c.policy.kl = 1e-3
    c.policy.entropy = 1e-3
    c.policy.max_new_tokens = 1024
    c.policy.eval_every = 20
    c.policy.checkpoint_every = 20
    c.evaluation.samples = 128
    c.sampling.max_new_tokens = 1024
    c.sampling.slots = 128
    c.sampling.chunk = 32
    return c
