"""The settings of one run: as a ConfigDict that flags change, and frozen."""

import dataclasses
import typing

import ml_collections

from fr.config.algorithms import ALGORITHMS as ROWS
from fr.config.algorithms import with_settings
from fr.config.checks import validate
from fr.config.learning import (
    OF_A_RUN,
    PREFERENCES,
    SOURCES,
    ArchitectureConfig,
    LoraConfig,
    PolicyConfig,
    PreferenceConfig,
    RewardsConfig,
    StudyConfig,
    TrainingConfig,
)
from fr.config.settings import (
    DiagnosisConfig,
    EvaluationConfig,
    InterventionConfig,
    RegimesConfig,
    RoutingConfig,
    SamplingConfig,
    TaskConfig,
)
from fr.errors import UserError
from fr.registry import suggest


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: its models, task and every stage. `specialist` empty: trained from the ancestor by `training`."""

    seed: int = 0  # of every draw of a run
    algorithm: str = "sft"  # how scripts/train.py trains: one of ALGORITHMS
    specialist: str = ""  # the model that is asked; "": trained from the ancestor
    ancestor: str = ""  # "": none; "scratch": trained by `pretraining`; "countdown": the one in the package
    task: TaskConfig = TaskConfig()
    sampling: SamplingConfig = SamplingConfig()
    diagnosis: DiagnosisConfig = DiagnosisConfig()
    intervention: InterventionConfig = InterventionConfig()
    routing: RoutingConfig = RoutingConfig()
    regimes: RegimesConfig = RegimesConfig()
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
    config = _build(
        Config, given.to_dict() if hasattr(given, "to_dict") else dict(given), "config"
    )
    validate(config)
    return config


def as_dict(config: Config) -> dict:
    """What results depend on, as plain JSON-able values: all but the study, which has a folder for each training."""
    return {name: value for name, value in _plain(config).items() if name != "study"}


def _plain(value):
    if dataclasses.is_dataclass(value):
        return {
            f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    return value


def _build(cls, values: dict, where: str):
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise UserError(f"{where}.{name} is no setting{suggest(name, fields)}")
    types = typing.get_type_hints(cls)
    return cls(
        **{
            name: _value(types[name], value, f"{where}.{name}")
            for name, value in values.items()
        }
    )


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
        return tuple(
            _value(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(inner, value))
        )
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where} = {value!r} must be of type {kind.__name__}")
    return value


_COLD = 0.01  # least temperature of a ratio: 1e-5 nats, what two float32 programs differ by, become 1e-3


def check_rollouts(c) -> None:
    """Raise UserError if a whole config trains on rollouts by settings that cannot work together.

    What it says of a config that trains otherwise: nothing.
    """
    if c.algorithm not in ROWS:
        return
    p, row = c.policy, with_settings(ROWS[c.algorithm], c.policy)
    alone = row.centre != "batch" or row.scale == "std"
    if alone and p.rollouts < 2 or p.prompts * p.rollouts < 2:
        raise UserError(
            f"config.policy.rollouts = {p.rollouts}: {c.algorithm} compares the rollouts of a problem, and the "
            "advantage of a single one is 0 whatever it earns; set 2 or more, or config.algorithm = reinforce"
        )
    restricts = [
        n for n, off in (("top_p", 1.0), ("top_k", 0)) if getattr(c.sampling, n) != off
    ]
    if p.ratio_logp == "sample" and restricts:
        raise UserError(
            f"config.policy.ratio_logp = 'sample' with config.sampling.{restricts[0]} = "
            f"{getattr(c.sampling, restricts[0])}: the sampler's log-probs are of the tokens that are left, the "
            "update's of the whole vocabulary, so their ratio is not 1 at equal parameters; set "
            f"{restricts[0]} = {1.0 if restricts[0] == 'top_p' else 0}, or ratio_logp = 'raw'"
        )
    if p.ratio_logp == "sample" and p.temperature < _COLD:
        raise UserError(
            f"config.policy.ratio_logp = 'sample' with temperature = {p.temperature}: divided by it, log-probs "
            f"differ by rounding as much as a ratio is clipped at; set {_COLD} or more, or ratio_logp = 'raw'"
        )
    if p.covariance == "kl" and p.updates * p.minibatches == 1:
        raise UserError(
            "config.policy.covariance = 'kl' with one update a step: a KL to the old policy has no gradient where "
            "both are the same; raise config.policy.updates or minibatches, or set covariance = 'clip'"
        )
    if p.lag and p.ratio_from == "trainer" and p.importance == "none":
        raise UserError(
            "config.policy.lag = 1 with ratio_from = 'trainer': nothing tells of the older parameters that drew the "
            "rollouts; set config.policy.importance = 'token', or ratio_from = 'sampler'"
        )
    if p.importance != "none" and p.ratio_from == "sampler":
        raise UserError(
            f"config.policy.importance = {p.importance!r} with ratio_from = 'sampler': the weights of trainer over "
            "sampler are then 1; set config.policy.ratio_from = 'trainer'"
        )
    if (p.reference_every or p.reference_mix < 1) and not (p.kl and p.reference_every):
        raise UserError(
            "config.policy.reference_every and reference_mix say what config.policy.kl is measured from; set "
            f"kl (it is {p.kl}) and reference_every (it is {p.reference_every}), or none of them"
        )


def check_source(c) -> None:
    """Raise UserError if a whole config learns from what its algorithm cannot read, or from a run without a name."""
    t, kind = c.training, "pairs" if c.algorithm in PREFERENCES else c.algorithm
    if t.source and t.source not in SOURCES.get(kind, ()):
        able = [name for name, sources in SOURCES.items() if t.source in sources]
        raise UserError(
            f"config.training.source = {t.source!r} is not for config.algorithm = {c.algorithm!r}; set "
            f"config.algorithm = {'sft' if able == ['sft'] else 'dpo'!r}, or another source"
        )
    if (t.source in OF_A_RUN) != bool(t.run):
        raise UserError(
            f"config.training.source = {t.source!r} and run = {t.run!r}: {', '.join(OF_A_RUN)} are taken from a run; "
            "set config.training.run to its workdir, or none of them"
        )
    by_pairs = c.algorithm in PREFERENCES and c.preference.eval_every
    if by_pairs and not t.run:
        raise UserError(
            "config.preference.eval_every looks at pairs of a run's held-out problems; set config.training.source "
            "and run, or eval_every = 0"
        )
