"""Profiles: the failed problems of one cell, their features, rescue rates and costs."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.errors import UserError
from fr.files import parse_number, parse_signal

FEATURES = ("spread", "concentration", "logit_dispersion")
OPERATORS = (
    "retry",
    "sparse_steer",
    "sparse_steer_random",
    "local_temp",
    "dense_steer",
)
AXES = ("forward", "generated", "seconds")  # of cost: forward tokens, tokens, seconds
FORWARD = AXES[0]
WEIGHT = (
    "deployment_weight"  # share of the times that a deployed router meets a problem
)
MODEL = "model"  # column: the model that failed; without it, a cell has one model
QUESTION = "question"  # column: rows with the same question; without it, the problem_id
_BEFORE = ("diagnosis", "failures")  # spent on a problem before it is routed
# Released rates are means over min(n_failed, 10) attempts; dense_steer's over another
# count, of at most the 50 rollouts of a problem.
_CAP, _MOST = 10, 50
PRINTED = 1e-6  # a rate printed with six decimals is this near to successes / attempts


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Attempts one by one, in the order of their table's problems and operators.

    Attributes:
        made: [N, O, A] whether there is such an attempt.
        right: [N, O, A] whether it is right.
        costs: per axis of AXES, [N, O, A] its cost; NaN if it was not measured.
        paired: attempts of the same index have the same random key for all operators.
    """

    made: Bool[np.ndarray, "N O A"]
    right: Bool[np.ndarray, "N O A"]
    costs: Mapping[str, Float[np.ndarray, "N O A"]]
    paired: bool = False

    @classmethod
    def of(
        cls,
        attempts: Sequence[Sequence[Sequence[tuple[bool, Mapping[str, float]]]]],
        paired: bool = False,
    ) -> "Recorded":
        """Collect attempts.

        Args:
            attempts: (right, cost per axis) of each attempt, per problem and operator.
            paired: attempts of the same index have the same random key.

        Returns:
            The attempts as arrays.
        """
        shape = (len(attempts), len(attempts[0]) if len(attempts) else 0)
        most = max((len(group) for row in attempts for group in row), default=0)
        made, right = (np.zeros((*shape, most), bool) for _ in range(2))
        costs = {axis: np.full((*shape, most), np.nan) for axis in AXES}
        for i, row in enumerate(attempts):
            for o, group in enumerate(row):
                made[i, o, : len(group)] = True
                right[i, o, : len(group)] = [solved for solved, _ in group]
                for axis in AXES:
                    known = [cost.get(axis, np.nan) for _, cost in group]
                    costs[axis][i, o, : len(group)] = known
        return cls(made, right, costs, paired)

    def knows(self, axis: str) -> bool:
        """Say whether every attempt has a cost.

        Args:
            axis: of AXES.

        Returns:
            True if none is NaN.
        """
        return not np.isnan(self.costs[axis][self.made]).any()

    def mean(self, axis: str) -> Float[np.ndarray, "N O"]:
        """Average the cost of an attempt.

        Args:
            axis: of AXES.

        Returns:
            Mean cost per problem and operator.
        """
        total = np.where(self.made, self.costs[axis], 0.0).sum(axis=2)
        return total / np.maximum(self.made.sum(axis=2), 1)


