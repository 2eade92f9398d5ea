"""Where results come from: the code that made them, and the settings that are not the defaults."""

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

import fr
from fr.config import Config, as_dict
from fr.workdir import to_json

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Of this package, of Python and of what computes, by name."""
    found = {"fr": fr.__version__, "Python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def revision() -> str | None:
    """The commit of the checkout that the package lies in, with `-dirty` where files differ; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None


def changed(settings: dict) -> dict[str, str]:
    """Every setting of a config, as plain values, that is not the default: dotted name -> value as JSON."""
    return _differing(json.loads(to_json(settings)), json.loads(to_json(as_dict(Config()))), "")


def _differing(given: dict, default: dict, prefix: str) -> dict[str, str]:
    found = {}
    for name, value in given.items():
        usual = default.get(name)
        if isinstance(value, dict) and isinstance(usual, dict):
            found |= _differing(value, usual, f"{prefix}{name}.")
        elif value != usual:
            found[f"{prefix}{name}"] = json.dumps(value, ensure_ascii=False)
    return found
