"""`fr`, failed reasoning: signals, routing and training from a model's failures.

`import fr` is light. The names below load their room when they are first used.
"""

import importlib

__version__ = "0.2.0"

_HOMES = {
    "load": "fr.models",
    "save": "fr.models",
    "Model": "fr.models",
    "Transformer": "fr.models.transformer",
    "Engine": "fr.sampling.engine",
    "Scorer": "fr.sampling.scoring",
    "Request": "fr.types",
    "Rollout": "fr.types",
    "row_key": "fr.sampling.sampling_params",
}


def __getattr__(name: str):
    """A public name, from the room that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fr' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
