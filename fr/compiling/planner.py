"""The programs that a config needs: of a training, of a run, of the arms of a study."""

import ast
import dataclasses
from collections.abc import Iterator

from fr.compiling.abstract import Program, Stage
from fr.compiling.sampler_programs import Asked, engine_programs, score_program
from fr.compiling.slices import Slice
from fr.compiling.training_programs import (
    candidate_stage,
    supervised_stage,
    training_stage,
    vector_stage,
)
from fr.config import PREFERENCES, VECTOR, Config, LoraConfig, as_dict, freeze
from fr.config.studies import ARMS, FROM, MAKES, MODEL, RUN
from fr.evaluation.study import arms_of, config_changes, takes_test, tests_of
from fr.models.config import ModelConfig
from fr.models.loading import read_shape
from fr.training.checks import trains_specialist
from fr.training.supervised import scratch_shape

_STUDY = "study"  # stands for the study's folder in an arm's settings


@dataclasses.dataclass(frozen=True)
class Planner:
    """Gives the stages of configs, all for one slice.

    Attributes:
        place: The slice.
        prompt: Tokens of the longest prompt.
        model: A model whose shape stands for every one that has a name; "": each has
            its own.
    """

    place: Slice
    prompt: int
    model: str = ""

    def stages(self, config: Config) -> Iterator[tuple[str, Stage]]:
        """The stages of a config, in the order in which they are made.

        Args:
            config: The whole configuration.

        Yields:
            Whose it is, such as an arm of a study, and the stage.

        Raises:
            UserError: A model has no shape that can be read, or settings do not fit
                the slice.
        """
        if config.study.arms:
            yield from self._study(config)
            return
        start = self._start(config)
        made = self._made(config, start)
        for stage in self._trainings(config, start):
            yield "training", stage
        yield "run", self._run(config, made, start if config.ancestor else None)

    def _study(self, config: Config) -> Iterator[tuple[str, Stage]]:
        shapes: dict[str, ModelConfig] = {}
        for arm, changes in arms_of(config).items():
            before = [changes[key] for key in (FROM, RUN) if key in changes]
            start = shapes[before[0]] if before else None
            if MODEL in changes:
                shapes[arm] = self._read(changes[MODEL])
            else:
                given = config_changes(config, _STUDY, arm, config.study.seeds[0])
                own = with_changes(config, given)
                if MAKES in changes:
                    shapes[arm] = start or self._read(own.specialist)
                    yield arm, self._run(own, shapes[arm], None)
                else:
                    start = start or self._start(own)
                    shapes[arm] = self._made(own, start)
                    for stage in self._trainings(own, start):
                        yield arm, stage
            for name, test in tests_of(config).items():
                if takes_test(arm, changes, test):
                    asked = {key: text for key, text in test.items() if key != ARMS}
                    asked |= {"ancestor": "", "algorithm": "sft"}
                    tested = with_changes(config, asked)
                    yield arm, self._test(tested, shapes[arm], name)

    def _read(self, name: str) -> ModelConfig:
        return read_shape(self.model or name).config

    def _start(self, config: Config) -> ModelConfig:
        """Shape of the model that a specialist starts from."""
        supervised = config.algorithm in ("sft", *PREFERENCES)
        name = (supervised and config.training.start) or config.ancestor
        if name == "scratch":
            return scratch_shape(config)[0]
        return self._read(name or config.specialist)

    def _made(self, config: Config, start: ModelConfig) -> ModelConfig:
        """Shape of the specialist."""
        if config.specialist:
            return self._read(config.specialist)
        vectors = config.algorithm == VECTOR or config.lora.vectors
        return dataclasses.replace(start, residual_bias=True) if vectors else start

    def _trainings(self, config: Config, start: ModelConfig) -> Iterator[Stage]:
        if config.ancestor == "scratch":
            whole = dataclasses.replace(config, lora=LoraConfig())
            shape = scratch_shape(config)[0]
            yield supervised_stage(whole, config.pretraining, shape, self.place)
        if not trains_specialist(config):
            return
        given = config, start, self.place, self.prompt
        if config.algorithm == VECTOR:
            yield vector_stage(*given)
            return
        if config.algorithm in PREFERENCES and not config.training.source:
            yield candidate_stage(*given)
        yield training_stage(*given)

    def _run(
        self, config: Config, model: ModelConfig, ancestor: ModelConfig | None
    ) -> Stage:
        """Sampling, scoring and attempts, which may begin with those before them."""
        c = config.sampling
        devices = self.place.sampler(c.devices, c.model_axis)
        probes, steered = bool(c.probe_cuts), bool(config.intervention.vector)
        asked = Asked(
            model, self.prompt, c.max_new_tokens, probes=probes, continues=True
        )
        kinds = [asked]
        if ancestor is not None:
            kinds.append(dataclasses.replace(asked, ancestor=ancestor))
        if steered:
            kinds.append(dataclasses.replace(asked, vectors=2))
        programs: list[Program] = []
        held: dict[str, int] = {}
        for kind in kinds:
            some, own = engine_programs(kind, c, devices)
            programs += some
            held |= own
        programs.append(score_program(kinds[ancestor is not None], devices))
        return Stage("run", programs, held)

    def _test(self, config: Config, model: ModelConfig, name: str) -> Stage:
        c = config.sampling
        devices = self.place.sampler(c.devices, c.model_axis)
        asked = Asked(model, self.prompt, c.max_new_tokens, probes=True)
        return Stage(f"test {name}".strip(), *engine_programs(asked, c, devices))


def with_changes(config: Config, changes: dict[str, str]) -> Config:
    """A config with settings changed, as `--config.NAME=VALUE` changes them.

    Args:
        config: The whole configuration.
        changes: Values as text, by name of the setting.

    Returns:
        The changed config, without the study.

    Raises:
        UserError: A value cannot be.
    """
    values = as_dict(config)
    for name, text in changes.items():
        *groups, field = name.split(".")
        group = values
        for each in groups:
            group = group[each]
        group[field] = text if isinstance(group[field], str) else ast.literal_eval(text)
    return freeze(values)
