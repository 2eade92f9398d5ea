"""Every setting and its one default; a config file holds only what differs from
these."""

from fr.config.analysis import (
    ClustersConfig,
    DiagnosisConfig,
    InterventionConfig,
    RoutingConfig,
)
from fr.config.branching import AtlasConfig
from fr.config.combinations import check_rollouts, check_source
from fr.config.experiment import Config, as_dict, default, freeze, renamed, with_texts
from fr.config.reinforcement import PLACEMENTS, PolicyConfig, RewardsConfig
from fr.config.settings import (
    ATTENTION,
    EvaluationConfig,
    ModelsConfig,
    SamplingConfig,
    TaskConfig,
)
from fr.config.studies import StudyConfig
from fr.config.trainings import (
    ALGORITHMS,
    OF_A_RUN,
    PREFERENCES,
    SOURCES,
    VECTOR,
    ArchitectureConfig,
    LoraConfig,
    PreferenceConfig,
    SteeringConfig,
    TrainingConfig,
)

__all__ = [
    "ALGORITHMS",
    "ATTENTION",
    "OF_A_RUN",
    "PLACEMENTS",
    "PREFERENCES",
    "ArchitectureConfig",
    "AtlasConfig",
    "Config",
    "DiagnosisConfig",
    "EvaluationConfig",
    "InterventionConfig",
    "LoraConfig",
    "ModelsConfig",
    "PolicyConfig",
    "PreferenceConfig",
    "ClustersConfig",
    "RewardsConfig",
    "RoutingConfig",
    "SOURCES",
    "SamplingConfig",
    "SteeringConfig",
    "StudyConfig",
    "TaskConfig",
    "TrainingConfig",
    "as_dict",
    "check_rollouts",
    "check_source",
    "default",
    "freeze",
    "renamed",
    "VECTOR",
    "with_texts",
]
