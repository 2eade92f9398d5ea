"""Mathematics as in arXiv 2605.24396 on a pod: Qwen3-1.7B by GRPO with PCS."""

from fr.config import default


def get_config():
    """`--config.task.path` names the question file (.jsonl or .parquet).

    For a v5p-8 (v5p:2x2x1). On a v5e-16 (v5e:4x4) four chips share a sampler:
    `--config.sampling.model_axis=4 --config.sampling.slots=64`.
    """
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "Qwen/Qwen3-1.7B"
    c.task.name = "questions"
    c.rewards.terms = (("correctness", 1.0), ("pcs", 1.0))
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
