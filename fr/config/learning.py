"""Settings of training: from nothing, on traces, on rollouts, on pairs; rewards; comparisons of trainings."""

import dataclasses

from fr.config.algorithms import ALGORITHMS as _POLICY

PREFERENCES = ("dpo", "reward_model")  # algorithms that learn from pairs
ALGORITHMS = ("sft", *_POLICY, *PREFERENCES)
# What is learnt from (`training.source`), by the kind of algorithm; those behind the first two are of a run.
SOURCES = {
    "sft": ("traces", "solutions", "rollouts", "rescued"),
    "pairs": ("pairs", "pairs_parted", "pairs_shuffled"),
}
OF_A_RUN = (*SOURCES["sft"][2:], *SOURCES["pairs"])


@dataclasses.dataclass(frozen=True)
class ArchitectureConfig:
    """Shape of a model made from scratch."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    ff: int = 344


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Supervised training; `source` to `pushed` say what is learnt from, and are read by training on pairs too.

    docs/rewards.md has a table of the sources.
    """

    source: str = ""  # one of SOURCES; "": traces of Countdown, else solutions; pairs: the model's own candidates
    run: str = ""  # workdir of the run that rollouts, rescued attempts and pairs are taken from
    start: str = ""  # the model that is trained; "": with a run its specialist, else the ancestor
    operators: tuple[str, ...] = ()  # of the rescued attempts; (): all
    max_per_problem: int = 4  # examples or pairs of a problem; 0: all
    distinct: str = (
        "text"  # examples of a problem differ in their text, or in their answer
    )
    pushed: str = (
        "mask"  # tokens that an operator pushed, which no model drew: mask, or learn
    )
    held_out: float = 0.1  # share of a run's problems that are measured on and not learnt from, with eval_every
    steps: int = 0
    batch: int = 16  # packed sequences a step
    sequence: int = 128  # tokens of a packed sequence
    order: str = "permuted"  # every problem once an epoch; drawn: with replacement
    microbatch: int = 0  # sequences of one backward pass; 0: all
    remat: bool = (
        False  # layers are computed again in the backward pass instead of kept
    )
    dtype: str = (
        ""  # of the computation, float32 or bfloat16; "": what suits the device
    )
    model_axis: int = 1  # devices that share one copy of the parameters
    learning_rate: float = 3e-3
    schedule: str = "cosine"  # behind the warm-up, to zero; or constant
    warmup_steps: int = 100
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    optimizer: str = "adamw"  # or lion, adafactor
    moments: str = (
        ""  # type that the optimiser's moments are kept in; "": float32, or bfloat16
    )
    traces: tuple[tuple[str, float], ...] = (
        ("natural", 0.55),
        ("answer_first", 0.25),
        ("anytime", 0.20),
    )
    eval_every: int = 0  # steps between two looks at held-out examples; 0: none
    eval_problems: int = 64  # of the validation split, where no run is learnt from
    export: str = "last"  # or best: the checkpoint with the least held_out/loss
    checkpoint_every: int = 200
    keep: int = 2  # newest checkpoints that stay
    log_every: int = 10  # steps between two lines of metrics.jsonl

    @property
    def optimizer_steps(self) -> int:
        """Parameter updates of a run."""
        return self.steps


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """Policy optimisation: `prompts` x `rollouts` rows a step; what shapes a run of `algorithm`."""

    steps: int = 0
    prompts: int = 32  # problems of a step
    rollouts: int = 8  # G, of one problem
    temperature: float = 1.0  # of the rollouts
    max_new_tokens: int = (
        64  # of a rollout; also the fixed length that token sums are divided by
    )
    updates: int = 1  # passes over the rollouts of a step
    minibatches: int = 1  # parameter updates of one pass
    microbatch: int = 0  # rows of one backward pass; 0: all of a minibatch
    widths: int = 4  # a program each; of several microbatches each takes the narrowest that holds its rows
    shared_prompts: bool = (
        False  # an update reads the prompt of a problem once, not once a rollout
    )
    remat: bool = (
        False  # layers are computed again in the backward pass instead of kept
    )
    dtype: str = (
        ""  # of the computation, float32 or bfloat16; "": what suits the device
    )
    model_axis: int = 1  # devices that share one copy of the parameters
    learning_rate: float = 1.5e-4
    schedule: str = "constant"  # behind the warm-up; or cosine, to zero
    warmup_steps: int = 0  # of parameter updates
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    optimizer: str = "adamw"  # or lion, adafactor
    moments: str = (
        ""  # type that the optimiser's moments are kept in; "": float32, or bfloat16
    )
    mean: str = (
        ""  # of token losses: sequence, token, sum, fixed; "": the algorithm's own
    )
    scale: str = ""  # of advantages: std (of the group), batch (std of all), none; "": the algorithm's own
    ddof: int = -1  # of that std, 0 or 1; -1: the algorithm's own
    center_terms: str = ""  # terms added to advantages: group (less their group's mean) or none (as they are)
    clip_low: float = (
        0.0  # the ratio is clipped below 1 - clip_low; 0: the algorithm's own
    )
    clip_high: float = 0.0  # and above 1 + clip_high
    dual_clip: float = 0.0  # bound of the ratio where the advantage is negative (arXiv 1912.09729); 0: none
    mask_truncated: bool = (
        False  # rows without a stop token are not learnt from (arXiv 2503.14476)
    )
    ratio_logp: str = "raw"  # log-probs in ratio and KL: raw, or sample (at the rollouts' temperature)
    ratio_from: str = ""  # old log-probs: trainer (recomputed) or sampler; "": see objective.recomputes
    importance: str = (
        "none"  # weights trainer over sampler, by token or sequence; or none
    )
    importance_bound: float = 2.0  # C, the largest weight
    importance_beyond: str = (
        "truncate"  # weights above C become C; mask: those outside [1 / C, C] become 0
    )
    lag: int = (
        0  # 1: rollouts are drawn with the parameters of a step before (one-step-off)
    )
    stop_kl: float = (
        0.0  # nats a token from the old policy that end a step's updates; 0: never
    )
    kl: float = 0.0  # weight of the k3 estimate of the KL from the ancestor
    reference_every: int = 0  # steps between two refreshes of what `kl` is measured from; 0: the ancestor stays
    reference_mix: float = 1.0  # share of the policy in a refresh (arXiv 2404.09656); below 1 a moving average
    entropy: float = 0.0  # weight of the entropy bonus
    entropy_target: float = 0.0  # nats; below it the bonus grows, above it is off (arXiv 2505.22312); 0: fixed
    entropy_step: float = 0.005  # by which its weight grows or shrinks a step
    covariance: str = ""  # clip or kl: what is done to the tokens that cost most entropy (arXiv 2505.22617)
    covariance_share: float = 2e-4  # of tokens that it is done to
    covariance_bounds: tuple[float, float] = (
        1.0,
        5.0,
    )  # clip: the covariances that a token is drawn from
    covariance_kl: float = 1.0  # kl: weight of half the squared log ratio on them
    rounds: int = 4  # of drawing for one step, where problems of one outcome are drawn again (dapo)
    eval_every: int = 10  # steps between two looks at held-out problems; 0: none
    eval_problems: int = 64  # of the validation split
    eval_rollouts: int = 4  # of each
    eval_temperature: float = 0.6
    export: str = "last"  # or best: the checkpoint with the highest held_out/accuracy
    order: str = "permuted"  # every problem once an epoch; drawn: each step draws anew from all problems
    rollouts_every: int = (
        1  # steps between two whose rollouts are kept, in rollouts-train/; 0: none
    )
    checkpoint_every: int = (
        5  # steps; a look at held-out problems has a checkpoint of its own
    )
    keep: int = 2  # newest checkpoints that stay, beside the best one
    log_every: int = 1  # steps between two lines of metrics.jsonl
    alarm_entropy: float = (
        0.1  # share of the first entropy; alarms say what to do, and do nothing
    )
    alarm_kl: float = 1.0  # nats a token from the ancestor
    alarm_repetition: float = 0.5  # share of n-grams that a completion had before
    alarm_gap: float = 0.1  # nats a token between sampler and trainer, 99th percentile

    @property
    def optimizer_steps(self) -> int:
        """Parameter updates of a run."""
        return self.steps * self.updates * self.minibatches


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters in place of all parameters (arXiv 2106.09685)."""

    rank: int = 0  # 0: all parameters are trained
    alpha: float = 32.0  # an adapter's product is scaled by alpha / rank
    targets: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class PreferenceConfig:
    """Training on pairs of a better and a worse completion, by DPO or a Bradley-Terry reward."""

    steps: int = 0
    pairs: int = 32  # of a step
    beta: float = 0.1  # dpo: scale of the log ratios to the ancestor
    margin: float = 0.0  # reward_model: weight of a pair's own margin; RLSF takes 1 (arXiv 2507.21931)
    dpo_margin: float = (
        0.0  # dpo: the same (an offset, arXiv 2402.10571); RLSF has none
    )
    answer: str = "cut"  # responses are learnt from without the sentence of the answer (RLSF); or keep: whole
    problems: int = 256  # training problems that are asked for candidates, of which pairs are made (RLSF)
    candidates: int = 10  # of each
    source: str = "sampled"  # of candidates; or branches: the likeliest first tokens, and greedy from there
    confident: float = 0.9  # least confidence in the answer of the better one
    microbatch: int = 0  # rows of one backward pass, two a pair; 0: all
    widths: int = 4  # a program each; of several microbatches each takes the narrowest that holds its rows
    remat: bool = False
    dtype: str = ""
    model_axis: int = 1
    learning_rate: float = 5e-5
    schedule: str = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    optimizer: str = "adamw"  # or lion, adafactor
    moments: str = (
        ""  # type that the optimiser's moments are kept in; "": float32, or bfloat16
    )
    eval_every: int = (
        0  # steps between two looks at pairs of held-out problems of a run; 0: none
    )
    export: str = "last"  # or best: the checkpoint with the least held_out/loss
    checkpoint_every: int = 20
    keep: int = 2  # newest checkpoints that stay
    log_every: int = 1  # steps between two lines of metrics.jsonl

    @property
    def optimizer_steps(self) -> int:
        """Parameter updates of a run."""
        return self.steps


@dataclasses.dataclass(frozen=True)
class RewardsConfig:
    """The mix of reward terms, how the confidence that they read is measured, and the terms' own constants."""

    terms: tuple[tuple[str, float], ...] = (
        ("correctness", 1.0),
    )  # name, weight; a weight of 0 only logs
    normalise: tuple[
        tuple[str, str], ...
    ] = ()  # name, group or batch; of others the values stay as they are
    placement: tuple[
        tuple[str, str], ...
    ] = ()  # name, reward, advantage or advantage_centred; else its own
    ungraded: str = "leave"  # rows that the grader could not judge: leave them out of correctness, or wrong
    model: str = ""  # folder of the model that the term `reward_model` asks
    confidence: str = (
        "scored"  # scored: probes of the live cache; sampled: forced answers are drawn
    )
    cuts: int = 6  # 0, 20, ... 100 % of the reasoning (arXiv 2605.24396)
    samples: int = 10  # answers behind a cut, where they are sampled
    shuffle_seed: int = 19  # of the control `pcs_shuffled`, whose six weights then correlate with PCS by 0.09
    discount: float = 1.0  # gamma of PACR, a step of the reasoning
    window: int = 16  # tokens of a DeepConf group; 2,048 in arXiv 2508.15260, whose chains are long
    ngram: int = (
        8  # tokens of what counts as a repetition: more than a step of Countdown has
    )
    length_free: int = 48  # tokens without a penalty
    length_span: int = 16  # tokens behind them over which it grows to 1
    switch_words: tuple[
        str, ...
    ] = ()  # that leave a thought for another; (): those of the task
    thought_words: int = (
        8  # a thought that is left before it has that many words is left early
    )


# Of a term: before the advantages of a group, added to them, or added less its group's mean.
PLACEMENTS = ("reward", "advantage", "advantage_centred")
FROM = "from"  # among an arm's settings: the arm whose model of the same seed it starts from


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Trainings that scripts/study.py compares: every arm with every seed."""

    arms: tuple[
        tuple[str, tuple[tuple[str, str], ...]], ...
    ] = ()  # name, and (setting, value) that it changes
    seeds: tuple[int, ...] = (0, 1, 2)
    ancestor: bool = True  # it is an arm too, evaluated once
    primary: tuple[
        str, ...
    ] = ()  # arm, reference, figure: named before anything has run; (): all is exploration
