"""Study: a training signal for one failure regime, and the failures that it updates on.

`planted` makes failures of three known causes. The reward pays, beside correctness, for
confidence that rises along the reasoning (pcs), which fits the regime `premature`. Arms
differ by the failed rollouts that are learned from, told from the text of each
(fr/diagnosis/trace_regimes.py); rollouts, steps and right rows are the same in all.
"""

from fr.config import default

_GATES = ("all", "none", "matched", "mismatched", "execution")


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "short", and "pod" (Qwen3-1.7B on GSM8K)."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.problems = 273  # all of the test split
    c.training.traces = (
        ("premature", 0.25),
        ("gives_up", 0.25),
        ("false_results", 0.25),
        ("natural", 0.25),
    )
    c.rewards.terms = (("correctness", 1.0), ("pcs", 1.0))
    c.rewards.placement = (("pcs", "reward"),)
    c.rewards.cuts = 3
    c.policy.steps = 40
    c.policy.prompts = 16
    c.policy.rollouts = 8
    c.policy.mean = "token"
    c.policy.microbatch = 16
    c.policy.length_buckets = 8
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 96
    c.policy.eval_every = 0
    c.policy.rollouts_every = 10
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 128
    c.evaluation.samples = 8
    c.evaluation.measures = ("stepless", "confidence", "regimes")
    c.study.seeds = tuple(range(8))
    c.study.ancestor = False
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 8, 2, (1,)
        c.training.steps, c.training.warmup_steps = 2, 0
        c.policy.steps, c.policy.prompts, c.policy.microbatch = 2, 4, 4
    start = (("planted", (("algorithm", "sft"),)),)
    of_start = (("from", "planted"),)
    if form == "pod":
        _qwen(c)
        start = of_start = ()
    gated = ((name, (*of_start, ("policy.gate", name))) for name in _GATES)
    c.study.arms = (*start, *gated)
    c.study.primary = ("matched", "mismatched", "accuracy")
    c.study.declared = (
        ("matched", "all", "accuracy"),
        ("all", "mismatched", "accuracy"),
        ("execution", "none", "accuracy"),
    )
    return c


def _qwen(c):
    """The model's own failures; three seeds, 200 steps of 64 x 8. For a v5p-8."""
    c.ancestor = "Qwen/Qwen3-1.7B"
    c.task.name, c.task.problems = "gsm8k", 1319
    c.task.template_kwargs = '{"enable_thinking": false}'
    c.policy.steps, c.policy.prompts, c.policy.microbatch = 200, 64, 32
    c.policy.remat, c.policy.dtype, c.policy.model_axis = True, "bfloat16", 4
    c.policy.length_buckets = 2  # each is a program of its own in every update
    c.policy.learning_rate, c.policy.schedule = 1e-6, "constant"
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 1024
    c.sampling.chunk = 32
    c.study.seeds = (0, 1, 2)
