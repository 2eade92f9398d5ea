"""Study: RLSF as its source does it (arXiv 2507.21931), from the start and after GRPO.

Candidates are greedy from each of the ten most likely first tokens, ranked by the mean
p1 - p2 of the answer's tokens; both responses of a pair end before the sentence of the
answer, and DPO has no margin. Steps and learning rate were chosen on validation
problems with seed 0 (the form "choose"); configs/countdown_rlsf_study.py is the earlier
study, which had neither.
"""

from fr.config import default


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "choose", "short", and "pod" (Qwen3-1.7B)."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.problems = 273  # all of the test split
    c.preference.source = "branches"
    c.preference.answer = "cut"
    c.preference.dpo_margin = 0.0
    c.preference.learning_rate = 1e-4
    c.preference.steps = 20
    c.preference.microbatch = 16
    c.policy.steps = 24
    c.policy.prompts = 32
    c.policy.rollouts = 8
    c.policy.microbatch = 16
    c.policy.length_buckets = 8
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 0
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.evaluation.samples = 8
    c.study.seeds = tuple(range(8, 16))
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 8, 2, (1,)
        c.policy.steps, c.policy.prompts, c.policy.rollouts = 2, 4, 4
        c.preference.steps, c.preference.pairs, c.preference.problems = 2, 4, 24
        c.preference.confident, c.preference.microbatch = 0.3, 0
    elif form == "pod":
        _qwen(c)
    dpo = ("algorithm", "dpo")
    c.study.arms = (
        ("grpo", ()),
        ("grpo_rlsf", (("from", "grpo"), dpo)),
        ("rlsf", (dpo,)),
    )
    c.study.primary = ("grpo_rlsf", "grpo", "ece_span")
    c.study.declared = (
        ("grpo_rlsf", "grpo", "ece_own"),
        ("grpo_rlsf", "grpo", "accuracy"),
        ("rlsf", "ancestor", "ece_span"),
        ("rlsf", "ancestor", "accuracy"),
    )
    if form == "choose":
        c.task.split, c.task.problems, c.study.seeds = "validation", 128, (0,)
        c.study.declared = ()
        tried = (
            (steps, rate) for rate in ("1e-4", "3e-4") for steps in ("10", "20", "40")
        )
        own = lambda steps, rate: (
            dpo,
            ("preference.steps", steps),
            ("preference.learning_rate", rate),
        )
        c.study.arms = (
            ("grpo", ()),
            *(
                (f"rlsf_{steps}_{rate}", (("from", "grpo"), *own(steps, rate)))
                for steps, rate in tried
            ),
        )
        c.study.primary = ()
    return c


def _qwen(c):
    """GSM8K; RLSF by 256 questions of ten candidates. For a v5p-8 (v5p:2x2x1)."""
    c.ancestor = "Qwen/Qwen3-1.7B"
    c.task.name, c.task.problems = "gsm8k", 1319
    c.task.template_kwargs = '{"enable_thinking": false}'
    for part in (c.policy, c.preference):
        part.remat, part.dtype, part.model_axis = True, "bfloat16", 4
        part.learning_rate = 1e-6
        part.length_buckets = 2  # each is a program of its own in every update
    c.policy.steps, c.policy.prompts, c.policy.microbatch = 200, 64, 32
    c.policy.schedule = "constant"
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 1024
    c.sampling.chunk = 32
    c.preference.steps = 40
    c.study.seeds = (8, 9, 10)
