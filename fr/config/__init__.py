"""Every setting and its one default; a config file holds only what differs from these."""

from fr.config.checks import check_rollouts
from fr.config.learning import (
    ALGORITHMS,
    FROM,
    PLACEMENTS,
    PREFERENCES,
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
from fr.config.whole import Config, as_dict, default, freeze

__all__ = [
    "ALGORITHMS",
    "FROM",
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
    "SamplingConfig",
    "StudyConfig",
    "TaskConfig",
    "TrainingConfig",
    "as_dict",
    "check_rollouts",
    "default",
    "freeze",
]
