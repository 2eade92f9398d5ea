"""The one spelling of an interval in JSON, and what breaks it."""

import json
import pathlib
import re
from collections.abc import Iterator

KEYS = {"value", "low", "high"}
# Keys under which other programs store an interval or one of its ends.
OTHERS = re.compile(
    r"(.+_)?(lo|hi|low|high|lower|upper|ci|ci95|conf_int|interval|bounds|q\d+"
    r"|p\d+[._]\d+|\d+(\.\d+)?%)(_.+)?"
)
# Names of the world that match and are not ends of an interval.
PLAIN = {"high_covariance", "upper_bound"}


def other_spellings(found, path: str = "") -> Iterator[str]:
    """Places of a JSON value in which an interval is not `{"value", "low", "high"}`.

    Args:
        found: The value.
        path: Where it lies, for the message.

    Yields:
        A path with what stands there.
    """
    if isinstance(found, dict):
        if {"low", "high"} & found.keys():
            numbers = all(isinstance(x, float | int | None) for x in found.values())
            if found.keys() != KEYS or not numbers:
                yield f"{path}: {sorted(found)}"
            elif None not in found.values() and found["low"] > found["high"]:
                yield f"{path}: low is above high"
            return
        for key, value in found.items():
            if key == "settings":  # of a config
                continue
            where = f"{path}.{key}"
            fits = isinstance(value, dict) and value.keys() == KEYS or value is None
            if OTHERS.fullmatch(key) and key not in PLAIN and not fits:
                yield where
            yield from other_spellings(value, where)
    if isinstance(found, list):
        for i, value in enumerate(found):
            yield from other_spellings(value, f"{path}[{i}]")


def check_files(folder: pathlib.Path, expected: set[str]) -> None:
    """Assert that the JSON files of a folder spell their intervals in one way.

    Args:
        folder: Folder of a run; folders in it are not searched.
        expected: Names of files that must be among them and hold intervals.
    """
    paths = [path for path in folder.glob("*.json") if path.name != "config.json"]
    files = {path.name: json.loads(path.read_text()) for path in paths}
    assert expected <= files.keys()
    for name, content in files.items():
        others = list(other_spellings(content, name))
        assert not others, others
        if name in expected:
            assert json.dumps(content).count('"low"') > 0, name
            assert (content["schema"], content["unit"]) == (2, "percent"), name
