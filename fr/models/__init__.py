"""Decoders and their files: `load` and `save` a model.

`transformer` has the pure forward pass.
"""

from fr.models.config import ModelConfig
from fr.models.loading import load, save
from fr.models.model import Model

__all__ = ["Model", "ModelConfig", "load", "save"]
