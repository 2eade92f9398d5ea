"""Study: what a base can do already, brought out in several ways at stated cost.

One base: as it is, with worked examples in its prompt, by the margin of its branches
(CoT-decoding, arXiv 2402.10200), by RLVR (2504.13837), and by fine-tuning on critiques
of its own responses to 256 problems or to one (2501.17703, 2506.03295), with two
controls: right traces of the same problems, and critiques of other responses.
"""

from fr.config import default

_SIZES = {"many": (256, 8), "one": (1, 512)}  # problems, and responses to each


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "short", and "pod" (Qwen2.5-Math-1.5B)."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.problems = 128
    c.policy.steps = 24
    c.policy.prompts = 32
    c.policy.rollouts = 8
    c.policy.microbatch = 16
    c.policy.length_buckets = 8
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 0
    c.policy.rollouts_every = 0
    c.training.sequence = 384  # a response of 128 tokens and a critique
    c.training.steps = 150
    c.training.learning_rate = 3e-4
    c.training.warmup_steps = 10
    c.training.max_per_problem = 0
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.evaluation.samples = 64
    c.evaluation.cuts = 2
    c.evaluation.ks = (2, 4, 8, 10, 16, 32, 64)
    c.evaluation.measures = ("votes", "cost")
    c.study.seeds = (1, 2, 3)
    sizes, deep, shots, branches = _SIZES, 256, 2, 10
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 4, 4, (1,)
        c.evaluation.ks = (2, 4)
        c.policy.steps, c.policy.prompts, c.policy.microbatch = 2, 4, 4
        c.training.steps, c.training.warmup_steps = 2, 0
        c.sampling.slots = 16
        c.sampling.max_new_tokens = c.policy.max_new_tokens = 48
        sizes, deep, branches = {"many": (4, 4)}, 8, 4
    if form == "pod":
        _qwen(c)
    c.study.arms = tuple(
        (name, tuple(own.items())) for name, own in _arms(c, sizes).items()
    )
    c.study.tests = (
        ("plain", ()),
        ("prompted", (("arms", "ancestor"), ("task.shots", str(shots)))),
        (
            "branches",
            (
                ("arms", "ancestor,rlvr"),
                ("evaluation.decoding", "branches"),
                ("evaluation.samples", str(branches)),
                ("evaluation.measures", "('branches', 'cost')"),
            ),
        ),
        (
            "deep",
            (
                ("arms", "ancestor,rlvr"),
                ("evaluation.samples", str(deep)),
                (
                    "evaluation.ks",
                    str(tuple(2**i for i in range(1, deep.bit_length()))),
                ),
                ("evaluation.measures", "()"),
            ),
        ),
    )
    _declare(c, deep, sizes)
    return c


def _arms(c, sizes):
    """RLVR, and what a run of responses teaches with its two controls, by size."""
    arms = {"rlvr": {}}
    for size, (problems, rollouts) in sizes.items():
        arms[f"responses_{size}"] = {
            **{"makes": "run", "specialist": c.ancestor, "ancestor": ""},
            **{"task.split": "train", "task.problems": str(problems)},
            **{"sampling.rollouts": str(rollouts), "sampling.temperature": "1.0"},
            **{"intervention.operators": "('retry',)", "intervention.attempts": "1"},
        }
        for name, source in (
            ("critiques", "critiques"),
            ("shuffled", "critiques_shuffled"),
            ("traces", "rollouts"),
        ):
            arms[f"{name}_{size}"] = {
                **{"run": f"responses_{size}", "algorithm": "sft"},
                "training.source": source,
            }
    return arms


def _declare(c, deep, sizes):
    base = lambda metric: (-1, "ancestor", metric)
    c.study.contrasts = (
        ("prompting", ((1, "ancestor", "prompted:accuracy"), base("plain:accuracy"))),
        (
            "margin",
            (
                (1, "ancestor", "branches:branch_margin"),
                base("branches:branch_greedy"),
            ),
        ),
        (
            "margin_over_vote",
            ((1, "ancestor", "branches:branch_summed"), base("branches:branch_vote")),
        ),
    )
    c.study.primary = ("rlvr", "ancestor", f"deep:pass@{deep}")
    c.study.declared = (
        ("rlvr", "ancestor", "deep:accuracy"),
        *(
            (f"critiques_{size}", f"{control}_{size}", "plain:accuracy")
            for size in sizes
            for control in ("shuffled", "traces")
        ),
        ("contrast", "margin", ""),
        ("contrast", "prompting", ""),
    )
    c.study.analyses = ("crossover", "parameters")


def _qwen(c):
    """As arXiv 2506.03295 in its base, with GSM8K and an exact checker of its steps.

    For a v5p-8 (v5p:2x2x1).
    """
    c.ancestor = "Qwen/Qwen2.5-Math-1.5B"
    c.task.name, c.task.problems = "gsm8k", 512
    c.policy.steps, c.policy.prompts, c.policy.minibatches = 200, 128, 2
    c.policy.microbatch, c.policy.remat, c.policy.dtype = 32, True, "bfloat16"
    c.policy.model_axis, c.policy.learning_rate = 4, 1e-6
    c.policy.length_buckets = 2  # each is a program of its own in every update
    c.policy.schedule = "constant"
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 1024
    c.training.sequence, c.training.batch, c.training.learning_rate = 4096, 64, 5e-6
    c.training.microbatch, c.training.remat, c.training.dtype = 8, True, "bfloat16"
    c.training.model_axis = 4
    c.sampling.slots, c.sampling.chunk = 128, 32
