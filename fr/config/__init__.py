"""Every setting and its one default; a config file holds only what differs from these."""

from fr.config.experiment import Config, as_dict, default, freeze
from fr.config.learning import (
    ALGORITHMS,
    FROM,
    OF_A_RUN,
    PLACEMENTS,
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
from fr.config.together import check_rollouts, check_source

__all__ = [
    "ALGORITHMS",
    "FROM",
    "OF_A_RUN",
    "PLACEMENTS",
    "PREFERENCES",
    "ArchitectureConfig",
    "Config",
    "DiagnosisConfig",
    "EvaluationConfig",
    "InterventionConfig",
    "LoraConfig",
    "PolicyConfig",
    "PreferenceConfig",
    "RegimesConfig",
    "RewardsConfig",
    "RoutingConfig",
    "SOURCES",
    "SamplingConfig",
    "StudyConfig",
    "TaskConfig",
    "TrainingConfig",
    "as_dict",
    "check_rollouts",
    "check_source",
    "default",
    "freeze",
]
