"""Settings of supervised training, adapters and training on pairs."""

import dataclasses

from fr.config.algorithms import ALGORITHMS as _POLICY
from fr.config.fields import (
    INNER_SHARE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    TWO_OR_MORE,
    Bound,
    at_least,
    one_of,
    setting,
    shared,
)

PREFERENCES = ("dpo", "reward_model")  # algorithms that learn from pairs
VECTOR = "vector"  # finds a steering vector, and trains no parameter of the model
ALGORITHMS = ("sft", *_POLICY, *PREFERENCES, VECTOR)
# Values of `training.source` by the kind of algorithm; all but the first three read a
# run.
SOURCES = {
    "sft": (
        *("traces", "solutions", "file", "rollouts", "retried", "rescued"),
        *("critiques", "critiques_shuffled"),
    ),
    "pairs": ("pairs", "pairs_parted", "pairs_shuffled"),
}
OF_A_RUN = (*SOURCES["sft"][3:], *SOURCES["pairs"])


@dataclasses.dataclass(frozen=True)
class ArchitectureConfig:
    """Shape of a model made from scratch."""

    width: int = setting(128, "of the residual stream; a multiple of heads", POSITIVE)
    layers: int = setting(4, "decoder layers", POSITIVE)
    heads: int = setting(4, "attention heads", POSITIVE)
    ff: int = setting(344, "hidden units of the feed-forward block", POSITIVE)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Supervised training; training on pairs also reads `source` to `held_out`.

    docs/training.md has a table of the sources.
    """

    source: str = setting(
        "",
        "examples (docs/training.md); '': traces where the task writes them, else "
        "solutions; pairs: the model's own candidates",
        one_of("", *SOURCES["sft"], *SOURCES["pairs"]),
    )
    run: str = setting("", "workdir of the run that examples or pairs are taken from")
    file: str = setting(
        "", "source = file: a .jsonl, .parquet or .csv file of prompt and completion"
    )
    start: str = setting(
        "",
        "the model that is trained; '': the run's specialist, else the ancestor; "
        "scratch (sft): `architecture` with random parameters",
    )
    operators: tuple[str, ...] = setting((), "of the rescued attempts; (): all")
    most_retries: int = setting(
        -1,
        "rescued, pairs: n, only problems that `retry` solved at most n times; -1: all",
        at_least(-1, "-1 (all) or more"),
    )
    max_per_problem: int = setting(
        4, "examples or pairs per problem; 0: all", at_least(0, "0 (all) or more")
    )
    distinct: str = setting(
        "text",
        "examples of a problem differ in their text, or in their answer",
        one_of("text", "answer"),
    )
    pushed: str = setting(
        "mask",
        "tokens that an operator forced, which no model drew: mask, or learn",
        one_of("mask", "learn"),
    )
    held_out: float = setting(
        0.1,
        "share of a run's problems that are held out and measured with eval_every",
        INNER_SHARE,
    )
    steps: int = shared("steps", 0)
    batch: int = setting(16, "packed sequences per step", POSITIVE)
    sequence: int = setting(128, "tokens of a packed sequence", POSITIVE)
    order: str = shared("order", "permuted")
    microbatch: int = shared("microbatch", 0, "sequences of one backward pass; 0: all")
    remat: bool = shared("remat", True)
    dtype: str = shared("dtype", "")
    model_axis: int = shared("model_axis", 1)
    learning_rate: float = shared("learning_rate", 3e-3)
    schedule: str = shared("schedule", "cosine")
    warmup_steps: int = shared("warmup_steps", 100)
    weight_decay: float = shared("weight_decay", 0.1)
    clip_norm: float = shared("clip_norm", 1.0)
    optimizer: str = shared("optimizer", "adamw")
    moments: str = shared("moments", "")
    traces: tuple[tuple[str, float], ...] = setting(
        (("natural", 0.55), ("answer_first", 0.25), ("anytime", 0.20)),
        "kinds of traces, and the weight of each",
    )
    eval_every: int = shared(
        "eval_every", 0, "steps between two looks at held-out examples; 0: none"
    )
    eval_problems: int = setting(
        64, "problems of the validation split, where no run is read", POSITIVE
    )
    export: str = shared(
        "export", "last", "last, or best: the checkpoint with the least held_out/loss"
    )
    checkpoint_every: int = shared("checkpoint_every", 200)
    keep: int = shared("keep", 2)
    log_every: int = shared("log_every", 10)

    @property
    def optimizer_steps(self) -> int:
        """Parameter updates of the whole training."""
        return self.steps


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Adapters in place of all parameters: low-rank products (arXiv 2106.09685), or one
    vector a layer (arXiv 2509.06608).
    """

    rank: int = setting(
        0, "rank; 0: all parameters are trained", at_least(0, "0 (off) or more")
    )
    alpha: float = setting(
        32.0, "an adapter's product is scaled by alpha / rank", POSITIVE
    )
    targets: tuple[str, ...] = setting(
        ("q", "k", "v", "o", "gate", "up", "down"),
        "parts of a layer that get adapters",
        Bound("one part of a layer or more", lambda value: len(value) > 0),
    )
    vectors: bool = setting(
        False,
        "train one vector a layer, added to the residual stream, in place of products "
        "(arXiv 2509.06608); rank is then 0",
    )

    @property
    def active(self) -> bool:
        """True if adapters are trained, and not all parameters."""
        return self.vectors or self.rank > 0

    def check(self) -> None:
        """Check that one kind of adapter is asked for.

        Raises:
          UserError: products and vectors are both on.
        """
        alone = Bound("0 with config.lora.vectors = True", lambda rank: not rank)
        if self.vectors:
            alone.check("config.lora.rank", self.rank)


