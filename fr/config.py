"""Every setting and its one default; a config file holds only what differs from these."""

import dataclasses
import math
import typing

import ml_collections

from fr.errors import UserError
from fr.registry import suggest

ALGORITHMS = ("sft", "grpo", "dr_grpo", "dapo", "gspo", "reinforce", "dpo")


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Which problems, and how they are put to the model."""

    name: str = "countdown"
    split: str = "test"  # train, validation or test
    problems: int = 128  # how many of the split, from the start of its fixed order
    path: str = ""  # question-answer tasks: a .jsonl or .parquet file
    shots: int = 0  # worked examples before the question
    operands: int = 3  # countdown: numbers of a problem
    largest: int = 10  # countdown: largest operand
    target: int = 100  # countdown: largest target
    terms: int = 2  # sums: how many terms
    digits: int = 1  # sums: digits of a term


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How rollouts are drawn. `slots`, `chunk`, `prefill`, `devices`, `model_axis` alone shape the programs."""

    rollouts: int = 16  # G, rollouts of one problem
    temperature: float = 0.6
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    max_new_tokens: int = 64
    slots: int = 64  # rows in flight on a device; constant, so that bytes do not depend on the device count
    chunk: int = 16  # decode steps between two looks of the host
    prefill: int = 8  # prompts that are read at one time on a device
    devices: str = "auto"  # auto: pmap where there are several; one, pmap, shard_map
    model_axis: int = 1  # devices that share one copy of a model: for those larger than a device
    shard_rows: int = (
        4096  # attempts of one store shard, the unit that is redone after a kill; 64 for every slot
    )


@dataclasses.dataclass(frozen=True)
class DiagnosisConfig:
    """Constants of the failure signals (arXiv 2606.05145); those below 1 are shares of the median failed length."""

    tau: float = 0.6  # diagnosis temperature
    window: float = 8.0  # half width, in tokens, of the junction window
    warmup: float = 20.0  # the detector cannot fire in the first tokens
    width: int = 1  # tokens summed by the detector
    quantile: float = 0.99  # of the detector's score over a problem's failed rollouts: its threshold
    quantile_without_ancestor: float = 0.75  # the same, of the logit variance
    detector: str = "demotion"  # demotion: J; z: max(Z_path, Z_cov)
    form: str = "showcase"  # third feature: showcase (mean of log10) or released (log10 of the mean)


@dataclasses.dataclass(frozen=True)
class InterventionConfig:
    """The operators and how often each is tried on a failed problem."""

    operators: tuple[str, ...] = (
        "retry",
        "sparse_steer",
        "sparse_steer_random",
        "wrong_geodesic",
        "dense_steer",
        "dense_sampled",
        "local_temp",
    )
    attempts: int = 16
    alpha: float = 0.7  # the specialist's weight in a mixture
    local_temperatures: tuple[float, ...] = (1.0, 1.5, 2.0)
    local_span: int = 16  # tokens that stay hot after the one that fires


