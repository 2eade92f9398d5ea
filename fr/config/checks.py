"""What values settings may have: every refusal names the setting, its value and what would do."""

import math

from fr.config.algorithms import MEANS, SCALES
from fr.config.learning import (
    ALGORITHMS,
    FROM,
    PLACEMENTS,
    SOURCES,
    LoraConfig,
    PolicyConfig,
    PreferenceConfig,
    RewardsConfig,
    StudyConfig,
    TrainingConfig,
)
from fr.config.settings import InterventionConfig, RoutingConfig, TaskConfig
from fr.config.together import check_rollouts, check_source
from fr.errors import UserError
from fr.registry import suggest


def validate(c) -> None:
    """Raise UserError for the first value of a whole config that cannot be, by its name."""
    for group, names in {
        "task": ("problems", "operands", "largest", "target", "terms", "digits"),
        "sampling": (
            "rollouts",
            "max_new_tokens",
            "slots",
            "chunk",
            "prefill",
            "model_axis",
            "shard_rows",
        ),
        "diagnosis": ("tau", "width", "window"),
        "intervention": ("attempts", "after", "local_span", "switch_window"),
        "routing": (
            "bootstrap",
            "splits",
            "permutations",
            "nulls",
            "splittings",
            "posterior",
            "seeds",
            "steps",
            "learning_rate",
            "budget",
        ),
        "regimes": ("bootstrap", "seeds", "nulls", "null_bootstrap"),
        "evaluation": ("samples", "cuts", "bins", "sampled_attempts", "answers"),
        "rewards": (
            "samples",
            "discount",
            "window",
            "ngram",
            "length_span",
            "thought_words",
        ),
        "architecture": ("width", "layers", "heads", "ff"),
        "training": (
            "batch",
            "sequence",
            "learning_rate",
            "checkpoint_every",
            "keep",
            "log_every",
        ),
        "pretraining": (
            "batch",
            "sequence",
            "learning_rate",
            "checkpoint_every",
            "keep",
            "log_every",
        ),
    }.items():
        for name in names:
            value = getattr(getattr(c, group), name)
            _check(value > 0, f"{group}.{name}", value, "positive")
    _choice("task.split", c.task.split, ("train", "validation", "test"))
    _choice(
        "sampling.devices", c.sampling.devices, ("auto", "one", "pmap", "shard_map")
    )
    _choice("diagnosis.detector", c.diagnosis.detector, ("window", "page_hinkley"))
    _choice("diagnosis.score", c.diagnosis.score, ("demotion", "z"))
    _choice("diagnosis.statistics", c.diagnosis.statistics, ("scored", "loop"))
    _choice("diagnosis.form", c.diagnosis.form, ("showcase", "released"))
    _choice("algorithm", c.algorithm, ALGORITHMS)
    _validate_routing(c.routing)
    _validate_policy(c.policy)
    _validate_lora(c.lora)
    _validate_preference(c.preference)
    _validate_rewards(c.rewards)
    for name in ("training", "pretraining"):
        _validate_training(name, getattr(c, name))
    _validate_study(c.study)
    check_rollouts(c)
    check_source(c)
    _check(c.regimes.largest > 1, "regimes.largest", c.regimes.largest, "2 or more")
    _validate_task(c.task)
    _check(
        c.sampling.temperature >= 0,
        "sampling.temperature",
        c.sampling.temperature,
        "0 (greedy) or more",
    )
    _check(0 < c.sampling.top_p <= 1, "sampling.top_p", c.sampling.top_p, "in (0, 1]")
    cuts = c.sampling.probe_cuts
    _check(cuts == 0 or cuts >= 2, "sampling.probe_cuts", cuts, "0 (off), or 2 or more")
    _check(c.sampling.top_k >= 0, "sampling.top_k", c.sampling.top_k, "0 (off) or more")
    _check(c.diagnosis.width <= 16, "diagnosis.width", c.diagnosis.width, "at most 16")
    _check(
        min(c.diagnosis.failures, default=1) > 0,
        "diagnosis.failures",
        c.diagnosis.failures,
        "positive numbers",
    )
    _check(
        c.evaluation.temperature >= 0,
        "evaluation.temperature",
        c.evaluation.temperature,
        "0 or more",
    )
    _check(
        0 < c.evaluation.top_p <= 1, "evaluation.top_p", c.evaluation.top_p, "in (0, 1]"
    )
    _check(
        min(c.evaluation.ks, default=0) > 0,
        "evaluation.ks",
        c.evaluation.ks,
        "positive numbers",
    )
    _check(c.diagnosis.drift >= 0, "diagnosis.drift", c.diagnosis.drift, "0 or more")
    for name in ("quantile", "false_alarms"):
        value = getattr(c.diagnosis, name)
        _check(0 < value < 1, f"diagnosis.{name}", value, "in (0, 1)")
    _validate_intervention(c.intervention)
    _check(
        c.architecture.width % c.architecture.heads == 0,
        "architecture.width",
        c.architecture.width,
        f"a multiple of architecture.heads = {c.architecture.heads}",
    )


