"""The settings of one run: as a ConfigDict that flags change, and frozen."""

import ast
import dataclasses
import typing

import ml_collections

from fr.config.analysis import (
    ClustersConfig,
    DiagnosisConfig,
    InterventionConfig,
    RoutingConfig,
)
from fr.config.branching import AtlasConfig
from fr.config.combinations import check_combinations
from fr.config.fields import check_bounds, one_of, setting
from fr.config.reinforcement import PolicyConfig, RewardsConfig
from fr.config.settings import (
    EvaluationConfig,
    ModelsConfig,
    SamplingConfig,
    TaskConfig,
)
from fr.config.studies import StudyConfig
from fr.config.trainings import (
    ALGORITHMS,
    ArchitectureConfig,
    LoraConfig,
    PreferenceConfig,
    SteeringConfig,
    TrainingConfig,
)
from fr.errors import UserError
from fr.registry import suggest

# Settings of version 0.1 and their names now; a file or flag with an old name is
# refused, the config.json of an older workdir is read with the new one.
RENAMED = {
    "policy.updates": "policy.epochs",
    "policy.rounds": "policy.max_resample_rounds",
    "policy.ratio_logp": "policy.ratio_distribution",
    "policy.widths": "policy.length_buckets",
    "preference.widths": "preference.length_buckets",
    "regimes": "clusters",
    "intervention.after": "intervention.online_after",
    "intervention.budget": "intervention.online_budget",
    "routing.budget": "routing.budget_retries",
    "routing.price": "routing.attempt_price",
    "routing.caution": "routing.deviation_errors",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: its models, its task and the settings of every stage.

    Attributes:
      models: how models compute.
      task: the problems and their prompts.
      sampling: how rollouts are drawn.
      diagnosis: constants of the failure signals.
      intervention: operators and their attempts.
      routing: labels, routers, intervals.
      clusters: clusters of failures.
      atlas: branches of failed traces.
      policy: policy optimisation.
      lora: adapters.
      steering: a steering vector from a model's own states.
      preference: training on pairs.
      evaluation: accuracy, pass@k, calibration.
      rewards: the mix of reward terms.
      study: comparisons of trainings.
      architecture: shape of a model made from scratch.
      pretraining: supervised training of the ancestor.
      training: supervised training of the specialist; sources of examples and pairs.
    """

    seed: int = setting(0, "seed of every draw of a run")
    algorithm: str = setting("sft", "how scripts/train.py trains", one_of(*ALGORITHMS))
    specialist: str = setting(
        "", "the model that is asked; '': trained from the ancestor"
    )
    ancestor: str = setting(
        "",
        "'': none; 'scratch': trained by `pretraining`; 'countdown': the bundled one",
    )
    models: ModelsConfig = ModelsConfig()
    task: TaskConfig = TaskConfig()
    sampling: SamplingConfig = SamplingConfig()
    diagnosis: DiagnosisConfig = DiagnosisConfig()
    intervention: InterventionConfig = InterventionConfig()
    routing: RoutingConfig = RoutingConfig()
    clusters: ClustersConfig = ClustersConfig()
    atlas: AtlasConfig = AtlasConfig()
    policy: PolicyConfig = PolicyConfig()
    lora: LoraConfig = LoraConfig()
    steering: SteeringConfig = SteeringConfig()
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
    """All defaults, for a config file to change and `--config.x=y` to override.

    Returns:
      A locked ConfigDict.
    """
    return ml_collections.ConfigDict(_plain(Config())).lock()


def freeze(given: ml_collections.ConfigDict) -> Config:
    """Check a ConfigDict and freeze it.

    Args:
      given: the ConfigDict, or a dict of the same form.

    Returns:
      The hashable Config.

    Raises:
      UserError: a setting is unknown, of the wrong type or out of bounds.
    """
    values = given.to_dict() if hasattr(given, "to_dict") else dict(given)
    config = _build(Config, values, "config")
    validate(config)
    return config


def with_texts(config: Config, changes: dict[str, str]) -> Config:
    """A config with some settings as a command line gives them.

    Args:
      config: the whole config.
      changes: texts by dotted name of the setting, as in `--config.NAME=TEXT`.

    Returns:
      The changed Config.

    Raises:
      UserError: a setting is unknown, its text is not of its type, or it cannot be.
    """
    values = _plain(config)
    for name, text in changes.items():
        *groups, last = name.split(".")
        kind: typing.Any = Config
        group = values
        for part in groups:
            kind, group = typing.get_type_hints(kind).get(part), group.get(part)
            if not isinstance(group, dict):
                raise UserError(f"config.{name} is not a setting")
        if last not in group:
            raise UserError(f"config.{name} is not a setting{suggest(last, group)}")
        group[last] = _read(typing.get_type_hints(kind).get(last), text, name)
    return freeze(values)


def _read(kind, text: str, name: str):
    """The value of a text, by the type of the setting."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float):
            return kind(text)
        if typing.get_origin(kind) is tuple:
            value = ast.literal_eval(text)
            return value if isinstance(value, tuple) else (value,)
    except (KeyError, SyntaxError, ValueError):
        wanted = getattr(kind, "__name__", "tuple")
        raise UserError(f"config.{name} = {text!r} must be of type {wanted}") from None
    return text


def validate(config: Config) -> None:
    """Check every setting, then the settings that depend on each other.

    Args:
      config: the whole config.

    Raises:
      UserError: the first value that cannot be, by the name of its setting.
    """
    check_bounds(config, "config")
    config.rewards.check()
    config.lora.check()
    config.steering.check()
    config.study.check()
    check_combinations(config)


def as_dict(config: Config) -> dict:
    """Settings that results depend on, as plain JSON-able values.

    Args:
      config: the whole config.

    Returns:
      All groups but `study`, which has a folder for each training.
    """
    return {name: value for name, value in _plain(config).items() if name != "study"}


def renamed(name: str) -> str | None:
    """The present name of a setting or group of version 0.1.

    Args:
      name: dotted, without `config.`.

    Returns:
      The new dotted name; None if the name was not changed.
    """
    for old, new in RENAMED.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return None


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
            old = f"{where}.{name}".removeprefix("config.")
            if new := renamed(old):
                raise UserError(f"config.{old} is called config.{new} now")
            raise UserError(f"{where}.{name} is not a setting{suggest(name, fields)}")
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
        kinds = typing.get_args(kind)
        inner = [kinds[0]] * len(value) if kinds[-1] is Ellipsis else list(kinds)
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
