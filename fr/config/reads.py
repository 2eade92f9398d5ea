"""Settings that each stage of a run reads, and those that may grow with more rows."""

import dataclasses

from fr.config.experiment import Config, as_dict, renamed
from fr.config.trainings import PREFERENCES, VECTOR


@dataclasses.dataclass(frozen=True)
class Reads:
    """Dependencies of a stage."""

    settings: tuple[str, ...]  # groups or fields of the config
    grows: tuple[str, ...] = ()  # fields among them that may become larger
    inputs: tuple[str, ...] = ()  # keys of a run's inputs
    after: tuple[str, ...] = ()  # stages whose results it reads


_ASKED = ("seed", "models", "task", "sampling", "diagnosis.tau", "diagnosis.statistics")
_WHOLE = ("specialist", "questions", "grader")
_MODELS = ("ancestor", "specialist")
_ONLINE = ("online_after", "online_budget", "online_explore", "verifier")
_MORE = (
    "sampled_attempts",
    "answers",
)  # of an evaluation: answers that are sampled after its cuts
_TRAINED = (
    "seed",
    "models",
    "algorithm",
    "task",
    "lora",
    "sampling",
    "diagnosis.tau",
    "rewards",
)

# By stage, which is also the name of its folder.
STAGES = {
    "ancestor": Reads(
        ("seed", "models", "architecture", "pretraining", "task"),
        inputs=("ancestor_examples",),
    ),
    "candidates": Reads(
        (*_ASKED, "preference.problems", "preference.candidates", "preference.source"),
        ("preference.problems", "preference.candidates"),
        ("start", "candidate_questions", "grader"),
        ("ancestor",),
    ),
    "specialist": Reads(
        _TRAINED, inputs=("start", "examples"), after=("ancestor", "candidates")
    ),
    "reward_model": Reads(
        _TRAINED, inputs=("start", "examples"), after=("ancestor", "candidates")
    ),
    "rollouts": Reads(_ASKED, ("task.problems", "sampling.rollouts"), _WHOLE, _MODELS),
    "scores": Reads(
        _ASKED,
        ("task.problems", "sampling.rollouts"),
        (*_WHOLE, "ancestor"),
        ("rollouts", "ancestor"),
    ),
    "attempts": Reads(
        (*_ASKED, "diagnosis", "intervention"),
        (
            "task.problems",
            "sampling.rollouts",
            "intervention.operators",
            "intervention.attempts",
        ),
        (*_WHOLE, "ancestor", "vector"),
        ("scores",),
    ),
    "branches": Reads(
        (*_ASKED, "diagnosis", "intervention", "atlas"),
        (
            "task.problems",
            "sampling.rollouts",
            "atlas.operators",
            "atlas.branches",
            "atlas.more_cuts",
        ),
        (*_WHOLE, "ancestor", "vector"),
        ("scores",),
    ),
    "evaluation": Reads(
        (*_ASKED, "evaluation", "intervention"),
        ("task.problems", "evaluation.samples"),
        (*_WHOLE, "vector"),
        _MODELS,
    ),
    "answers": Reads(
        (
            *_ASKED,
            *(
                f"evaluation.{name}"
                for name in ("temperature", "top_p", "cuts", "cuts_at", *_MORE)
            ),
        ),
        ("task.problems", *(f"evaluation.{name}" for name in _MORE)),
        _WHOLE,
        ("evaluation",),
    ),
    "online": Reads(
        (*_ASKED, "sampling.shard_rows", "diagnosis", "intervention"),
        inputs=(*_WHOLE, "ancestor", "vector"),
        after=_MODELS,
    ),
}
# Fields of a group that change no result: the shape of programs, and what is kept or
# printed.
_IDLE = {
    "sampling": ("slots", "chunk", "prefill", "devices", "model_axis", "shard_rows"),
    "diagnosis": ("failures", "form", "outside", "states"),
    "atlas": ("share", "level", "restarts"),
    "evaluation": (
        "ks",
        "bins",
        "premature",
        "measures",
        "by",
        "sampled",
        "sampled_attempts",
        "answers",
    ),
    **dict.fromkeys(
        ("training", "pretraining", "policy", "preference"),
        (
            "keep",
            "log_every",
            "checkpoint_every",
            "rollouts_every",
            "microbatch",
            "length_buckets",
            "remat",
            "model_axis",
        ),
    ),
}
# Settings with another default than the code before them had. An older folder that does
# not hold them says nothing about them.
_CHANGED_DEFAULT = {"training.order", "pretraining.order", "policy.order"}
# Settings that stand for what code without them did.
_BEFORE = {"intervention.keys": "own"}
# Fields of `training` that choose the examples of every algorithm.
_EXAMPLES = (
    "source",
    "run",
    "start",
    "operators",
    "max_per_problem",
    "distinct",
    "pushed",
    "held_out",
)
# Fields that belong to one task; another task does not read them.
_OWN = {
    **dict.fromkeys(
        ("operands", "largest", "target", "solutions", "hold_out"), "countdown"
    ),
    **dict.fromkeys(("terms", "digits", "term_counts"), "sums"),
    "disks": "hanoi",
    "alphabet": "alphabet",
    "maze": "maze",
    "parts": "mixed",
    **dict.fromkeys(
        ("question_field", "answer_field", "id_field", "split_field", "split_shares"),
        "questions",
    ),
}
_TRAINING = ("ancestor", "candidates", "specialist", "reward_model")
_UNREAD_WHILE_TRAINING = (
    "task.problems",
    "task.split",
    "sampling.rollouts",
    "sampling.probe_cuts",
)


