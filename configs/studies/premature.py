"""Study: a paid format that empties the reasoning, and what pays against it.

On problems of one solution and with 64 tokens a search is often cut, so an answer at
once is the cheap way to the format's 0.1 (arXiv 2605.24396). `start` learns to give
both. The form "choose" makes `format` and `correct` alone, on validation problems with
seed 0, for three shares of answers at once: the share is wanted at which the paid
format ends with more than 80 % of answers without a step, and correctness alone does
not.
"""

from fr.config import default

_PAID = "('correctness', 1.0), ('format_instead', 0.1), "
_LOGGED = "('pcs', 0.0)"  # confidence by step, in every arm
_SHARES = (0.1, 0.3, 0.5)  # of answers at once
_SHARE = 0.1


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "choose", "short", "pod" (Qwen2.5-3B, 3 arms)."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.solutions = 1
    c.task.problems = 160  # all of the test split
    c.training.steps = 300
    c.training.traces = _traces(_SHARE)
    c.policy.steps = 100
    c.policy.prompts = 16
    c.policy.rollouts = 5
    c.policy.mean = "token"
    c.policy.length_buckets = 4
    c.policy.microbatch = 16
    c.policy.learning_rate = 3e-4
    c.policy.max_new_tokens = 64
    c.policy.eval_every = 0
    c.policy.rollouts_every = 10
    c.policy.checkpoint_every = 25
    c.sampling.max_new_tokens = 64
    c.sampling.slots = 80
    c.evaluation.samples = 16
    c.evaluation.measures = ("stepless", "confidence")
    c.study.seeds = tuple(range(1, 9))
    c.study.ancestor = False
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 8, 2, (1,)
        c.training.steps, c.training.warmup_steps = 2, 0
        c.policy.steps, c.policy.prompts, c.policy.microbatch = 2, 4, 4
    arms = {
        "format": _terms(_PAID + _LOGGED),
        "pcs": (*_terms(_PAID + "('pcs', 1.0)"), _at("reward")),
        "pcs_advantage": (*_terms(_PAID + "('pcs', 1.0)"), _at("advantage_centred")),
        "correct": _terms("('correctness', 1.0), " + _LOGGED),
        "shuffled": (
            *_terms(_PAID + "('pcs_shuffled', 1.0)"),
            ("rewards.placement", "(('pcs_shuffled', 'reward'),)"),
        ),
        "late": _terms(_PAID + "('late_gold', 1.0)"),
        "entropy": (*_terms(_PAID + _LOGGED), ("policy.entropy", "0.01")),
    }
    if form == "pod":
        _qwen(c)
        arms = {name: arms[name] for name in ("format", "pcs", "correct")}
        c.study.arms = tuple(arms.items())
    else:
        start = (("algorithm", "sft"),)
        c.study.arms = (
            ("start", start),
            *((name, (("from", "start"), *own)) for name, own in arms.items()),
        )
    if form == "choose":
        return _choose(c, arms)
    c.study.primary = ("pcs", "format", "accuracy")
    c.study.declared = tuple(
        ("pcs", other, "accuracy") for other in ("correct", "late") if other in arms
    )
    return c


def _choose(c, arms):
    c.task.split, c.task.problems, c.evaluation.samples = "validation", 96, 8
    c.study.seeds = (0,)
    c.study.arms = tuple(
        made
        for share in _SHARES
        for made in (
            (
                f"start_{share}",
                (("algorithm", "sft"), ("training.traces", str(_traces(share)))),
            ),
            *(
                (f"{name}_{share}", (("from", f"start_{share}"), *arms[name]))
                for name in ("format", "correct")
            ),
        )
    )
    return c


def _traces(share):
    """Answers at once, and as in the ratio 2 : 1 : 1 searches of three kinds."""
    part = (1 - share) / 4
    return (
        ("natural", 2 * part),
        ("gives_up", part),
        ("anytime", part),
        ("answer_first", share),
    )


def _terms(text):
    return (("rewards.terms", f"({text})"),)


def _at(place):
    return ("rewards.placement", f"(('pcs', '{place}'),)")


def _qwen(c):
    """As configs/countdown_3b_pcs_pod.py, for a v5p-8: 402 steps of 128 x 5, answers
    sampled."""
    c.ancestor = "Qwen/Qwen2.5-3B"
    c.task.solutions, c.task.shots, c.task.operands, c.task.largest = 0, 3, 4, 30
    c.rewards.confidence = "sampled"
    c.policy.steps, c.policy.prompts, c.policy.minibatches = 402, 128, 2
    c.policy.microbatch, c.policy.remat, c.policy.dtype = 32, True, "bfloat16"
    c.policy.model_axis = 4
    c.policy.length_buckets = 2  # each is a program of its own in every update
    c.policy.learning_rate, c.policy.kl, c.policy.entropy = 1e-6, 1e-3, 1e-3
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 1024
    c.sampling.slots, c.sampling.chunk = 128, 32
    c.evaluation.samples = 128
    c.study.seeds = (1, 2, 3)
