"""Study: exploration fails in training and at inference, and each has its own remedy.

GRPO spends its entropy (arXiv 2505.22617); forced continuations raise the entropy of
answers and do not solve more (arXiv 2506.04210). A remedy of one loop is predicted to
leave the other's failure: two by two, a covariance remedy or none in training, a vote
or continuations at inference. Critiques of varied responses are a third remedy.
"""

from fr.config import default

_SHARE = "0.02"  # a minibatch has 1,600 tokens, the source's has a hundred times more
_TIMES = (1, 2, 3, 4, 5)  # continuations


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "short", and "pod" (Qwen3-1.7B on GSM8K)."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.problems = 128
    c.policy.steps = 100
    c.policy.prompts = 16
    c.policy.rollouts = 8
    c.policy.minibatches = 4
    c.policy.microbatch = 16
    c.policy.learning_rate = 1e-4
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 10
    c.policy.checkpoint_every = 25
    c.policy.rollouts_every = 0
    c.training.sequence = 384  # a response of 128 tokens and a critique
    c.training.steps = 100
    c.training.learning_rate = 3e-4
    c.training.warmup_steps = 10
    c.training.max_per_problem = 0
    c.sampling.max_new_tokens = 256  # so that continuations are not cut by length
    c.sampling.slots = 128
    c.policy.eval_rollouts = 2
    c.evaluation.samples = 8  # in all tests of answers' entropy, which grows with it
    c.evaluation.cuts = 2
    c.evaluation.ks = (2, 3, 4, 5, 6, 8)
    c.evaluation.measures = ("votes", "answer_entropy", "cost")
    responses, deep = {"task.problems": "256", "sampling.rollouts": "8"}, 16
    remedies = {
        "plain": {},
        "entropy": {"policy.entropy": "0.01"},
        "clip_cov": {"policy.covariance": "clip", "policy.covariance_share": _SHARE},
        "kl_cov": {"policy.covariance": "kl", "policy.covariance_share": _SHARE},
    }
    c.study.seeds = (1, 2, 3)
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 4, 6, (1,)
        c.policy.steps, c.policy.prompts, c.policy.rollouts = 3, 4, 4
        c.policy.microbatch, c.policy.eval_every = 4, 1
        c.policy.eval_problems = c.policy.eval_rollouts = 2
        c.training.steps, c.training.warmup_steps = 2, 0
        c.sampling.slots, c.evaluation.ks = 16, (2, 4)
        c.sampling.max_new_tokens = c.policy.max_new_tokens = 48
        responses, deep = {"task.problems": "4", "sampling.rollouts": "4"}, 4
        remedies = {name: remedies[name] for name in ("plain", "kl_cov")}
    if form == "pod":
        _qwen(c)
        responses = {"task.problems": "2048", "sampling.rollouts": "4"}
        remedies["entropy"] = {"policy.entropy": "0.001"}
        remedies["clip_cov"]["policy.covariance_share"] = "2e-4"
        remedies["kl_cov"]["policy.covariance_share"] = "2e-3"
    times = _TIMES if form != "short" else (2,)
    arms = _arms(c, responses, remedies)
    c.study.arms = tuple((name, tuple(own.items())) for name, own in arms.items())
    tested = ",".join(["ancestor", *remedies, "critiqued"])
    c.study.tests = (
        ("sampled", ()),
        *((f"continued_{i}", _continued(i, tested)) for i in times),
        (
            "deep",
            (
                ("arms", tested),
                ("evaluation.samples", str(deep)),
                ("evaluation.ks", f"({deep},)"),
                ("evaluation.measures", "()"),
            ),
        ),
    )
    _declare(c, f"continued_{times[-1]}:accuracy", deep, set(arms))
    return c


def _arms(c, responses, remedies):
    """The remedies, and a critic of varied responses that is trained on."""
    return {
        "responses": {
            **{"makes": "run", "specialist": c.ancestor, "ancestor": ""},
            **{"task.split": "train", "intervention.operators": "('retry',)"},
            **{"intervention.attempts": "1", "sampling.temperature": "1.0"},
            **responses,
        },
        "critic": {
            **{"run": "responses", "algorithm": "sft"},
            "training.source": "critiques",
        },
        **remedies,
        "critiqued": {"from": "critic"},
    }


def _continued(times, arms):
    return (
        ("arms", arms),
        ("evaluation.decoding", "continued"),
        ("evaluation.continuations", str(times)),
    )


def _declare(c, continued, deep, arms):
    """The four cells and their interaction; a vote of four costs less than the
    continuations of an attempt."""
    vote = "sampled:vote@4"
    remedies = ("kl_cov", "clip_cov", "entropy", "critiqued")
    ahead = lambda arm, sign=1: ((sign, arm, vote), (-sign, arm, continued))
    c.study.contrasts = (
        ("vote_after_kl_cov", ahead("kl_cov")),
        ("vote", ahead("plain")),
        ("interaction", (*ahead("kl_cov"), *ahead("plain", -1))),
        ("continuing", ((1, "plain", continued), (-1, "plain", "sampled:accuracy"))),
    )
    c.study.primary = ("contrast", "vote_after_kl_cov", "")
    c.study.declared = (
        ("contrast", "interaction", ""),
        ("contrast", "continuing", ""),
        *((arm, "plain", f"deep:pass@{deep}") for arm in remedies if arm in arms),
    )
    c.study.analyses = ("exploration",)


def _qwen(c):
    """As in arXiv 2505.22617 as far as a v5p-8 (v5p:2x2x1) allows: 256 x 8, eight
    minibatches."""
    c.ancestor = "Qwen/Qwen3-1.7B"
    c.task.name, c.task.problems = "gsm8k", 512
    c.policy.steps, c.policy.prompts, c.policy.minibatches = 200, 256, 8
    c.policy.microbatch, c.policy.remat, c.policy.dtype = 32, True, "bfloat16"
    c.policy.model_axis, c.policy.mean = 4, "token"
    c.policy.length_buckets = 2  # each is a program of its own in every update
    c.policy.learning_rate = 5e-7
    c.policy.max_new_tokens, c.sampling.max_new_tokens = 2048, 4096
    c.policy.eval_every = c.policy.checkpoint_every = 20
    c.training.sequence, c.training.batch, c.training.learning_rate = 4096, 64, 5e-6
    c.training.microbatch, c.training.remat, c.training.dtype = 8, True, "bfloat16"
    c.training.model_axis = 4
    # 128 rows of 4,352 entries are 64 GB, and a chunk takes as much again.
    c.sampling.slots, c.sampling.chunk = 64, 32