@dataclasses.dataclass(frozen=True)
class Profiles:
    """The failed problems of one cell (a model on a task), in file order.

    Attributes:
        cell: name, as `model|task`.
        problems: [N] names.
        n_failed: [N] failed rollouts of each problem, at least 1.
        features: [N, 3] FEATURES; NaN throughout if the cell lacks one.
        operators: [O] names; "retry" is one.
        rates: [N, O] share of right attempts.
        attempts: [N, O] attempts of each rate; None if the table does not say.
        extras: further columns of the table, as text.
        excluded: problems of the cell without (enough) failed rollouts.
        deterministic: operators whose attempts at a problem are all the same.
        recorded: the attempts one by one; None if only their rates are known.
    """

    cell: str
    problems: tuple[str, ...]
    n_failed: Int[np.ndarray, "N"]
    features: Float[np.ndarray, "N F"]
    operators: tuple[str, ...]
    rates: Float[np.ndarray, "N O"]
    attempts: Int[np.ndarray, "N O"] | None = None
    extras: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    excluded: int = 0
    deterministic: tuple[str, ...] = ()
    recorded: Recorded | None = None

    def __len__(self) -> int:
        return len(self.problems)

    def numbers(self, name: str, gaps: bool = False) -> Float[np.ndarray, "N"] | None:
        """Read an extra column as numbers.

        Args:
            name: of the column.
            gaps: let single problems lack it (see `parse_signal`); they get NaN.

        Returns:
            The numbers; None if the cell lacks the column or leaves it empty.

        Raises:
            UserError: for a field that is not a number.
        """
        if not any(self.extras.get(name, ())):
            return None
        parse = parse_signal if gaps else parse_number
        where = f"cell {self.cell}, column {name!r}"
        found = np.array([parse(text, where) for text in self.extras[name]])
        return None if np.isnan(found).all() else found

    @property
    def weights(self) -> Float[np.ndarray, "N"]:
        """Share of the times that a deployed router meets each problem, in (0, 1].

        A router that sees the first K failures meets a problem that failed in f of G
        rollouts with the chance that its first K fail, prod_{j<K} (f − j) / (G − j).

        Raises:
            UserError: for a weight that is not a share.
        """
        weights = self.numbers(WEIGHT)
        if weights is None:
            return np.ones(len(self))
        if not ((weights > 0) & (weights <= 1)).all():
            raise UserError(
                f"cell {self.cell}: {WEIGHT} must be a share of the times, above 0 and "
                "up to 1"
            )
        return weights

    @property
    def family(self) -> str:
        """Column `family` or `task`, or the part of `model|task` after the bar."""
        for name in ("family", "task"):
            if any(self.extras.get(name, ())):
                return next(filter(None, self.extras[name]))
        return self.cell.rsplit("|", 1)[-1]

    @property
    def failed_share(self) -> Float[np.ndarray, "N"]:
        """Share of a problem's rollouts that failed.

        Without their number, relative to the most failures of a problem.
        """
        known = self.numbers("failed_share")
        return self.n_failed / self.n_failed.max() if known is None else known

    @property
    def questions(self) -> list[str]:
        """Name of each row's question, the same within a family."""
        names = self.extras.get(QUESTION, self.problems)
        return [f"{self.family} {n or own}" for n, own in zip(names, self.problems)]

    @property
    def models(self) -> list[str]:
        """Name of each row's model and its family."""
        names = self.extras.get(MODEL, (self.cell,) * len(self))
        return [f"{self.family} {name or self.cell}" for name in names]

    @property
    def tried(self) -> Int[np.ndarray, "N O"]:
        """Attempts of each rate, given or recovered from a printed rate; 0: unknown.

        First min(n_failed, 10), then the smallest denominator up to 50 that fits. A
        fraction in lowest terms hides a common factor: a lower bound.
        """
        if self.attempts is not None:
            return self.attempts
        rates = self.rates[..., None]
        usual = np.minimum(self.n_failed, _CAP)[:, None, None]
        every = np.arange(1, _MOST + 1)
        counts = np.concatenate(
            [
                np.broadcast_to(usual, rates.shape),
                np.broadcast_to(every, rates.shape[:2] + (_MOST,)),
            ],
            axis=2,
        )
        fits = np.abs(np.round(rates * counts) / counts - rates) <= PRINTED
        first = fits.argmax(-1)[..., None]
        return np.where(
            fits.any(-1), np.take_along_axis(counts, first, axis=-1)[..., 0], 0
        )

    @property
    def paired(self) -> Recorded | None:
        """The attempts one by one, if operators share their random keys."""
        own = self.recorded
        return own if own is not None and own.paired else None

    @property
    def successes(self) -> Int[np.ndarray, "N O"]:
        """Right attempts of each rate."""
        return np.round(self.rates * self.tried).astype(np.int64)

    @property
    def repeats_itself(self) -> Bool[np.ndarray, "O"]:
        """Deterministic operators: named by the table, or tried once unlike retry.

        Their attempts at a problem are all the same one, not draws from a rate.
        """
        named = np.isin(self.operators, self.deterministic)
        if self.attempts is None:
            return named
        once = (self.attempts == 1).all(axis=0)
        return named | (once & ~once[self.operators.index("retry")])

    def costs(self, axis: str = FORWARD) -> dict[str, Float[np.ndarray, "N"]] | None:
        """Mean cost of an attempt of each operator, and of what precedes routing.

        Forward tokens are the columns `<operator>_cost`, `diagnosis_cost` and
        `failures_cost` (without it, all of the diagnosis): prompt, generated, forced,
        scored and probe tokens, the ancestor's weighted by its share of the
        specialist's parameters. Other axes come from the recorded attempts, and from
        the columns `failures_<axis>` and `diagnosis_<axis>`.

        Args:
            axis: of AXES.

        Returns:
            Costs per problem by operator, "diagnosis" (the failures read) and
            "failures" (their rollouts alone); None if they are unknown.

        Raises:
            UserError: for a cost that is negative, or a free attempt.
        """
        columns = self._forward() if axis == FORWARD else self._measured(axis)
        for name, column in (columns or {}).items():
            free = name not in _BEFORE and axis == FORWARD and column.min() == 0
            if column.min() < 0 or free:
                raise UserError(
                    f"cell {self.cell}: {name}_cost = {column.min():g} is not a number "
                    "of forward tokens"
                )
        return columns

    @property
    def mean_costs(self) -> dict[str, float] | None:
        """Means over the problems of `costs()`, in forward tokens; None if unknown."""
        known = self.costs()
        if known is None:
            return None
        return {name: float(column.mean()) for name, column in known.items()}

    def without(self, operators: Sequence[str]) -> "Profiles":
        """Leave operators out.

        Args:
            operators: names; those that the cell lacks are ignored.

        Returns:
            The profiles as if those had never been tried.
        """
        kept = [o for o, name in enumerate(self.operators) if name not in operators]
        recorded = self.recorded
        if recorded is not None:
            costs = {axis: values[:, kept] for axis, values in recorded.costs.items()}
            made, right = recorded.made[:, kept], recorded.right[:, kept]
            recorded = Recorded(made, right, costs, recorded.paired)
        return dataclasses.replace(
            self,
            operators=tuple(self.operators[o] for o in kept),
            rates=self.rates[:, kept],
            attempts=None if self.attempts is None else self.attempts[:, kept],
            deterministic=tuple(n for n in self.deterministic if n not in operators),
            recorded=recorded,
        )

    def _forward(self) -> dict[str, Float[np.ndarray, "N"]] | None:
        names = (*self.operators, *_BEFORE)
        found = {name: self.numbers(f"{name}_cost") for name in names}
        if found["failures"] is None:
            found["failures"] = found["diagnosis"]
        columns = {name: column for name, column in found.items() if column is not None}
        if len(columns) < len(names):
            return None
        if self.recorded is not None and self.recorded.knows(FORWARD):
            mean = self.recorded.mean(FORWARD)  # the same, to more digits
            columns |= {name: mean[:, o] for o, name in enumerate(self.operators)}
        return columns

    def _measured(self, axis: str) -> dict[str, Float[np.ndarray, "N"]] | None:
        rollouts = self.numbers(f"failures_{axis}")
        if self.recorded is None or rollouts is None or not self.recorded.knows(axis):
            return None
        # Scoring a failure generates no token; its time is a column of its own.
        timed = self.numbers(f"diagnosis_{axis}")
        reading = rollouts if axis == "generated" else timed
        if reading is None:
            return None
        mean = self.recorded.mean(axis)
        known = {name: mean[:, o] for o, name in enumerate(self.operators)}
        return known | {"diagnosis": reading, "failures": rollouts}
