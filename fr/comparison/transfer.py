"""Frozen routers: a learned router and a rule of other failures, judged as they are."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from fr.comparison.evaluate import TRANSFER
from fr.errors import UserError
from fr.profiles.profile import FEATURES, Profiles
from fr.routing.dataset import RoutingData
from fr.routing.learned import LearnedRouter, column_statistics, columns_of
from fr.routing.policies import Choice, Policy
from fr.routing.posterior import ANYWHERE, Statistics
from fr.routing.rule import ZStatistics, make_rule, rule_lines

_FIXED = ("best_fixed_per_model", "best_fixed_per_cell", "frozen_fixed", "retry")
# Name, title, references. `fresh_z`: standard scores of the failures at hand.
FROZEN = (
    (
        "frozen_learned",
        "frozen learned router",
        (*_FIXED, "permuted", "frozen_rule", "learned", "random_operator"),
    ),
    ("frozen_learned_fresh_z", "frozen learned router, fresh z", (*_FIXED, "permuted")),
    ("frozen_rule", "frozen rule", (*_FIXED, "permuted", "rule", "random_operator")),
    (
        "frozen_fixed",
        "source's best fixed",
        tuple(name for name in _FIXED if name != "frozen_fixed"),
    ),
)
_LEARNED = ("frozen_learned", "frozen_learned_fresh_z")


def frozen_policies(router: LearnedRouter) -> list[Policy]:
    """Make policies of a source: its learned router, its rule, its best fixed operator.

    Standard scores are the source's: of the cell with the same name, or else of all its
    failures; the learned router also has them of the failures at hand. Operators are
    those that a cell shares with the source. A learned router is not judged in a cell
    that lacks a column that it reads, for it would be another router.

    Args:
        router: trained on the source's failures.

    Returns:
        Policies that learn nothing here; −1 where they have no answer.
    """

    def fit(name: str):
        return lambda data, rows, rng: lambda data: _choose(data, router, name)

    return [
        Policy(
            name,
            title,
            fit(name),
            ("signal", "nuisance", "prompt"),
            cost="none" if name == "frozen_fixed" else "diagnosis",
            references=references,
            departs_from="frozen_fixed",
            block=TRANSFER,
            main=name in _LEARNED,
            frozen=True,
        )
        for name, title, references in FROZEN
    ]


def describe_transfer(
    data: RoutingData, router: LearnedRouter
) -> tuple[dict, list[dict]]:
    """Describe what the source was, and what it shares with each cell.

    Args:
        data: the target's failed problems.
        router: of the source.

    Returns:
        The record, and {"protocol", "cell", "policy", "why"} of what cannot be judged.
    """
    cells, unsupported = [], []
    for profiles in data.cells:
        place = _Place(profiles, router)
        for name, why in place.missing().items():
            row = {"protocol": TRANSFER, "cell": profiles.cell, "policy": name}
            unsupported.append(row | {"why": why})
        cells.append(place.record())
    known = set(router.questions)
    seen = [name in known for p in data.cells for name in p.questions]
    record = {
        "source": {
            "cells": sorted(router.families),
            "operators": list(router.operators),
            "columns": router.needs,
            "departs": bool(np.isfinite(router.deviation.min_gain)),
        },
        "questions": {
            "target": len(set(data.problem)),
            "shared": len(set(data.problem[seen])),
        },
        "cells": cells,
    }
    return record, unsupported


def unknown_operators(data: list[Profiles], router: LearnedRouter) -> list[str]:
    """List operators that the source has never tried: a comparison leaves them out.

    Args:
        data: cells of the target.
        router: of the source.

    Returns:
        Names in order of appearance.
    """
    there = dict.fromkeys(name for profiles in data for name in profiles.operators)
    return [name for name in there if name not in router.operators]


def _choose(data: RoutingData, router: LearnedRouter, name: str) -> Choice:
    operator = np.full(len(data), -1)
    expected = np.full(data.rates.shape, np.nan) if name in _LEARNED else None
    # By name, since the two sides count operators differently.
    ours = {o: i for i, o in enumerate(data.operators)}
    at = np.array([ours.get(o, -1) for o in router.operators])
    for c, profiles in enumerate(data.cells):
        here, place = np.flatnonzero(data.cell == c), _Place(profiles, router)
        if name in place.missing():
            continue
        operator[here] = np.append(at, len(data.operators))[place.choose(name)]
        if expected is not None:
            rates = place.rates(name)
            expected[np.ix_(here, at[at >= 0])] = rates[:, at >= 0]
    return Choice(operator, expected)


@dataclasses.dataclass(frozen=True)
class _Place:
    """One cell of the target as the source's policies meet it."""

    profiles: Profiles
    router: LearnedRouter

    @property
    def shared(self) -> tuple[str, ...]:
        """Operators of both sides."""
        there = self.profiles.operators
        return tuple(name for name in self.router.operators if name in there)

    def missing(self) -> dict[str, str]:
        """Policies without an answer, and the reason."""
        names = [name for name, *_ in FROZEN]
        if len(self.shared) < 2:
            shares = " and ".join(self.shared) or "no operator"
            return dict.fromkeys(names, f"shares {shares} with the source")
        given = column_statistics(self.profiles, self.router.columns)
        lacks = [name for name in self.router.needs if given[name][0] is None]
        words = f"the router reads {', '.join(lacks)}"
        found = dict.fromkeys(_LEARNED, words) if lacks else {}
        try:
            make_rule(self.shared, self._rule_statistics())
        except UserError as error:
            found["frozen_rule"] = str(error)
        return found

    def choose(self, policy: str) -> Int[np.ndarray, "N"]:
        """Indices into the router's operators; their number stands for stop."""
        cell, router = self.profiles.cell, self.router
        if policy == "frozen_fixed":
            return np.full(len(self.profiles), router.fixed(cell, self.shared))
        if policy == "frozen_rule":
            choose = make_rule(self.shared, self._rule_statistics())
            own = np.array([router.operators.index(name) for name in self.shared])
            return own[choose(self.profiles.features)]
        chooser: Callable = router.chooser(*self._as(policy))
        return chooser(columns_of(self.profiles, router.columns))

    def rates(self, policy: str) -> Float[np.ndarray, "N O"]:
        """Rescue rates that a learned router expects."""
        given = columns_of(self.profiles, self.router.columns)
        return self.router.rates(given, *self._as(policy))

    def record(self) -> dict:
        """Common ground of this cell and the source."""
        router, cell = self.router, self.profiles.cell
        names = (*router.operators, "stop")
        there = self.shared
        return {
            "cell": cell,
            "n": len(self.profiles),
            "known_to_source": cell in router.families,
            "operators": list(there),
            "source_only": [name for name in router.operators if name not in there],
            "fixed": names[router.fixed(cell, there)],
            "fixed_of_source": names[router.fixed(cell)],
            "rule_reads": rule_lines(there, self._rule_statistics()),
        }

    def _as(self, policy: str) -> tuple:
        profiles, statistics = self.profiles, self._statistics(policy)
        return profiles.cell, statistics, profiles.family, self.shared

    def _statistics(self, policy: str) -> Statistics:
        if policy == "frozen_learned_fresh_z":
            return column_statistics(self.profiles, self.router.columns)
        known = self.router.statistics
        return known.get(self.profiles.cell, known[ANYWHERE])

    def _rule_statistics(self) -> ZStatistics:
        """The source's, of the features that both have."""
        known = self._statistics("frozen_rule")
        lacks = np.isnan(self.profiles.features).all(axis=0)
        found = [
            (None, None) if gone else known.get(name, (None, None))
            for name, gone in zip(FEATURES, lacks)
        ]
        mean, sd = zip(*found)
        return ZStatistics(mean, sd, len(self.router.questions))
