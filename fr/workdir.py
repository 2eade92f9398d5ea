"""Files of a run: written whole or not at all, in a folder of one config; buckets work (etils.epath)."""

import json
import os
from pathlib import Path

from etils import epath

from fr.errors import UserError

PathLike = str | epath.Path


def cache_folder() -> Path:
    """What is fetched or made once for all runs lies here: `$FR_CACHE`, or `~/.cache/fr`."""
    return Path(os.environ.get("FR_CACHE") or Path.home() / ".cache" / "fr")


def write_whole(path: PathLike, data: bytes) -> None:
    """Write `data` under a temporary name, then rename: readers see the old file or the new one.

    The temporary name is a function of `path`, so what a killed run left is replaced when the file is written
    again.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    temporary.write_bytes(data)
    temporary.replace(path)


def write_json(path: PathLike, value) -> None:
    """Write `value` as strict, sorted, indented JSON (see `to_json`), whole or not at all."""
    write_whole(path, to_json(value).encode())


def to_json(value) -> str:
    """JSON text with a fixed layout; raises ValueError on NaN and infinity (write None)."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False, default=_plain)
    return f"{text}\n"


def _plain(value):
    # numpy scalars and arrays
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def claim_workdir(workdir: PathLike, config: dict) -> None:
    """Make `workdir` this run's own by its `config.json`; a second call with the same config changes nothing.

    Raises UserError that names the first differing setting if another run's config is there, or if the folder
    cannot be written. Of several processes the first one calls it before the others do.
    """
    path = epath.Path(workdir) / "config.json"
    config = json.loads(to_json(config))
    try:
        if path.exists():
            _compare(path, config)
        else:
            write_json(path, config)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be used ({error.strerror or error})") from error


def _compare(path: epath.Path, config: dict) -> None:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); use another --workdir") from error
    difference = _first_difference(found, config, "config")
    if difference:
        name, there, here = difference
        raise UserError(
            f"{path.parent} holds another run: {name} is {there} there and {here} here; use another --workdir"
        )


def _first_difference(there, here, name: str) -> tuple[str, str, str] | None:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            inner = f"{name}.{key}"
            if key not in there or key not in here:
                return inner, _shown(there, key), _shown(here, key)
            if difference := _first_difference(there[key], here[key], inner):
                return difference
        return None
    if there != here:
        return name, json.dumps(there), json.dumps(here)
    return None


def _shown(group: dict, key: str) -> str:
    return json.dumps(group[key]) if key in group else "absent"
