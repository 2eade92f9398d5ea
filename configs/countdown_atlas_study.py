"""Study: training where a failure is recoverable, as branches of rollouts tell.

All arms start from one specialist with several defects (configs/planted_within.py) and
spend about the same forward tokens: branches are charged, so that arms with them make
fewer steps. Tokens of a step, counted on development seed 0 before the study: plain 22
thousand, until_lost 71, steps 107, rescuable 120.
"""

from fr.config import default

_DEFECTS = ("without_products", "false_results", "premature", "gives_up", "abandons")
_NATURAL = 0.25  # share of traces without a planted defect
_STEPS = {
    "plain": 60,
    "steps": 12,
    "until_lost": 19,
    "until_random": 19,
    "rescuable": 11,
    "not_rescuable": 11,
    "execution": 60,
}


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage) and "short"."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.problems = 273  # all of the test split
    each = (1 - _NATURAL) / len(_DEFECTS)
    c.training.traces = (("natural", _NATURAL), *((name, each) for name in _DEFECTS))
    c.policy.prompts = 32
    c.policy.rollouts = 8
    c.policy.microbatch = 16
    c.policy.length_buckets = 8
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 96
    c.policy.eval_every = 0
    c.policy.rollouts_every = 10
    c.policy.credit_cuts = 4
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 256
    c.evaluation.samples = 8
    c.study.seeds = tuple(range(1, 9))
    c.study.ancestor = False
    count = dict(_STEPS)
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 8, 2, (1,)
        c.training.steps, c.training.warmup_steps = 2, 0
        c.policy.prompts, c.policy.rollouts, c.policy.microbatch = 4, 4, 4
        c.policy.credit_cuts = c.policy.credit_branches = 2
        c.sampling.slots = 16
        count = dict.fromkeys(("plain", "until_lost", "rescuable"), 2)
    c.study.arms = (
        ("planted", (("algorithm", "sft"),)),
        *((name, _arm(name, steps)) for name, steps in count.items()),
    )
    c.study.primary = ("until_lost", "plain", "accuracy")
    c.study.declared = tuple(
        (one, other, "accuracy")
        for one, other in (
            ("until_lost", "until_random"),
            ("steps", "plain"),
            ("rescuable", "not_rescuable"),
            ("execution", "plain"),
        )
        if one in count and other in count
    )
    return c


def _arm(name, steps):
    own = [("from", "planted"), ("policy.steps", str(steps))]
    if name == "execution":
        own.append(("policy.gate", "execution"))
    elif name != "plain":
        own.append(("policy.credit", name))
    return tuple(own)
