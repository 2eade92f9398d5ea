"""Settings of policy optimisation and of its rewards."""

import dataclasses
import math

from fr.config.algorithms import MEANS, SCALES
from fr.config.fields import (
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    TWO_OR_MORE,
    Bound,
    above,
    at_least,
    one_of,
    setting,
    shared,
)

# Where a term acts: on the reward before the group's advantage, or added to the
# advantage, as it is or less its group's mean.
PLACEMENTS = ("reward", "advantage", "advantage_centred")


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """Policy optimisation by `algorithm`; a step has `prompts` x `rollouts` rows."""

    steps: int = shared("steps", 0)
    prompts: int = setting(32, "problems of a step", POSITIVE)
    rollouts: int = setting(8, "G, rollouts of one problem", POSITIVE)
    temperature: float = setting(1.0, "of the rollouts", POSITIVE)
    max_new_tokens: int = setting(
        64, "of a rollout; also the divisor of token sums with mean = fixed", POSITIVE
    )
    epochs: int = setting(1, "passes over the rollouts of a step", POSITIVE)
    minibatches: int = setting(1, "parameter updates of one pass", POSITIVE)
    microbatch: int = shared("microbatch", 0, "rows of one backward pass; 0: all")
    length_buckets: int = shared("length_buckets", 4)
    shared_prompts: bool = setting(
        False, "an update reads a problem's prompt once, not once per rollout"
    )
    remat: bool = shared("remat", True)
    dtype: str = shared("dtype", "")
    model_axis: int = shared("model_axis", 1)
    learning_rate: float = shared("learning_rate", 1.5e-4)
    schedule: str = shared("schedule", "constant")
    warmup_steps: int = shared("warmup_steps", 0)
    weight_decay: float = shared("weight_decay", 0.0)
    clip_norm: float = shared("clip_norm", 1.0)
    optimizer: str = shared("optimizer", "adamw")
    moments: str = shared("moments", "")
    mean: str = setting(
        "",
        "of token losses: sequence, token, sum or fixed; '': the algorithm's own",
        one_of("", *MEANS),
    )
    scale: str = setting(
        "",
        "of advantages: std (group), batch (std of all) or none; '': the algorithm's "
        "own",
        one_of("", *SCALES),
    )
    ddof: int = setting(
        -1,
        "of that std, 0 or 1; -1: the algorithm's own",
        Bound("0, 1, or -1 (the algorithm's own)", lambda value: value in (-1, 0, 1)),
    )
    center_terms: str = setting(
        "",
        "terms added to advantages: group (less their group's mean) or none (as they "
        "are)",
        one_of("", "group", "none"),
    )
    clip_low: float = setting(
        0.0,
        "the ratio is clipped below 1 - clip_low; 0: the algorithm's own",
        Bound("0 or more and below 1", lambda value: 0 <= value < 1),
    )
    clip_high: float = setting(
        0.0, "and above 1 + clip_high; 0: the algorithm's own", NOT_NEGATIVE
    )
    dual_clip: float = setting(
        0.0,
        "bound of the ratio at negative advantages (arXiv 1912.09729); 0: none",
        Bound("0 (off) or above 1", lambda value: value == 0 or value > 1),
    )
    mask_truncated: bool = setting(
        False, "rows without a stop token have no loss (arXiv 2503.14476)"
    )
    gate: str = setting(
        "",
        "failed rows that are learned from, by their regime (docs/algorithms.md): all, "
        "none, matched, mismatched or execution; '': all, and regimes are not told",
    )
    credit: str = setting(
        "",
        "spread advantages by branches of rollouts (docs/algorithms.md): steps, "
        "until_lost, until_random, rescuable or not_rescuable; '': every token has its "
        "row's advantage",
    )
    credit_operator: str = setting(
        "wait_here", "rescuable: operator that failed rows are branched with"
    )
    credit_cuts: int = setting(6, "credit: cuts of a rollout", TWO_OR_MORE)
    credit_branches: int = setting(4, "credit: branches of a cut", POSITIVE)
    credit_share: float = setting(
        0.5,
        "credit: a rollout is lost where its rate stays below this share of the rate "
        "at its start",
        POSITIVE_SHARE,
    )
    ratio_distribution: str = setting(
        "raw",
        "log-probs in ratio and KL: raw (temperature 1), or sample (the rollouts')",
        one_of("raw", "sample"),
    )
    ratio_from: str = setting(
        "",
        "old log-probs: trainer (recomputed) or sampler; '': see docs/algorithms.md",
        one_of("", "trainer", "sampler"),
    )
    importance: str = setting(
        "none",
        "weights trainer / sampler per token or sequence; or none",
        one_of("none", "token", "sequence"),
    )
    importance_bound: float = setting(2.0, "C, the largest weight", above(1))
    importance_beyond: str = setting(
        "truncate",
        "truncate: weights above C become C; mask: outside [1 / C, C] they become 0",
        one_of("truncate", "mask"),
    )
    lag: int = setting(
        0,
        "1: rollouts are drawn with the parameters of the step before",
        Bound("0 or 1", lambda value: value in (0, 1)),
    )
    stop_kl: float = setting(
        0.0,
        "KL from the old policy, nats per token, that ends a step's updates; 0: never",
        NOT_NEGATIVE,
    )
    kl: float = setting(
        0.0, "weight of the k3 estimate of the KL from the ancestor", NOT_NEGATIVE
    )
    reference_every: int = setting(
        0,
        "steps between two refreshes of the reference of `kl`; 0: the ancestor stays",
        NOT_NEGATIVE,
    )
    reference_mix: float = setting(
        1.0,
        "share of the policy in a refresh (arXiv 2404.09656); below 1 a moving average",
        POSITIVE_SHARE,
    )
    entropy: float = setting(0.0, "weight of the entropy bonus", NOT_NEGATIVE)
    entropy_target: float = setting(
        0.0,
        "nats; the bonus grows below it and is off above (arXiv 2505.22312). 0: fixed",
        NOT_NEGATIVE,
    )
    entropy_step: float = setting(
        0.005, "change of the bonus's weight per step", NOT_NEGATIVE
    )
    covariance: str = setting(
        "",
        "clip or kl: remedy for the tokens that cost most entropy (arXiv 2505.22617)",
        one_of("", "clip", "kl"),
    )
    covariance_share: float = setting(
        2e-4,
        "share of tokens with the remedy; the source has 2e-4 (clip), 2e-3 (kl)",
        POSITIVE_SHARE,
    )
    covariance_bounds: tuple[float, float] = setting(
        (1.0, 5.0), "clip: covariances between which a token is drawn"
    )
    covariance_kl: float = setting(
        1.0, "kl: weight of the absolute log ratio on those tokens", NOT_NEGATIVE
    )
    max_resample_rounds: int = setting(
        4, "dapo: most rounds of drawing per step, until outcomes vary", POSITIVE
    )
    eval_every: int = shared(
        "eval_every", 10, "steps between two looks at held-out problems; 0: none"
    )
    eval_problems: int = setting(64, "problems of the validation split", POSITIVE)
    eval_rollouts: int = setting(4, "rollouts of each held-out problem", POSITIVE)
    eval_temperature: float = setting(0.6, "of held-out rollouts", NOT_NEGATIVE)
    export: str = shared(
        "export",
        "last",
        "last, or best: the checkpoint with the highest held_out/accuracy",
    )
    order: str = shared("order", "permuted")
    rollouts_every: int = setting(
        1,
        "steps between two whose rollouts are kept in rollouts-train/; 0: none",
        at_least(0, "0 (never) or more"),
    )
    checkpoint_every: int = shared("checkpoint_every", 5)
    keep: int = shared("keep", 2)
    log_every: int = shared("log_every", 1)
    alarm_entropy: float = setting(
        0.1, "share of the first entropy; an alarm only prints a line", NOT_NEGATIVE
    )
    alarm_kl: float = setting(1.0, "nats per token from the ancestor", NOT_NEGATIVE)
    alarm_repetition: float = setting(
        0.5, "share of n-grams that a completion had before", NOT_NEGATIVE
    )
    alarm_gap: float = setting(
        0.1,
        "nats per token between sampler and trainer, 99th percentile",
        NOT_NEGATIVE,
    )

    @property
    def optimizer_steps(self) -> int:
        """Parameter updates of the whole training."""
        return self.steps * self.epochs * self.minibatches