@dataclasses.dataclass(frozen=True)
class RoutingConfig:
    """Labels, protocols and intervals."""

    margin: float = 0.05  # best − retry of a steerable problem
    hard: float = 0.5  # 1 − retry of a steerable problem
    bootstrap: int = 2000  # resamples of an interval
    splits: int = 200  # random halvings of the attempts
    permutations: int = 200  # of the label null
    posterior: int = 200  # draws of every problem's true rates
    folds: int = 5  # of problems, for what is learned
    inner_folds: int = 4  # of the training problems, for the settings of the head
    objective: str = "rescue"  # of the head: expected rescue of its soft policy, or binomial (likelihood)
    hidden: int = 0  # units of the head's hidden layer; 0: linear in its columns
    seeds: int = 2  # heads whose scores are averaged
    steps: int = 120  # parameter updates of a head
    learning_rate: float = 0.1  # at the first of them; cosine to 0
    entropy: float = 0.01  # weight of the soft policy's entropy, in rescues a nat
    ridges: tuple[float, ...] = (0.001, 0.01, 0.1)  # candidates for the weight of the head's squared kernels
    caution: float = (
        2.0  # standard errors by which the head must have gained before it leaves the fixed choice
    )
    price: float = 0.0  # rescues that a retry must be worth; above 0 the head may stop


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How a model is measured; sampling as in arXiv 2605.24396, and the other fields of `sampling` as they are."""

    temperature: float = 0.7
    top_p: float = 0.98
    samples: int = 128  # attempts at each problem
    ks: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)  # of pass@k; those above `samples` are left out
    cuts: int = 11  # of a chain: 0, 10, ... 100 %
    premature: float = 0.4  # confidence whose rank correlation with its cut is lower came too early
    bins: int = 10  # of a calibration error
    sampled: bool = False  # sample answers behind the cuts too, to compare with scored confidence
    sampled_attempts: int = 2  # attempts at each problem that are compared
    answers: int = 10  # sampled behind a cut


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Supervised training on traces; `traces` weighs the kinds that the task can write."""

    steps: int = 0
    batch: int = 16  # packed sequences a step
    sequence: int = 128  # tokens of a packed sequence
    learning_rate: float = 3e-3
    schedule: str = "cosine"  # behind the warm-up, to zero; or constant
    warmup_steps: int = 100
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    traces: tuple[tuple[str, float], ...] = (("natural", 0.55), ("answer_first", 0.25), ("anytime", 0.20))
    checkpoint_every: int = 200
    keep: int = 2  # newest checkpoints that stay
    log_every: int = 10  # steps between two lines of metrics.jsonl

    @property
    def optimizer_steps(self) -> int:
        """Parameter updates of a run."""
        return self.steps


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """Policy optimisation (METHOD.md 3): `prompts` x `rollouts` rows a step; what shapes a run of `algorithm`."""

    steps: int = 0
    prompts: int = 32  # problems of a step
    rollouts: int = 8  # G, of one problem
    temperature: float = 1.0  # of the rollouts
    max_new_tokens: int = 64  # of a rollout; also the fixed length that token sums are divided by
    updates: int = 1  # passes over the rollouts of a step
    minibatches: int = 1  # parameter updates of one pass
    microbatch: int = 0  # rows of one backward pass; 0: all of a minibatch
    remat: bool = False  # layers are computed again in the backward pass instead of kept
    dtype: str = ""  # of the computation, float32 or bfloat16; "": what suits the device
    model_axis: int = 1  # devices that share one copy of the parameters
    learning_rate: float = 1.5e-4
    schedule: str = "constant"  # behind the warm-up; or cosine, to zero
    warmup_steps: int = 0  # of parameter updates
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    clip_low: float = 0.0  # the ratio is clipped below 1 - clip_low; 0: the algorithm's own
    clip_high: float = 0.0  # and above 1 + clip_high
    ratio_logp: str = "raw"  # log-probs in ratio and KL: raw, or sample (at the rollouts' temperature)
    kl: float = 0.0  # weight of the k3 estimate of the KL from the ancestor
    entropy: float = 0.0  # weight of the entropy bonus
    covariance: str = ""  # clip or kl: what is done to the tokens that cost most entropy (arXiv 2505.22617)
    covariance_share: float = 2e-4  # of tokens that it is done to
    covariance_bounds: tuple[float, float] = (1.0, 5.0)  # clip: the covariances that a token is drawn from
    covariance_kl: float = 1.0  # kl: weight of |log ratio| on them
    rounds: int = 4  # of drawing for one step, where problems of one outcome are drawn again (dapo)
    eval_every: int = 10  # steps between two looks at held-out problems; 0: none
    eval_problems: int = 64  # of the validation split
    eval_rollouts: int = 4  # of each
    eval_temperature: float = 0.6
    checkpoint_every: int = 5  # steps; a look at held-out problems has a checkpoint of its own
    keep: int = 2  # newest checkpoints that stay, beside the best one
    log_every: int = 1  # steps between two lines of metrics.jsonl
    alarm_entropy: float = 0.1  # share of the first entropy; alarms say what to do, and do nothing
    alarm_kl: float = 1.0  # nats a token from the ancestor
    alarm_repetition: float = 0.5  # share of n-grams that a completion had before

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
    loss: str = "dpo"  # dpo (arXiv 2305.18290), or reward: a scalar head is trained
    beta: float = 0.1  # dpo: scale of the log ratios to the ancestor
    margin: float = 0.0  # weight of a pair's own margin; RLSF takes 1 (arXiv 2507.21931)
    problems: int = 256  # training problems that are asked for candidates, of which pairs are made (RLSF)
    candidates: int = 10  # of each
    source: str = "sampled"  # of candidates; or branches: the likeliest first tokens, and greedy from there
    confident: float = 0.9  # least confidence in the answer of the better one
    microbatch: int = 0  # rows of one backward pass, two a pair; 0: all
    remat: bool = False
    dtype: str = ""
    model_axis: int = 1
    learning_rate: float = 5e-5
    schedule: str = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
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

    terms: tuple[tuple[str, float], ...] = (("correctness", 1.0),)  # name, weight; a weight of 0 only logs
    normalise: tuple[tuple[str, str], ...] = ()  # name, group or batch; of others the values stay as they are
    placement: tuple[tuple[str, str], ...] = ()  # name, reward or advantage; of others the term's own
    confidence: str = "scored"  # scored: probes of the live cache; sampled: forced answers are drawn
    cuts: int = 6  # 0, 20, ... 100 % of the reasoning (arXiv 2605.24396)
    samples: int = 10  # answers behind a cut, where they are sampled
    shuffle_seed: int = 19  # of the control `pcs_shuffled`, whose six weights then correlate with PCS by 0.09
    discount: float = 1.0  # gamma of PACR, a step of the reasoning
    window: int = 16  # tokens of a DeepConf group; 2,048 in arXiv 2508.15260, whose chains are long
    ngram: int = 8  # tokens of what counts as a repetition: more than a step of Countdown has
    length_free: int = 48  # tokens without a penalty
    length_span: int = 16  # tokens behind them over which it grows to 1
    switch_words: tuple[str, ...] = ("no", "up")  # Countdown's; of prose ("alternatively", "wait")
    thought_words: int = 8  # a thought that is left before it has that many words is left early


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


