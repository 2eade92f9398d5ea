"""A run: its config, problems and models, and the folder that all its stages share."""

import dataclasses
import functools
import itertools
from collections.abc import Collection
from pathlib import PurePath

import jax
from etils import epath

from fr import compile_cache, distributed, tasks
from fr.config import Config, as_dict
from fr.errors import UserError
from fr.interventions import Operator, select
from fr.interventions.vectors import vector_table
from fr.models import Model, load
from fr.models.transformer import Transformer
from fr.runs import stages
from fr.runs.compatibility import (
    check_lengths,
    pair_ancestor,
    with_strict,
    with_template,
)
from fr.runs.inputs import inputs_of, own_parts
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
    """A specialist, its ancestor where there is one, and the problems of a run."""

    config: Config  # all settings
    workdir: epath.Path  # the folder that all stages write to
    task: Task  # makes prompts and grades completions
    problems: list[Problem]  # in order; ids are unique
    specialist: Model  # the model that is sampled
    ancestor: Model | None  # the model that it was trained from
    devices: Devices  # local devices of this process, which hold the parameters
    # Hashes and versions by name (`fr.runs.inputs`).
    inputs: dict = dataclasses.field(default_factory=dict)
    # By whether the ancestor reads along, rows are steered, and no statistics are kept.
    _engines: dict[tuple[bool, bool, bool], Engine] = dataclasses.field(
        default_factory=dict
    )

    @property
    def ancestor_weight(self) -> float:
        """Parameters of the ancestor over the specialist's; 0 without an ancestor.

        It is the cost of one token of the ancestor in forward tokens.
        """
        return _size(self.ancestor) / _size(self.specialist) if self.ancestor else 0.0

    @property
    def names(self) -> tuple[str, str]:
        """Names of specialist and ancestor in records.

        They hold no paths, so that results do not depend on the folder of a run. A
        specialist that was trained in the run is named by its algorithm and seed, such
        as `grpo-2`.
        """
        c = self.config
        return _name(c.specialist) if c.specialist else _trained(
            c.algorithm, c.seed
        ), _name(c.ancestor)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the problems' tasks, in order; several if the task is a mix."""
        return tuple(dict.fromkeys(problem.task for problem in self.problems))

    def cell(self, part: str) -> str:
        """Name of the cell of profiles of one part.

        Args:
            part: Name of a task.

        Returns:
            `MODEL|TASK`.
        """
        return f"{self.names[0]}|{part}"

    def begin(self, stage: str, **more) -> dict:
        """Record how a stage is made, before its first row; see `fr.runs.stages.begin`.

        Args:
            stage: Name of the stage.
            **more: Values that the stage keeps from its first beginning.

        Returns:
            The record of the stage.
        """
        if distributed.is_joined():
            begun = lambda: stages.read_stages(self.workdir).get(stage, {}).keys()
            what = f"begun {stage}/ of {self.workdir}"
            distributed.until(lambda: {"settings", *more} <= begun(), what)
            self.follow(stage)
        if distributed.is_first():
            settings = as_dict(self.config)
            stages.begin(self.workdir, stage, settings, self.inputs, **more)
        distributed.wait(f"begin {stage} {next(_BEGUN)}")
        return stages.read_stages(self.workdir)[stage]

    def follow(self, stage: str) -> None:
        """Check that a stage is still made as this process makes it, if it has joined.

        Args:
            stage: Name of the stage.

        Raises:
            UserError: Its record is gone, or has other settings or inputs.
        """
        if not distributed.is_joined():
            return
        if stage not in stages.read_stages(self.workdir):
            raise UserError(
                f"{self.workdir}: {stage}/ was removed meanwhile; start --join again"
            )
        stages.check(self.workdir, as_dict(self.config), self.inputs)

    def operators(self, part: str) -> tuple[list[Operator], dict[str, str]]:
        """Select the operators that can run on one part.

        Args:
            part: Name of a task.

        Returns:
            The operators, and the reason for each that is left out.
        """
        names = self.config.intervention.operators
        return select(names, self.ancestor is not None, self.specialist, part)

    def engine(
        self, with_ancestor: bool, steered: bool = False, quiet: bool = False
    ) -> Engine:
        """The decode engine, the same one for all stages.

        Args:
            with_ancestor: The ancestor reads along in the loop.
            steered: Rows may name steering vectors.
            quiet: Keep no statistics of tokens.

        Returns:
            The engine, made on first use.
        """
        kind = (with_ancestor, steered, quiet)
        if kind not in self._engines:
            self._engines[kind] = self._engine(*kind)
        return self._engines[kind]

    def _engine(self, with_ancestor: bool, steered: bool, quiet: bool) -> Engine:
        c, model = self.config.sampling, self.specialist.config
        return Engine(
            *_module(self.specialist),
            **(self._second() if with_ancestor else {}),
            slots=c.slots,
            chunk=c.chunk,
            prefill=c.prefill,
            tau=self.config.diagnosis.tau,
            statistics=not quiet,
            keep_top=0 if quiet else min(c.keep_top, model.vocab),
            devices=self.devices,
            vectors=vector_table(self.config, model) if steered else None,
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
    """Load what a run needs, then claim its folder.

    Bad input leaves no file.

    Args:
        config: All settings.
        workdir: Folder of the run; it need not exist.
        redo: Stages that are made again, with all stages that follow them.

    Returns:
        The run.

    Raises:
        UserError: As in `read_run`, or a stage of the folder was made with other
            settings or inputs.
    """
    run = read_run(config, workdir)
    claim_run(run, redo)
    return run


def read_run(config: Config, workdir: PathLike) -> Run:
    """Load what a run needs, and write nothing to its folder.

    Parameters go straight to the devices that will use them.

    Args:
        config: All settings.
        workdir: Folder of the run; it need not exist.

    Returns:
        The run.

    Raises:
        UserError: A name is unknown, a task, model or mesh does not fit, or the
            ancestor reads other ids.
    """
    workdir = epath.Path(workdir)
    check_names(config)
    compile_cache.keep()
    task = tasks.make(config.task)
    problems = task.problems(config.task.split, config.task.problems)
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    at = functools.partial(load, mesh=devices.mesh, stacked=devices.layout.scanned)
    source = config.specialist or str(workdir / "specialist")
    specialist = with_template(at(source), config)
    specialist = with_strict(specialist, config, devices)
    check_chat(config, specialist, task.prompt(problems[0]) if problems else "")
    second = _ancestor_source(config, workdir) if config.ancestor else None
    ancestor = with_strict(at(second), config, devices) if second else None
    if ancestor is not None:
        ancestor, message = pair_ancestor(specialist, ancestor)
        if message:
            distributed.print0(message)
    warning = check_lengths(
        config, task, problems, [m for m in (specialist, ancestor) if m is not None]
    )
    if warning:
        distributed.print0(warning)
    # Here, so that a file that does not fit is refused before anything is sampled.
    steers = config.intervention.vector
    table = vector_table(config, specialist.config) if steers else None
    found = {}
    # One process of a run hashes the weights.
    if distributed.is_first() or distributed.is_joined():
        found = inputs_of(task, problems, specialist, source, second, table)
        found |= own_parts(config)
    return Run(config, workdir, task, problems, specialist, ancestor, devices, found)


def claim_run(run: Run, redo: Collection[str] = ()) -> None:
    """Make the folder of a run its own, without the stages that are made again.

    Args:
        run: The run.
        redo: Stages that are made again, with all stages that follow them.

    Raises:
        UserError: A stage of the folder was made with other settings or inputs.
    """
    if distributed.is_first():
        stages.open_folder(run.workdir, as_dict(run.config), run.inputs, redo)
    distributed.wait("workdir")
    own = f"-{jax.process_index()}" if jax.process_index() else ""
    if not distributed.is_joined():
        path = run.workdir / f"compilations{own}.jsonl"
        compile_cache.compile_log().write_to(path)


def _name(source: str) -> str:
    path = PurePath(source)
    if path.parent.name == "checkpoints":  # named by its step
        return f"{path.parent.parent.name}/{path.name}"
    made_by = epath.Path(source).parent / "config.json"
    if path.name == "specialist" and made_by.exists():
        settings = read_object(made_by)
        if {"algorithm", "seed"} <= settings.keys():  # else it is a model's config
            return _trained(settings["algorithm"], settings["seed"])
    return path.name


def _trained(algorithm: str, seed: int) -> str:
    return f"{algorithm}-{seed}"


def _ancestor_source(config: Config, workdir: epath.Path) -> str:
    return (
        str(workdir / "ancestor") if config.ancestor == "scratch" else config.ancestor
    )


def check_chat(config: Config, model: Model, prompt: Prompt) -> None:
    """Print once that a model without chat template is asked in plain text.

    Args:
        config: `task.chat` is read.
        model: The model that is asked.
        prompt: A prompt of the task; a string needs no template.

    Raises:
        UserError: `task.chat` = template, and the model has none.
    """
    if isinstance(prompt, str) or model.chat:
        return
    if config.task.chat == "template":
        raise UserError(
            f"{model.name} has no chat template; "
            "set config.task.chat=plain to ask in plain text"
        )
    distributed.print0(
        f"{model.name} has no chat template: "
        "it is asked in plain text (config.task.chat)"
    )


def _module(model: Model) -> tuple[Transformer, dict]:
    return Transformer(model.config, model.dtype), model.params


def _size(model: Model) -> int:
    return sum(x.size for x in jax.tree.leaves(model.params))
