"""Settings of a given model: its task, its sampling, its evaluation."""

import contextvars
import dataclasses

from fr.config.fields import (
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    Bound,
    at_least,
    each,
    one_of,
    setting,
)
from fr.config.puzzles import AlphabetConfig, MazeConfig

# `models.attention` of this run, for models as they are made.
ATTENTION = contextvars.ContextVar("attention", default="")


@dataclasses.dataclass(frozen=True)
class ModelsConfig:
    """The computation of every model of a run (docs/models.md)."""

    attention: str = setting(
        "",
        "xla: scores of whole blocks; chunked: keys in turn; splash (TPU) or cudnn "
        "(GPU): a kernel; ragged: decoding reads live entries only; '': chunked above "
        "4,096 tokens",
        one_of("", "xla", "chunked", "splash", "cudnn", "ragged"),
    )


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """The problems, and how they are put to the model (docs/tasks.md).

    Attributes:
        maze: settings of the task `maze`.
        alphabet: settings of the task `alphabet`.
    """

    name: str = setting(
        "countdown", "a task, a data set of the hub, or reasoning_gym:NAME"
    )
    split: str = setting(
        "test", "train, validation or test", one_of("train", "validation", "test")
    )
    problems: int = setting(
        128, "problems of the split, from the start of its fixed order", POSITIVE
    )
    path: str = setting(
        "",
        "questions: a .jsonl, .parquet or .csv file; data sets of the hub: a local "
        "copy",
    )
    parts: tuple[str, ...] = setting((), "mixed: the tasks that it is made of")
    question_field: str = setting(
        "question", "questions: the file's field of the question"
    )
    answer_field: str = setting("answer", "questions: its field of the reference")
    id_field: str = setting("id", "questions: its field of the id; may be absent")
    split_field: str = setting(
        "split", "questions: its field of the split; may be absent"
    )
    split_shares: tuple[float, ...] = setting(
        (),
        "questions without a split: shares (train, validation, test); (): all are test",
        Bound(
            "(train, validation, test) with a sum of 1",
            lambda v: not v or len(v) == 3 and min(v) >= 0 and abs(sum(v) - 1) < 1e-6,
        ),
    )
    template_kwargs: str = setting(
        "", 'variables of the chat template, as JSON: {"enable_thinking": false}'
    )
    shots: int = setting(0, "worked examples before the question", NOT_NEGATIVE)
    examples: str = setting(
        "", "questions, data sets of the hub: a file of them; '': training questions"
    )
    chat: str = setting(
        "auto",
        "plain, template, or auto: plain where the model has no chat template",
        one_of("auto", "plain", "template"),
    )
    system: str = setting("", "system prompt; '': none")
    template: str = setting(
        "{question}\n{instruction}",
        "the user's turn",
        Bound("a text with {question} in it", lambda value: "{question}" in value),
    )
    instruction: str = setting(
        'End with a line "Answer:" and the answer.', "questions: how to end an answer"
    )
    operands: int = setting(3, "countdown: numbers of a problem", POSITIVE)
    largest: int = setting(10, "countdown: largest operand", POSITIVE)
    target: int = setting(100, "countdown: largest target", POSITIVE)
    solutions: int = setting(
        0,
        "countdown: most solutions of a problem (fewer is harder); 0: any number",
        at_least(0, "0 (any number) or more"),
    )
    hold_out: tuple[str, ...] = setting(
        (),
        "countdown: cells that training leaves out, such as 'pair 3 7 & candidates 9' "
        "(docs/tasks.md)",
    )
    terms: int = setting(2, "sums: terms of a sum", POSITIVE)
    digits: int = setting(1, "sums: digits of a term", POSITIVE)
    maze: MazeConfig = MazeConfig()
    term_counts: tuple[int, ...] = setting(
        (),
        "sums: several numbers of terms, in equal shares; (): `terms` alone",
        Bound(
            "different positive numbers",
            lambda v: all(n > 0 for n in v) and len(set(v)) == len(v),
        ),
    )
    disks: tuple[int, ...] = setting(
        (2, 3, 4, 5, 6),
        "hanoi: numbers of disks, in equal shares",
        Bound(
            "different numbers from 1 to 12",
            lambda v: 0 < len(v) == len(set(v)) and 1 <= min(v) <= max(v) <= 12,
        ),
    )
    alphabet: AlphabetConfig = AlphabetConfig()


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """The drawing of rollouts.

    Only `slots`, `chunk`, `prefill`, `strict`, `keep_top`, `devices` and `model_axis`
    shape the programs.
    """

    rollouts: int = setting(16, "G, rollouts of one problem", POSITIVE)
    temperature: float = setting(
        0.6, "of the rollouts; 0: greedy", at_least(0, "0 (greedy) or more")
    )
    top_p: float = setting(1.0, "probability mass that is kept; 1: all", POSITIVE_SHARE)
    top_k: int = setting(
        0, "tokens that are kept; 0: all", at_least(0, "0 (off) or more")
    )
    max_new_tokens: int = setting(64, "tokens of one rollout", POSITIVE)
    probe_cuts: int = setting(
        0,
        "cuts of a rollout at which its own answer is probed, at a cost; 0: none",
        Bound("0 (off), or 2 or more", lambda value: value == 0 or value >= 2),
    )
    slots: int = setting(
        64,
        "rows in flight per device; constant, so that the bytes of a result do not "
        "depend on the device count",
        POSITIVE,
    )
    chunk: int = setting(16, "decode steps between two host synchronisations", POSITIVE)
    prefill: int = setting(8, "prompts that a device reads at one time", POSITIVE)
    strict: bool = setting(
        False,
        "log-probs of loop, scorer and updates are equal to the bit, on one CPU in "
        "float32 (docs/algorithms.md)",
    )
    keep_top: int = setting(
        0,
        "most probable tokens that are stored with every token, for the viewer; 0: "
        "none",
        Bound("a number from 0 (none) to 100", lambda value: 0 <= value <= 100),
    )
    devices: str = setting(
        "auto",
        "one, pmap, shard_map, or auto: pmap where there are several",
        one_of("auto", "one", "pmap", "shard_map"),
    )
    model_axis: int = setting(
        1, "devices that share one copy of a model too large for one of them", POSITIVE
    )
    shard_rows: int = setting(
        4096,
        "attempts of one store shard, which is made again as a whole after a kill; "
        "64 per slot",
        POSITIVE,
    )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The measurement of a model (arXiv 2605.24396); other fields as in `sampling`."""

    operator: str = setting(
        "", "of every attempt, one that reads no failure; '': plain attempts"
    )
    measures: tuple[str, ...] = setting((), "further measures (docs/signals.md)")
    by: tuple[str, ...] = setting(
        (), "properties of problems by which accuracy and measures are split"
    )
    unsolved: str = setting(
        "",
        "workdir of an evaluation with another seed: only problems that it never "
        "solved are asked; '': all",
    )
    temperature: float = setting(0.7, "of the attempts", NOT_NEGATIVE)
    top_p: float = setting(0.98, "of the attempts; 1: off", POSITIVE_SHARE)
    samples: int = setting(128, "attempts at each problem", POSITIVE)
    decoding: str = setting(
        "sampled",
        "attempts are sampled, greedy branches of the likeliest first tokens, or "
        "continued",
    )
    continuations: int = setting(
        1,
        "continued: times that the answer is cut off and reasoning goes on",
        NOT_NEGATIVE,
    )
    ks: tuple[int, ...] = setting(
        (2, 4, 8, 16, 32, 64, 128),
        "of pass@k, at most `samples`; 1 is the accuracy",
        each(POSITIVE, "positive numbers", empty=False),
    )
    cuts: int = setting(11, "cuts of a chain: 0, 10, ... 100 %", POSITIVE)
    cuts_at: str = setting(
        "shares",
        "places of the cuts: shares of the chain, or the ends of its thoughts, as many "
        "as it has; then the right answers are probed too",
        one_of("shares", "thoughts"),
    )
    premature: float = setting(
        0.4,
        "rank correlation of confidence and cut below which confidence is premature",
    )
    bins: int = setting(10, "bins of a calibration error", POSITIVE)
    sampled: bool = setting(
        False, "also sample answers after the cuts, to compare with scored confidence"
    )
    sampled_attempts: int = setting(
        2, "attempts at each problem that are compared", POSITIVE
    )
    answers: int = setting(10, "answers sampled after a cut", POSITIVE)
