"""What a run is made of beside its settings: questions, weights, grader and surroundings, as hashes and versions."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence

import jax

from fr.config import Config, as_dict
from fr.distributed.job import OWN_FLAG
from fr.models import Model
from fr.models.loading import _locate
from fr.runs import stages
from fr.tasks.grading import grader_version
from fr.tasks.task import Task
from fr.types import Problem
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
) -> dict:
    """Hashes and versions by the names that `fr.config.reads` lists."""
    found = {
        "questions": [_question(task, problem) for problem in problems],
        "specialist": weights_of(source, specialist),
        "grader": grader(),
        "surroundings": surroundings(),
    }
    return found | ({"ancestor": weights_of(ancestor)} if ancestor else {})


def begin_training(
    workdir: PathLike,
    stage: str,
    config: Config,
    source: str,
    start: Model | None,
    more: dict | None = None,
) -> None:
    """Check the folder of a training and note what it is made with; `start` None: random numbers."""
    inputs = {"surroundings": surroundings()} | (
        {"start": weights_of(source, start)} if start else {}
    )
    inputs |= more or {}
    stages.open_folder(workdir, as_dict(config), inputs)
    stages.begin(workdir, stage, as_dict(config), inputs)


def weights_of(source: str, model: Model | None = None) -> str:
    """A hash of the files of a model: weights, config, tokenizer and chat template."""
    if (known := getattr(model, "fingerprint", None)) is not None:
        return str(known() if callable(known) else known)
    path, digest = _locate(source), hashlib.sha256()
    if path.is_file():
        files = [path]
    else:
        # The files of a model lie in its folder; a checkpoint has folders of its own.
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
    """The version of the grader and of the packages that decide with it; "absent" is one of the values."""
    return {"fr": grader_version(), **{name: _version(name) for name in _GRADERS}}


def surroundings() -> dict[str, str]:
    """What surrounds a run and may change the last digits of its numbers."""
    found = {name: _version(name) for name in _PACKAGES}
    found |= {name: os.environ.get(name, "") for name in _VARIABLES}
    # What several processes set for themselves: their results are those of one.
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
