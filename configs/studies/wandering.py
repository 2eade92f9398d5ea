"""Study: how Countdown searches wander, and whether their omissions predict success.

Replays say which children of the states that a search left were tried. From these
shares alone, with no parameter fitted, follows the success of a search that omits
children blindly, `predicted` (arXiv 2505.20296). It is held against the searches that
reach the target, `effective`, by number of solutions and with 3 and 4 numbers. The
primary comparison is at one solution, where no plateau hides a fall: their difference
is 0 if omissions are all that there is to it. `sft_four` learns four numbers, of which
the others know nothing.
"""

from fr.config import default

ARMS = ("sft", "grpo", "ancestor")


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "short", and "pod" (Qwen3 in the game's steps)."""
    c = default()
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 273  # all of the test split
    c.policy.steps = 24
    c.policy.prompts = 32
    c.policy.rollouts = 8
    c.policy.microbatch = 32
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 0
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.evaluation.samples = 8
    c.evaluation.cuts = 2
    c.evaluation.measures = ("wandering", "cost")
    c.evaluation.by = ("solutions",)
    c.study.seeds = (2, 3, 4)
    longer = (("task.operands", "4"), ("training.sequence", "256"))
    c.study.arms = (
        ("sft", ()),
        ("grpo", (("algorithm", "grpo"),)),
        ("sft_four", (*longer, ("training.steps", "400"))),
    )
    c.study.tests = (
        ("three", (("arms", ",".join(ARMS)),)),
        ("four", (*_four(192), ("arms", "sft_four"))),
    )
    names, of_four = ARMS, ("sft_four",)
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 8, 2, (0,)
        c.training.steps, c.training.batch, c.training.warmup_steps = 2, 4, 1
        c.sampling.slots = 16
        c.study.arms, c.study.ancestor = c.study.arms[:1], False
        names = of_four = ARMS[:1]
        c.study.tests = (("three", ()), ("four", (*_four(96), ("task.problems", "8"))))
    if form == "pod":
        names = of_four = _qwen(c)
    c.study.contrasts = tuple(
        (
            f"{arm}_{test}",
            (
                (1.0, arm, f"{test}:predicted[solutions=1]"),
                (-1.0, arm, f"{test}:effective[solutions=1]"),
            ),
        )
        for test, arms in (("three", names), ("four", of_four))
        for arm in arms
    )
    c.study.primary = ("contrast", f"{names[0]}_three", "")
    c.study.declared = tuple(
        ("contrast", name, "") for name, _ in c.study.contrasts[1:]
    )
    return c


def _qwen(c):
    """Qwen3 base models, which continue worked searches in the game's fixed steps.

    For a v5p-8 (v5p:2x2x1).
    """
    models = (("qwen3_4b", "Qwen/Qwen3-4B-Base"), ("qwen3_8b", "Qwen/Qwen3-8B-Base"))
    c.ancestor, c.task.shots, c.task.chat = "", 8, "plain"
    c.sampling.max_new_tokens, c.sampling.chunk = 512, 32
    c.study.ancestor, c.study.seeds = False, (0,)
    c.study.arms = tuple((name, (("model", model),)) for name, model in models)
    c.study.tests = (("three", ()), ("four", _four(512)))
    return tuple(name for name, _ in models)


def _four(tokens):
    return (
        ("task.operands", "4"),
        ("sampling.max_new_tokens", str(tokens)),
    )
