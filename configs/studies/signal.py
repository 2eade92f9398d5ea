"""Study: what a run's failures and rescues teach, against sampling and learning again.

One start, equal tokens: `collect` asks it training problems and tries operators where
it failed, `retries` spends the same on plain attempts, and GRPO's rollouts are as many
tokens. Steps and learning rates were chosen on validation problems with seed 0
(the form "choose").
"""

from fr.config import default

_OPERATORS = "('retry','hot','prefix_restart','fork_restart')"


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "choose", "short", "pod" and "pod_base" (Qwen3)."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.problems = 273  # all of the test split
    c.evaluation.samples = 8
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
    c.sampling.rollouts = 4
    c.intervention.attempts = 12
    c.diagnosis.warmup = 0.1  # lengths as shares of the median failure
    c.diagnosis.window = 0.05
    c.training.batch = 8
    c.training.sequence = 320  # a kept prefix and a new attempt
    c.training.steps = 40
    c.training.learning_rate = 3e-4
    c.training.warmup_steps = 4
    c.training.log_every = 1  # so that tokens of all updates are written
    c.preference.steps = 40
    c.preference.learning_rate = 3e-5
    c.preference.microbatch = 16
    c.study.seeds = tuple(range(1, 9))  # seed 0 chose
    asked, again, first, many = 192, 48, 16, 64
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 24, 2, (1,)
        c.policy.steps = c.training.steps = c.preference.steps = 2
        c.policy.prompts = c.policy.rollouts = c.preference.pairs = 4
        c.training.warmup_steps, c.preference.microbatch = 0, 0
        c.intervention.attempts = c.sampling.rollouts = 2
        asked, again, first, many = 16, 8, 1, 4
    elif form.startswith("pod"):
        _qwen(c, "-Base" if form == "pod_base" else "")
        asked, again = 2048, 48
    run = (("makes", "run"), ("specialist", c.ancestor), ("ancestor", ""))
    run += (("task.split", "train"), ("task.problems", str(asked)))
    plain = (
        ("intervention.operators", "('retry',)"),
        _set("intervention.attempts", again),
    )
    c.study.arms = (
        ("collect", (*run, ("intervention.operators", _OPERATORS))),
        ("retries", (*run, *plain)),
        ("dpo_whole", _dpo("pairs")),
        ("dpo_parted", _dpo("pairs_parted")),
        ("shuffled", _dpo("pairs_shuffled")),
        ("sft_rescued", _sft("collect", "rescued")),
        ("sft_hard", (*_sft("collect", "rescued"), ("training.most_retries", "1"))),
        ("rft", _sft("retries", "retried")),
        ("grpo", ()),
    )
    # `first` says which problems the start does not reach, by attempts of its own.
    c.study.tests = (
        ("held_out", ()),
        (
            "first",
            (("seed", "1000"), _set("evaluation.samples", first), ("arms", "ancestor")),
        ),
        (
            "unreached",
            (
                ("evaluation.unsolved", "{workdir}/ancestor/evaluated-first"),
                _set("evaluation.samples", many),
            ),
        ),
    )
    c.study.primary = ("dpo_parted", "rft", "held_out:accuracy")
    c.study.declared = tuple(
        (arm, other, metric)
        for arm, other in (
            ("dpo_parted", "rft"),
            ("dpo_parted", "shuffled"),
            ("dpo_parted", "grpo"),
            ("sft_hard", "rft"),
        )
        for metric in ("held_out:accuracy", f"unreached:pass@{many}")
        if (arm, other, metric) != c.study.primary
    )
    return c


def _set(name, value):
    return (name, str(value))


def _sft(run, source):
    return (("algorithm", "sft"), ("run", run), ("training.source", source))


def _dpo(source):
    return (("algorithm", "dpo"), ("run", "collect"), ("training.source", source))


def _qwen(c, kind):
    """GSM8K on four chips of 16 GB or more; `--dry_run` has the bytes."""
    c.ancestor = f"Qwen/Qwen3-0.6B{kind}"
    c.task.name = "gsm8k"
    c.task.problems, c.evaluation.samples = 1319, 4
    c.task.template_kwargs = "" if kind else '{"enable_thinking": false}'
    c.task.shots = 4 if kind else 0
    for part in (c.policy, c.training, c.preference):
        part.dtype, part.remat, part.learning_rate = "bfloat16", True, 1e-6
    c.training.learning_rate = 1e-5
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 512
    c.policy.steps, c.policy.prompts, c.policy.microbatch = 100, 128, 32
    c.training.steps, c.training.batch, c.training.sequence = 200, 32, 2048
    c.training.microbatch = 4
    c.preference.steps = 100
    c.diagnosis.warmup, c.diagnosis.window = 20.0, 8.0
