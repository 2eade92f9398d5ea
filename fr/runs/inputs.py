"""Inputs of a run beside its settings, as hashes and versions.

They are questions, weights, the grader and the surroundings.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Collection, Sequence

import jax
import numpy as np

from fr.config import Config, as_dict
from fr.config.reads import flat, texts
from fr.distributed.job import OWN_FLAG
from fr.models import Model
from fr.models.families import FAMILIES, READ
from fr.models.loading import locate
from fr.runs import stages
from fr.runs.stages import OWN
from fr.tasks.grading import grader_version
from fr.tasks.task import Task
from fr.types import Problem
from fr.user_modules import fingerprints
from fr.workdir import PathLike

_GRADERS = ("math-verify", "latex2sympy2_extended", "sympy", "reasoning-gym")
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "transformers", "tokenizers")
_VARIABLES = (
    "XLA_FLAGS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "TZ",
    "LANG",
    "LC_ALL",
    "PYTHONHASHSEED",
)
_WEIGHTS = (".safetensors", ".gguf", ".json", ".jinja", ".model", ".txt")


def inputs_of(
    task: Task,
    problems: Sequence[Problem],
    specialist: Model,
    source: str,
    ancestor: str | None = None,
    vectors: np.ndarray | None = None,
) -> dict:
    """Collect the inputs of a run that its settings do not hold.

    Args:
        task: Makes the prompts.
        problems: All problems, in order.
        specialist: The loaded model.
        source: Folder or name that the specialist was loaded from.
        ancestor: Source of the ancestor, if there is one.
        vectors: Table of steering vectors, if the settings name some.

    Returns:
        Hashes and versions by the names that `fr.config.reads` lists.
    """
    found = {
        "questions": [_question(task, problem) for problem in problems],
        "specialist": weights_of(source, specialist),
        "grader": grader(),
        "surroundings": surroundings(),
    }
    if vectors is not None:
        found["vector"] = hashlib.sha256(vectors.tobytes()).hexdigest()[:32]
    return found | ({"ancestor": weights_of(ancestor)} if ancestor else {})


def begin_training(
    workdir: PathLike,
    stage: str,
    config: Config,
    source: str,
    start: Model | None,
    more: dict | None = None,
) -> None:
    """Check the folder of a training and record how it is made.

    Args:
        workdir: Folder of the run.
        stage: Name of the stage.
        config: All settings.
        source: Folder or name of the model that training starts from.
        start: That model; None: training starts from random numbers.
        more: Further inputs by name.
    """
    inputs = {"surroundings": surroundings()} | (
        {"start": weights_of(source, start)} if start else {}
    )
    inputs |= own_parts(config) | (more or {})
    stages.open_folder(workdir, as_dict(config), inputs)
    stages.begin(workdir, stage, as_dict(config), inputs)


def own_parts(config: Config, more: Collection[str] = ()) -> dict[str, dict[str, str]]:
    """Fingerprints of the user's own parts that this run names or reads.

    Args:
        config: All settings.
        more: Further names that are used.

    Returns:
        {"own": hash by "KIND: NAME"}; nothing if the run uses none. A part is used if a
        setting holds its name, and a model family if a model of it was read.
    """
    values = flat(as_dict(config)).values()
    named = {name for value in values for name in texts(value)} | set(more)
    families = {f"{FAMILIES.kind}: {name}" for name in READ}
    found = {
        part: text
        for part, text in fingerprints().items()
        if part in families or part.partition(": ")[2] in named
    }
    return {OWN: found} if found else {}


def weights_of(source: str, model: Model | None = None) -> str:
    """Hash the files of a model: weights, config, tokenizer and chat template.

    Args:
        source: Folder, file or name of the model.
        model: The loaded model; one with a `fingerprint` is not read from disk.

    Returns:
        32 hexadecimal digits, or the model's fingerprint.
    """
    if (known := getattr(model, "fingerprint", None)) is not None:
        return str(known() if callable(known) else known)
    path, digest = locate(source), hashlib.sha256()
    if path.is_file():
        files = [path]
    else:
        # A model's files are in its folder; a checkpoint has folders inside it.
        files = sorted(
            f for f in path.iterdir() if f.is_file() and f.suffix in _WEIGHTS
        )
        if not any(f.suffix == ".safetensors" for f in files):
            files = sorted(f for f in path.rglob("*") if f.is_file())
    for file in files:
        if file.name in ("metrics.jsonl", "timings.jsonl", "compilations.jsonl"):
            continue
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(path)} {content}\n".encode())
    return digest.hexdigest()[:32]


def grader() -> dict[str, str]:
    """Versions of the grader and of the packages that it uses; "absent" if missing."""
    return {"fr": grader_version(), **{name: _version(name) for name in _GRADERS}}


def surroundings() -> dict[str, str]:
    """Versions, devices and variables that may change the last digits of numbers."""
    found = {name: _version(name) for name in _PACKAGES}
    found |= {name: os.environ.get(name, "") for name in _VARIABLES}
    # A flag that several processes add, whose results are the results of one process.
    found["XLA_FLAGS"] = found["XLA_FLAGS"].replace(f"{OWN_FLAG} ", "")
    found["device"] = jax.local_devices()[0].device_kind
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _question(task: Task, problem: Problem) -> str:
    asked = [
        problem.id,
        problem.question,
        problem.answer,
        problem.task,
        problem.meta,
        task.prompt(problem),
    ]
    text = json.dumps(asked, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
