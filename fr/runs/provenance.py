"""Code and settings that results were made with."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import fr
from fr.config import Config, as_dict
from fr.workdir import to_json

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the numerical packages, by name."""
    found = {"fr": fr.__version__, "Python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def revision() -> str | None:
    """The commit of the checkout, `-dirty` if files differ; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run([*git, "--exclude=*"], capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None


def changed(settings: Mapping) -> dict[str, str]:
    """Settings that are not the default.

    Args:
        settings: A config as plain values.

    Returns:
        JSON of each value by its dotted name.
    """
    given, usual = (
        _flat(json.loads(to_json(config))) for config in (settings, as_dict(Config()))
    )
    return {name: value for name, value in given.items() if value != usual.get(name)}


def _flat(values: Mapping, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        one = {prefix + name: json.dumps(value, ensure_ascii=False)}
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else one
    return found
