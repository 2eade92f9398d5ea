"""Every setting and its one default; a config file holds only what differs from these."""

import dataclasses
import typing

import ml_collections

from fr.errors import UserError
from fr.registry import suggest


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


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Supervised training on traces; `traces` weighs the kinds that the task can write."""

    steps: int = 0
    batch: int = 16  # packed sequences a step
    sequence: int = 128  # tokens of a packed sequence
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    traces: tuple[tuple[str, float], ...] = (("natural", 0.55), ("answer_first", 0.25), ("anytime", 0.20))
    checkpoint_every: int = 200
    keep: int = 2  # newest checkpoints that stay
    log_every: int = 10  # steps between two lines of metrics.jsonl


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
    algorithm: str = "sft"  # how scripts/train.py trains
    specialist: str = ""
    ancestor: str = ""  # "": none; "scratch": trained by `pretraining`; "countdown": the one in the package
    task: TaskConfig = TaskConfig()
    sampling: SamplingConfig = SamplingConfig()
    diagnosis: DiagnosisConfig = DiagnosisConfig()
    intervention: InterventionConfig = InterventionConfig()
    routing: RoutingConfig = RoutingConfig()
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
        "routing": ("bootstrap", "splits", "permutations"),
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
    _choice("algorithm", c.algorithm, ("sft",))
    _check(c.task.shots >= 0, "task.shots", c.task.shots, "0 or more")
    _check(c.sampling.temperature >= 0, "sampling.temperature", c.sampling.temperature, "0 (greedy) or more")
    _check(0 < c.sampling.top_p <= 1, "sampling.top_p", c.sampling.top_p, "in (0, 1]")
    _check(c.sampling.top_k >= 0, "sampling.top_k", c.sampling.top_k, "0 (off) or more")
    _check(c.diagnosis.width <= 16, "diagnosis.width", c.diagnosis.width, "at most 16")
    _check(0 < c.diagnosis.quantile < 1, "diagnosis.quantile", c.diagnosis.quantile, "in (0, 1)")
    _check(0 <= c.intervention.alpha <= 1, "intervention.alpha", c.intervention.alpha, "in [0, 1]")
    _check(
        c.architecture.width % c.architecture.heads == 0,
        "architecture.width",
        c.architecture.width,
        f"a multiple of architecture.heads = {c.architecture.heads}",
    )


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"config.{name} = {value!r} is not known{suggest(value, known)}")
