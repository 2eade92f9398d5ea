"""A frozen policy for live failures: what it reads of them, what it chooses among, and what it was calibrated on."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from fr.errors import UserError
from fr.registry import suggest
from fr.routing.profiles import FEATURES, Profiles
from fr.routing.rule import Policy, ZStatistics, rule_policy
from fr.routing.schedules import ONE_ORDER, order_for
from fr.routing.trained import ANYWHERE, OUTLINE, Head, statistics_of
from fr.workdir import PathLike, read_object, seal, unseal

FIXED = "fixed:"  # before the name of the operator that every failure gets
POLICIES = ("rule", "head", "schedule", ONE_ORDER, f"{FIXED}NAME")
ORDERS = "orders.json"  # beside a saved head that chooses among orders of operators


@dataclasses.dataclass(frozen=True)
class Router:
    """A policy with a name for each of its choices, ready for one problem after another."""

    name: str
    operators: tuple[str, ...]  # one of which a problem gets
    columns: tuple[
        str, ...
    ]  # of a problem's failures, in the order in which the policy is given them
    reads: frozenset[str]  # those among them that can make a difference
    policy: Policy
    record: dict  # what it is, as plain values: the same for the same choices
    orders: Mapping[str, Sequence[str]] = dataclasses.field(
        default_factory=dict
    )  # by choice; else it is repeated

    def choose(self, values: Mapping[str, float]) -> str | None:
        """The operator for a problem whose failures have these values, by column; None: stop."""
        given = np.array([[values.get(name, np.nan) for name in self.columns]])
        choice = int(self.policy(given)[0])
        return self.operators[choice] if choice < len(self.operators) else None

    def then(self, choice: str, made: int) -> str:
        """The operator that comes after so many failed attempts by this choice; retry behind the end of an order."""
        order = self.orders.get(choice)
        if order is None:
            return choice
        return order[made] if made < len(order) else "retry"

    def tries(self) -> set[str]:
        """Every operator that a problem may meet."""
        return {
            name
            for choice in self.operators
            for name in self.orders.get(choice, [choice])
        }


def fixed_router(name: str) -> Router:
    """The one that sends every failure to the same operator and reads nothing."""
    return Router(
        f"{FIXED}{name}",
        (name,),
        (),
        frozenset(),
        lambda given: np.zeros(len(given), int),
        {"fixed": name},
    )


def load_router(
    policy: str,
    operators: Sequence[str],
    cell: str,
    known: Sequence[str],
    calibration: Profiles | None,
    head: PathLike,
) -> Router:
    """The router that `policy` names: one of POLICIES, for the failures of a cell.

    `operators` can run there, `known` are the FEATURES that live failures will have. The z-scores of the rule, and
    those of a head that has not seen the cell, are taken over the failures of `calibration`. Raises UserError for
    an unknown policy, an operator that cannot run, and where a calibration is needed and absent.
    """
    if policy == "rule":
        return _rule(tuple(operators), known, calibration)
    if policy == "head":
        return _head(operators, cell, calibration, head)
    if policy == "schedule":
        return _scheduled(_head(operators, cell, calibration, head), cell, head)
    if policy == ONE_ORDER:
        return _one_order(operators, cell, head)
    name = policy.removeprefix(FIXED)
    if name == policy:
        raise UserError(f"--policy={policy} is not known{suggest(policy, POLICIES)}")
    if name not in operators:
        raise UserError(
            f"--policy={policy}: that operator is not among those that can run{suggest(name, operators)}"
        )
    return fixed_router(name)


def _rule(
    operators: tuple[str, ...], known: Sequence[str], calibration: Profiles | None
) -> Router:
    if calibration is None:
        raise UserError(
            "--policy=rule needs z-statistics; give --calibration=profiles.csv of diagnosed failures"
        )
    features = np.where(np.isin(FEATURES, list(known)), calibration.features, np.nan)
    statistics = ZStatistics.fit(features)
    record = {"rule": statistics.to_dict(), "operators": list(operators)}
    return Router(
        "rule",
        operators,
        FEATURES,
        frozenset(known),
        rule_policy(operators, statistics),
        record,
    )


def _head(
    operators: Sequence[str], cell: str, calibration: Profiles | None, folder: PathLike
) -> Router:
    head = Head.restore(folder)
    if absent := [name for name in head.operators if name not in operators]:
        raise UserError(
            f"the head in {folder} may choose {absent[0]}, which cannot run here; add it to "
            "config.intervention.operators or train a head without it"
        )
    statistics = None
    if cell not in head.statistics and calibration is not None:
        statistics = statistics_of(calibration, head.columns)
    chosen = head.policy(cell, statistics)
    leaves = b"".join(np.asarray(leaf).tobytes() for leaf in _leaves(head.params))
    record = {
        "head": hashlib.sha256(leaves).hexdigest(),
        "operators": list(head.operators),
        "statistics": statistics or head.statistics[cell],
    }
    return Router(
        "head", head.operators, head.columns, frozenset(head.reads()), chosen, record
    )


def write_orders(folder: PathLike, orders: dict[str, list[str]]) -> None:
    """Write orders of operators beside the head that chooses among them, with checksums of both."""
    mark = hashlib.sha256((epath.Path(folder) / OUTLINE).read_bytes()).hexdigest()
    seal(epath.Path(folder) / ORDERS, 1, {"orders": orders, "head": mark})


def _orders(folder: PathLike) -> dict[str, list[str]]:
    path, head = epath.Path(folder) / ORDERS, epath.Path(folder) / OUTLINE
    orders = read_object(path) if path.exists() else {}
    if "checksum" in orders:
        held = unseal(path, 1, "scripts/route.py writes it anew")
        orders = held["orders"]
        if (
            not head.exists()
            or hashlib.sha256(head.read_bytes()).hexdigest() != held["head"]
        ):
            raise UserError(
                f"{path}: is not of the head beside it; scripts/route.py writes both anew"
            )
    if ANYWHERE not in orders:
        raise UserError(
            f"{folder}: holds no orders of operators; scripts/route.py writes them where costs are known"
        )
    return orders


def _scheduled(router: Router, cell: str, folder: PathLike) -> Router:
    """A head's router whose choices are followed by what served such problems best."""
    orders, family = _orders(folder), cell.rsplit("|", 1)[-1]
    given = {name: order_for(orders, family, name) for name in router.operators}
    return dataclasses.replace(
        router, name="schedule", orders=given, record=router.record | {"orders": given}
    )


def _one_order(operators: Sequence[str], cell: str, folder: PathLike) -> Router:
    """The order for all failures of a task: no failure is read."""
    order = order_for(_orders(folder), cell.rsplit("|", 1)[-1], ONE_ORDER)
    if absent := [name for name in order if name not in operators]:
        raise UserError(f"{folder}: its orders try {absent[0]}, which cannot run here")
    first = order[0]
    return dataclasses.replace(
        fixed_router(first),
        name=ONE_ORDER,
        orders={first: order},
        record={"orders": order},
    )


def _leaves(tree: dict) -> list:
    """The arrays of nested dicts, in the order of their names."""
    branches = (tree[key] for key in sorted(tree))
    return [
        leaf for b in branches for leaf in (_leaves(b) if isinstance(b, dict) else [b])
    ]
