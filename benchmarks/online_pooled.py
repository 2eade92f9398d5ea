r"""Pool several runs of scripts/intervene.py --router: problems solved within a budget.

    python -m benchmarks.online_pooled --router=schedule --against=one_order \
        --budgets=300,450,600 RUN RUN ...

Forward tokens are counted from the first attempt on. Intervals resample questions, each
with all its runs. Runs must not read an ancestor in the loop, because its price is not
known here.
"""

import numpy as np
from absl import app, flags
from etils import epath

from fr import store
from fr.runs.attempt_costs import forward_tokens
from fr.stats.bootstrap import estimate, percent, resample_weights
from fr.stats.budget_curves import affordable
from fr.types import RIGHT

_ROUTER = flags.DEFINE_string("router", "schedule", "A folder of online/.")
_AGAINST = flags.DEFINE_string("against", "one_order", "Its reference, another one.")
_BUDGETS = flags.DEFINE_list(
    "budgets", ["300", "450", "600"], "Forward tokens per problem."
)
_COLUMNS = ["problem", "grade", *(f"cost_{name}" for name in store.COSTS)]


def _solved(run: str, policy: str, budget: float) -> dict[str, bool]:
    """Per question: whether the attempts that the budget pays for had a right one."""
    groups: dict[str, list[dict]] = {}
    for row in store.read_table(
        epath.Path(run) / "online" / policy, _COLUMNS
    ).to_pylist():
        if row["cost_ancestor"]:
            raise app.UsageError(f"{run}: {policy} reads an ancestor")
        groups.setdefault(row["problem"], []).append(row)
    within = lambda rows: rows[
        : affordable(np.array([forward_tokens(row, 0.0) for row in rows]), budget)
    ]
    return {
        name: any(row["grade"] == RIGHT for row in within(rows))
        for name, rows in groups.items()
    }


def main(runs: list[str]) -> None:
    """Print one line per budget and run, and one for all runs.

    Args:
        runs: the program's name and folders of runs.

    Raises:
        UsageError: for a run that reads an ancestor, or without a run.
    """
    for budget in map(float, _BUDGETS.value):
        pairs = [
            [_solved(run, name, budget) for name in (_ROUTER.value, _AGAINST.value)]
            for run in runs[1:]
        ]
        for run, (policy, reference) in zip(runs[1:], pairs):
            if policy.keys() != reference.keys():
                raise app.UsageError(f"{run}: is not finished")
        for names, chosen in [
            *((run, [pair]) for run, pair in zip(runs[1:], pairs)),
            ("all", pairs),
        ]:
            questions = sorted(
                {question for policy, _ in chosen for question in policy}
            )
            gaps = np.array(
                [
                    [policy[q] - reference[q] for q in questions]
                    for policy, reference in chosen
                ],
                float,
            )
            shares = [
                np.mean([list(found.values()) for found in side])
                for side in zip(*chosen)
            ]
            weights = resample_weights(len(questions), 2000, np.random.default_rng(0))
            gap = estimate(weights @ gaps.mean(axis=0) / len(questions), len(questions))
            ends = ", ".join(f"{percent(end):+.1f}" for end in gap.interval())
            rates = " ".join(
                f"{name} {100 * share:.1f}"
                for name, share in zip((_ROUTER.value, _AGAINST.value), shares)
            )
            print(
                f"{budget:5.0f} {names}: {gaps.size} problems, {rates}; "
                f"{percent(gap.value):+.1f} [{ends}]"
            )


if __name__ == "__main__":
    app.run(main)