def _validate_task(c: TaskConfig) -> None:
    _check(c.shots >= 0, "task.shots", c.shots, "0 or more")
    _check(c.solutions >= 0, "task.solutions", c.solutions, "0 (any number) or more")
    _choice("task.chat", c.chat, ("auto", "plain", "template"))
    _check(
        "{question}" in c.template,
        "task.template",
        c.template,
        "a text with {question} in it",
    )
    shares = c.split_shares
    whole = len(shares) == 3 and min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6
    _check(
        not shares or whole,
        "task.split_shares",
        shares,
        "(train, validation, test) with a sum of 1",
    )
    fields = (c.question_field, c.answer_field, c.id_field, c.split_field)
    _check(
        len({*fields}) == len(fields) and all(fields),
        "task.question_field and others",
        fields,
        "different names",
    )


def _validate_intervention(c: InterventionConfig) -> None:
    _check(c.budget >= 0, "intervention.budget", c.budget, "0 or more")
    # Above 1 the coverage mixture has no meaning; the operator that contrasts has a weight of its own.
    _check(0 <= c.alpha <= 1, "intervention.alpha", c.alpha, "in [0, 1]")
    _check(1 < c.contrast < math.inf, "intervention.contrast", c.contrast, "above 1")
    for name in ("plausible", "nucleus", "min_p"):
        _check(
            0 < getattr(c, name) <= 1,
            f"intervention.{name}",
            getattr(c, name),
            "in (0, 1]",
        )
    _check(c.stop_window > 0, "intervention.stop_window", c.stop_window, "positive")
    _check(
        0 <= c.stop_quantile <= 1,
        "intervention.stop_quantile",
        c.stop_quantile,
        "in [0, 1]",
    )
    _check(
        0 <= c.restart_share <= 1,
        "intervention.restart_share",
        c.restart_share,
        "in [0, 1]",
    )
    _check(
        c.switch_penalty >= 0,
        "intervention.switch_penalty",
        c.switch_penalty,
        "0 or more",
    )
    for name in ("local_temperatures", "hot_temperatures"):
        _check(
            min(getattr(c, name), default=0) > 0,
            f"intervention.{name}",
            getattr(c, name),
            "positive",
        )


def _validate_routing(c: RoutingConfig) -> None:
    for name in ("hidden", "entropy", "caution", "price"):
        _check(getattr(c, name) >= 0, f"routing.{name}", getattr(c, name), "0 or more")
    for name in ("folds", "inner_folds"):
        _check(getattr(c, name) > 1, f"routing.{name}", getattr(c, name), "2 or more")
    _check(
        min(c.penalties, default=0) > 0,
        "routing.penalties",
        c.penalties,
        "positive numbers",
    )
    _choice("routing.objective", c.objective, ("rescue", "binomial"))


