"""A head and a rule that were fitted on other failures, judged as they are: nothing here reads an outcome."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.errors import UserError
from fr.routing.certainty import Certainty
from fr.routing.pool import Pool, questions_of
from fr.routing.profiles import FEATURES, Profiles
from fr.routing.protocols import View
from fr.routing.references import FROZEN, FROZEN_HEADS
from fr.routing.rule import RULE, ZStatistics, rule_policy
from fr.routing.trained import ANYWHERE, Head, Statistics, columns_of, statistics_of
from fr.stats.bootstrap import percent


@dataclasses.dataclass(frozen=True)
class Frozen:
    """What the source's policies say of the target: choices, −1 where one has no answer, and what heads expect.

    `record` is plain values: what the source was, what each cell shares with it, and what cannot be judged.
    """

    routes: dict[str, Int[np.ndarray, "N"]]
    expected: dict[str, Float[np.ndarray, "N O"]]
    record: dict


def freeze(pool: Pool, head: Head) -> Frozen:
    """Routes of the source's head, rule and best fixed operator over the failures of other cells.

    Standard scores are the source's: of the cell of the same name, or else of all its failures; the head has them
    of the failures at hand, too. Operators are those that a cell shares with the source. A head is not judged in a
    cell that lacks a column which it reads, for it would be another head.
    """
    routes = {name: np.full(len(pool), -1) for name in FROZEN}
    expected = {name: np.full(pool.rates.shape, np.nan) for name in FROZEN_HEADS}
    cells, unsupported = [], []
    for c, profiles in enumerate(pool.cells):
        here = np.flatnonzero(pool.cell == c)
        place = _Place(profiles, pool.families[pool.family[here[0]]], head)
        # Names, since the two sides count operators differently.
        at = np.array(
            [
                pool.operators.index(o) if o in pool.operators else -1
                for o in head.operators
            ]
        )
        for name, why in place.missing().items():
            unsupported.append({"policy": name, "cell": profiles.cell, "why": why})
        for name in (name for name in FROZEN if name not in place.missing()):
            routes[name][here] = np.append(at, len(pool.operators))[place.routes(name)]
        for name in (name for name in FROZEN_HEADS if name not in place.missing()):
            expected[name][np.ix_(here, at[at >= 0])] = place.rates(name)[:, at >= 0]
        cells.append(place.record())
    seen = [name in set(head.questions) for name in questions_of(pool.cells)]
    margin = head.shrinkage.margin
    record = {
        "source": {
            "cells": sorted(head.families),
            "operators": list(head.operators),
            "columns": head.needs(),
            "departs": bool(np.isfinite(margin)),
        },
        "questions": {
            "target": len(set(pool.problem)),
            "shared": len(set(pool.problem[seen])),
        },
        "cells": cells,
        "unsupported": unsupported,
    }
    return Frozen(routes, expected, record)


@dataclasses.dataclass(frozen=True)
class _Place:
    """One cell of the target as the source's policies meet it."""

    profiles: Profiles
    family: str
    head: Head

    @property
    def shared(self) -> tuple[str, ...]:
        return tuple(
            name for name in self.head.operators if name in self.profiles.operators
        )

    def missing(self) -> dict[str, str]:
        """Policies without an answer, and a plain word why."""
        if len(self.shared) < 2:
            return dict.fromkeys(
                FROZEN,
                f"shares {' and '.join(self.shared) or 'no operator'} with the source",
            )
        given = statistics_of(self.profiles, self.head.columns)
        lacks = [name for name in self.head.needs() if given[name][0] is None]
        words = (
            dict.fromkeys(FROZEN_HEADS, f"the head reads {', '.join(lacks)}")
            if lacks
            else {}
        )
        try:
            rule_policy(self.shared, self._rule_statistics())
        except UserError as error:
            words["frozen_rule"] = str(error)
        return words

    def routes(self, policy: str) -> Int[np.ndarray, "N"]:
        """Indices into the head's operators, O for stop."""
        if policy == "frozen_fixed":
            return np.full(
                len(self.profiles), self.head.fixed(self.profiles.cell, self.shared)
            )
        if policy == "frozen_rule":
            chosen = rule_policy(self.shared, self._rule_statistics())(
                self.profiles.features
            )
            return np.array([self.head.operators.index(name) for name in self.shared])[
                chosen
            ]
        chosen = self.head.policy(
            self.profiles.cell, self._statistics(policy), self.family, self.shared
        )
        return chosen(columns_of(self.profiles, self.head.columns))

    def rates(self, policy: str) -> Float[np.ndarray, "N O"]:
        """What a head expects."""
        given, statistics = (
            columns_of(self.profiles, self.head.columns),
            self._statistics(policy),
        )
        return self.head.rates(
            given, self.profiles.cell, statistics, self.family, self.shared
        )

    def record(self) -> dict:
        """What this cell and the source have in common."""
        head, known = self.head, self._rule_statistics().mean
        names = (*head.operators, "stop")
        return {
            "cell": self.profiles.cell,
            "n": len(self.profiles),
            "known_to_source": self.profiles.cell in head.families,
            "operators": list(self.shared),
            "source_only": [name for name in head.operators if name not in self.shared],
            "fixed": names[head.fixed(self.profiles.cell, self.shared)],
            "fixed_of_source": names[head.fixed(self.profiles.cell)],
            "rule_reads": [
                name
                for name, mean in zip(FEATURES, known)
                if mean is not None and RULE[name] in self.shared
            ],
        }

    def _statistics(self, policy: str) -> Statistics:
        if policy == "frozen_head_fresh_z":
            return statistics_of(self.profiles, self.head.columns)
        return self.head.statistics.get(
            self.profiles.cell, self.head.statistics[ANYWHERE]
        )

    def _rule_statistics(self) -> ZStatistics:
        """The source's, of the features that both have."""
        known = self._statistics("frozen_rule")
        lacks = np.isnan(self.profiles.features).all(axis=0)
        found = [
            (None, None) if gone else known.get(name, (None, None))
            for name, gone in zip(FEATURES, lacks)
        ]
        mean, sd = zip(*found)
        return ZStatistics(mean, sd, len(self.head.questions))


def oracle_bracket(
    profiles: Profiles, halves: View | None, known: Certainty | None
) -> dict:
    """What a perfect router would rescue of all failures, in percent: each problem's best operator by one half of
    its attempts and scored by the other (low), E[max_o p_o] under the model of true rates, by the very rates (high);
    None where attempts are unknown. `drawn` is E[max_o p_o] without the deterministic operators, which no draws are.
    """
    low = None
    if halves is not None:
        best = halves.deciding.argmax(axis=-1)[..., None]
        low = percent(np.take_along_axis(halves.scoring, best, axis=-1).mean())
    return {
        "cell": profiles.cell,
        "low": low,
        "expected": percent(known.oracle.mean()) if known else None,
        "drawn": percent(known.drawn.mean()) if known else None,
        "high": percent(profiles.rates.max(axis=1).mean()),
        "best_fixed": percent(profiles.rates.mean(axis=0).max()),
    }


def unknown_operators(cells: Sequence[Profiles], head: Head) -> list[str]:
    """Operators of the target that the source has never tried: a comparison leaves them out."""
    there = dict.fromkeys(name for profiles in cells for name in profiles.operators)
    return [name for name in there if name not in head.operators]
