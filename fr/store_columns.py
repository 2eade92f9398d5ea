"""The columns of a store's shards: their names and types are the file format."""

import dataclasses

import numpy as np
import pyarrow as pa

from fr.types import Cost

VERSION = 3

# Spelled out because the columns are the file format; a test compares the names with
# the records of `fr.sampling.structs`.
TOKEN_STATS = (
    "logp",
    "entropy",
    "varentropy",
    "margin",
    "top20_confidence",
    "self_certainty",
    "logit_var",
    "entropy_tau",
)
LINEAGE_STATS = (
    "delta_path",
    "g_cov",
    "demotion",
    "kl",
    "z_path",
    "path_mean",
    "path_sd",
)
COSTS = ("prefill", "generated", "forced", "ancestor", "scored", "probe")
# A probe's results per cut: probability of the "own" and "gold" answers, and log-prob
# per token in nats.
CONFIDENCE = ("own_probability", "own_mean_logp", "gold_probability", "gold_mean_logp")
# Sampling parameters that have a column; null where an attempt left the default.
PARAMS = {
    "temperature": pa.float64(),
    "top_p": pa.float64(),
    "top_k": pa.int32(),
    "alpha": pa.float64(),
    "geodesic": pa.int32(),
    "detector": pa.int32(),
    "threshold": pa.float64(),
    "local_temperature": pa.float64(),
    "local_span": pa.int32(),
    "switch_penalty": pa.float64(),
    "switch_window": pa.int32(),
    "budget": pa.int32(),
}
SINGLE = {
    "row": pa.string(),
    "problem": pa.string(),
    "attempt": pa.int32(),
    "task": pa.string(),
    "specialist": pa.string(),
    "ancestor": pa.string(),
    "operator": pa.string(),
    "seed": pa.int64(),
    "question": pa.string(),
    "reference": pa.string(),
    "meta": pa.string(),
    "text": pa.string(),
    "read": pa.string(),
    "answer": pa.string(),
    "grade": pa.string(),
    "grader": pa.string(),
    "earlier_grade": pa.string(),
    "earlier_grader": pa.string(),
    "truncated": pa.bool_(),
}
# Columns that grading again may change; the former values go to `earlier_grade` and
# `earlier_grader`.
GRADING = ("answer", "grade", "grader", "earlier_grade", "earlier_grader")
PER_TOKEN = {
    "tokens": pa.int32(),
    "forced": pa.bool_(),
    "fired": pa.bool_(),
    "sample_logp": pa.float32(),
    **dict.fromkeys(TOKEN_STATS + LINEAGE_STATS, pa.float32()),
}
# Columns after SCHEMA of a run that keeps the most probable tokens.
TOP = {"top_tokens": pa.int32(), "top_logp": pa.float32()}
PER_CUT = {"cuts": pa.int32(), **dict.fromkeys(CONFIDENCE, pa.float32())}
SCHEMA = pa.schema(
    [
        *SINGLE.items(),
        ("fire_position", pa.int32()),
        *PARAMS.items(),
        *((f"cost_{name}", pa.int64()) for name in COSTS),
        ("key", pa.list_(pa.uint32())),
        ("prompt", pa.list_(pa.int32())),
        *((name, pa.list_(kind)) for name, kind in (PER_TOKEN | PER_CUT).items()),
    ],
    metadata={"fr_store_version": str(VERSION)},
)


@dataclasses.dataclass
class Attempt:
    """One stored attempt at a problem.

    Arrays are [T] over its own tokens, the stop token included.

    Attributes:
      row: id of its request.
      problem: id of its problem.
      attempt: index among the problem's attempts by this operator.
      task: name of the task.
      specialist: the sampled model.
      ancestor: the second model in the loop; "" without one.
      operator: name of the operator.
      seed: of the run.
      question: of the problem.
      reference: answer of the problem.
      meta: JSON of the grader's other values.
      text: the new tokens, decoded.
      read: the text that the grader read; None: `text`.
      answer: the answer that the grader found; None: it found none.
      grade: one of fr.types.GRADES.
      grader: version of the grader.
      truncated: it has no stop token.
      params: sampling parameters that it sets, by names of PARAMS.
      cost: in forward tokens.
      key: uint32 [2].
      prompt: int32, token ids.
      tokens: int32, token ids.
      forced: bool, from the forced queue.
      fired: bool, the detector fired.
      sample_logp: float32, nats.
      stats: float32, by TOKEN_STATS, and by LINEAGE_STATS with an ancestor in the loop;
        empty where none were kept. An imported attempt has only `logp`, the engine's,
        NaN where it is not known.
      confidence: int32 `cuts` and float32 of CONFIDENCE, [C]; empty without a probe.
      earlier_grade: before it was graded again.
      earlier_grader: version of that grader.
      top_tokens: int32 [T, K], the most probable ids at each place; None: not kept,
        or not read, since `read` leaves them to the viewer.
      top_logp: float32 [T, K], their log-probs, nats.
    """

    row: str
    problem: str
    attempt: int
    task: str
    specialist: str
    ancestor: str
    operator: str
    seed: int
    question: str
    reference: str
    meta: str
    text: str
    read: str | None
    answer: str | None
    grade: str
    grader: str
    truncated: bool
    params: dict[str, float]
    cost: Cost
    key: np.ndarray
    prompt: np.ndarray
    tokens: np.ndarray
    forced: np.ndarray
    fired: np.ndarray
    sample_logp: np.ndarray
    stats: dict[str, np.ndarray]
    confidence: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    earlier_grade: str | None = None
    earlier_grader: str | None = None
    top_tokens: np.ndarray | None = None
    top_logp: np.ndarray | None = None

    @property
    def fire_position(self) -> int:
        """Index of the first token on which the detector fired; -1 if it did not."""
        return int(np.argmax(self.fired)) if np.any(self.fired) else -1