@dataclasses.dataclass(frozen=True)
class SteeringConfig:
    """Algorithm `vector`: a steering vector from states of the model's completions."""

    source: str = setting(
        "means",
        "means: a behaviour's mean state less the mean; sae: a feature; random and "
        "sae_random: their controls (docs/steering.md)",
        one_of("means", "random", "sae", "sae_random"),
    )
    behaviour: str = setting(
        "backtracking",
        "means: backtracking, verdict, success, reasoning, or a regular expression",
    )
    window: int = setting(10, "means: most tokens of one occurrence", POSITIVE)
    problems: int = setting(
        128, "training problems whose completions are read", POSITIVE
    )
    rollouts: int = setting(4, "completions of each", POSITIVE)
    strengths: tuple[float, ...] = setting(
        (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0),
        "factors that are tried, below 0 away from the behaviour",
        Bound("numbers other than 0", lambda value: len(value) > 0 and all(value)),
    )
    places: str = setting(
        "each",
        "layers that are tried: each one alone and all together, or only all",
        one_of("each", "all"),
    )
    validation: int = setting(
        64, "validation problems on which layer and factor are chosen", POSITIVE
    )
    samples: int = setting(4, "attempts at each of them", POSITIVE)
    layer: int = setting(
        -1,
        "sae: layer whose states it reads, from 0 on; -1: the middle one",
        at_least(-1),
    )
    features: int = setting(512, "sae: features", TWO_OR_MORE)
    active: int = setting(16, "sae: features that are active at a token", POSITIVE)
    steps: int = setting(2000, "sae: parameter updates", POSITIVE)
    batch: int = setting(1024, "sae: states of an update", POSITIVE)
    learning_rate: float = setting(
        1e-3, "sae: at the first update; cosine to 0", POSITIVE
    )
    entropy_power: float = setting(
        0.7, "sae: power of the entropy in ReasonScore (arXiv 2503.18878)", NOT_NEGATIVE
    )

    def check(self) -> None:
        """Check that no more features are active than there are.

        Raises:
          UserError: there are fewer.
        """
        bound = at_least(self.active, f"config.steering.active = {self.active} or more")
        bound.check("config.steering.features", self.features)


@dataclasses.dataclass(frozen=True)
class PreferenceConfig:
    """Training on pairs of completions, by DPO or a Bradley-Terry reward model."""

    steps: int = shared("steps", 0)
    pairs: int = setting(32, "pairs per step", POSITIVE)
    beta: float = setting(0.1, "dpo: scale of the log ratios to the ancestor", POSITIVE)
    margin: float = setting(
        0.0,
        "reward_model: weight of a pair's own margin; RLSF has 1 (arXiv 2507.21931)",
        NOT_NEGATIVE,
    )
    dpo_margin: float = setting(
        0.0, "dpo: the same (an offset, arXiv 2402.10571); RLSF has 0", NOT_NEGATIVE
    )
    likelihood: float = setting(
        0.0,
        "dpo: weight of -log p per learnt token of the better one (arXiv 2404.19733)",
        NOT_NEGATIVE,
    )
    answer: str = setting(
        "cut",
        "responses without the sentence of the answer (cut, as RLSF), or whole (keep)",
        one_of("cut", "keep"),
    )
    problems: int = setting(
        256, "training problems that are asked for candidates (RLSF)", POSITIVE
    )
    candidates: int = setting(10, "candidates per problem", POSITIVE)
    source: str = setting(
        "sampled",
        "of candidates: sampled, or branches (the most probable first tokens, then "
        "greedy)",
        one_of("sampled", "branches"),
    )
    confident: float = setting(
        0.9, "least confidence in the answer of the better one", SHARE
    )
    microbatch: int = shared(
        "microbatch", 0, "rows (two per pair) of one backward pass; 0: all"
    )
    length_buckets: int = shared("length_buckets", 4)
    remat: bool = shared("remat", True)
    dtype: str = shared("dtype", "")
    model_axis: int = shared("model_axis", 1)
    learning_rate: float = shared("learning_rate", 5e-5)
    schedule: str = shared("schedule", "constant")
    warmup_steps: int = shared("warmup_steps", 0)
    weight_decay: float = shared("weight_decay", 0.0)
    clip_norm: float = shared("clip_norm", 1.0)
    optimizer: str = shared("optimizer", "adamw")
    moments: str = shared("moments", "")
    eval_every: int = shared(
        "eval_every",
        0,
        "steps between two looks at pairs of a run's held-out problems; 0: none",
    )
    export: str = shared(
        "export", "last", "last, or best: the checkpoint with the least held_out/loss"
    )
    checkpoint_every: int = shared("checkpoint_every", 20)
    keep: int = shared("keep", 2)
    log_every: int = shared("log_every", 1)

    @property
    def optimizer_steps(self) -> int:
        """Parameter updates of the whole training."""
        return self.steps
