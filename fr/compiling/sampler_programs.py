"""Programs of an engine and of a scorer, from shapes alone."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fr.compiling.abstract import (
    Program,
    array,
    by_path,
    by_shard,
    bytes_of,
    lowering,
    parameters,
    shapes_of,
)
from fr.config import SamplingConfig
from fr.models.config import ModelConfig, choose_dtype
from fr.models.transformer import Transformer
from fr.sampling import probe_trees, state
from fr.sampling.devices import Devices
from fr.sampling.programs import KEYS, Programs, layered
from fr.sampling.sampling_params import default_params
from fr.sampling.scheduler import Admission
from fr.sampling.scoring import make_score, rows_per_pass
from fr.sampling.slots import edit_paused
from fr.types import Request

_SCORED = 16  # rows of a pass, the default of `Scorer`


@dataclasses.dataclass(frozen=True)
class Asked:
    """The use that an engine is made for.

    Attributes:
        model: Shape of the specialist.
        ancestor: Shape of the ancestor, or None.
        prompt: Tokens of the longest prompt.
        new: Tokens of a completion.
        statistics: Statistics of every token are kept.
        vectors: Vectors of its table, the first of them zero; 0: it has none.
        probes: Forced answers are scored after finished rows.
        continues: A prompt may end with an earlier attempt.
    """

    model: ModelConfig
    prompt: int
    new: int
    ancestor: ModelConfig | None = None
    statistics: bool = True
    vectors: int = 0
    probes: bool = False
    continues: bool = False

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt that is read."""
        return self.prompt + self.new * self.continues

    @property
    def entries(self) -> int:
        """Entries of the longest cache."""
        return -(-(self.prompt + self.new) // 32) * 32

    @property
    def models(self) -> list[ModelConfig]:
        """The model, and the ancestor if there is one."""
        return [self.model] + ([self.ancestor] if self.ancestor is not None else [])


def engine_programs(
    asked: Asked, settings: SamplingConfig, devices: Devices
) -> tuple[list[Program], dict[str, int]]:
    """Programs of an engine at its largest shapes.

    Smaller caches, shorter prompts and fewer of them have programs of their own.

    Args:
        asked: What the engine is for.
        settings: Rows, steps and prompts of a call.
        devices: Devices of one process.

    Returns:
        The programs, and bytes per device of the model's parameters ("sampler"), the
        ancestor's ("second") and kept prompts.
    """
    made = _Engine(asked, settings, devices)
    programs = [made.read(), made.enter(), made.decode(), made.edit(), made.resize()]
    programs += [made.probe()] if asked.probes else []
    held = {"sampler": bytes_of(made.params.specialist)}
    if asked.ancestor is not None:
        held["second"] = bytes_of(made.params.ancestor)
    return programs, held | {"prompts": bytes_of(made.prompts)}


class _Engine:
    def __init__(self, asked: Asked, settings: SamplingConfig, devices: Devices):
        self._asked, self._settings, self._devices = asked, settings, devices
        self._dtype = choose_dtype()
        second = asked.ancestor and Transformer(asked.ancestor, self._dtype)
        self._both = (Transformer(asked.model, self._dtype), second or None)
        rows = settings.slots * devices.count
        self._admission = Admission(
            devices.count,
            settings.slots,
            settings.prefill,
            asked.vectors > 0,
            devices.reads_together,
        )
        self._programs = Programs(
            *self._both,
            devices,
            chunk=settings.chunk,
            kept=self._admission.kept,
            statistics=asked.statistics,
            keep_top=settings.keep_top if asked.statistics else 0,
        )
        self.params = sampler_params(asked, devices)
        self._rows = default_params(rows, asked.vectors > 0)
        local = jax.tree.map(
            lambda x: array((settings.slots, *x.shape[1:]), x.dtype), self._rows
        )
        batch = lambda size: by_shard(
            shapes_of(
                lambda rows: state.init_state(*self._both, rows, size, devices.layout),
                local,
            ),
            devices,
        )
        self._sizes = state.cache_sizes(asked.entries, devices.layout.few_sizes)
        self._batch = batch(self._sizes[-1])
        self._shorter = batch(self._sizes[-2:][0])
        size = state.prompt_entries(asked.longest)
        init = functools.partial(state.init_prompt_cache, *self._both)
        kept = self._admission.kept
        given = kept, size, devices.layout
        self.prompts = by_shard(shapes_of(lambda: init(*given)), devices)

    def _program(self, name, shape, fn, *args) -> Program:
        note = " + ancestor" * (self._asked.ancestor is not None)
        note += " + vectors" * (self._asked.vectors > 0)
        uses = ("sampler", "second")[: len(self._asked.models)]
        uses += ("prompts",) * (name in ("read", "enter"))
        lower = lowering(self._devices, fn, *args, params=self.params)
        c, mesh = self._settings, self._devices.mesh
        sizes = c.slots, c.chunk, c.prefill, self._devices.kind, *mesh.shape.values()
        made_of = name, self._asked, sizes
        return Program(name + note, shape, lower, uses, self._dtype.name, made_of)

    def _host(self, tree):
        """Shapes of host arrays, as the engine hands them over."""
        given = self._devices.shard_batch(tree)
        return jax.tree.map(lambda x: array(x.shape, x.dtype), given)

    def _round(self):
        """A round in which as many prompts as possible are read."""
        requests = {}
        for i in range(self._settings.prefill):
            prompt = (i, *[0] * (self._asked.longest - 1))
            requests[i] = Request(str(i), prompt, np.zeros(2, np.uint32), {})
        return next(self._admission.rounds(requests))

    def read(self) -> Program:
        """Reads the last part of prompts."""
        self._admission.forget()
        size, reading = self._round().reads[-1]
        given = self._host(reading)
        count, length = given.tokens.shape[1:]
        shape = f"{count} prompts x {length} tokens, {size} entries"
        return self._program(
            "read", shape, self._programs.prefill(size), self.prompts, given
        )

    def enter(self) -> Program:
        """Starts rows from prompts that were read."""
        self._admission.forget()
        given = self._host(self._round().insertion)
        shape = f"{given.slot.shape[1]} rows"
        fn = self._programs.insert
        return self._program("enter", shape, fn, self._batch, self.prompts, given)

    def decode(self) -> Program:
        """Decodes a chunk."""
        c = self._settings
        shape = f"{c.slots} rows x {self._sizes[-1]} entries, {c.chunk} steps"
        name = "decode" if self._asked.statistics else "decode, no statistics"
        tau = array((self._devices.count,), jnp.float32)
        return self._program(name, shape, self._programs.decode, self._batch, tau)

    def edit(self) -> Program:
        """Releases paused rows."""
        slots = self._settings.slots * self._devices.count
        given = self._host(edit_paused(_NOTHING, [None] * slots, []))
        fn = self._programs.apply_edit
        return self._program(
            "edit", f"{self._settings.slots} rows", fn, self._batch, given
        )

    def resize(self) -> Program:
        """Makes the last array of the cache longer: the others are longer already."""
        last, first = self._sizes[-1], self._sizes[-2:][0]
        new, old = (
            jax.tree.leaves((batch.cache, batch.ancestor_cache))
            for batch in (self._batch, self._shorter)
        )
        fn = self._programs.resize(last, -2)  # values come last
        shape = f"1 of {len(new)} arrays, {first} to {last} entries"
        lower = lowering(self._devices, fn, {KEYS: old[-1]}, params=())
        apart = bytes_of(self._batch) - bytes_of(new[-1])
        note = " + ancestor" * (self._asked.ancestor is not None)
        made_of = "resize", self._asked, self._sizes, self._settings.slots
        dtype = self._dtype.name
        return Program("resize" + note, shape, lower, (), dtype, made_of, apart)

    def probe(self) -> Program:
        """Scores forced answers."""
        rows, length = probe_trees.ROWS[-1], probe_trees.LENGTHS[-1]
        number = lambda *sizes: array((self._devices.count, *sizes), jnp.int32)
        grid, line = number(rows, length), number(rows * length)
        trees = probe_trees.TreeBatch(
            rows=number(rows),
            tokens=grid,
            positions=grid,
            prefix=grid,
            ends=grid,
            at=line,
            targets=line,
        )
        own = self._batch.rows
        steer = (own.vector, own.vector_strength) if self._asked.vectors else ()
        shape = f"{rows} trees x {length} tokens"
        fn = self._programs.probe
        return self._program("probe", shape, fn, self._batch.cache, trees, *steer)


_NOTHING: Any = None  # no row is paused, so there is no question


def sampler_params(asked: Asked, devices: Devices):
    """Shapes of an engine's parameters, where they lie.

    Args:
        asked: What the engine is for.
        devices: Devices of one process.

    Returns:
        `ModelParams` of shapes.
    """
    dtype = choose_dtype()
    layer = lambda model: shapes_of(
        lambda params: layered(Transformer(model), params, devices),
        parameters(model, dtype),
    )
    trees = [layer(model) for model in asked.models]
    table: Any = asked.vectors and array(
        (asked.model.layers, asked.vectors, asked.model.width), jnp.float32
    )
    second = trees[1] if len(trees) > 1 else None
    return by_path(state.ModelParams(trees[0], second, table or None), devices.mesh)


def score_program(asked: Asked, devices: Devices) -> Program:
    """The program that scores given tokens, at the longest row.

    Args:
        asked: Shapes of the models, of prompts and of completions.
        devices: Devices of one process.

    Returns:
        The program.
    """
    dtype, bucket = choose_dtype(), lambda length: -(-length // 32) * 32
    size, width = bucket(asked.prompt + asked.new), bucket(asked.new)
    rows = rows_per_pass(max(m.heads for m in asked.models), size, _SCORED)
    both = [Transformer(model, dtype) for model in asked.models]
    fn = make_score(both[0], both[1] if both[1:] else None, devices, width)
    params = sampler_params(asked, devices)
    lead = lambda *sizes: array((devices.count, *sizes), jnp.int32)
    tau = array((devices.count,), jnp.float32)
    lower = lowering(devices, fn, lead(rows, size), lead(rows), tau, params=params)
    name = "score" + " + ancestor" * (asked.ancestor is not None)
    uses = ("sampler", "second")[: len(both)]
    return Program(name, f"{rows} rows x {size} tokens", lower, uses, dtype.name)
