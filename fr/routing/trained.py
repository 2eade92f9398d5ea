"""A head that has been trained, with all that it needs to route failures elsewhere, and its form on disk."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Int

from fr.errors import UserError
from fr.routing.columns import read_columns, standardise
from fr.routing.profiles import Profiles
from fr.routing.rule import Policy
from fr.routing.shrink import Shrinkage
from fr.workdir import PathLike, seal, unseal

ANYWHERE = ""  # stands for a cell that is new: what all training rows say together
OUTLINE = "head.json"
_VERSION = 2
_REMEDY = "scripts/route.py writes it anew"
Statistics = dict[str, tuple[float | None, float | None]]  # mean and sd of a column


@dataclasses.dataclass(frozen=True)
class Head:
    """A trained head with all that its policy needs: columns, statistics by cell, shrinkage, fixed choices."""

    operators: tuple[str, ...]
    columns: tuple[str, ...]
    # One input for each known cell and family: 1 there, less the share of the training rows that it had. A place
    # that is new is thus an average one; of "?", which was not learned from, the input is 0.
    prompt: tuple[tuple[str, float], ...]
    statistics: dict[str, Statistics]  # by cell, and ANYWHERE
    families: dict[str, str]  # by cell
    # Mean gain of every operator and of stop, by cell and ANYWHERE: the best is the fixed choice; None: absent.
    gains: dict[str, tuple[float | None, ...]]
    prices: tuple[float, ...]
    shrinkage: Shrinkage
    hidden: int
    questions: tuple[str, ...]  # that it has learned from
    params: dict  # of OperatorScores, with a leading axis of seeds

    def needs(self) -> list[str]:
        """Columns that it reads and that no cell lacked from which it learned."""
        cells = [known for cell, known in self.statistics.items() if cell != ANYWHERE]
        return [
            name
            for name in self.columns
            if all(known[name][0] is not None for known in cells)
        ]

    def reads(self) -> list[str]:
        """Columns that it may read, whatever cell knew them."""
        return [
            n
            for n in self.columns
            if any(known[n][0] is not None for known in self.statistics.values())
        ]

    def offered(self, operators: Sequence[str] | None = None) -> Bool[np.ndarray, "O"]:
        """Which of its own operators are among `operators`; all of them without."""
        return (
            np.ones(len(self.operators), bool)
            if operators is None
            else np.isin(self.operators, operators)
        )

    def fixed(self, cell: str, operators: Sequence[str] | None = None) -> int:
        """What gained most where it learned, of what is offered: in this cell, or over all if it is new."""
        gains = self.gains.get(cell, self.gains[ANYWHERE])
        known = np.array([-np.inf if gain is None else gain for gain in gains])
        return int(np.where([*self.offered(operators), True], known, -np.inf).argmax())

    def rates(
        self,
        given: Float[np.ndarray, "N F"],
        cell: str,
        statistics: Statistics | None = None,
        family: str | None = None,
        operators: Sequence[str] | None = None,
    ) -> Float[np.ndarray, "N O"]:
        """Rescue rates that it expects on the failures of a cell, from their `columns`; as for `policy`."""
        known = statistics or self._statistics(cell)
        read = [
            standardise(given[:, f], *known[name])
            for f, name in enumerate(self.columns)
        ]
        place = np.tile(self._place(cell, family), (len(given), 1))
        inputs = np.column_stack([*read, place]).astype(np.float32)
        available = np.tile(self.offered(operators), (len(given), 1))
        return self.shrinkage.rates(self._scores(inputs), available)

    def policy(
        self,
        cell: str,
        statistics: Statistics | None = None,
        family: str | None = None,
        operators: Sequence[str] | None = None,
    ) -> Policy:
        """`columns` [N, F] of the failures of a cell -> index of the operator to try, O for stop.

        A cell that the head has not seen needs the `statistics` of its own failures, as the rule does, or those
        of ANYWHERE; raises UserError without them. Of a new cell `family` may be known. Only `operators` are
        chosen, all without.
        """
        known = statistics or self._statistics(cell)
        offered = self.offered(operators)

        def policy(given: Float[np.ndarray, "N F"]) -> Int[np.ndarray, "N"]:
            gains = self.rates(given, cell, known, family, operators) - np.array(
                self.prices
            )
            fixed = np.full(len(given), self.fixed(cell, operators))
            return self.shrinkage.choose(np.where(offered, gains, -np.inf), fixed)

        return policy

    def save(self, folder: PathLike) -> None:
        """Write everything into `head.json` of `folder`, with a checksum."""
        outline = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        shrinkage = self.shrinkage
        margin = None if np.isinf(shrinkage.margin) else shrinkage.margin
        outline["shrinkage"] = {
            "calibration": shrinkage.calibration.tolist(), "margin": margin, "penalty": shrinkage.penalty
        }  # fmt: skip
        outline["params"] = _plain(self.params)
        seal(epath.Path(folder) / OUTLINE, _VERSION, outline)

    @classmethod
    def restore(cls, folder: PathLike) -> "Head":
        """What `save` wrote; raises UserError where it did not, and for a file with a changed byte."""
        path = epath.Path(folder) / OUTLINE
        if not path.exists():
            raise UserError(
                f"{folder}: holds no head ({OUTLINE} is missing); scripts/route.py writes one"
            )
        outline = unseal(path, _VERSION, _REMEDY)
        if outline.keys() != {f.name for f in dataclasses.fields(cls)}:
            raise UserError(f"{path}: is a head of another version; {_REMEDY}")
        shrinkage = outline.pop("shrinkage")
        margin = np.inf if shrinkage["margin"] is None else shrinkage["margin"]
        calibrated = Shrinkage(
            np.array(shrinkage["calibration"]), margin, shrinkage["penalty"]
        )
        for name in ("operators", "columns", "prices", "questions"):
            outline[name] = tuple(outline[name])
        outline["prompt"] = tuple((name, share) for name, share in outline["prompt"])
        outline["gains"] = {
            cell: tuple(gains) for cell, gains in outline["gains"].items()
        }
        outline["params"] = _arrays(outline["params"])
        return cls(**outline, shrinkage=calibrated)

    def _statistics(self, cell: str) -> Statistics:
        if cell not in self.statistics:
            known = ", ".join(name for name in self.statistics if name != ANYWHERE)
            raise UserError(
                f"the head has no statistics of cell {cell!r}; it knows {known}"
            )
        return self.statistics[cell]

    def _place(self, cell: str, family: str | None) -> list[float]:
        """The inputs of the prompt: 0, an average place, where the head has not been."""
        here = {f"cell {cell}", f"family {self.families.get(cell, family)}"}
        names = [name for name, _ in self.prompt]
        kinds = {name.split(" ", 1)[0] for name in here & set(names)}
        return [
            (name in here) - share if name.split(" ", 1)[0] in kinds else 0.0
            for name, share in self.prompt
        ]

    def _scores(self, inputs: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N O"]:
        import jax

        from fr.routing.head import OperatorScores

        model = OperatorScores(len(self.operators), self.hidden)
        return np.asarray(jax.vmap(model.apply, (0, None))(self.params, inputs)).mean(
            axis=0
        )


def _plain(tree: dict) -> dict:
    """Parameters as nested lists: float32 reads back exactly."""
    return {
        k: _plain(v) if isinstance(v, dict) else np.asarray(v).tolist()
        for k, v in tree.items()
    }


def _arrays(tree: dict) -> dict:
    return {
        k: _arrays(v) if isinstance(v, dict) else np.array(v, np.float32)
        for k, v in tree.items()
    }


def columns_of(profiles: Profiles, columns: Sequence[str]) -> Float[np.ndarray, "N F"]:
    """The named columns of a cell's failures; NaN throughout where it lacks one."""
    found = read_columns([profiles])
    return np.column_stack(
        [found.get(name, np.full(len(profiles), np.nan)) for name in columns]
    )


def statistics_of(profiles: Profiles, columns: Sequence[str]) -> Statistics:
    """Mean and standard deviation of each column over a cell's failures; None for one that it lacks."""
    values = columns_of(profiles, columns)
    return {name: mean_and_sd(values[:, f]) for f, name in enumerate(columns)}


def mean_and_sd(values: Float[np.ndarray, "M"]) -> tuple[float | None, float | None]:
    """Of the values that are known; None, None without one."""
    known = values[~np.isnan(values)]
    return (float(known.mean()), float(known.std())) if len(known) else (None, None)