def _terms(values) -> bool:
    names = [name for name, _ in values]
    return 0 < len(names) == len(set(names))


@dataclasses.dataclass(frozen=True)
class RewardsConfig:
    """The mix of reward terms, the confidence that they read, and their constants."""

    terms: tuple[tuple[str, float], ...] = setting(
        (("correctness", 1.0),),
        "name and weight of each term; a weight of 0 only logs",
        Bound("one term or more, each once", _terms),
    )
    normalise: tuple[tuple[str, str], ...] = setting(
        (), "name and group or batch; other terms keep their values"
    )
    placement: tuple[tuple[str, str], ...] = setting(
        (), "name and reward, advantage or advantage_centred; else the term's own"
    )
    ungraded: str = setting(
        "leave",
        "rows that the grader could not judge: leave (out of correctness), or wrong",
        one_of("leave", "wrong"),
    )
    model: str = setting("", "folder of the reward model of the term `reward_model`")
    confidence: str = setting(
        "scored",
        "scored: probes of the live cache; sampled: forced answers are drawn",
        one_of("scored", "sampled"),
    )
    cuts: int = setting(
        6, "cuts of the reasoning: 0, 20, ... 100 % (arXiv 2605.24396)", TWO_OR_MORE
    )
    samples: int = setting(10, "answers after a cut, where they are sampled", POSITIVE)
    shuffle_seed: int = setting(
        19,
        "of the control `pcs_shuffled`; at 19 its weights correlate with PCS by 0.09",
    )
    discount: float = setting(
        1.0,
        "gamma of PACR, per step of the reasoning",
        Bound("positive and at most 1", lambda value: 0 < value <= 1),
    )
    window: int = setting(
        16, "tokens of a DeepConf group; 2,048 in arXiv 2508.15260", POSITIVE
    )
    ngram: int = setting(
        8, "tokens of a repetition: more than a step of Countdown has", POSITIVE
    )
    length_free: int = setting(48, "tokens without a penalty", NOT_NEGATIVE)
    length_span: int = setting(
        16, "tokens after them over which the penalty grows to 1", POSITIVE
    )
    switch_words: tuple[str, ...] = setting(
        (), "words that leave a thought for another; (): the task's own"
    )
    thought_words: int = setting(
        8, "words of a thought below which it is left early", POSITIVE
    )

    def check(self) -> None:
        """Check weights and the values of `normalise` and `placement`.

        Raises:
          UserError: the first value out of bounds.
        """
        weight = Bound("0 (only logs) or more", lambda value: 0 <= value < math.inf)
        for name, value in self.terms:
            weight.check(f"config.rewards.terms: weight of {name!r}", value)
        known = {
            "normalise": one_of("group", "batch"),
            "placement": one_of(*PLACEMENTS),
        }
        for field, bound in known.items():
            for name, value in getattr(self, field):
                bound.check(f"config.rewards.{field}: value of {name!r}", value)