@dataclasses.dataclass(frozen=True)
class ArchitectureConfig:
    """Shape of a model made from scratch."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    ff: int = 344


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: its models, task and every stage. `specialist` empty: trained from the ancestor by `training`."""

    seed: int = 0
    algorithm: str = "sft"  # how scripts/train.py trains: one of ALGORITHMS
    specialist: str = ""
    ancestor: str = ""  # "": none; "scratch": trained by `pretraining`; "countdown": the one in the package
    task: TaskConfig = TaskConfig()
    sampling: SamplingConfig = SamplingConfig()
    diagnosis: DiagnosisConfig = DiagnosisConfig()
    intervention: InterventionConfig = InterventionConfig()
    routing: RoutingConfig = RoutingConfig()
    policy: PolicyConfig = PolicyConfig()
    lora: LoraConfig = LoraConfig()
    preference: PreferenceConfig = PreferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    rewards: RewardsConfig = RewardsConfig()
    study: StudyConfig = StudyConfig()
    architecture: ArchitectureConfig = ArchitectureConfig()
    pretraining: TrainingConfig = TrainingConfig(steps=2400)
    training: TrainingConfig = TrainingConfig(
        steps=200, learning_rate=1e-3, warmup_steps=20, traces=(("correct", 1.0),)
    )


def default() -> ml_collections.ConfigDict:
    """All defaults as a locked ConfigDict, for a config file to change and `--config.x=y` to override."""
    return ml_collections.ConfigDict(_plain(Config())).lock()


def freeze(given: ml_collections.ConfigDict) -> Config:
    """The validated, hashable Config of a ConfigDict; raises UserError that names a bad field and its value."""
    config = _build(Config, given.to_dict() if hasattr(given, "to_dict") else dict(given), "config")
    _validate(config)
    return config


def as_dict(config: Config) -> dict:
    """The config as plain JSON-able values."""
    return _plain(config)


def _plain(value):
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


def _build(cls, values: dict, where: str):
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise UserError(f"{where}.{name} is no setting{suggest(name, fields)}")
    types = typing.get_type_hints(cls)
    return cls(**{name: _value(types[name], value, f"{where}.{name}") for name, value in values.items()})


def _value(kind, value, where: str):
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{where} = {value!r} must be a group of settings")
        return _build(kind, value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (tuple, list)):
            raise UserError(f"{where} = {value!r} must be a tuple")
        inner = typing.get_args(kind)
        inner = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(inner) != len(value):
            raise UserError(f"{where} = {value!r} must have {len(inner)} entries")
        return tuple(_value(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(inner, value)))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where} = {value!r} must be of type {kind.__name__}")
    return value


