"""Registry of the tables, the stored data, and shares."""

import json
from collections.abc import Callable
from pathlib import Path

from cells import Table, estimate

DATA = Path(__file__).resolve().parent.parent / "results" / "data"
TABLES: dict[str, Callable[[], Table]] = {}


def register(name: str) -> Callable:
    """Decorator that files a table under `name`."""

    def add(fn: Callable[[], Table]) -> Callable[[], Table]:
        TABLES[name] = fn
        return fn

    return add


def load(name: str) -> dict:
    """The content of docs/results/data/NAME.json."""
    return json.loads((DATA / f"{name}.json").read_text())


def points(found: dict, digits: int = 1) -> str:
    """A difference in percentage points with its interval."""
    value = next(found[key] for key in ("value", "mean", "diff") if key in found)
    return f"{estimate(value, found['low'], found['high'], digits, True)} points"


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float, float]:
    """A share and its 95 % Wilson interval, in percent."""
    share, spread = count / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * (share * (1 - share) / total + spread / total / 4) ** 0.5
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    return 100 * share, 100 * low, 100 * high


def triple(found: list[float], digits: int = 1) -> str:
    """A signed difference stored as [value, low, high]."""
    return estimate(*found, digits, True)


def spread(found: dict, digits: int = 1) -> str:
    """A mean and its interval, without a sign."""
    return estimate(found["mean"], found["low"], found["high"], digits)


def share(count: int, total: int) -> str:
    """A count, its share and the 95 % Wilson interval."""
    value, low, high = wilson(count, total)
    return f"{count} ({value:.1f} % [{low:.1f}, {high:.1f}])"
