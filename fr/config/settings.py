"""Settings of what happens to a model as it is: asked, diagnosed, intervened upon, routed, evaluated."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Which problems, and how they are put to the model (docs/tasks.md)."""

    name: str = "countdown"  # a task, a data set of the hub, or reasoning_gym:NAME
    split: str = "test"  # train, validation or test
    problems: int = 128  # how many of the split, from the start of its fixed order
    path: str = ""  # questions: a .jsonl, .parquet or .csv file; data sets of the hub: a local copy
    parts: tuple[str, ...] = ()  # mixed: the tasks that it is made of
    question_field: str = "question"  # questions: what the file calls its fields ...
    answer_field: str = "answer"  # questions: of the reference
    id_field: str = "id"  # ... of which these two may be absent
    split_field: str = "split"  # questions: of the split
    split_shares: tuple[
        float, ...
    ] = ()  # questions without a split: (train, validation, test); (): all are test
    template_kwargs: str = (
        ""  # variables of the chat template, as JSON: {"enable_thinking": false}
    )
    shots: int = 0  # worked examples before the question
    examples: str = (
        ""  # questions, data sets of the hub: a file of them; "": training questions
    )
    chat: str = (
        "auto"  # auto: plain where the model has no chat template; plain; template
    )
    system: str = ""  # system prompt; "": none
    template: str = "{question}\n{instruction}"  # what a user's turn says
    instruction: str = (
        'End with a line "Answer:" and the answer.'  # questions: how to end an answer
    )
    operands: int = 3  # countdown: numbers of a problem
    largest: int = 10  # countdown: largest operand
    target: int = 100  # countdown: largest target
    solutions: int = 0  # countdown: most solutions of a problem, of which the fewer the harder; 0: any number
    terms: int = 2  # sums: how many terms
    digits: int = 1  # sums: digits of a term


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How rollouts are drawn. `slots`, `chunk`, `prefill`, `devices`, `model_axis` alone shape the programs."""

    rollouts: int = 16  # G, rollouts of one problem
    temperature: float = 0.6  # of the rollouts; 0: greedy
    top_p: float = 1.0  # 1: off
    top_k: int = 0  # 0: off
    max_new_tokens: int = 64  # of one rollout
    probe_cuts: int = 0  # of a rollout, where its own answer is probed at a price in positions; 0: none
    slots: int = 64  # rows in flight on a device; constant, so that bytes do not depend on the device count
    chunk: int = 16  # decode steps between two looks of the host
    prefill: int = 8  # prompts that are read at one time on a device
    devices: str = "auto"  # auto: pmap where there are several; one, pmap, shard_map
    model_axis: int = (
        1  # devices that share one copy of a model: for those larger than a device
    )
    shard_rows: int = 4096  # attempts of one store shard, the unit that is redone after a kill; 64 for every slot


@dataclasses.dataclass(frozen=True)
class DiagnosisConfig:
    """Constants of the failure signals (arXiv 2606.05145); those below 1 are shares of the median failed length."""

    tau: float = 0.6  # diagnosis temperature
    window: float = 8.0  # half width, in tokens, of the junction window
    warmup: float = 20.0  # the detector cannot fire in the first tokens
    detector: str = "window"  # window: a sum of scores; page_hinkley: their rise over their own mean
    score: str = (
        "demotion"  # of a token, for the detector. demotion: J; z: max(Z_path, Z_cov)
    )
    width: int = 1  # window: tokens that are summed
    quantile: float = (
        0.99  # of the detector's score over a problem's failed rollouts: its threshold
    )
    quantile_without_ancestor: float = 0.75  # the same, of the logit variance
    drift: float = (
        0.05  # page_hinkley: rise a token that is let pass, in units of the score
    )
    false_alarms: float = (
        0.05  # page_hinkley: share of traces without a change on which it may fire
    )
    failures: tuple[
        int, ...
    ] = ()  # a table of its own for routers that see so many first failures alone
    statistics: str = "scored"  # of failures: scored, or those of the loop that sampled them (bf16: see docs)
    form: str = "showcase"  # third feature: showcase (mean of log10) or released (log10 of the mean)
    outside: bool = False  # write columns that a checker of the game has made; no router may read them


@dataclasses.dataclass(frozen=True)
class InterventionConfig:
    """The operators and how often each is tried on a failed problem."""

    operators: tuple[str, ...] = (  # tried on every failed problem; the names are below
        "retry",
        "sparse_steer",
        "sparse_steer_random",
        "wrong_geodesic",
        "dense_steer",
        "dense_sampled",
        "local_temp",
    )
    attempts: int = 16  # of each operator; online, of what a problem is routed to
    after: int = 4  # failed attempts before a problem is routed online
    budget: float = 0.0  # online: positions a problem at which the comparison is declared; 0: at none
    verifier: bool = (
        True  # online: a right attempt is known to be right, and ends its problem
    )
    alpha: float = 0.7  # the specialist's weight in a mixture
    local_temperatures: tuple[float, ...] = (1.0, 1.5, 2.0)  # of `local_temp`, in turns
    local_span: int = 16  # tokens that stay hot after the one that fires
    hot_temperatures: tuple[float, ...] = (1.0, 1.2)  # of `hot`, in turns
    restart_share: float = (
        0.0  # of a trace's reasoning that prefix_restart keeps; 0: up to its junction
    )
    contrast: float = (
        1.5  # of contrastive: the specialist's weight, above 1 (arXiv 2210.15097)
    )
    plausible: float = (
        0.1  # of contrastive: a token needs this share of the specialist's largest p
    )
    nucleus: float = 0.9  # top_p of nucleus
    min_p: float = 0.1  # of min_p, at hot_temperatures: share of the likeliest token's p (arXiv 2407.01082)
    stop_window: float = (
        0.25  # of early_stop, in tokens; below 1: a share of the median failure
    )
    stop_quantile: float = (
        0.5  # of early_stop: of the failures' least sure windows, its floor
    )
    switch_penalty: float = (
        3.0  # of tip, on the logits of switch words (arXiv 2501.18585) ...
    )
    switch_window: float = (
        600.0  # ... in a thought's first tokens; below 1: a share of the median failure
    )


@dataclasses.dataclass(frozen=True)
class RoutingConfig:
    """Labels, protocols and intervals."""

    margin: float = 0.05  # best − retry of a steerable problem
    hard: float = 0.5  # 1 − retry of a steerable problem
    bootstrap: int = 2000  # resamples of an interval
    splits: int = 200  # random halvings of the attempts
    permutations: int = 200  # of the label null
    nulls: int = 999  # tables without an interaction of operator and problem: p is at least 1 / (nulls + 1)
    posterior: int = 200  # draws of every problem's true rates
    folds: int = 5  # of problems, for what is learned
    splittings: int = 4  # into folds, over which a certified lift is averaged
    inner_folds: int = 4  # of the training problems, for the settings of the head
    objective: str = "binomial"  # of the head: likelihood, or rescue (of its soft policy; not calibrated)
    hidden: int = 0  # units of the head's hidden layer; 0: linear in its columns
    seeds: int = 2  # heads whose scores are averaged
    steps: int = 120  # parameter updates of a head
    learning_rate: float = 0.1  # at the first of them; cosine to 0
    entropy: float = 0.01  # weight of the soft policy's entropy, in rescues a nat
    penalties: tuple[float, ...] = (
        0.002,
        0.006,
        0.02,
    )  # candidates, of a column that the head makes use of
    caution: float = 2.0  # standard errors by which the head must have gained before it leaves the fixed choice
    budget: float = 8.0  # retries, for whose price a head that chooses an order of operators is to solve most
    price: float = 0.0  # rescues that a retry must be worth; above 0 the head may stop


@dataclasses.dataclass(frozen=True)
class RegimesConfig:
    """Clusters of failures, and what judges their stability."""

    largest: int = 8  # number of clusters that is tried; the smallest is 2
    bootstrap: int = 100  # resamples of the failures that a stability is a mean over
    seeds: int = 20  # clusterings of the same failures that start elsewhere
    nulls: int = 2000  # tables without regimes, of each kind, at most; fewer where ten are as stable sooner
    null_bootstrap: int = 3  # resamples of each of them


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How a model is measured; sampling as in arXiv 2605.24396, and the other fields of `sampling` as they are."""

    temperature: float = 0.7  # of the attempts
    top_p: float = 0.98  # of the attempts; 1: off
    samples: int = 128  # attempts at each problem
    ks: tuple[int, ...] = (
        2,
        4,
        8,
        16,
        32,
        64,
        128,
    )  # of pass@k; 1 is the accuracy; none above `samples`
    cuts: int = 11  # of a chain: 0, 10, ... 100 %
    premature: float = (
        0.4  # confidence whose rank correlation with its cut is lower came too early
    )
    bins: int = 10  # of a calibration error
    sampled: bool = (
        False  # sample answers behind the cuts too, to compare with scored confidence
    )
    sampled_attempts: int = 2  # attempts at each problem that are compared
    answers: int = 10  # sampled behind a cut
