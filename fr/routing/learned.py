"""A learned router with all that it needs to route failures elsewhere; no jax here."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Int

from fr.errors import UserError
from fr.profiles.profile import Profiles
from fr.routing.columns import read_columns
from fr.routing.posterior import ANYWHERE, Statistics, mean_and_sd, standardise
from fr.stats.safe_deviation import SafeDeviation
from fr.workdir import PathLike, seal, unseal

OUTLINE = "router.json"
_VERSION = 3
_REMEDY = "scripts/route.py writes a new one"


@dataclasses.dataclass(frozen=True)
class LearnedRouter:
    """Scores of the operators from named columns, and how they become a choice.

    Attributes:
        operators: [O] names.
        columns: [F] names of the columns that it is given.
        prompt: (name, share of the training rows) of each input for a cell or a family:
            centred one-hot; an unseen group gets zeros, the training average.
        statistics: mean and sd of each column, by cell and ANYWHERE.
        families: family of each known cell.
        gains: by cell and ANYWHERE, mean training gain of each operator and stop (None:
            absent); the best is the fixed choice.
        prices: [O] rescues that an attempt must be worth.
        deviation: calibration of the scores, and departures from the fixed choice.
        hidden: units of its hidden layer; 0: linear.
        questions: that it has learned from.
        params: of `OperatorScores`, with a leading axis of seeds.
    """

    operators: tuple[str, ...]
    columns: tuple[str, ...]
    prompt: tuple[tuple[str, float], ...]
    statistics: dict[str, Statistics]
    families: dict[str, str]
    gains: dict[str, tuple[float | None, ...]]
    prices: tuple[float, ...]
    deviation: SafeDeviation
    hidden: int
    questions: tuple[str, ...]
    params: dict

    @property
    def needs(self) -> list[str]:
        """Columns that it reads and that no training cell lacked."""
        cells = [known for cell, known in self.statistics.items() if cell != ANYWHERE]
        known = lambda name: all(cell[name][0] is not None for cell in cells)
        return [name for name in self.columns if known(name)]

    @property
    def reads(self) -> list[str]:
        """Columns that some training cell had."""
        every = self.statistics.values()
        known = lambda name: any(cell[name][0] is not None for cell in every)
        return [name for name in self.columns if known(name)]

    def fixed(self, cell: str, operators: Sequence[str] | None = None) -> int:
        """Look up the choice that gained most in training.

        Args:
            cell: name; a new one gets the choice over all training rows.
            operators: names that are offered; None: all.

        Returns:
            Index of the operator; O stands for stop.
        """
        gains = self.gains.get(cell, self.gains[ANYWHERE])
        known = np.array([-np.inf if gain is None else gain for gain in gains])
        offered = [*self._offered(operators), True]
        return int(np.where(offered, known, -np.inf).argmax())

    def rates(
        self,
        given: Float[np.ndarray, "N F"],
        cell: str,
        statistics: Statistics | None = None,
        family: str | None = None,
        operators: Sequence[str] | None = None,
    ) -> Float[np.ndarray, "N O"]:
        """Compute the rescue rates that it expects.

        Args:
            given: `columns` of the failures of one cell; NaN where unknown.
            cell: name of the cell.
            statistics: of the columns; None: the cell's own in training.
            family: of a new cell; None: unknown.
            operators: names that are offered; None: all.

        Returns:
            Expected rescue rates, as shares.

        Raises:
            UserError: without statistics, for a cell that is new.
        """
        known = statistics or self.statistics_of(cell)
        scores = [
            standardise(given[:, f], *known[name])
            for f, name in enumerate(self.columns)
        ]
        place = np.tile(self._place(cell, family), (len(given), 1))
        inputs = np.column_stack([*scores, place]).astype(np.float32)
        available = np.tile(self._offered(operators), (len(given), 1))
        return self.deviation.rates(self._scores(inputs), available)

    def chooser(
        self,
        cell: str,
        statistics: Statistics | None = None,
        family: str | None = None,
        operators: Sequence[str] | None = None,
    ) -> Callable[[Float[np.ndarray, "N F"]], Int[np.ndarray, "N"]]:
        """Make the choice for failures of one cell.

        Args:
            cell: name of the cell.
            statistics: of the columns; None: the cell's own in training.
            family: of a new cell; None: unknown.
            operators: names that are offered; None: all.

        Returns:
            `columns` of failures -> index of the operator to try; O stands for stop.

        Raises:
            UserError: without statistics, for a cell that is new.
        """
        known = statistics or self.statistics_of(cell)
        offered = self._offered(operators)

        def choose(given: Float[np.ndarray, "N F"]) -> Int[np.ndarray, "N"]:
            expected = self.rates(given, cell, known, family, operators)
            gains = np.where(offered, expected - np.array(self.prices), -np.inf)
            fixed = np.full(len(given), self.fixed(cell, operators))
            return self.deviation.choose(gains, fixed)

        return choose

    def statistics_of(self, cell: str) -> Statistics:
        """Look up the statistics of a training cell.

        Args:
            cell: its name.

        Returns:
            Mean and sd by column.

        Raises:
            UserError: for a cell that it has not learned from.
        """
        if cell not in self.statistics:
            known = ", ".join(name for name in self.statistics if name != ANYWHERE)
            raise UserError(
                f"the router has no statistics of cell {cell!r}; it knows {known}"
            )
        return self.statistics[cell]

    def save(self, folder: PathLike) -> None:
        """Write everything into `router.json`, with a checksum.

        Args:
            folder: an existing or new folder.
        """
        outline = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        outline["deviation"] = self.deviation.to_dict()
        outline["params"] = _plain(self.params)
        seal(epath.Path(folder) / OUTLINE, _VERSION, outline)

    @classmethod
    def restore(cls, folder: PathLike) -> "LearnedRouter":
        """Read what `save` wrote.

        Args:
            folder: the argument of `save`.

        Returns:
            The router; float32 parameters read back exactly.

        Raises:
            UserError: without the file, for another version or a changed byte.
        """
        path = epath.Path(folder) / OUTLINE
        if not path.exists():
            old = path.parent / "head.json"
            lacks = "head.json is of an earlier version" if old.exists() else ""
            raise UserError(
                f"{folder}: holds no router ({lacks or f'{OUTLINE} is missing'}); "
                "scripts/route.py writes one"
            )
        outline = unseal(path, _VERSION, _REMEDY)
        if outline.keys() != {f.name for f in dataclasses.fields(cls)}:
            raise UserError(f"{path}: is a router of another version; {_REMEDY}")
        for name in ("operators", "columns", "prices", "questions"):
            outline[name] = tuple(outline[name])
        outline["prompt"] = tuple((name, share) for name, share in outline["prompt"])
        outline["gains"] = {c: tuple(gains) for c, gains in outline["gains"].items()}
        outline["statistics"] = {
            cell: {name: tuple(pair) for name, pair in known.items()}
            for cell, known in outline["statistics"].items()
        }
        outline["params"] = _arrays(outline["params"])
        outline["deviation"] = SafeDeviation.from_dict(outline["deviation"])
        return cls(**outline)

    def _offered(self, operators: Sequence[str] | None) -> Bool[np.ndarray, "O"]:
        if operators is None:
            return np.ones(len(self.operators), bool)
        return np.isin(self.operators, operators)

    def _place(self, cell: str, family: str | None) -> list[float]:
        """Inputs of cell and family; 0 for a kind that the router has not seen."""
        here = {f"cell {cell}", f"family {self.families.get(cell, family)}"}
        kind = lambda name: name.split(" ", 1)[0]
        kinds = {kind(name) for name in here & {name for name, _ in self.prompt}}
        return [
            (name in here) - share if kind(name) in kinds else 0.0
            for name, share in self.prompt
        ]

    def _scores(self, inputs: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N O"]:
        """Scores of `OperatorScores`, averaged over the seeds."""
        # In numpy, by flax's names of the layers: a saved router routes without jax.
        layers, units = self.params["params"], inputs
        if self.hidden:
            first, last = layers["Dense_0"], layers["Dense_1"]
            hidden = np.tanh(units @ first["kernel"] + first["bias"][:, None])
            units = np.broadcast_to(units, (len(hidden), *units.shape))
            units = np.concatenate([units, hidden], axis=-1)
        else:
            last = layers["Dense_0"]
        return (units @ last["kernel"] + last["bias"][:, None]).mean(axis=0)


def columns_of(profiles: Profiles, columns: Sequence[str]) -> Float[np.ndarray, "N F"]:
    """Read named columns of a cell's failures.

    Args:
        profiles: the cell.
        columns: names.

    Returns:
        The values; NaN throughout where the cell lacks a column.
    """
    found = read_columns([profiles])
    absent = np.full(len(profiles), np.nan)
    return np.column_stack([found.get(name, absent) for name in columns])


def column_statistics(profiles: Profiles, columns: Sequence[str]) -> Statistics:
    """Compute mean and sd of columns over a cell's failures.

    Args:
        profiles: the cell.
        columns: names.

    Returns:
        (mean, sd) by column; (None, None) for one that the cell lacks.
    """
    values = columns_of(profiles, columns)
    return {name: mean_and_sd(values[:, f]) for f, name in enumerate(columns)}


def _plain(tree: dict) -> dict:
    """Parameters as nested lists: float32 reads back exactly."""
    leaf = lambda v: _plain(v) if isinstance(v, dict) else np.asarray(v).tolist()
    return {name: leaf(value) for name, value in tree.items()}


def _arrays(tree: dict) -> dict:
    leaf = lambda v: _arrays(v) if isinstance(v, dict) else np.array(v, np.float32)
    return {name: leaf(value) for name, value in tree.items()}
