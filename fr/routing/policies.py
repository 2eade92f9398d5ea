"""Policies of routing: each is one `Policy`, and a list of them is all that is judged.

To add a router, append a `Policy` to the list that `evaluate` gets.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.diagnosis.labels import STEERABLE, label
from fr.errors import UserError
from fr.routing.baselines import look_up
from fr.routing.columns import FREE, PROMPT, QUESTION
from fr.routing.dataset import RoutingData
from fr.routing.posterior import choose_by_posterior
from fr.routing.rule import ZStatistics, make_rule


@dataclasses.dataclass(frozen=True)
class Choice:
    """Choice of a policy for each row.

    Attributes:
        operator: [N] index of each row's operator; O stands for stop, −1 for no answer.
        expected: [N, O] rescue rates that it expects; None if it expects none.
    """

    operator: Int[np.ndarray, "N"]
    expected: Float[np.ndarray, "N O"] | None = None


# (data that holds what may be read, rows to learn from, random stream) -> chooser of
# each row of such data.
Fit = Callable[
    [RoutingData, Bool[np.ndarray, "N"], np.random.Generator],
    Callable[[RoutingData], Choice],
]

_FIXED = ("best_fixed_per_model", "best_fixed_per_cell")
LOOK_UPS = {
    "best_fixed": "all",
    "best_fixed_per_task": "family",
    "best_fixed_per_cell": "cell",
    "best_fixed_per_model": "model",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Policy:
    """A way to choose an operator for each failed problem.

    Attributes:
        name: of its rows in the tables.
        title: in printed tables.
        fit: learns from some rows; it sees only the columns of `feature_groups`.
        feature_groups: kinds and groups of columns that it may read, and "prompt".
        cost: what it reads of failures, and pays for: "none", "rollouts" (what comes
            with them), "diagnosis".
        references: policies that it is compared with; "permuted" is itself with its
            choices shuffled within cell and fold.
        basis: the look-up that it departs from, chosen again in every resample; None:
            its choices are held fixed.
        departs_from: the fixed choice that its departures are counted from.
        block: group of rows in printed tables.
        main: also in the tables of calibration and budgets.
        permuted: the columns are permuted within each cell.
        frozen: learned elsewhere; its rows are of the protocol "transfer".
        fold_corrected: widen the errors of its lift, for choices learned in folds.
    """

    name: str
    title: str
    fit: Fit
    feature_groups: tuple[str, ...] = ()
    cost: str = "diagnosis"
    references: tuple[str, ...] = (*_FIXED, "permuted", "retry")
    basis: str | None = None
    departs_from: str = "best_fixed_per_cell"
    block: str = "router"
    main: bool = True
    permuted: bool = False
    frozen: bool = False
    fold_corrected: bool = False


# The comparison of a run, k-fold, pooled, on all failed problems: the first that was
# made. The best fixed operator of each model on each task, chosen on training folds,
# reads no failure.
PRIMARY = (("posterior", "best_fixed_per_model"), ("rule", "best_fixed_per_model"))
_NULLS = ("permuted", "learned_nuisances", "learned_question", "learned_prompt", "rule")
# Holm runs over these, pooled, in each protocol and population.
FAMILY = (
    *PRIMARY,
    *(("posterior", other) for other in ("permuted", "posterior_nuisances", "retry")),
    ("learned", "best_fixed_per_model"),
    *(("learned", other) for other in _NULLS),
    *(("rule", other) for other in ("permuted", "retry")),
    *(
        (name, other)
        for name in ("frozen_learned", "frozen_rule")
        for other in ("best_fixed_per_model", "frozen_fixed", "retry")
    ),
)
# The rule's, in sample, over all cells of a protocol.
IN_SAMPLE_FAMILY = ("best_fixed_per_cell", "retry", "permuted")
_ALL = ("signal", "nuisance")


def all_policies(data: RoutingData, learned: bool = True) -> list[Policy]:
    """List the policies of a run.

    Args:
        data: the failed problems.
        learned: with the learned routers; they need jax.

    Returns:
        Policies in the order of the tables.
    """
    found = [*posterior_policies()]
    if learned:
        # Here, so that a run without learned routers does not import jax.
        from fr.routing.training import fit_learned

        found += learned_policies(fit_learned)
    return [*found, *rule_policies(), *baselines(), *operator_policies(data.operators)]


def posterior_policies() -> list[Policy]:
    """The router in closed form, with its nuisances alone, and its control."""

    def fit(data: RoutingData, rows: Bool[np.ndarray, "N"], rng: np.random.Generator):
        choice = Choice(*choose_by_posterior(data, rows))
        return lambda data: choice

    common: dict[str, Any] = {
        "fit": fit,
        "basis": "best_fixed_per_model",
        "departs_from": "best_fixed_per_model",
        "block": "posterior",
        "fold_corrected": True,
    }
    return [
        Policy(
            "posterior",
            "posterior mean",
            feature_groups=_ALL,
            references=(
                *(
                    *_FIXED,
                    "permuted",
                    "posterior_nuisances",
                    "retry",
                    "rule",
                    "learned",
                ),
                *("random_operator", "best_fixed_per_task", "best_fixed"),
                "posterior_permuted",
            ),
            **common,
        ),
        Policy(
            "posterior_nuisances",
            "posterior mean, nuisances only",
            feature_groups=("nuisance",),
            cost="rollouts",
            references=(*_FIXED, "permuted"),
            main=False,
            **common,
        ),
        Policy(
            "posterior_permuted",
            "posterior mean, columns permuted",
            feature_groups=_ALL,
            references=_FIXED,
            main=False,
            permuted=True,
            **common,
        ),
    ]


def learned_policies(fit: Fit) -> list[Policy]:
    """List the learned router with variants by what they read, and its control.

    Args:
        fit: trains a learned router on the columns that it gets.

    Returns:
        The policies.
    """
    prompt = (*_FIXED, "permuted", "learned_prompt")
    most = (*_FIXED, "permuted", *_NULLS[1:4])
    every = (
        *(*most, "rule", "retry", "random_operator", "best_fixed_per_task"),
        *("best_fixed", "learned_intercept", "learned_permuted"),
    )
    variants = (
        ("", "", (*_ALL, PROMPT), "diagnosis", every),
        ("_free", ", free columns", (FREE, PROMPT), "rollouts", (*most, "retry")),
        (
            *("_signals", ", no nuisances", ("signal", PROMPT), "diagnosis"),
            (*prompt, "learned_permuted"),
        ),
        ("_nuisances", ", nuisances only", ("nuisance", PROMPT), "rollouts", prompt),
        ("_question", ", question only", (QUESTION, PROMPT), "none", prompt),
        ("_prompt", ", prompt only", (PROMPT,), "none", _FIXED),
        ("_intercept", ", no columns", (), "none", ("best_fixed",)),
        ("_permuted", ", columns permuted", (*_ALL, PROMPT), "diagnosis", _FIXED),
    )
    return [
        Policy(
            f"learned{suffix}",
            f"learned router{words}",
            fit,
            groups,
            cost,
            references,
            basis="best_fixed_per_cell" if PROMPT in groups else "best_fixed",
            block="learned",
            main=suffix in ("", "_free"),
            permuted=suffix == "_permuted",
        )
        for suffix, words, groups, cost, references in variants
    ]


def rule_policies() -> list[Policy]:
    """The rule with and without its fallback, z-scores over all or the steerable."""

    def fit(subset: bool, fallback: bool) -> Fit:
        def learn(data: RoutingData, rows: Bool[np.ndarray, "N"], rng):
            choice = Choice(_rule_choice(data, rows, subset, fallback))
            return lambda data: choice

        return learn

    common: dict[str, Any] = {"feature_groups": ("lineage",), "block": "rule"}
    every = (
        *(*_FIXED, "permuted", "retry", "random_operator", "best_fixed_per_task"),
        *("best_fixed", "always_sparse_steer_random"),
    )
    bare: dict[str, Any] = {"main": False, **common}
    steerable, nothing = "rule, z over the steerable", "no fallback"
    return [
        Policy("rule", "rule", fit(False, True), references=every, **common),
        Policy("rule_no_fallback", f"rule, {nothing}", fit(False, False), **bare),
        Policy("rule_subset", steerable, fit(True, True), **bare),
        Policy(
            "rule_subset_no_fallback",
            f"{steerable}, {nothing}",
            fit(True, False),
            **bare,
        ),
    ]


def baselines() -> list[Policy]:
    """Look-ups of the best fixed operator, by what is known without a failure."""
    titles = {
        "best_fixed_per_model": (
            "best fixed, per model and task",
            ("retry", "best_fixed_per_cell", "best_fixed_per_task", "best_fixed"),
        ),
        "best_fixed_per_cell": (
            "best fixed, per cell",
            ("retry", "best_fixed_per_task", "best_fixed"),
        ),
        "best_fixed_per_task": ("best fixed, per family", ()),
        "best_fixed": ("best fixed, one for all", ()),
    }

    def fit(by: str) -> Fit:
        def learn(data: RoutingData, rows: Bool[np.ndarray, "N"], rng):
            choice = Choice(look_up(data, rows, by))
            return lambda data: choice

        return learn

    common: dict[str, Any] = {"cost": "none", "block": "baseline", "main": False}
    return [
        Policy(
            name,
            title,
            fit(LOOK_UPS[name]),
            references=references,
            basis=name,
            **common,
        )
        for name, (title, references) in titles.items()
    ]


def operator_policies(operators: Sequence[str]) -> list[Policy]:
    """List the policies that always take one operator.

    Args:
        operators: their names.

    Returns:
        One policy per operator; no answer in cells that lack it.
    """

    def fit(o: int) -> Fit:
        here = lambda data: Choice(np.where(data.available[:, o], o, -1))
        return lambda data, rows, rng: here

    common: dict[str, Any] = {"cost": "none", "main": False}
    minus = ("retry",) if "retry" in operators else ()
    kind: dict[str, Any] = {"block": "operator", "references": minus}
    always = [
        Policy(f"always_{o}", f"always {o}", fit(i), **kind, **common)
        for i, o in enumerate(operators)
        if o != "retry"
    ]
    if not minus:
        return always
    retry, kind = fit(operators.index("retry")), kind | {"block": "baseline"}
    own = Policy("retry", "retry", retry, **kind | {"references": ()}, **common)
    return [own, *always]


def _rule_choice(
    data: RoutingData, train: Bool[np.ndarray, "N"], subset: bool, fallback: bool
) -> Int[np.ndarray, "N"]:
    """The rule per cell; −1 where it has no line or no calibration.

    A cell that is left out brings z-statistics of its own failures; which of them are
    steerable is unknown then, and the subset variants have no answer.
    """
    routes = np.full(len(data), -1)
    for c, profiles in enumerate(data.cells):
        here = data.cell == c
        learned = train[here]
        rows = learned if learned.any() else ~learned
        if subset:
            rule = profiles.operators, data.config.margin, data.config.hard
            rows = (label(profiles.rates, *rule) == STEERABLE) & learned
        if not rows.any():
            continue
        try:
            statistics = ZStatistics.fit(profiles.features[rows])
            choose = make_rule(profiles.operators, statistics, fallback)
        except UserError:
            continue  # no line of the rule has its feature and operator here
        own = np.array([data.operators.index(name) for name in profiles.operators])
        routes[here] = own[choose(profiles.features)]
    return routes