def _validate_optimiser(where: str, c) -> None:
    """What policy optimisation and pairs have in common."""
    for name in ("steps", "microbatch", "warmup_steps", "weight_decay"):
        _check(getattr(c, name) >= 0, f"{where}.{name}", getattr(c, name), "0 or more")
    for name in ("learning_rate", "clip_norm", "model_axis"):
        _check(getattr(c, name) > 0, f"{where}.{name}", getattr(c, name), "positive")
    _choice(f"{where}.schedule", c.schedule, ("constant", "cosine"))
    _choice(f"{where}.dtype", c.dtype, ("", "float32", "bfloat16"))
    _choice(f"{where}.optimizer", c.optimizer, ("adamw", "lion", "adafactor"))
    _choice(f"{where}.moments", c.moments, ("", "float32", "bfloat16"))
    _check(c.eval_every >= 0, f"{where}.eval_every", c.eval_every, "0 (never) or more")
    _choice(f"{where}.export", c.export, ("last", "best"))
    if c.export == "best" and c.steps and not c.eval_every:
        raise UserError(
            f"config.{where}.export = 'best' with eval_every = 0: nothing says which checkpoint is the best; set "
            f"config.{where}.eval_every, or export = 'last'"
        )


def _validate_training(where: str, c: TrainingConfig) -> None:
    _validate_optimiser(where, c)
    _choice(f"{where}.source", c.source, ("", *SOURCES["sft"], *SOURCES["pairs"]))
    _choice(f"{where}.distinct", c.distinct, ("text", "answer"))
    _choice(f"{where}.pushed", c.pushed, ("mask", "learn"))
    _choice(f"{where}.order", c.order, ("permuted", "drawn"))
    _check(
        c.max_per_problem >= 0,
        f"{where}.max_per_problem",
        c.max_per_problem,
        "0 (all) or more",
    )
    _check(0 < c.held_out < 1, f"{where}.held_out", c.held_out, "in (0, 1)")
    _check(c.eval_problems > 0, f"{where}.eval_problems", c.eval_problems, "positive")


def _validate_policy(c: PolicyConfig) -> None:
    _validate_optimiser("policy", c)
    _choice("policy.order", c.order, ("permuted", "drawn"))
    _check(
        c.rollouts_every >= 0,
        "policy.rollouts_every",
        c.rollouts_every,
        "0 (never) or more",
    )
    for name in (
        "prompts",
        "rollouts",
        "temperature",
        "max_new_tokens",
        "updates",
        "minibatches",
        "widths",
    ):
        _check(getattr(c, name) > 0, f"policy.{name}", getattr(c, name), "positive")
    for name in (
        "rounds",
        "eval_problems",
        "eval_rollouts",
        "checkpoint_every",
        "keep",
        "log_every",
    ):
        _check(getattr(c, name) > 0, f"policy.{name}", getattr(c, name), "positive")
    for name in ("eval_temperature", "alarm_entropy", "alarm_kl", "alarm_repetition"):
        _check(getattr(c, name) >= 0, f"policy.{name}", getattr(c, name), "0 or more")
    for name in (
        "clip_low",
        "clip_high",
        "kl",
        "entropy",
        "covariance_kl",
        "entropy_target",
        "entropy_step",
    ):
        _check(getattr(c, name) >= 0, f"policy.{name}", getattr(c, name), "0 or more")
    for name in ("reference_every", "stop_kl", "alarm_gap"):
        _check(getattr(c, name) >= 0, f"policy.{name}", getattr(c, name), "0 or more")
    _choice("policy.mean", c.mean, ("", *MEANS))
    _choice("policy.scale", c.scale, ("", *SCALES))
    _check(
        c.ddof in (-1, 0, 1), "policy.ddof", c.ddof, "0, 1, or -1 (the algorithm's own)"
    )
    _choice("policy.center_terms", c.center_terms, ("", "group", "none"))
    _choice("policy.ratio_from", c.ratio_from, ("", "trainer", "sampler"))
    _choice("policy.importance", c.importance, ("none", "token", "sequence"))
    _choice("policy.importance_beyond", c.importance_beyond, ("truncate", "mask"))
    _check(
        c.importance_bound > 1, "policy.importance_bound", c.importance_bound, "above 1"
    )
    _check(
        c.dual_clip == 0 or c.dual_clip > 1,
        "policy.dual_clip",
        c.dual_clip,
        "0 (off) or above 1",
    )
    _check(c.lag in (0, 1), "policy.lag", c.lag, "0 or 1")
    _check(
        0 < c.reference_mix <= 1, "policy.reference_mix", c.reference_mix, "in (0, 1]"
    )
    _check(c.clip_low < 1, "policy.clip_low", c.clip_low, "below 1")
    _check(
        0 < c.covariance_share <= 1,
        "policy.covariance_share",
        c.covariance_share,
        "in (0, 1]",
    )
    _choice("policy.ratio_logp", c.ratio_logp, ("raw", "sample"))
    _choice("policy.covariance", c.covariance, ("", "clip", "kl"))


