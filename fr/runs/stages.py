"""Records of how each stage of a run's folder was made.

`stages.json` holds, for every stage, the settings, the inputs (hashes of questions and
weights, version of the grader) and the surroundings (packages, devices, environment). A
resumed run is compared, stage by stage, on the settings and inputs that the stage
reads.
"""

import json
import shutil
import sys
from collections.abc import Collection, Sequence

from etils import epath

from fr.config.reads import STAGES, difference, flat, following, reads_name
from fr.errors import UserError
from fr.registry import suggest
from fr.runs.plans import plan_path
from fr.workdir import (
    PathLike,
    is_local,
    read_object,
    seal,
    to_json,
    unseal,
    write_json,
)

FILE = "stages.json"
OWN = "own"  # key of inputs: fingerprints of a user's own parts, by "KIND: NAME"
_FAMILY = "model family"
_MODELS = {"specialist", "ancestor", "start"}  # inputs that are models
_CHANGED = {
    "specialist": "the weights of config.specialist have",
    "ancestor": "the weights of config.ancestor have",
    "vector": "the vectors of config.intervention.vector have",
    "start": "the weights of the model that training starts from have",
    "examples": "the examples that training learns from have",
    "ancestor_examples": "the examples of config.pretraining.file have",
    "grader": "the grader or a package that it uses has",
}


def open_folder(
    workdir: PathLike,
    config: dict,
    inputs: dict | None = None,
    redo: Collection[str] = (),
) -> None:
    """Check a folder, remove stages that are made again, and write `config.json`.

    Args:
        workdir: Folder of the run; it need not exist.
        config: All settings as plain values (`fr.config.as_dict`).
        inputs: Hashes and versions by the names that `fr.config.reads` lists.
        redo: Stages that are removed, with all that follow them.
    """
    workdir, config = epath.Path(workdir), json.loads(to_json(config))
    check(workdir, config, inputs, redo)
    drop(workdir, redo)
    path = workdir / "config.json"
    if not path.exists() or read_object(path) != config:
        write_json(path, config)


def check(
    workdir: PathLike,
    config: dict,
    inputs: dict | None = None,
    redo: Collection[str] = (),
) -> None:
    """Compare every stage that a folder holds with this run; writes no file.

    Args:
        workdir: Folder of the run; it need not exist.
        config: All settings as plain values (`fr.config.as_dict`).
        inputs: Hashes and versions by name; a missing one is not compared.
        redo: Stages that will be made again with all that follow: they are not
            compared.

    Raises:
        UserError: A setting or an input differs. The line names it, its value there and
            here, and the remedy.
    """
    again, config = remade(redo), json.loads(to_json(config))
    for stage, made in read_stages(workdir).items():
        if stage not in again:
            _compare(epath.Path(workdir), stage, made, config, inputs or {})


def drop(workdir: PathLike, redo: Collection[str]) -> None:
    """Remove stages and all that follow them, so that they are made again.

    Args:
        workdir: Folder of the run.
        redo: Names of stages.
    """
    workdir, stages = epath.Path(workdir), read_stages(workdir)
    again = remade(redo) & stages.keys()
    if again:
        _write(
            workdir,
            {stage: made for stage, made in stages.items() if stage not in again},
        )
    for stage in sorted(again):
        _remove(workdir / stage)
        plan_path(workdir / stage).unlink(missing_ok=True)


def remade(redo: Collection[str]) -> set[str]:
    """Stages that are made again by `redo`, with all that follow them.

    Args:
        redo: Names of stages.

    Returns:
        The stages and all that follow them, by name.

    Raises:
        UserError: A name is not a stage.
    """
    for name in redo:
        if name not in STAGES:
            raise UserError(f"--redo={name} is not a stage{suggest(name, STAGES)}")
    return {stage for name in redo for stage in following(name)}


def begin(
    workdir: PathLike, stage: str, config: dict, inputs: dict | None = None, **more
) -> dict:
    """Record how a stage is made, before its first row.

    Args:
        workdir: Folder of the run.
        stage: Name of the stage.
        config: All settings as plain values.
        inputs: Hashes and versions by name.
        **more: Values that the stage keeps as they were first recorded; a dict gains
            new keys.

    Returns:
        The record: `settings`, `inputs` and the kept values.
    """
    workdir, stages = epath.Path(workdir), read_stages(workdir)
    old = stages.get(stage, {})
    kept = {name: old.get(name, value) for name, value in more.items()}
    for name, value in more.items():
        if isinstance(value, dict):
            kept[name] = value | old.get(name, {})
    made = {
        **old,
        "settings": json.loads(to_json(config)),
        "inputs": inputs or {},
        **kept,
    }
    if made != old:
        _write(workdir, stages | {stage: made})
    return made


