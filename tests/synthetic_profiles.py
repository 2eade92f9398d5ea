"""Profile tables with known truths, for the tests of routing."""

import numpy as np

from fr.comparison.summary import summarise
from fr.config import Config, RoutingConfig
from fr.profiles import OPERATORS, Profiles
from fr.routing.dataset import RoutingData
from fr.routing.policies import all_policies


def make(
    problems=80,
    attempts=10,
    seed=0,
    operators=OPERATORS,
    effect=0.0,
    cell="model|task",
    **extras,
) -> Profiles:
    """Operators that differ only by `effect`, where the largest z-score tells the
    right one.

    Feature f of a problem is larger by 3 where operator RULE[f] has its chance raised
    by `effect`.
    """
    rng = np.random.default_rng(seed)
    base = rng.beta(0.8, 2.5, size=problems)
    special = rng.integers(3, size=problems)
    features = rng.normal(size=(problems, 3))
    features[np.arange(problems), special] += 3
    chances = np.repeat(base[:, None], len(operators), axis=1)
    for i, kind in enumerate(special):
        name = ("dense_steer", "sparse_steer", "local_temp")[kind]
        if name in operators:
            chances[i, operators.index(name)] += effect
    correct = rng.binomial(attempts, np.clip(chances, 0, 1))
    return Profiles(
        cell,
        tuple(f"p{i}" for i in range(problems)),
        np.full(problems, 16),
        features,
        tuple(operators),
        correct / attempts,
        np.full(correct.shape, attempts),
        {
            name: tuple(str(v) for v in np.broadcast_to(value, problems))
            for name, value in extras.items()
        },
    )


def cell_of(name="model|task", **columns):
    """Eight problems with further columns, their texts separated by |."""
    told = {key: np.array(value.split("|")) for key, value in columns.items()}
    return make(problems=8, cell=name, **told)


def routing_data(*cells, routing=RoutingConfig(), seed=0) -> RoutingData:
    """The cells as one table of routing."""
    return RoutingData.build(cells, Config(routing=routing, seed=seed))


def summary_of(*cells, routing=RoutingConfig(), learned=False) -> dict:
    """routing.json's record of the cells."""
    data = routing_data(*cells, routing=routing)
    return summarise(data, all_policies(data, learned))


def rows_of(rows, **where) -> list[dict]:
    """Rows of a table with these values; None stands for an absent field."""
    return [
        r for r in rows if all(r.get(name) == value for name, value in where.items())
    ]