def _check(ok: bool, name: str, value, wanted: str) -> None:
    if not ok:
        raise UserError(f"config.{name} = {value!r} must be {wanted}")


def _validate(c: Config) -> None:
    for group, names in {
        "task": ("problems", "operands", "largest", "target", "terms", "digits"),
        "sampling": ("rollouts", "max_new_tokens", "slots", "chunk", "prefill", "model_axis", "shard_rows"),
        "diagnosis": ("tau", "width", "window"),
        "intervention": ("attempts", "local_span"),
        "routing": ("bootstrap", "splits", "permutations", "posterior", "seeds", "steps", "learning_rate"),
        "evaluation": ("samples", "cuts", "bins", "sampled_attempts", "answers"),
        "rewards": ("samples", "discount", "window", "ngram", "length_span", "thought_words"),
        "architecture": ("width", "layers", "heads", "ff"),
        "training": ("batch", "sequence", "learning_rate", "checkpoint_every", "keep", "log_every"),
        "pretraining": ("batch", "sequence", "learning_rate", "checkpoint_every", "keep", "log_every"),
    }.items():
        for name in names:
            value = getattr(getattr(c, group), name)
            _check(value > 0, f"{group}.{name}", value, "positive")
    _choice("task.split", c.task.split, ("train", "validation", "test"))
    _choice("sampling.devices", c.sampling.devices, ("auto", "one", "pmap", "shard_map"))
    _choice("diagnosis.detector", c.diagnosis.detector, ("demotion", "z"))
    _choice("diagnosis.form", c.diagnosis.form, ("showcase", "released"))
    _choice("algorithm", c.algorithm, ALGORITHMS)
    _validate_routing(c.routing)
    _validate_policy(c.policy)
    _validate_lora(c.lora)
    _validate_preference(c.preference)
    _validate_rewards(c.rewards)
    _validate_study(c.study)
    _check(c.task.shots >= 0, "task.shots", c.task.shots, "0 or more")
    _check(c.sampling.temperature >= 0, "sampling.temperature", c.sampling.temperature, "0 (greedy) or more")
    _check(0 < c.sampling.top_p <= 1, "sampling.top_p", c.sampling.top_p, "in (0, 1]")
    _check(c.sampling.top_k >= 0, "sampling.top_k", c.sampling.top_k, "0 (off) or more")
    _check(c.diagnosis.width <= 16, "diagnosis.width", c.diagnosis.width, "at most 16")
    _check(c.evaluation.temperature >= 0, "evaluation.temperature", c.evaluation.temperature, "0 or more")
    _check(0 < c.evaluation.top_p <= 1, "evaluation.top_p", c.evaluation.top_p, "in (0, 1]")
    _check(min(c.evaluation.ks, default=0) > 0, "evaluation.ks", c.evaluation.ks, "positive numbers")
    _check(0 < c.diagnosis.quantile < 1, "diagnosis.quantile", c.diagnosis.quantile, "in (0, 1)")
    _check(0 <= c.intervention.alpha <= 1, "intervention.alpha", c.intervention.alpha, "in [0, 1]")
    _check(
        c.architecture.width % c.architecture.heads == 0,
        "architecture.width",
        c.architecture.width,
        f"a multiple of architecture.heads = {c.architecture.heads}",
    )


def _validate_routing(c: RoutingConfig) -> None:
    for name in ("hidden", "entropy", "caution", "price"):
        _check(getattr(c, name) >= 0, f"routing.{name}", getattr(c, name), "0 or more")
    for name in ("folds", "inner_folds"):
        _check(getattr(c, name) > 1, f"routing.{name}", getattr(c, name), "2 or more")
    _check(min(c.ridges, default=0) > 0, "routing.ridges", c.ridges, "positive numbers")
    _choice("routing.objective", c.objective, ("rescue", "binomial"))


