"""Decoders and where they come from: `load` a model, `save` one, and the pure forward pass in `transformer`."""

from fr.models.config import ModelConfig
from fr.models.loading import load, save
from fr.models.model import Model

__all__ = ["Model", "ModelConfig", "load", "save"]
