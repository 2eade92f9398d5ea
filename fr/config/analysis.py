"""Settings of the analysis of failures: signals, operators, routing, clusters."""

import dataclasses

from fr.config.fields import (
    INNER_SHARE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    SHARE,
    TWO_OR_MORE,
    Bound,
    above,
    each,
    one_of,
    setting,
)

_ALL_POSITIVE = each(POSITIVE, "positive numbers")


@dataclasses.dataclass(frozen=True)
class DiagnosisConfig:
    """Constants of the failure signals (arXiv 2606.05145).

    Lengths below 1 are shares of the median failed length.
    """

    tau: float = setting(0.6, "temperature of the tempered entropy", POSITIVE)
    window: float = setting(
        8.0, "half width of the junction window, in tokens", POSITIVE
    )
    warmup: float = setting(20.0, "first tokens, in which the detector cannot fire")
    detector: str = setting(
        "window",
        "window: a sum of scores; page_hinkley: their rise over their own mean",
        one_of("window", "page_hinkley"),
    )
    score: str = setting(
        "demotion",
        "a token's score for the detector; demotion: J; z: max(Z_path, Z_cov)",
        one_of("demotion", "z"),
    )
    width: int = setting(
        1,
        "window: tokens that are summed",
        Bound("positive and at most 16", lambda value: 0 < value <= 16),
    )
    quantile: float = setting(
        0.99,
        "of the detector's score over a problem's failed rollouts: its threshold",
        INNER_SHARE,
    )
    quantile_without_ancestor: float = setting(0.75, "the same, of the logit variance")
    drift: float = setting(
        0.05,
        "page_hinkley: rise per token that is ignored, in units of the score",
        NOT_NEGATIVE,
    )
    false_alarms: float = setting(
        0.05,
        "page_hinkley: share of traces without a change on which it may fire",
        INNER_SHARE,
    )
    failures: tuple[int, ...] = setting(
        (),
        "each K writes a second table of the first K failures only, as a router sees "
        "them",
        _ALL_POSITIVE,
    )
    statistics: str = setting(
        "scored",
        "token statistics of failures: scored, or the sampling loop's (in its "
        "precision)",
        one_of("scored", "loop"),
    )
    form: str = setting(
        "showcase",
        "third feature: showcase (mean of log10) or released (log10 of the mean)",
        one_of("showcase", "released"),
    )
    outside: bool = setting(
        False, "also write columns of the game's checker, which no router may read"
    )
    states: bool = setting(
        False,
        "also read hidden states of all rollouts: signal probe_correct, states.npz",
    )


@dataclasses.dataclass(frozen=True)
class InterventionConfig:
    """The operators, and the attempts of each at a failed problem."""

    operators: tuple[str, ...] = setting(
        (
            "retry",
            "sparse_steer",
            "sparse_steer_random",
            "wrong_geodesic",
            "dense_steer",
            "dense_sampled",
            "local_temp",
        ),
        "operators that every failed problem is tried with",
    )
    attempts: int = setting(
        16, "attempts of each operator; online, of the operator routed to", POSITIVE
    )
    keys: str = setting(
        "shared",
        "shared: attempt i at a problem draws the same random numbers with every "
        "operator; own: each operator has its own",
        one_of("shared", "own"),
    )
    online_after: int = setting(
        4, "online: failed attempts before a problem is routed", POSITIVE
    )
    online_budget: float = setting(
        0.0,
        "online: declared budget of the comparison, forward tokens per problem; 0: "
        "none",
        NOT_NEGATIVE,
    )
    online_explore: float = setting(
        0.0,
        "online: share of problems that get a random operator, so that other choices "
        "can be valued from one run",
        SHARE,
    )
    verifier: bool = setting(
        True, "online: a right attempt is known to be right and ends its problem"
    )
    # Above 1 the coverage mixture is not defined; the contrastive operator has
    # `contrast`.
    alpha: float = setting(0.7, "the specialist's weight in a mixture", SHARE)
    local_temperatures: tuple[float, ...] = setting(
        (1.0, 1.5, 2.0),
        "temperatures of `local_temp`, in turn",
        each(POSITIVE, "positive", empty=False),
    )
    local_span: int = setting(
        16, "local_temp: tokens that stay hot after the detector fires", POSITIVE
    )
    hot_temperatures: tuple[float, ...] = setting(
        (1.0, 1.2),
        "temperatures of `hot`, in turn",
        each(POSITIVE, "positive", empty=False),
    )
    restart_share: float = setting(
        0.0,
        "prefix_restart: share of the reasoning that is kept; 0: up to its junction",
        SHARE,
    )
    contrast: float = setting(
        1.5, "contrastive: the specialist's weight (arXiv 2210.15097)", above(1)
    )
    plausible: float = setting(
        0.1,
        "contrastive: least share of the specialist's largest probability",
        POSITIVE_SHARE,
    )
    nucleus: float = setting(0.9, "nucleus: its top_p", POSITIVE_SHARE)
    min_p: float = setting(
        0.1,
        "min_p: least share of the largest probability (arXiv 2407.01082)",
        POSITIVE_SHARE,
    )
    stop_window: float = setting(
        0.25,
        "early_stop: window in tokens; below 1: a share of the median failure",
        POSITIVE,
    )
    stop_quantile: float = setting(
        0.5,
        "early_stop: quantile of the failures' least certain windows, its floor",
        SHARE,
    )
    switch_penalty: float = setting(
        3.0,
        "penalty on logits of switch words (tip, arXiv 2501.18585), or of random "
        "tokens (tip_random)",
        NOT_NEGATIVE,
    )
    switch_window: float = setting(
        600.0,
        "tip: first tokens of a thought that it covers; below 1: a share of the "
        "median failure",
        POSITIVE,
    )
    vector: str = setting(
        "", "steer_vector: file of steering vectors, one per layer (docs/steering.md)"
    )
    vector_strength: float = setting(
        1.0, "steer_vector: factor on the vectors; below 0: away from the behaviour"
    )
    vector_layers: tuple[int, ...] = setting(
        (),
        "steer_vector: layers that get their vector, from 0 on; (): all",
        each(NOT_NEGATIVE, "layers from 0 on"),
    )