def _validate_lora(c: LoraConfig) -> None:
    _check(c.rank >= 0, "lora.rank", c.rank, "0 (off) or more")
    _check(c.alpha > 0, "lora.alpha", c.alpha, "positive")
    _check(len(c.targets) > 0, "lora.targets", c.targets, "one part of a layer or more")


def _validate_preference(c: PreferenceConfig) -> None:
    _validate_optimiser("preference", c)
    for name in (
        "pairs",
        "problems",
        "candidates",
        "widths",
        "checkpoint_every",
        "keep",
        "log_every",
    ):
        _check(getattr(c, name) > 0, f"preference.{name}", getattr(c, name), "positive")
    _choice("preference.source", c.source, ("sampled", "branches"))
    _check(0 <= c.confident <= 1, "preference.confident", c.confident, "in [0, 1]")
    _check(c.beta > 0, "preference.beta", c.beta, "positive")
    for name in ("margin", "dpo_margin"):
        _check(
            getattr(c, name) >= 0, f"preference.{name}", getattr(c, name), "0 or more"
        )
    _choice("preference.answer", c.answer, ("cut", "keep"))


def _validate_rewards(r: RewardsConfig) -> None:
    """What can be said without the names of the terms, which `fr.rewards` knows."""
    _choice("rewards.confidence", r.confidence, ("scored", "sampled"))
    _check(r.cuts >= 2, "rewards.cuts", r.cuts, "2 or more")
    _check(r.discount <= 1, "rewards.discount", r.discount, "at most 1")
    _check(r.length_free >= 0, "rewards.length_free", r.length_free, "0 or more")
    names = [name for name, _ in r.terms]
    _check(
        0 < len(names) == len(set(names)),
        "rewards.terms",
        r.terms,
        "one term or more, each once",
    )
    for name, weight in r.terms:
        _check(
            0 <= weight < math.inf,
            f"rewards.terms: weight of {name!r}",
            weight,
            "0 (only logs) or more",
        )
    _choice("rewards.ungraded", r.ungraded, ("leave", "wrong"))
    for field, known in {
        "normalise": ("group", "batch"),
        "placement": PLACEMENTS,
    }.items():
        for name, value in getattr(r, field):
            _choice(f"rewards.{field}: that of {name!r}", value, known)


def _validate_study(c: StudyConfig) -> None:
    arms = [name for name, _ in c.arms] + ["ancestor"] * c.ancestor
    _check(len(arms) == len(set(arms)), "study.arms", arms, "different names")
    _check(
        0 < len(c.seeds) == len(set(c.seeds)),
        "study.seeds",
        c.seeds,
        "one seed or more, each once",
    )
    _check(
        len(c.primary) in (0, 3),
        "study.primary",
        c.primary,
        "an arm, its reference and a figure, or empty",
    )
    for name in c.primary[:2]:
        _choice("study.primary", name, tuple(arms))
    for place, (name, changes) in enumerate(c.arms):
        if FROM in dict(changes):
            _choice(
                f"study.arms: {FROM!r} of {name!r}",
                dict(changes)[FROM],
                tuple(arms[:place]),
            )


def _check(ok: bool, name: str, value, wanted: str) -> None:
    if not ok:
        raise UserError(f"config.{name} = {value!r} must be {wanted}")


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(
            f"config.{name} = {value!r} is not known{suggest(value, known)}"
        )
