"""Routers that learned elsewhere: for live failures, and frozen on other tables."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from fr.errors import UserError
from fr.orders.schedules import ONE_ORDER, order_for
from fr.profiles.profile import FEATURES, Profiles
from fr.registry import suggest
from fr.routing.learned import OUTLINE, LearnedRouter, column_statistics
from fr.routing.posterior import ANYWHERE
from fr.routing.rule import Chooser, ZStatistics, make_rule
from fr.workdir import PathLike, read_object, seal, unseal

FIXED = "fixed:"  # before the name of the operator that every failure gets
ROUTERS = ("rule", "learned", "schedule", ONE_ORDER, f"{FIXED}NAME")
ORDERS = "orders.json"  # beside a saved router that chooses among orders of operators
_REMEDY = "scripts/route.py writes a new one"


@dataclasses.dataclass(frozen=True)
class Router:
    """A router with a name for each of its choices, for one problem at a time.

    Attributes:
        name: of the router.
        operators: names of its choices.
        columns: of a problem's failures, in the order in which it is given them.
        reads: the columns that can make a difference.
        chooser: columns -> index of the choice; the number of operators means stop.
        record: plain values that determine its choices.
        orders: sequence of operators by choice; else the choice is repeated.
    """

    name: str
    operators: tuple[str, ...]
    columns: tuple[str, ...]
    reads: frozenset[str]
    chooser: Chooser
    record: dict
    orders: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def choose(self, values: Mapping[str, float]) -> str | None:
        """Choose for one problem.

        Args:
            values: of its failures, by column.

        Returns:
            Name of the choice; None: stop.
        """
        given = np.array([[values.get(name, np.nan) for name in self.columns]])
        choice = int(self.chooser(given)[0])
        return self.operators[choice] if choice < len(self.operators) else None

    def then(self, choice: str, made: int) -> str:
        """Name the operator of the next attempt.

        Args:
            choice: of the router.
            made: failed attempts by this choice.

        Returns:
            The operator; retry after the end of an order.
        """
        order = self.orders.get(choice)
        if order is None:
            return choice
        return order[made] if made < len(order) else "retry"

    def tries(self) -> set[str]:
        """Every operator that a problem may meet."""
        names = (self.orders.get(choice, [choice]) for choice in self.operators)
        return {name for order in names for name in order}


def fixed_router(name: str) -> Router:
    """Make the router that sends every failure to one operator and reads nothing.

    Args:
        name: of the operator.

    Returns:
        The router.
    """
    always: Chooser = lambda given: np.zeros(len(given), int)
    return Router(f"{FIXED}{name}", (name,), (), frozenset(), always, {"fixed": name})


def load_router(
    name: str,
    operators: Sequence[str],
    cell: str,
    known: Sequence[str],
    calibration: Profiles | None,
    folder: PathLike,
) -> Router:
    """Load a router for the failures of a cell.

    Args:
        name: of ROUTERS.
        operators: that can run there.
        cell: name of the cell.
        known: FEATURES that live failures will have.
        calibration: failures for the z-scores of the rule, and of a learned router
            that has not seen the cell; None: there are none.
        folder: of the saved router.

    Returns:
        The router.

    Raises:
        UserError: for an unknown name, an operator that cannot run, or without a
            calibration that is needed.
    """
    if name == "rule":
        return _rule(tuple(operators), known, calibration)
    if name == "learned":
        return _learned(operators, cell, calibration, folder)
    if name == "schedule":
        router = _learned(operators, cell, calibration, folder)
        orders, family = _read_orders(folder), cell.rsplit("|", 1)[-1]
        given = {
            choice: order_for(orders, family, choice) for choice in router.operators
        }
        record = router.record | {"orders": given}
        return dataclasses.replace(router, name=name, orders=given, record=record)
    if name == ONE_ORDER:
        return _one_order(operators, cell, folder)
    operator = name.removeprefix(FIXED)
    if operator == name:
        raise UserError(f"--router={name} is not known{suggest(name, ROUTERS)}")
    if operator not in operators:
        raise UserError(
            f"--router={name}: that operator is not among those that can run"
            f"{suggest(operator, operators)}"
        )
    return fixed_router(operator)


def write_orders(folder: PathLike, orders: dict[str, dict[str, list[str]]]) -> None:
    """Write orders beside the saved router that chooses among them, with checksums.

    Args:
        folder: of the router.
        orders: names of operators, by family and choice.
    """
    mark = hashlib.sha256((epath.Path(folder) / OUTLINE).read_bytes()).hexdigest()
    seal(epath.Path(folder) / ORDERS, 2, {"orders": orders, "router": mark})


def _rule(
    operators: tuple[str, ...], known: Sequence[str], calibration: Profiles | None
) -> Router:
    if calibration is None:
        raise UserError(
            "--router=rule needs z-statistics; give --calibration=profiles.csv of "
            "diagnosed failures"
        )
    features = np.where(np.isin(FEATURES, list(known)), calibration.features, np.nan)
    statistics = ZStatistics.fit(features)
    record = {"rule": statistics.to_dict(), "operators": list(operators)}
    chooser = make_rule(operators, statistics)
    return Router("rule", operators, FEATURES, frozenset(known), chooser, record)


def _learned(
    operators: Sequence[str], cell: str, calibration: Profiles | None, folder: PathLike
) -> Router:
    router = LearnedRouter.restore(folder)
    if absent := [name for name in router.operators if name not in operators]:
        raise UserError(
            f"the router in {folder} may choose {absent[0]}, which cannot run here; "
            "add it to config.intervention.operators or train a router without it"
        )
    statistics = None
    if cell not in router.statistics and calibration is not None:
        statistics = column_statistics(calibration, router.columns)
    chooser = router.chooser(cell, statistics)
    leaves = b"".join(np.asarray(leaf).tobytes() for leaf in _leaves(router.params))
    record = {
        "router": hashlib.sha256(leaves).hexdigest(),
        "operators": list(router.operators),
        "statistics": statistics or router.statistics[cell],
    }
    reads = frozenset(router.reads)
    return Router("learned", router.operators, router.columns, reads, chooser, record)


def _one_order(operators: Sequence[str], cell: str, folder: PathLike) -> Router:
    """The order for all failures of a task: no failure is read."""
    order = order_for(_read_orders(folder), cell.rsplit("|", 1)[-1], ONE_ORDER)
    if absent := [name for name in order if name not in operators]:
        raise UserError(f"{folder}: its orders try {absent[0]}, which cannot run here")
    first, record = order[0], {"orders": order}
    orders = {first: order}
    router = fixed_router(first)
    return dataclasses.replace(router, name=ONE_ORDER, orders=orders, record=record)


def _read_orders(folder: PathLike) -> dict[str, dict[str, list[str]]]:
    path, router = epath.Path(folder) / ORDERS, epath.Path(folder) / OUTLINE
    orders = read_object(path) if path.exists() else {}
    if "checksum" in orders:
        held = unseal(path, 2, _REMEDY)
        orders = held["orders"]
        mark = (
            hashlib.sha256(router.read_bytes()).hexdigest() if router.exists() else ""
        )
        if mark != held["router"]:
            raise UserError(
                f"{path}: is not of the router beside it; {_REMEDY} of both"
            )
    if ANYWHERE not in orders:
        raise UserError(
            f"{folder}: holds no orders of operators; scripts/route.py writes them "
            "where costs are known"
        )
    return orders


def _leaves(tree: dict) -> list[np.ndarray]:
    """The arrays of nested dicts, in the order of their names."""
    branches = (tree[key] for key in sorted(tree))
    return [
        leaf for b in branches for leaf in (_leaves(b) if isinstance(b, dict) else [b])
    ]
