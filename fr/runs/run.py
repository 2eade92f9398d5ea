"""A run: its config, problems and models, and the folder that all stages of it share."""

import dataclasses
import itertools
from collections.abc import Collection
from pathlib import PurePath

import jax
from etils import epath

from fr import compile_cache, distributed, tasks
from fr.config import Config, as_dict
from fr.errors import UserError
from fr.interventions import Operator, select
from fr.models import Model, load
from fr.models.transformer import Transformer
from fr.runs import stages
from fr.runs.fit import check_lengths, pair, with_template
from fr.runs.inputs import inputs_of
from fr.runs.names import check_names
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.scoring import Scorer
from fr.tasks.task import Task
from fr.types import Problem, Prompt
from fr.workdir import PathLike, read_object

_BEGUN = itertools.count()  # the same in every process: a barrier's name serves once


@dataclasses.dataclass(frozen=True)
class Run:
    """A specialist, its ancestor where there is one, and the problems that it is asked."""

    config: Config
    workdir: epath.Path
    task: Task
    problems: list[Problem]
    specialist: Model
    ancestor: Model | None
    devices: Devices  # the local ones of this process, on which the parameters are
    inputs: dict = dataclasses.field(
        default_factory=dict
    )  # hashes and versions, of `fr.runs.inputs`
    _engines: dict[bool, Engine] = dataclasses.field(
        default_factory=dict
    )  # with the ancestor, or without

    @property
    def ancestor_weight(self) -> float:
        """Parameters of the ancestor over those of the specialist: the price of one of its positions."""
        return _size(self.ancestor) / _size(self.specialist) if self.ancestor else 0.0

    @property
    def names(self) -> tuple[str, str]:
        """What records call the two models: no paths, so that results do not depend on where a run lies.

        A specialist that was trained here is called by how and by its seed, as `grpo-2`.
        """
        c = self.config
        return _name(c.specialist) if c.specialist else _trained(
            c.algorithm, c.seed
        ), _name(c.ancestor)

    @property
    def parts(self) -> tuple[str, ...]:
        """The tasks that the problems are of, in order: several where the task is a mixed one."""
        return tuple(dict.fromkeys(problem.task for problem in self.problems))

    def cell(self, part: str) -> str:
        """What profile tables call this model's failures on a part."""
        return f"{self.names[0]}|{part}"

    def begin(self, stage: str, **more) -> dict:
        """Note what a stage is made with, before its first row; see `fr.runs.stages.begin`."""
        note = lambda: stages.begin(
            self.workdir, stage, as_dict(self.config), self.inputs, **more
        )
        if distributed.is_first():
            note()
        distributed.wait(f"begin {stage} {next(_BEGUN)}")
        return stages.read_stages(self.workdir)[stage]

    def operators(self, part: str) -> tuple[list[Operator], dict[str, str]]:
        """The operators that can run on a part, and of each that cannot the reason."""
        names = self.config.intervention.operators
        return select(names, self.ancestor is not None, self.specialist, part)

    def engine(self, with_ancestor: bool) -> Engine:
        """The decoder of plain rows, or of rows that read the ancestor in the loop; all stages have the same one."""
        if with_ancestor not in self._engines:
            self._engines[with_ancestor] = self._engine(with_ancestor)
        return self._engines[with_ancestor]

    def _engine(self, with_ancestor: bool) -> Engine:
        c = self.config.sampling
        return Engine(
            *_module(self.specialist),
            **(self._second() if with_ancestor else {}),
            slots=c.slots,
            chunk=c.chunk,
            prefill=c.prefill,
            tau=self.config.diagnosis.tau,
            devices=self.devices,
        )

    def scorer(self) -> Scorer:
        """The scorer of given tokens, under both models where there are two."""
        return Scorer(
            *_module(self.specialist),
            **self._second(),
            tau=self.config.diagnosis.tau,
            devices=self.devices,
        )

    def _second(self) -> dict:
        if self.ancestor is None:
            return {}
        module, params = _module(self.ancestor)
        return {"ancestor": module, "ancestor_params": params}


def open_run(config: Config, workdir: PathLike, redo: Collection[str] = ()) -> Run:
    """Load what a run needs, then claim its folder: bad input leaves nothing behind.

    Parameters go straight to the devices that will use them. The stages `redo` of the folder are made again, with
    what follows. Raises UserError for a name that is not known, for a task, model, folder or mesh that does not fit,
    for an ancestor that reads other ids, and for a folder whose stages were made with other settings or inputs.
    """
    workdir = epath.Path(workdir)
    check_names(config)
    compile_cache.keep()
    task = tasks.make(config.task)
    problems = task.problems(config.task.split, config.task.problems)
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    place = {"mesh": devices.mesh, "stacked": devices.stacked}
    source = config.specialist or str(workdir / "specialist")
    specialist = with_template(load(source, **place), config)
    check_chat(config, specialist, task.prompt(problems[0]) if problems else "")
    second = _ancestor_source(config, workdir) if config.ancestor else None
    ancestor = load(second, **place) if second else None
    if ancestor is not None:
        ancestor, said = pair(specialist, ancestor)
        if said:
            distributed.print0(said)
    warning = check_lengths(
        config, task, problems, [m for m in (specialist, ancestor) if m is not None]
    )
    if warning:
        distributed.print0(warning)
    found = {}
    if distributed.is_first():  # hashing weights is for one of them
        found = inputs_of(task, problems, specialist, source, second)
        stages.open_folder(workdir, as_dict(config), found, redo)
    distributed.wait("workdir")
    own = f"-{jax.process_index()}" if jax.process_index() else ""
    compile_cache.compile_log().write_to(workdir / f"compilations{own}.jsonl")
    return Run(config, workdir, task, problems, specialist, ancestor, devices, found)


def _name(source: str) -> str:
    path = PurePath(source)
    if path.parent.name == "checkpoints":  # called by its step
        return f"{path.parent.parent.name}/{path.name}"
    made_by = epath.Path(source).parent / "config.json"
    if path.name == "specialist" and made_by.exists():
        settings = read_object(made_by)
        if {"algorithm", "seed"} <= settings.keys():  # else it is that of a model
            return _trained(settings["algorithm"], settings["seed"])
    return path.name


def _trained(algorithm: str, seed: int) -> str:
    return f"{algorithm}-{seed}"


def _ancestor_source(config: Config, workdir: epath.Path) -> str:
    return (
        str(workdir / "ancestor") if config.ancestor == "scratch" else config.ancestor
    )


def check_chat(config: Config, model: Model, prompt: Prompt) -> None:
    """Say once how a model without chat template is asked; raise UserError if `task.chat` demands a template."""
    if isinstance(prompt, str) or model.chat:
        return
    if config.task.chat == "template":
        raise UserError(
            f"{model.name} has no chat template; set config.task.chat=plain to ask in plain text"
        )
    distributed.print0(
        f"{model.name} has no chat template: it is asked in plain text (config.task.chat)"
    )


def _module(model: Model) -> tuple[Transformer, dict]:
    return Transformer(model.config, model.dtype), model.params


def _size(model: Model) -> int:
    return sum(x.size for x in jax.tree.leaves(model.params))
