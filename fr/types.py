"""The records that rooms hand to each other. Axis letters: B rows, T tokens, V vocabulary, N problems."""

import dataclasses

import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt

RIGHT, WRONG, UNPARSED, GRADER_ERROR = GRADES = (
    "right",
    "wrong",
    "unparsed",
    "grader_error",
)

# A prompt is plain text, or chat messages ({"role": ..., "content": ...}) for the model's own template.
Prompt = str | list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One question; `answer` is the reference, `meta` whatever the grader needs (JSON-able)."""

    id: str
    question: str
    answer: str
    task: str
    meta: dict = dataclasses.field(default_factory=dict)


@struct.dataclass
class SamplingParams:
    """Everything that a row of the batch may decide for itself: traced, so that no value compiles anything.

    `operator`, `geodesic` and `detector` hold the codes of `fr.sampling.steering`; -1 pads token lists.
    """

    temperature: Float[Array, "B"]  # 0: greedy
    top_p: Float[Array, "B"]
    top_k: Int[Array, "B"]  # 0: off
    min_p: Float[Array, "B"]  # of the likeliest token's p that a token needs; 0: off
    operator: Int[Array, "B"]
    alpha: Float[
        Array, "B"
    ]  # the specialist's weight in the mixture; above 1: contrast
    plausible: Float[
        Array, "B"
    ]  # a second draw's tokens need this share of S's largest p; 0: off
    geodesic: Int[Array, "B"]
    detector: Int[Array, "B"]
    detector_width: Int[Array, "B"]  # tokens whose score is summed
    drift: Float[
        Array, "B"
    ]  # >= 0: Page-Hinkley with this allowance in place of the sum
    threshold: Float[Array, "B"]  # the detector fires above it
    warmup: Int[Array, "B"]  # and not before this many tokens
    fire_position: Int[Array, "B"]  # >= 0: fire there, whatever the detector says
    cov_mean: Float[Array, "B"]  # background of g_cov, for Z_cov
    cov_sd: Float[Array, "B"]
    local_temperature: Float[Array, "B"]
    local_span: Int[Array, "B"]  # tokens that stay hot after the one that fires
    switch_penalty: Float[Array, "B"]  # subtracted from the logits of switch tokens ...
    switch_window: Int[
        Array, "B"
    ]  # ... while the thought is younger than this many tokens (arXiv 2501.18585)
    switch_tokens: Int[Array, "B W"]
    floor: Float[
        Array, "B"
    ]  # the row ends where its running confidence is below; -inf: off
    floor_window: Int[
        Array, "B"
    ]  # time constant of that mean, and the first token that can end it
    avoid: Int[Array, "B A"]  # tokens that the row may not draw as its first
    forced: Int[Array, "B Q"]  # tokens to emit instead of drawing, in order
    pause: Int[
        Array, "B P"
    ]  # emitting one suspends the row until the work source speaks
    stop: Int[Array, "B E"]
    budget: Int[Array, "B"]  # tokens that the row may emit


@struct.dataclass
class TokenStats:
    """Statistics of one emitted token each, float32: raw policy at temperature 1 unless said otherwise."""

    logp: Float[Array, "..."]  # log-prob of the token, full vocabulary
    entropy: Float[Array, "..."]  # nats
    varentropy: Float[Array, "..."]  # variance of -log p under p
    margin: Float[Array, "..."]  # p of the most likely token minus p of the second
    top20_confidence: Float[
        Array, "..."
    ]  # minus the mean of the 20 largest log-probs (arXiv 2508.15260)
    self_certainty: Float[Array, "..."]  # KL(uniform || p) + log V (arXiv 2505.19590)
    logit_var: Float[
        Array, "..."
    ]  # V_t at the diagnosis temperature, top 100 (arXiv 2606.05145)
    entropy_tau: Float[Array, "..."]  # entropy at the diagnosis temperature


@struct.dataclass
class LineageStats:
    """Specialist against ancestor on one token each, at the diagnosis temperature (arXiv 2606.05145), float32."""

    delta_path: Float[Array, "..."]  # log p_S(x) - log p_A(x)
    g_cov: Float[
        Array, "..."
    ]  # log of ancestor mass over specialist mass on the ancestor's 20 likeliest tokens
    demotion: Float[Array, "..."]  # J = max(0, delta_path) + max(0, g_cov)
    kl: Float[Array, "..."]  # KL(p_S || p_A) on the specialist's 100 likeliest tokens
    z_path: Float[
        Array, "..."
    ]  # delta_path, standardised by path_mean and path_sd, floored at 0
    path_mean: Float[
        Array, "..."
    ]  # mean of the log ratio under p_S, on the same 100 tokens
    path_sd: Float[Array, "..."]  # and its standard deviation


@struct.dataclass
class Emission:
    """What one decode step gives for each row; stacked to [steps, B] over a chunk."""

    token: Int[Array, "..."]
    valid: Bool[
        Array, "..."
    ]  # the row was live: everything else on a dead row means nothing
    forced: Bool[Array, "..."]  # from the forced queue, not sampled
    fired: Bool[Array, "..."]  # the detector fired on this token
    sample_logp: Float[
        Array, "..."
    ]  # log-prob under the distribution that was drawn from
    stats: TokenStats | None  # None where nobody asks for statistics
    lineage: LineageStats | None  # None without an ancestor in the loop


@dataclasses.dataclass
class Request:
    """One rollout to make: prompt ids, the row's own key, and which fields of SamplingParams are not the default."""

    id: str
    prompt: tuple[int, ...]
    key: UInt[np.ndarray, "2"]
    params: dict