@dataclasses.dataclass(frozen=True)
class RoutingConfig:
    """Labels, protocols, intervals and the learned router."""

    margin: float = setting(0.05, "best - retry of a steerable problem, rescue rates")
    hard: float = setting(0.5, "1 - retry of a steerable problem, rescue rates")
    bootstrap: int = setting(2000, "resamples of an interval", POSITIVE)
    splits: int = setting(200, "random halvings of the attempts", POSITIVE)
    permutations: int = setting(200, "permutations of the label null", POSITIVE)
    nulls: int = setting(
        999,
        "tables without an interaction of operator and problem; the least p is "
        "1 / (nulls + 1)",
        POSITIVE,
    )
    posterior: int = setting(200, "draws of every problem's true rates", POSITIVE)
    folds: int = setting(5, "folds of the problems, for learned routers", TWO_OR_MORE)
    splittings: int = setting(
        4, "splittings into folds that a certified lift is averaged over", POSITIVE
    )
    inner_folds: int = setting(
        4, "folds of the training problems, for the router's settings", TWO_OR_MORE
    )
    objective: str = setting(
        "binomial",
        "of the learned router: binomial likelihood, or rescue of its soft policy "
        "(not calibrated)",
        one_of("rescue", "binomial"),
    )
    hidden: int = setting(
        0, "hidden units of the learned router; 0: linear", NOT_NEGATIVE
    )
    seeds: int = setting(2, "fits whose scores are averaged", POSITIVE)
    steps: int = setting(120, "parameter updates of a fit", POSITIVE)
    learning_rate: float = setting(0.1, "at the first update; cosine to 0", POSITIVE)
    entropy: float = setting(
        0.01, "weight of the soft policy's entropy, rescues per nat", NOT_NEGATIVE
    )
    penalties: tuple[float, ...] = setting(
        (0.002, 0.006, 0.02),
        "candidate penalties per column that the router uses",
        each(POSITIVE, "positive numbers", empty=False),
    )
    deviation_errors: float = setting(
        2.0,
        "standard errors of gain before the router leaves the best fixed operator",
        NOT_NEGATIVE,
    )
    budget_retries: float = setting(
        8.0, "budget of an order of operators, in the cost of retries", POSITIVE
    )
    attempt_price: float = setting(
        0.0,
        "rescues that the cost of a retry must be worth; above 0 the router may stop",
        NOT_NEGATIVE,
    )


@dataclasses.dataclass(frozen=True)
class ClustersConfig:
    """Clusters of failures, and the tests of their stability."""

    largest: int = setting(
        8, "largest number of clusters; the smallest is 2", TWO_OR_MORE
    )
    bootstrap: int = setting(
        100, "resamples of the failures that a stability is a mean over", POSITIVE
    )
    seeds: int = setting(
        20, "clusterings of the same failures from other starts", POSITIVE
    )
    nulls: int = setting(
        2000,
        "most tables without clusters per kind of null; fewer once ten are as stable",
        POSITIVE,
    )
    null_bootstrap: int = setting(3, "resamples of each null table", POSITIVE)
