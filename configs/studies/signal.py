"""Study: what a run's failures and rescues teach, against sampling and learning again.

`start` mostly answers after one step. `collect` asks it training problems and tries
operators where it failed; `retries` spends as many tokens on plain attempts, and so do
GRPO's rollouts. The form "choose" tried four learning rates of each kind of training
on validation problems with seed 0; the best ones stand here.
"""

from fr.config import default

_RATES = {
    "dpo_parted": ("preference.learning_rate", ("3e-5", "1e-4", "3e-4", "1e-3")),
    "sft_rescued": ("training.learning_rate", ("1e-4", "3e-4", "1e-3", "3e-3")),
    "rft": ("training.learning_rate", ("3e-5", "1e-4", "3e-4", "1e-3")),
    "grpo": ("policy.learning_rate", ("1e-4", "3e-4", "6e-4", "1e-3")),
}
_ARMS = "dpo_whole,dpo_parted,shuffled,sft_rescued,sft_hard,rft,grpo"


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "choose", "short", "pod" and "pod_base" (Qwen3)."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.problems = 273  # all of the test split
    c.evaluation.samples = 8
    c.evaluation.cuts = 2  # confidence is not asked about here
    c.policy.steps = 16  # as many tokens, updates included, as a run and its training
    c.policy.prompts = 32
    c.policy.rollouts = 8
    c.policy.microbatch = 16
    c.policy.length_buckets = 8
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 0
    c.policy.rollouts_every = 0
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.sampling.rollouts = 4
    c.intervention.attempts = 12
    c.intervention.operators = ("retry", "wait", "fork_restart", "hot")
    c.diagnosis.warmup = 0.1  # lengths as shares of the median failure
    c.diagnosis.window = 0.05
    c.training.steps = 40
    c.training.batch = 8
    c.training.sequence = 320  # a kept prefix and a new attempt
    c.training.learning_rate = 1e-3
    c.training.warmup_steps = 4
    c.training.pushed = "learn"  # the forced `up` is what rescued
    c.training.log_every = 1  # so that the tokens of all updates are written
    c.preference.steps = 40
    c.preference.learning_rate = 3e-4
    c.preference.likelihood = 1.0
    c.preference.microbatch = 16
    c.study.seeds = tuple(range(1, 9))
    asked, again, first, many = 192, 70, 32, 64
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 16, 2, (1,)
        c.policy.steps = c.training.steps = c.preference.steps = 2
        c.policy.prompts = c.policy.rollouts = c.preference.pairs = 4
        c.training.warmup_steps, c.preference.microbatch = 0, 0
        c.intervention.attempts = c.sampling.rollouts = 2
        asked, again, first, many = 16, 8, 1, 4
    # Where the start is made, every seed makes its own.
    made = (_start(c, form),)
    of_start, start = (("from", "start"),), "start/seed-{seed}"
    if form.startswith("pod"):
        _qwen(c, "-Base" if form == "pod_base" else "")
        made, of_start, start, asked = (
            (),
            (("specialist", c.ancestor),),
            "ancestor",
            2048,
        )
    run = (("makes", "run"), *of_start, ("ancestor", ""), ("task.split", "train"))
    run += (("task.problems", str(asked)),)
    plain = (
        ("intervention.operators", "('retry',)"),
        _set("intervention.attempts", again),
    )
    c.study.ancestor = not made
    c.study.arms = (
        *made,
        ("collect", run),
        ("retries", (*run, *plain)),
        ("dpo_whole", _dpo("pairs")),
        ("dpo_parted", _dpo("pairs_parted")),
        ("shuffled", _dpo("pairs_shuffled")),
        ("sft_rescued", _sft("collect", "rescued")),
        ("sft_hard", (*_sft("collect", "rescued"), ("training.most_retries", "1"))),
        ("rft", (*_sft("retries", "retried"), *_rate(form))),
        ("grpo", of_start if made else ()),
    )
    if form == "choose":
        return _choose(c)
    _test(c, start, first, many)
    _declare(c, many)
    return c


def _test(c, start, first, many):
    """Held-out problems, and those that the start never solves in `first` attempts."""
    asks = start.partition("/")[0]
    c.study.tests = (
        ("held_out", ()),
        (
            "first",
            (("seed", "1000"), _set("evaluation.samples", first), ("arms", asks)),
        ),
        (
            "unreached",
            (
                ("evaluation.unsolved", "{workdir}/" + start + "/evaluated-first"),
                _set("evaluation.samples", many),
                ("arms", f"{asks},{_ARMS}"),
            ),
        ),
    )


def _declare(c, many):
    c.study.primary = ("dpo_parted", "rft", "held_out:accuracy")
    versus = (("dpo_parted", "shuffled"), ("dpo_parted", "grpo"), ("sft_hard", "rft"))
    c.study.declared = (
        *((arm, other, "held_out:accuracy") for arm, other in versus),
        ("dpo_parted", "rft", f"unreached:pass@{many}"),
        ("sft_rescued", "rft", f"unreached:pass@{many}"),
    )


def _choose(c):
    """Four rates each of the arms that the comparisons are about, on validation.

    GRPO has twice the steps here than where it is compared.
    """
    c.task.split, c.task.problems, c.evaluation.samples = "validation", 128, 8
    c.study.seeds = (0,)
    c.policy.steps = 32
    arms, rates = dict(c.study.arms), {}
    for name, (setting, tried) in _RATES.items():
        for rate in tried:
            rates[f"{name}_{rate}"] = (*arms[name], (setting, rate))
    made = ("start", "collect", "retries")
    c.study.arms = (*((name, arms[name]) for name in made), *rates.items())
    c.study.tests = ()
    c.study.primary = c.study.declared = ()
    return c


def _set(name, value):
    return (name, str(value))


def _start(c, form):
    """Three traces of four commit after one step (fr/tasks/countdown_traces.py)."""
    return (
        "start",
        (
            ("algorithm", "sft"),
            ("training.traces", "(('premature', 0.75), ('natural', 0.25))"),
            ("training.steps", "2" if form == "short" else "200"),
            ("training.learning_rate", "1e-3"),
        ),
    )


def _sft(run, source):
    return (("algorithm", "sft"), ("run", run), ("training.source", source))


def _rate(form):
    """The rate of RFT; on a pod, all supervised arms have one rate."""
    return () if form.startswith("pod") else (("training.learning_rate", "1e-4"),)


def _dpo(source):
    return (("algorithm", "dpo"), ("run", "collect"), ("training.source", source))


def _qwen(c, kind):
    """GSM8K; the start is the model as it is. For a v5p-8 (v5p:2x2x1)."""
    c.ancestor = f"Qwen/Qwen3-0.6B{kind}"
    c.task.name = "gsm8k"
    c.task.problems, c.evaluation.samples = 1319, 4
    c.task.template_kwargs = "" if kind else '{"enable_thinking": false}'
    c.task.shots = 4 if kind else 0
    for part in (c.policy, c.training, c.preference):
        part.dtype, part.remat, part.learning_rate = "bfloat16", True, 1e-6
    # Each width of rows is a program of its own in every update.
    c.policy.length_buckets = c.preference.length_buckets = 2
    c.training.learning_rate = 1e-5
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 512
    c.policy.steps, c.policy.prompts, c.policy.microbatch = 100, 128, 32
    c.training.steps, c.training.batch, c.training.sequence = 200, 32, 2048
    c.training.microbatch = 4
    c.preference.steps = 100
    c.diagnosis.warmup, c.diagnosis.window = 20.0, 8.0
