"""The settings of one run: as a ConfigDict that flags change, and frozen."""

import dataclasses
import typing

import ml_collections

from fr.config.checks import validate
from fr.config.learning import (
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
