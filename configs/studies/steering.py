"""Study: vectors added to the residual stream, found or trained, and their controls.

Layer and factor of a found vector are chosen on validation problems, with the same
candidates for a vector and for its control. The bundled ancestor of 0.8 M parameters
shows the machinery; the forms "smollm2" and "pod" ask models that write text, and are
also prompted.
"""

from fr.config import default


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "short", "smollm2" and "pod" (R1-Distill-1.5B)."""
    c = default()
    c.ancestor = "countdown"
    c.task.problems = 160
    c.steering.problems, c.steering.rollouts = 512, 4
    c.steering.validation, c.steering.samples = 128, 2
    c.policy.steps, c.policy.prompts, c.policy.rollouts = 24, 32, 8
    c.policy.microbatch, c.policy.length_buckets = 16, 8
    c.policy.learning_rate, c.policy.schedule = 3e-2, "cosine"
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 128
    c.policy.eval_every = 0
    c.sampling.slots = 128
    c.evaluation.samples, c.evaluation.ks = 64, (1, 8, 64)
    c.study.seeds = (1, 2, 3)
    if form == "short":
        c.task.problems, c.study.seeds = 8, (1,)
        c.evaluation.samples, c.evaluation.ks = 2, (1, 2)
        c.steering.problems, c.steering.rollouts = 8, 2
        c.steering.validation, c.steering.samples = 4, 1
        c.steering.strengths, c.steering.steps = (-0.5, 0.5), 20
        c.policy.steps, c.policy.prompts, c.policy.rollouts = 2, 4, 4
        c.sampling.slots = 32
    elif form == "smollm2":
        _smollm2(c)
    elif form == "pod":
        _pod(c)
    found = lambda source: (("algorithm", "vector"), ("steering.source", source))
    # Features take more states than two means do: half a million of them.
    more = (("steering.rollouts", "16"),) if form == "" else ()
    c.study.arms = (
        ("means", found("means")),
        ("random", found("random")),
        ("trained", (("algorithm", "grpo"), ("lora.vectors", "True"))),
        ("feature", (*found("sae"), *more)),
        ("random_feature", (*found("sae_random"), *more)),
    )
    metric = "accuracy"
    if form in ("smollm2", "pod"):
        c.study.tests = (
            ("plain", ()),
            ("prompted", (("evaluation.operator", "hint"),)),
        )
        metric = "plain:accuracy"
    c.study.primary = ("means", "random", metric)
    c.study.declared = (
        ("trained", "ancestor", metric),
        ("feature", "random_feature", metric),
    )
    return c


def _smollm2(c):
    """Sums of three numbers after two examples; 30 layers are tried one by one."""
    c.ancestor, c.task.name, c.task.terms, c.task.shots = "smollm2", "sums", 3, 2
    c.task.problems = 48
    c.steering.problems, c.steering.rollouts = 64, 4
    c.steering.validation, c.steering.samples = 24, 2
    c.steering.strengths = (-0.25, 0.25)
    c.steering.behaviour = "="
    c.policy.steps, c.policy.prompts, c.policy.rollouts = 16, 8, 8
    c.policy.learning_rate, c.policy.shared_prompts = 1e-2, True
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 32
    c.sampling.slots, c.sampling.chunk = 32, 8
    c.evaluation.samples, c.evaluation.ks = 8, (1, 8)
    c.study.seeds = (1,)


def _pod(c):
    """R1-Distill-Qwen-1.5B on GSM8K; sentences that leave a thought are compared.

    For a v5p-8 (v5p:2x2x1).
    """
    c.ancestor = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    c.task.name = "gsm8k"
    c.task.problems = 256
    c.steering.problems, c.steering.rollouts = 512, 1
    c.steering.validation, c.steering.samples = 64, 1
    c.steering.strengths = (-0.5, 0.5)
    c.policy.prompts, c.policy.rollouts, c.policy.steps = 64, 8, 100
    c.policy.microbatch, c.policy.remat, c.policy.dtype = 16, True, "bfloat16"
    c.policy.learning_rate = 1e-3
    c.policy.length_buckets = 2  # each is a program of its own in every update
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 4096
    c.sampling.slots, c.sampling.chunk = 128, 32
    c.evaluation.samples = 64
