"""Test of operator x problem variance per cell, and the headroom that it leaves."""

from collections.abc import Sequence

import numpy as np

from fr.config import Config
from fr.routing.attempts import deterministic, recover_attempts, successes
from fr.routing.cells import stream
from fr.routing.profiles import Profiles
from fr.stats.bootstrap import holm, percent
from fr.stats.interaction import interaction

_FEWEST = 5  # problems of a test


def describe_interaction(cells: Sequence[Profiles], config: Config) -> list[dict]:
    """One record a cell: p of "operators differ alike on every problem", with Holm's over the cells, and headroom.

    Deterministic operators and those without a second attempt anywhere are left out: all that they do differently on
    a problem would be called an interaction. Problems with unknown attempts are left out. `why`: no test, and why.
    """
    records = []
    for profiles in cells:
        attempts = recover_attempts(profiles)
        kept = ~deterministic(profiles) & (attempts.max(axis=0) > 1)
        known = (attempts[:, kept] > 0).all(axis=1)
        record = {
            "cell": profiles.cell,
            "problems": int(known.sum()),
            "operators": [name for name, keep in zip(profiles.operators, kept) if keep],
            "left_out": [
                name for name, keep in zip(profiles.operators, kept) if not keep
            ],
            "why": None,
        }
        if kept.sum() < 2 or known.sum() < _FEWEST:
            few = (
                "two operators of several attempts"
                if kept.sum() < 2
                else f"{_FEWEST} problems of known attempts"
            )
            records.append(record | {"why": f"needs {few}"})
            continue
        attempts = attempts[known][:, kept]
        correct = successes(profiles.rates[known][:, kept], attempts)
        rng = stream(profiles.cell, config, "interaction")
        found = interaction(correct, attempts, config.routing.nulls, rng)
        excess = found.statistic / found.null - 1 if found.null else np.nan
        record |= {"excess": percent(excess), "p": round(found.p, 6)}
        record["sd"] = {n: round(v, 6) for n, v in found.sd.as_dict().items()}
        record["headroom"] = {
            n: percent(v) for n, v in found.headroom.as_dict().items()
        }
        records.append(record)
    tested = [record for record in records if record["why"] is None]
    for record, p in zip(tested, holm([record["p"] for record in tested])):
        record["p_holm"] = round(p, 6)
    return records
