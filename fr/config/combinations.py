"""Settings that depend on each other: refused in one line that says what would do."""

from fr.config.algorithms import ALGORITHMS as ROWS
from fr.config.algorithms import with_settings
from fr.config.fields import Bound
from fr.config.trainings import OF_A_RUN, PREFERENCES, SOURCES
from fr.errors import UserError

# Least temperature of a ratio. Two float32 programs differ by 1e-5 nats; divided by
# 0.01 that is 1e-3, as much as a ratio may be clipped at.
_COLD = 0.01


def check_combinations(c) -> None:
    """Check the settings of a whole config that depend on each other.

    Args:
      c: the Config.

    Raises:
      UserError: two settings cannot work together.
    """
    for where in ("training", "pretraining", "policy", "preference"):
        _check_export(where, getattr(c, where))
    _check_fields(c.task)
    heads = c.architecture.heads
    multiple = Bound(
        f"a multiple of architecture.heads = {heads}", lambda value: value % heads == 0
    )
    multiple.check("config.architecture.width", c.architecture.width)
    check_rollouts(c)
    check_source(c)
    _check_credit(c)


def _check_credit(c) -> None:
    paid = [name for name, weight in c.rewards.terms if weight]
    if c.policy.credit == "steps" and paid != ["correctness"]:
        others = ", ".join(name for name in paid if name != "correctness")
        raise UserError(
            "config.policy.credit = 'steps' pays for correctness alone, and "
            f"config.rewards.terms has {others or 'no correctness'}; take another "
            "credit, or other terms"
        )


def _check_export(where: str, c) -> None:
    if c.export == "best" and c.steps and not c.eval_every:
        raise UserError(
            f"config.{where}.export = 'best' with eval_every = 0: no checkpoint is "
            f"measured; set config.{where}.eval_every, or export = 'last'"
        )


def _check_fields(c) -> None:
    names = (c.question_field, c.answer_field, c.id_field, c.split_field)
    distinct = Bound(
        "different names", lambda value: len({*value}) == len(value) and all(value)
    )
    distinct.check("config.task.question_field and others", names)


def check_rollouts(c) -> None:
    """Check that training on rollouts can learn with these settings.

    Args:
      c: the Config; nothing is checked if its algorithm does not train on rollouts.

    Raises:
      UserError: two settings cannot work together.
    """
    if c.algorithm not in ROWS:
        return
    p, row = c.policy, with_settings(ROWS[c.algorithm], c.policy)
    alone = row.centre != "batch" or row.scale == "std"
    if alone and p.rollouts < 2 or p.prompts * p.rollouts < 2:
        raise UserError(
            f"config.policy.rollouts = {p.rollouts}: {c.algorithm} compares the "
            "rollouts "
            "of a problem, and the advantage of a single one is always 0; set 2 or "
            "more, "
            "or config.algorithm = reinforce"
        )
    _check_ratio(c)
    if c.sampling.strict:
        _check_strict(c)
    if p.covariance == "kl" and p.epochs * p.minibatches == 1:
        raise UserError(
            "config.policy.covariance = 'kl' with one update per step: a KL to the old "
            "policy has no gradient where both are the same; raise "
            "config.policy.epochs "
            "or minibatches, or set covariance = 'clip'"
        )
    if p.covariance == "kl" and p.ratio_from == "sampler":
        raise UserError(
            "config.policy.covariance = 'kl' with ratio_from = 'sampler': rounding "
            "alone would then set the sign of its push; set config.policy.ratio_from = "
            "'trainer'"
        )
    if p.lag and p.ratio_from == "trainer" and p.importance == "none":
        raise UserError(
            "config.policy.lag = 1 with ratio_from = 'trainer': nothing corrects for "
            "the "
            "older parameters that drew the rollouts; set config.policy.importance = "
            "'token', or ratio_from = 'sampler'"
        )
    if p.importance != "none" and p.ratio_from == "sampler":
        raise UserError(
            f"config.policy.importance = {p.importance!r} with ratio_from = 'sampler': "
            "the weights of trainer over sampler are then 1; set "
            "config.policy.ratio_from = 'trainer'"
        )
    if (p.reference_every or p.reference_mix < 1) and not (p.kl and p.reference_every):
        raise UserError(
            "config.policy.reference_every and reference_mix refresh the reference of "
            f"config.policy.kl; set kl (it is {p.kl}) and reference_every (it is "
            f"{p.reference_every}), or none of them"
        )


