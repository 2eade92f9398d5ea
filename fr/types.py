"""Host records that rooms hand to each other; nothing here imports jax.

Axis letters: B rows, T tokens, V vocabulary, N problems, C cuts, A answers.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

RIGHT, WRONG, UNPARSED, GRADER_ERROR = GRADES = (
    "right",
    "wrong",
    "unparsed",
    "grader_error",
)
ROLLOUT = "rollout"  # operator name of plain samples, before any diagnosis

# Plain text, or chat messages ({"role": ..., "content": ...}) for the model's template.
Prompt = str | list[dict[str, str]]


def is_failure(grade: str) -> bool:
    """True if an attempt failed. After a grader error the outcome is unknown: no
    failure.

    Args:
      grade: one of GRADES.

    Returns:
      True for wrong and unparsed.
    """
    return grade in (WRONG, UNPARSED)


@dataclasses.dataclass(frozen=True)
class Problem:
    """One question.

    Attributes:
      id: unique within its task.
      question: the text that is asked.
      answer: the reference.
      task: the task's name.
      meta: other values for the grader; JSON-able.
    """

    id: str
    question: str
    answer: str
    task: str
    meta: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Request:
    """One rollout to make.

    Attributes:
      id: names the rollout in results and errors.
      prompt: token ids.
      key: the row's own random key, from `fr.sampling.sampling_params.row_key`.
      params: fields of SamplingParams that differ from their defaults.
      rest: token ids that followed the prompt in the trace that it is cut from. They
        change no number: they are read along, for rows that are cut later.
    """

    id: str
    prompt: tuple[int, ...]
    key: UInt[np.ndarray, "2"]
    params: dict
    rest: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Probe:
    """A question to a finished row: the probability of given answers after each cut.

    Attributes:
      cuts: numbers of the row's own tokens that are kept.
      cue: ids that follow the kept tokens and ask for the answer.
      answers: sets of answers by name ("own", "gold"). An answer's ids end with the
        stop
        token. A set is an event, so its answers must differ.
    """

    cuts: tuple[int, ...]
    cue: tuple[int, ...]
    answers: dict[str, tuple[tuple[int, ...], ...]]


@dataclasses.dataclass(frozen=True)
class Confidence:
    """The result of a probe: log-probs of whole answers after every cut, temperature 1.

    Attributes:
      cuts: kept tokens of each cut.
      logp: nats, by name of the set.
      lengths: tokens of each answer, by name of the set.
      positions: forward tokens that the probe cost.
    """

    cuts: Int[np.ndarray, "C"]
    logp: dict[str, Float[np.ndarray, "C _"]]
    lengths: dict[str, Int[np.ndarray, "_"]]
    positions: int

    def probability(self, name: str) -> Float[np.ndarray, "C"]:
        """Probability that a forced answer is in a set, as sampling would give on
        average.

        Args:
          name: of the set.

        Returns:
          One probability per cut.
        """
        return np.exp(self.logp[name]).sum(axis=1)

    def mean_logp(self, name: str) -> Float[np.ndarray, "C"]:
        """The largest mean log-prob per token among a set's answers (arXiv 2510.22255).

        Args:
          name: of the set.

        Returns:
          Nats per token, one value per cut.
        """
        return (self.logp[name] / self.lengths[name]).max(axis=1)


@dataclasses.dataclass
class Rollout:
    """One finished row on the host; arrays over its tokens, the stop token included.

    Attributes:
      row: its request.
      tokens: emitted ids.
      forced: tokens that came from the forced queue.
      fired: tokens on which the detector fired.
      sample_logp: log-prob under the distribution that was drawn from, nats.
      stats: by field of TokenStats (and LineageStats).
      truncated: it ended without a stop token: budget spent, or confidence below the
        floor. generated: decoded tokens, rewound ones included.
      confidence: the result of its probe; None without one.
      top_tokens: the K most probable ids at each place; None where none were kept.
      top_logp: their log-probs at temperature 1, nats.
    """

    row: Request
    tokens: Int[np.ndarray, "T"]
    forced: Bool[np.ndarray, "T"]
    fired: Bool[np.ndarray, "T"]
    sample_logp: Float[np.ndarray, "T"]
    stats: dict[str, Float[np.ndarray, "T"]]
    truncated: bool
    generated: int
    confidence: Confidence | None = None
    top_tokens: Int[np.ndarray, "T K"] | None = None
    top_logp: Float[np.ndarray, "T K"] | None = None

    @property
    def length(self) -> int:
        """Number of tokens, T."""
        return len(self.tokens)


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Confidence in one set of answers after every cut of the rows' reasoning.

    Attributes:
      probability: of a forced answer of the set; a share where answers were sampled.
      mean_logp: largest mean log-prob per token, nats; 0 where answers were sampled.
      known: False: the row was not asked.
    """

    probability: Float[np.ndarray, "B C"]
    mean_logp: Float[np.ndarray, "B C"]
    known: Bool[np.ndarray, "B"]


@dataclasses.dataclass(frozen=True)
class Truth:
    """Everything from reference answers; only terms with `needs_gold` see it.

    Attributes:
      grades: one of GRADES per row.
      answers: the references.
      confidence: in the right answers; None if no term asked for it.
    """

    grades: tuple[str, ...]
    answers: tuple[str, ...]
    confidence: Trajectory | None = None

    @property
    def right(self) -> Float[np.ndarray, "B"]:
        """1 where the grade is right, else 0."""
        return np.array([grade == RIGHT for grade in self.grades], np.float32)


@dataclasses.dataclass(frozen=True)
class RewardBatch:
    """The input of a reward term: finished rows on the host, problem by problem.

    Attributes:
      tokens: ids; -1 pads on the right.
      mask: sampled tokens, the stop token included; False at forced tokens and pads.
      length: tokens of each row.
      truncated: the row has no stop token.
      answer: first token of the row's own answer, and the token after it; 0, 0: none.
      texts: decoded rows without the stop token.
      problems: one per row; without `needs_gold` their answer and meta are empty.
      stats: by field of TokenStats; 0 at pads.
      sample_logp: log-prob under the distribution that was drawn from, nats.
      cuts: tokens kept at each cut; None if no term asked for confidence.
      own: confidence in the row's own answer.
      truth: None if withheld.
      group: rows of one problem.
      step: of the training, from 1.
      judged: the reward model's values; None if no term asked for them.
    """

    tokens: Int[np.ndarray, "B T"]
    mask: Bool[np.ndarray, "B T"]
    length: Int[np.ndarray, "B"]
    truncated: Bool[np.ndarray, "B"]
    answer: Int[np.ndarray, "B 2"]
    texts: tuple[str, ...]
    problems: tuple[Problem, ...]
    stats: dict[str, Float[np.ndarray, "B T"]]
    sample_logp: Float[np.ndarray, "B T"]
    cuts: Int[np.ndarray, "B C"] | None
    own: Trajectory | None
    truth: Truth | None
    group: int
    step: int
    judged: Float[np.ndarray, "B"] | None = None


@dataclasses.dataclass(frozen=True)
class Cost:
    """Forward tokens processed, by kind: the unit in which attempts are priced.

    Attributes:
      prefill: prompt tokens.
      generated: decoded tokens.
      forced: tokens of the forced queue.
      ancestor: tokens of the second model, of all kinds.
      scored: tokens of given text that were scored.
      probe: tokens of probes.
    """

    prefill: int = 0
    generated: int = 0
    forced: int = 0
    ancestor: int = 0
    scored: int = 0
    probe: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other))
        return Cost(*(a + b for a, b in pairs))