def _validate_optimiser(where: str, c) -> None:
    """What policy optimisation and pairs have in common."""
    for name in ("steps", "microbatch", "warmup_steps", "weight_decay"):
        _check(getattr(c, name) >= 0, f"{where}.{name}", getattr(c, name), "0 or more")
    for name in ("learning_rate", "clip_norm", "model_axis"):
        _check(getattr(c, name) > 0, f"{where}.{name}", getattr(c, name), "positive")
    _choice(f"{where}.schedule", c.schedule, ("constant", "cosine"))
    _choice(f"{where}.dtype", c.dtype, ("", "float32", "bfloat16"))


def _validate_policy(c: PolicyConfig) -> None:
    _validate_optimiser("policy", c)
    for name in ("prompts", "rollouts", "temperature", "max_new_tokens", "updates", "minibatches"):
        _check(getattr(c, name) > 0, f"policy.{name}", getattr(c, name), "positive")
    for name in ("rounds", "eval_problems", "eval_rollouts", "checkpoint_every", "keep", "log_every"):
        _check(getattr(c, name) > 0, f"policy.{name}", getattr(c, name), "positive")
    for name in ("eval_every", "eval_temperature", "alarm_entropy", "alarm_kl", "alarm_repetition"):
        _check(getattr(c, name) >= 0, f"policy.{name}", getattr(c, name), "0 or more")
    for name in ("clip_low", "clip_high", "kl", "entropy", "covariance_kl"):
        _check(getattr(c, name) >= 0, f"policy.{name}", getattr(c, name), "0 or more")
    _check(c.clip_low < 1, "policy.clip_low", c.clip_low, "below 1")
    _check(0 < c.covariance_share <= 1, "policy.covariance_share", c.covariance_share, "in (0, 1]")
    _choice("policy.ratio_logp", c.ratio_logp, ("raw", "sample"))
    _choice("policy.covariance", c.covariance, ("", "clip", "kl"))


def _validate_lora(c: LoraConfig) -> None:
    _check(c.rank >= 0, "lora.rank", c.rank, "0 (off) or more")
    _check(c.alpha > 0, "lora.alpha", c.alpha, "positive")
    _check(len(c.targets) > 0, "lora.targets", c.targets, "one part of a layer or more")


def _validate_preference(c: PreferenceConfig) -> None:
    _validate_optimiser("preference", c)
    _choice("preference.loss", c.loss, ("dpo", "reward"))
    for name in ("pairs", "problems", "candidates", "checkpoint_every", "keep", "log_every"):
        _check(getattr(c, name) > 0, f"preference.{name}", getattr(c, name), "positive")
    _choice("preference.source", c.source, ("sampled", "branches"))
    _check(0 <= c.confident <= 1, "preference.confident", c.confident, "in [0, 1]")
    _check(c.beta > 0, "preference.beta", c.beta, "positive")
    _check(c.margin >= 0, "preference.margin", c.margin, "0 or more")


def _validate_rewards(r: RewardsConfig) -> None:
    """What can be said without the names of the terms, which `fr.rewards` knows."""
    _choice("rewards.confidence", r.confidence, ("scored", "sampled"))
    _check(r.cuts >= 2, "rewards.cuts", r.cuts, "2 or more")
    _check(r.discount <= 1, "rewards.discount", r.discount, "at most 1")
    _check(r.length_free >= 0, "rewards.length_free", r.length_free, "0 or more")
    names = [name for name, _ in r.terms]
    _check(0 < len(names) == len(set(names)), "rewards.terms", r.terms, "one term or more, each once")
    for name, weight in r.terms:
        _check(0 <= weight < math.inf, f"rewards.terms: weight of {name!r}", weight, "0 (only logs) or more")
    for field, known in {"normalise": ("group", "batch"), "placement": ("reward", "advantage")}.items():
        for name, value in getattr(r, field):
            _choice(f"rewards.{field}: that of {name!r}", value, known)


def _validate_study(c: StudyConfig) -> None:
    arms = [name for name, _ in c.arms] + ["ancestor"] * c.ancestor
    _check(len(arms) == len(set(arms)), "study.arms", arms, "different names")
    _check(0 < len(c.seeds) == len(set(c.seeds)), "study.seeds", c.seeds, "one seed or more, each once")
    _check(
        len(c.primary) in (0, 3), "study.primary", c.primary, "an arm, its reference and a figure, or empty"
    )
    for name in c.primary[:2]:
        _choice("study.primary", name, tuple(arms))


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"config.{name} = {value!r} is not known{suggest(value, known)}")