def difference(
    stage: str, there: dict, here: dict
) -> tuple[str, object, object] | None:
    """The first setting that a stage reads and that differs.

    A setting that `there` does not hold did not exist when the folder was made: it has
    its default, or the value of what was done then. A setting that may grow differs
    only where it has become smaller.

    Args:
      stage: one of STAGES.
      there: the folder's config as a plain dict.
      here: the present config as a plain dict.

    Returns:
      (name, value there, value here), or None.
    """
    usual, reads = flat(as_dict(Config())), STAGES[stage]
    unknown = _CHANGED_DEFAULT - flat(there).keys()
    there, here = usual | _BEFORE | flat(there), usual | flat(here)
    for name in sorted(usual.keys() - unknown):
        if there[name] != here[name] and reads_setting(stage, name, here):
            if name not in reads.grows or not _grown(there[name], here[name]):
                return name, there[name], here[name]
    return None


def reads_setting(stage: str, name: str, config: dict) -> bool:
    """True if a stage reads a setting.

    Args:
      stage: one of STAGES.
      name: the setting's dotted name.
      config: the flat config, since some settings are read for one task or algorithm
        only.

    Returns:
      True or False.
    """
    group, _, field = name.partition(".")
    settings = STAGES[stage].settings
    if group == "architecture" and stage == "specialist":
        return config["training.start"] == "scratch"
    if stage in ("specialist", "reward_model"):
        settings = (
            *settings,
            _group(config["algorithm"]),
            *(f"training.{name}" for name in _EXAMPLES),
        )
    if name in settings:
        return True
    if group not in settings or field in _IDLE.get(group, ()):
        return False
    if group == "task" and (own := _OWN.get(field.partition(".")[0])):
        return own in (config["task.name"], *config["task.parts"])
    if stage == "evaluation" and group == "intervention":
        return bool(config["evaluation.operator"])
    if stage in _TRAINING and name in _UNREAD_WHILE_TRAINING:
        return False
    unread = {
        "attempts": _ONLINE,
        "branches": (
            *_ONLINE,
            *("operators", "attempts", "restart_share"),
        ),
    }
    return not (group == "intervention" and field in unread.get(stage, ()))


def reads_name(stage: str, name: str, config: dict) -> bool:
    """True if a stage reads a setting that holds a name.

    Args:
      stage: one of STAGES.
      name: of a task, an operator, a reward term, ...
      config: the flat config.

    Returns:
      True or False.
    """
    return any(
        name in texts(value) and reads_setting(stage, setting, config)
        for setting, value in config.items()
    )


def texts(value) -> set[str]:
    """All texts in a value of the flat config.

    Args:
      value: of plain types.

    Returns:
      The texts, those within lists too; of `hot@0.5` also the name before the sign.
    """
    if isinstance(value, list):
        return set().union(*map(texts, value))
    return {value, value.partition("@")[0]} if isinstance(value, str) else set()


def following(stage: str) -> list[str]:
    """A stage and all stages that depend on it.

    Args:
      stage: one of STAGES.

    Returns:
      Names of stages, `stage` first.
    """
    found = [stage]
    for name, reads in STAGES.items():
        if not set(reads.after).isdisjoint(found) and name not in found:
            found.append(name)
    return found


def flat(config: dict, prefix: str = "") -> dict:
    """Settings by dotted name; names of version 0.1 become the present ones.

    Args:
      config: a nested dict of settings.
      prefix: put before every name.

    Returns:
      A dict without nesting; tuples are lists, as in JSON.
    """
    found: dict = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            key = f"{prefix}{name}"
            found[renamed(key) or key] = _plain(value)
    return found


def _plain(value):
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def _group(algorithm: str) -> str:
    if algorithm in PREFERENCES:
        return "preference"
    if algorithm == VECTOR:
        return "steering"
    return "training" if algorithm == "sft" else "policy"


def _grown(there, here) -> bool:
    if isinstance(there, list):
        return set(there) <= set(here)
    return here >= there