@dataclasses.dataclass(frozen=True)
class Probe:
    """What to ask of a finished row: how likely certain answers are, were it cut here and made to answer.

    Each cut keeps that many of the row's own tokens, and the cue follows them. An answer's ids end with the stop
    token; a set of answers is an event, so no two of them may be the same.
    """

    cuts: tuple[int, ...]
    cue: tuple[int, ...]
    answers: dict[str, tuple[tuple[int, ...], ...]]  # by name of the set: "own", "gold"


@dataclasses.dataclass(frozen=True)
class Confidence:
    """What a probe found: log-probs of whole answers behind every cut, raw policy at temperature 1."""

    cuts: Int[np.ndarray, "C"]
    logp: dict[str, Float[np.ndarray, "C A"]]  # by name of the set
    lengths: dict[str, Int[np.ndarray, "A"]]  # tokens of each answer
    positions: int  # processed for it

    def probability(self, name: str) -> Float[np.ndarray, "C"]:
        """Probability that a forced answer is one of the set: what sampling it would give on average."""
        return np.exp(self.logp[name]).sum(axis=1)

    def mean_logp(self, name: str) -> Float[np.ndarray, "C"]:
        """Log-prob a token of the answer of the set that has most of it (arXiv 2510.22255)."""
        return (self.logp[name] / self.lengths[name]).max(axis=1)


@dataclasses.dataclass
class Rollout:
    """One finished row on the host: arrays over its own emitted tokens, stop token included."""

    row: Request
    tokens: Int[np.ndarray, "T"]
    forced: Bool[np.ndarray, "T"]
    fired: Bool[np.ndarray, "T"]
    sample_logp: Float[np.ndarray, "T"]
    stats: dict[str, Float[np.ndarray, "T"]]  # by TokenStats (and LineageStats) field
    truncated: (
        bool  # ended without a stop token: its budget was spent, or its confidence fell
    )
    generated: int  # tokens decoded for it, rewound ones included
    confidence: Confidence | None = None  # None: its work source did not ask

    @property
    def length(self) -> int:
        """Number of tokens, T."""
        return len(self.tokens)


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Confidence in one set of answers, the row's own or the right ones, behind every cut of its reasoning."""

    probability: Float[
        np.ndarray, "B C"
    ]  # of a forced answer of the set; sampled: the share
    mean_logp: Float[
        np.ndarray, "B C"
    ]  # log-prob a token of the likeliest one; 0 where answers were sampled
    known: Bool[np.ndarray, "B"]  # False: nothing was asked of the row


@dataclasses.dataclass(frozen=True)
class Truth:
    """All that reference answers gave; reward terms see it only if they declare `needs_gold`."""

    grades: tuple[str, ...]  # of GRADES, one a row
    answers: tuple[str, ...]  # the references
    confidence: Trajectory | None = (
        None  # in the right answers; None: no term asked for it
    )

    @property
    def right(self) -> Float[np.ndarray, "B"]:
        """1 where the grade is right, else 0."""
        return np.array([grade == RIGHT for grade in self.grades], np.float32)


@dataclasses.dataclass(frozen=True)
class RewardBatch:
    """What reward terms read: finished rows on the host, problem by problem, `group` of each."""

    tokens: Int[np.ndarray, "B T"]  # -1 pads on the right
    mask: Bool[
        np.ndarray, "B T"
    ]  # sampled tokens: the stop token is in, forced ones and pads are out
    length: Int[np.ndarray, "B"]
    truncated: Bool[np.ndarray, "B"]  # spent its budget without a stop token
    answer: Int[
        np.ndarray, "B 2"
    ]  # first token of the own answer and what follows it; 0, 0: none
    texts: tuple[str, ...]  # decoded, without the stop token
    problems: tuple[
        Problem, ...
    ]  # one a row; terms without `needs_gold` see no answer and no meta
    stats: dict[str, Float[np.ndarray, "B T"]]  # by TokenStats field; 0 at pads
    sample_logp: Float[np.ndarray, "B T"]
    cuts: (
        Int[np.ndarray, "B C"] | None
    )  # tokens kept at each cut; None: no term asked for confidence
    own: Trajectory | None
    truth: Truth | None  # None: withheld
    group: int  # rows of one problem
    step: int
    judged: Float[np.ndarray, "B"] | None = (
        None  # what the reward model says; None: no term asked it
    )


@struct.dataclass
class TokenScores:
    """Scores of given tokens [B, T], counted from each row's first scored one; 0 where `mask` is False (pads)."""

    mask: Bool[Array, "B T"]
    stats: TokenStats
    lineage: LineageStats | None


@dataclasses.dataclass(frozen=True)
class Cost:
    """Positions processed, by kind; the price of a comparison. `ancestor` counts the second model's positions."""

    prefill: int = 0
    generated: int = 0
    forced: int = 0
    ancestor: int = 0
    scored: int = 0
    probe: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            *(
                a + b
                for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))
            )
        )


ROLLOUT = "rollout"  # operator name of plain samples that nothing has diagnosed yet


def is_failure(grade: str) -> bool:
    """Whether an attempt failed; one whose grader broke is unknown, neither right nor failed."""
    return grade in ("wrong", "unparsed")
