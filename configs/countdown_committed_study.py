"""Study: progressive confidence shaping where a model commits to answers too early.

The recipe was frozen before any arm ran. The ancestor comes from
configs/countdown_committed_ancestor.py with `--workdir=runs/committed`. Weight,
placement and cuts were chosen on seed 0 and validation problems
(docs/results/committed.md).
"""

from fr.config import default


def get_config():
    """Problems of one solution. 24 steps with probes cost as many tokens as 33
    without."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "runs/committed/specialist"
    c.task.name = "countdown"
    c.task.solutions = 1
    c.task.problems = 160  # all of the test split
    c.rewards.cuts = 3  # as good as six for two thirds of the tokens
    c.policy.steps = 24
    c.policy.prompts = 16
    c.policy.rollouts = 8
    # This and the next two lines: as the published figures were measured.
    c.policy.ddof = 0
    c.policy.order = "drawn"
    c.policy.center_terms = "none"
    c.policy.microbatch = 32
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 0
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.evaluation.samples = 8
    c.study.arms = (
        ("grpo", (("policy.steps", "33"),)),
        ("pcs", (("rewards.terms", "(('correctness', 1.0), ('pcs', 1.0))"),)),
    )
    c.study.seeds = tuple(range(10, 18))
    c.study.primary = ("pcs", "grpo", "accuracy")
    return c