def read_stages(workdir: PathLike) -> dict[str, dict]:
    """Read how every stage of a folder was made.

    A folder without stages.json has the settings of its config.json for all stages.

    Args:
        workdir: Folder of the run.

    Returns:
        Records by stage, in the order of `fr.config.reads.STAGES`.

    Raises:
        UserError: The file is damaged (from `unseal`).
    """
    workdir = epath.Path(workdir)
    if (workdir / FILE).exists():
        found = unseal(workdir / FILE, 1)["stages"]
        return {stage: found[stage] for stage in STAGES if stage in found}
    if not (workdir / "config.json").exists():
        return {}
    settings = read_object(workdir / "config.json")
    return {
        stage: {"settings": settings, "inputs": {}}
        for stage in STAGES
        if _holds_something(workdir / stage)
    }


def _holds_something(folder: epath.Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _write(workdir: epath.Path, stages: dict[str, dict]) -> None:
    seal(workdir / FILE, 1, {"stages": stages})


def _remove(folder: epath.Path) -> None:
    if folder.exists():
        shutil.rmtree(folder) if is_local(folder) else folder.rmtree()


def _remedy(stage: str) -> str:
    return f"use another --workdir, or --redo={stage} to make it and what follows again"


def _compare(
    workdir: epath.Path, stage: str, made: dict, config: dict, inputs: dict
) -> None:
    remedy = _remedy(stage)
    if found := difference(stage, made["settings"], config):
        name, there, here = found
        grows = " (it may only grow)" if name in STAGES[stage].grows else ""
        raise UserError(
            f"{workdir} holds another run: config.{name} is {json.dumps(there)} there "
            f"and {json.dumps(here)} here{grows}, and {stage}/ reads it; {remedy}"
        )
    old = made["inputs"]
    for name in STAGES[stage].inputs:
        if name.endswith("questions"):
            _compare_questions(workdir, stage, old.get(name), inputs.get(name), remedy)
        elif name in old and name in inputs and old[name] != inputs[name]:
            if name == "grader":
                command = f"scripts/grade.py --workdir={workdir} --write"
                remedy = f"{command} gives today's grades, or {remedy}"
            raise UserError(
                f"{workdir}: {_CHANGED[name]} changed since {stage}/ was made; {remedy}"
            )
    _compare_own(workdir, stage, old.get(OWN, {}), inputs.get(OWN, {}), config)
    _tell(stage, old.get("surroundings", {}), inputs.get("surroundings", {}))


def _compare_own(
    workdir: epath.Path, stage: str, old: dict, new: dict, config: dict
) -> None:
    """Refuse a part of the user's own whose text has changed, if the stage uses it."""
    for part in sorted(old.keys() & new.keys()):
        kind, _, name = part.partition(": ")
        uses = (
            not _MODELS.isdisjoint(STAGES[stage].inputs)
            if kind == _FAMILY
            else reads_name(stage, name, flat(config))
        )
        if uses and old[part] != new[part]:
            remedy = _remedy(stage)
            if kind == "task" and "grader" in STAGES[stage].inputs:
                command = f"scripts/grade.py --workdir={workdir} --write"
                remedy = f"{command} with it gives today's grades, or {remedy}"
            raise UserError(
                f"{workdir}: the text of the user module with the {kind} {name!r} has "
                f"changed since {stage}/ was made; {remedy}"
            )


def _compare_questions(
    workdir: epath.Path,
    stage: str,
    old: Sequence[str] | None,
    new: Sequence[str] | None,
    remedy: str,
) -> None:
    """Hashes in order: the old questions must be the first of the new."""
    if old is None or new is None:
        return
    for place, (there, here) in enumerate(zip(old, new)):
        if there != here:
            raise UserError(
                f"{workdir}: question {place + 1} of the task (its id, text, reference "
                f"or prompt) has changed since {stage}/ was made; {remedy}"
            )


_told: set[str] = set()


def _tell(stage: str, old: dict, new: dict) -> None:
    """Print a line for each of the surroundings that has changed."""
    for name in sorted(old.keys() & new.keys()):
        line = (
            f"warning: {stage}/ was made with {name} = {old[name]}, "
            f"and this is {new[name]}"
        )
        if old[name] != new[name] and name not in _told:
            _told.add(name)
            print(
                f"{line}: new rows may differ in the last digits",
                file=sys.stderr,
                flush=True,
            )