def _check_strict(c) -> None:
    others = {
        "policy.ratio_distribution": ("raw", c.policy.ratio_distribution != "raw"),
        "policy.shared_prompts": (False, c.policy.shared_prompts),
        "policy.dtype": ("float32", c.policy.dtype == "bfloat16"),
        "lora.rank": (0, c.lora.rank),
        "lora.vectors": (False, c.lora.vectors),
    }
    for name, (value, wrong) in others.items():
        if wrong:
            raise UserError(
                f"config.sampling.strict with another config.{name} than {value!r}: "
                "updates would not make the sampler's sums; set it to "
                f"{value!r}, or config.sampling.strict = False"
            )


def _check_ratio(c) -> None:
    p, off = c.policy, {"top_p": 1.0, "top_k": 0}
    restricts = [
        name for name, value in off.items() if getattr(c.sampling, name) != value
    ]
    if p.ratio_distribution == "sample" and restricts:
        name = restricts[0]
        raise UserError(
            f"config.policy.ratio_distribution = 'sample' with config.sampling.{name} "
            "= "
            f"{getattr(c.sampling, name)}: the sampler's log-probs cover the tokens "
            "that "
            "are kept, the update's the whole vocabulary, so their ratio is not 1 at "
            f"equal parameters; set {name} = {off[name]}, or ratio_distribution = 'raw'"
        )
    if p.ratio_distribution == "sample" and p.temperature < _COLD:
        raise UserError(
            "config.policy.ratio_distribution = 'sample' with temperature = "
            f"{p.temperature}: divided by it, log-probs differ by rounding as much as "
            "a "
            f"ratio is clipped at; set {_COLD} or more, or ratio_distribution = 'raw'"
        )


def check_source(c) -> None:
    """Check that the algorithm can learn from `training.source`, and that its run is
    named.

    Args:
      c: the Config.

    Raises:
      UserError: source, algorithm and run do not fit.
    """
    t, kind = c.training, "pairs" if c.algorithm in PREFERENCES else c.algorithm
    if t.source and t.source not in SOURCES.get(kind, ()):
        able = [name for name, sources in SOURCES.items() if t.source in sources]
        raise UserError(
            f"config.training.source = {t.source!r} is not for config.algorithm = "
            f"{c.algorithm!r}; set config.algorithm = "
            f"{'sft' if able == ['sft'] else 'dpo'!r}, or another source"
        )
    if (t.source in OF_A_RUN) != bool(t.run):
        raise UserError(
            f"config.training.source = {t.source!r} and run = {t.run!r}: "
            f"{', '.join(OF_A_RUN)} are taken from a run; set config.training.run to "
            "its "
            "workdir, or none of them"
        )
    for group in ("training", "pretraining"):
        given = getattr(c, group)
        if (given.source == "file") != bool(given.file):
            raise UserError(
                f"config.{group}.source = {given.source!r} and file = {given.file!r}: "
                "set source = 'file' and file to the path of the examples, or none of "
                "them"
            )
    if t.start == "scratch" and c.algorithm in PREFERENCES:
        raise UserError(
            "config.training.start = 'scratch' is for config.algorithm = 'sft': "
            f"{c.algorithm} needs a model that answers; name one"
        )
    by_pairs = c.algorithm in PREFERENCES and c.preference.eval_every
    if by_pairs and not t.run:
        raise UserError(
            "config.preference.eval_every measures pairs of a run's held-out problems; "
            "set config.training.source and run, or eval_every = 0"
        )
