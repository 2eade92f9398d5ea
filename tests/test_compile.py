"""Programs compiled ahead of time: which there are, and what is read off their text."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fr.compiling.abstract import Program, Stage
from fr.compiling.hlo import Shape, parse
from fr.compiling.measure import compile_all
from fr.compiling.planner import Planner, with_changes
from fr.compiling.report import blocks, record_of
from fr.compiling.sampler_programs import Asked, engine_programs
from fr.compiling.slices import CHIPS, open_slice, types_of
from fr.compiling.traffic import read_work
from fr.compiling.training_programs import supervised_stage, training_stage
from fr.config import Config, SamplingConfig, freeze
from fr.config.algorithms import ALGORITHMS, with_settings
from fr.errors import UserError
from fr.layout.text import to_text
from fr.models import Model, sharding
from fr.models.config import ModelConfig, choose_dtype
from fr.models.transformer import Transformer, init_params
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.state import prompt_entries
from fr.training.data import PackedBatch
from fr.training.microbatches import place_batch, training_mesh
from fr.training.policy_loss import PolicyBatch
from fr.training.policy_update import PolicyUpdater
from fr.training.supervised import make_supervised_update
from fr.training.update import init_state
from fr.types import Request

ROOT = Path(__file__).parents[1]
SHAPE = ModelConfig(
    vocab=64, width=32, layers=2, heads=4, kv_heads=2, head_dim=8, ff=48
)

# A loop of seven passes: one product, one update of a row of `table`, one copy.
ALL = "(s32[], f32[8,256]{1,0}, f32[256,256]{1,0}, f32[100,256]{1,0})"
TEXT = """HloModule jit_f

%put (p0: f32[100,256], p1: f32[1,256], p2: s32[]) -> f32[100,256] {
  %p0 = f32[100,256]{1,0} parameter(0)
  %p1 = f32[1,256]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %update = f32[100,256]{1,0} dynamic-update-slice(%p0, %p1, %p2, %zero)
}

%body (arg: ALL) -> ALL {
  %arg = ALL parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %x = f32[8,256]{1,0} get-tuple-element(%arg), index=1
  %w = f32[256,256]{1,0} get-tuple-element(%arg), index=2
  %table = f32[100,256]{1,0} get-tuple-element(%arg), index=3
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %dot = f32[8,256]{1,0} dot(%x, %w), lhs_contracting_dims={1}
  %turned = f32[8,256]{0,1} copy(%dot), metadata={op_name="jit(f)/while/turn"}
  %row = f32[1,256]{1,0} slice(%turned), slice={[0:1], [0:256]}
  %new = f32[100,256]{1,0} fusion(%table, %row, %i), kind=kLoop, calls=%put
  ROOT %out = ALL tuple(%next, %turned, %w, %new)
}

%test (arg.1: ALL) -> pred[] {
  %arg.1 = ALL parameter(0)
  %i.1 = s32[] get-tuple-element(%arg.1), index=0
  %last = s32[] constant(LAST)
  ROOT %less = pred[] compare(%i.1, %last), direction=LT
}

ENTRY %main (x.1: f32[8,256], w.1: f32[256,256], t.1: f32[100,256]) -> f32[8,256] {
  %x.1 = f32[8,256]{1,0} parameter(0)
  %w.1 = f32[256,256]{1,0} parameter(1)
  %t.1 = f32[100,256]{1,0} parameter(2)
  %start = s32[] constant(0)
  %all = ALL tuple(%start, %x.1, %w.1, %t.1)
  %loop = ALL while(%all), condition=%test, body=%body
  ROOT %got = f32[8,256]{1,0} get-tuple-element(%loop), index=1
}
""".replace("ALL", ALL)


def test_loops_count_as_often_as_they_run_and_updates_what_they_write():
    work = read_work(TEXT.replace("LAST", "7"))
    x, w, row = 4 * 8 * 256, 4 * 256 * 256, 4 * 256
    dot, copy, part, put = 2 * x + w, 2 * x, 2 * row, 2 * row
    add = 3 * 4
    assert work.flops == 7 * 2 * 8 * 256 * 256
    # The fusion also reads its index.
    assert work.bytes == 7 * (dot + copy + part + put + add + 4) + 0
    assert work.largest_copies() == [
        {"shape": "f32[8,256]", "source": "while/turn", "calls": 7, "bytes": 7 * x}
    ]
    assert work.open_loops == 0


def test_a_loop_whose_length_is_data_is_marked():
    """Data give the end, then the start: as for rows of full length."""
    work = read_work(
        TEXT.replace("constant(LAST)", "get-tuple-element(%arg.1), index=1")
    )
    assert (work.open_loops, work.flops) == (1, 0)
    text = TEXT.replace("%start = s32[] constant(0)", "%start = s32[] negate(%x.1)")
    work = read_work(text.replace("LAST", "3"))
    assert (work.open_loops, work.flops) == (1, 3 * 2 * 8 * 256 * 256)


def test_a_kernel_counts_what_it_says_of_itself():
    said = '"cost_estimate":{"flops":"40","bytes_accessed":"500"}'
    call = 'custom-call(%a, %a), custom_call_target="tpu_custom_call"'
    head = "HloModule m\n\nENTRY %main (a: f32[64,64]) -> f32[8] {\n"
    head += "  %a = f32[64,64]{1,0} parameter(0)\n  ROOT %k = f32[8]{0} " + call
    config = f', backend_config={{"custom_call_config":{{{said}}}}}'
    work = read_work(head + config + "\n}\n")
    assert (work.bytes, work.flops) == (500, 40)
    # One that says nothing may have read all that it was given.
    assert read_work(head + "\n}\n").bytes == 2 * 64 * 64 * 4 + 8 * 4


def test_tiles_round_up_and_the_chip_is_not_memory():
    text = "ENTRY %m (a: f32[3]) -> f32[3] {\n  ROOT %a = TYPE parameter(0)\n}\n"
    read = lambda kind: parse(text.replace("TYPE", kind))[0]["m"].root.shapes
    (tiled,) = read("bf16[5,3,32]{2,1,0:T(8,128)(2,1)}")
    assert tiled == Shape("bf16", (5, 3, 32), (2, 1, 0), (8, 128))
    assert tiled.bytes == 5 * 8 * 128 * 2
    assert read("f32[5,3]{1,0:T(8,128)S(1)}")[0].bytes == 0
    both = read("(s32[], (pred[7]{0}, f8e4m3fn[2,2]{1,0}))")
    assert [shape.bytes for shape in both] == [4, 7, 4]


def test_products_of_convolutions_are_those_that_meet_the_input():
    # A product with batch axis 3 as the TPU compiler writes it, and a sum of two taps.
    head = "ENTRY %m (a: f32[1]) -> f32[1] {\n"
    batched = (
        "  %a = f32[3,4,5] parameter(0)\n  %b = f32[3,5,6] parameter(1)\n"
        "  ROOT %c = f32[3,4,6] convolution(%a, %b), window={size=3 stride=2 "
        "pad=0_0 lhs_dilate=3}, dim_labels=0bf_0io->0bf\n}\n"
    )
    assert read_work(head + batched).flops == 3 * 2 * 4 * 5 * 6
    padded = (
        "  %a = f32[1,4,1] parameter(0)\n  %b = f32[2,1,1] parameter(1)\n"
        "  ROOT %c = f32[1,5,1] convolution(%a, %b), window={size=2 pad=1_1}, "
        "dim_labels=b0f_0io->b0f\n}\n"
    )
    assert read_work(head + padded).flops == 2 * (5 * 2 - 2)


def test_a_compiled_program_of_this_machine_is_read():
    def f(w, x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0]

    w, x = jnp.ones((64, 64)), jnp.ones((16, 64))
    work = read_work(jax.jit(f).lower(w, x).compile().as_text())
    assert work.flops == 5 * 2 * 16 * 64 * 64
    assert work.bytes >= 5 * 4 * 64 * 64


def test_programs_from_shapes_are_those_of_an_engine():
    """The text of every program, against the engine's own with real arrays."""
    c = SamplingConfig(slots=4, chunk=3, prefill=2)
    devices, prompt, new = Devices("one"), 40, 57
    made, held = engine_programs(Asked(SHAPE, prompt, new), c, devices)
    texts = {one.name: one.lower().as_text() for one in made}
    engine = Engine(
        Transformer(SHAPE),
        init_params(SHAPE, jax.random.key(0)),
        slots=4, chunk=3, prefill=2, devices=devices,
    )  # fmt: skip
    batch, own = engine._batch, engine._batch._programs
    batch.start(prompt + new)
    batch.reserve_prompts(prompt_entries(prompt))
    batch.resize(prompt + new)
    key = np.zeros(2, np.uint32)
    asked = {i: Request(str(i), (i, *range(prompt - 1)), key, {}) for i in range(2)}
    entering = next(engine._admission.rounds(asked))
    given, kept = batch._params, batch._prompt_cache
    size, reading = entering.reads[-1]
    read = devices.shard_batch(reading)
    rows = devices.shard_batch(entering.insertion)
    wanted = {
        "read": own.prefill(size).lower(given, kept, read),
        "enter": own.insert.lower(given, batch.state, kept, rows),
        "decode": own.decode.lower(given, batch.state, batch._tau),
    }
    for name, lowered in wanted.items():
        assert texts[name] == lowered.as_text(), name
    parameters = jax.tree.leaves(batch._params)
    assert held["sampler"] == sum(leaf.nbytes for leaf in parameters)


def test_updates_from_shapes_are_those_of_trainings():
    """The text of each update, against the one that real arrays give."""
    changes = {"algorithm": "grpo", "policy.kl": "0.1", "policy.minibatches": "2"}
    changes |= {"policy.prompts": "4", "policy.rollouts": "2", "policy.steps": "1"}
    changes |= {"policy.max_new_tokens": "8", "training.batch": "2"}
    changes |= {"training.sequence": "24", "policy.learning_rate": "1e-3"}
    config, place = with_changes(Config(), changes), open_slice("cpu")
    mesh = training_mesh(1, list(place.devices))
    params = init_params(SHAPE, jax.random.key(0))
    cursor = {"cursor": np.int32(0)}  # as both trainings have it
    begin = lambda settings: init_state(params, settings).replace(extra=cursor)
    start = lambda settings: sharding.shard_tree(begin(settings), mesh)

    stage = supervised_stage(config, config.training, SHAPE, place)
    grid = np.zeros((2, 24), np.int32)
    packed = PackedBatch(grid, grid, grid, grid.astype(np.float32))
    update = make_supervised_update(SHAPE, config.training, config.lora, mesh)
    wanted = update.lower(start(config.training), place_batch(packed, mesh), None)
    assert stage.programs[0].lower().as_text() == wanted.as_text()

    stage = training_stage(config, SHAPE, place, prompt=30)
    texts = {one.name: one.lower for one in stage.programs}
    algorithm = with_settings(ALGORITHMS["grpo"], config.policy)
    model = Model(SHAPE, sharding.shard_tree(params, mesh), None, (0,), "tiny")
    updater = PolicyUpdater(config, model, algorithm, mesh)
    line, some = np.zeros((4, 16), np.float32), np.zeros(4, np.int32)
    rows = PolicyBatch(
        tokens=np.zeros((4, 48), np.int32), start=some, mask=line > 0, old_logp=line,
        advantages=line, ref_logp=line, drawn_logp=line, fresh=some > 0,
    )  # fmt: skip
    placed, state = place_batch(rows, mesh), start(config.policy)
    wanted = updater._update.lower(state, placed, None)
    assert texts["update"]().as_text() == wanted.as_text()
    given = placed.tokens, placed.start, 16
    for name, read, own in (
        ("old log-probs", updater._logps, state.params),
        ("reference log-probs", updater._ancestor_logps, updater._ancestor),
    ):
        assert texts[name]().as_text() == read.lower(own, *given, frozen=None).as_text()
    # Everything that is there at a time: three copies of the model, its moments, and
    # what the sampler keeps.
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert stage.held["parameters"] == stage.held["ancestor"] == size
    assert 2 * size <= stage.held["moments"] <= 2 * size + 64
    update = next(one for one in stage.programs if one.name == "update")
    beside = stage.held["ancestor"] + stage.held["sampler"] + stage.held["prompts"]
    assert stage.beside(update) == beside


def test_a_study_names_its_arms_and_compiles_nothing_twice():
    config, place = _study("exploration"), open_slice("cpu")
    found = list(Planner(place, 32).stages(config))
    owners = dict.fromkeys(owner for owner, _ in found)
    assert [*owners] == [
        "ancestor", "responses", "critic", "plain", "kl_cov", "critiqued"
    ]  # fmt: skip
    kinds = {owner: stage.name for owner, stage in found if "test" not in stage.name}
    assert kinds["responses"] == "run"
    assert kinds["critic"] == "supervised training"
    assert kinds["critiqued"] == "policy optimisation"
    compiled = []
    with_text = [
        (owner, stage)
        for owner, stage in found
        if owner in ("plain", "critiqued") and stage.name == "policy optimisation"
    ]
    for _, stage in with_text:
        stage.programs[:] = [p for p in stage.programs if p.name == "resize"]
    rows = compile_all(with_text, place, 0.0, lambda key: None, compiled.append)
    assert len(rows) == len(compiled) == 1
    assert rows[0].used_by == (
        "plain: policy optimisation",
        "critiqued: policy optimisation",
    )
    again = compile_all(
        with_text, place, 0.0, lambda key: vars(compiled[0]), compiled.append
    )
    assert len(compiled) == 1 and again[0].seconds == rows[0].seconds


def _study(name: str, form: str = "short") -> Config:
    path = ROOT / "configs" / "studies" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return freeze(module.get_config(form))


def test_what_does_not_fit_has_a_line_and_the_table_has_100_columns():
    place = open_slice("cpu")
    found = Planner(place, 32).stages(_study("exploration"))
    stages = [each for each in found if each[0] == "critic"][:1]
    stages[0][1].held["sampler"] = 10**15
    rows = compile_all(stages, place, 0.0, lambda key: None, lambda one: None)
    record = json.loads(json.dumps(record_of(rows, place, 32)))
    text = to_text(blocks(record))
    assert max(map(len, text.splitlines())) <= 100
    assert "does not fit: update, " in text and "needs 1000000." in text
    (row,) = record["programs"]
    assert row["flops"] > 0 and row["held"] > 10**15


class Refused:
    """A program that a compiler refuses."""

    def as_text(self) -> str:
        """Its text."""
        return "too much"

    def compile(self, options):
        """Refuse, in two lines."""
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 20.0G of 15.7G\nmore")


def test_what_a_compiler_refuses_has_its_words():
    stage = Stage("run", [Program("decode", "8 rows", Refused, (), "float32")], {})
    place = open_slice("cpu")
    given = [("run", stage)], place, 0.0, lambda key: None, lambda one: None
    text = to_text(blocks(record_of(compile_all(*given), place, 32)))
    line = "the compiler refuses: decode, 8 rows: RESOURCE_EXHAUSTED: 20.0G of 15.7G"
    assert line in text.splitlines()


def test_types_are_those_of_the_slice():
    assert choose_dtype() == jnp.float32
    with types_of("tpu"):
        assert choose_dtype() == jnp.bfloat16
    assert choose_dtype() == jnp.float32


def test_a_chip_or_a_compiler_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(UserError, match="there is no chip 'b9'; name one of v5e"):
        open_slice("b9:2x2")
    with pytest.raises(UserError, match="a machine has 1 to 8"):
        open_slice("h200:9")
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(UserError, match=r"pip install 'jax\[tpu\]=="):
        open_slice("v5e:2x2")


def test_the_script_refuses_in_one_line(tmp_path):
    done = _run(tmp_path, "--topology=x9")
    assert done.returncode == 2
    assert done.stderr.startswith("compile.py: --topology=x9: there is no chip 'x9'")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="no TPU compiler")
def test_a_training_compiles_for_a_slice_of_tpus():
    changes = {"algorithm": "grpo", "policy.prompts": "4", "policy.rollouts": "2"}
    changes |= {"policy.model_axis": "2", "sampling.model_axis": "2"}
    changes |= {"sampling.slots": "8", "policy.max_new_tokens": "24"}
    changes |= {"policy.steps": "1", "policy.learning_rate": "1e-3"}
    place = open_slice("v5e:2x2")
    with types_of(place.platform):
        stage = training_stage(with_changes(Config(), changes), SHAPE, place, 40)
        stage.programs[:] = [
            p for p in stage.programs if p.name in ("decode", "update")
        ]
        given = [("training", stage)], place, -1.0, lambda key: None, lambda one: None
        rows = {row.program: row for row in compile_all(*given)}
    assert len(place.devices) == 4 and place.chip == CHIPS["v5e"]
    hosts = open_slice("v5e:4x4")  # 16 chips, 4 of a host
    assert (len(hosts.devices), len(hosts.host)) == (16, 4)
    for row in rows.values():
        assert row.argument > 0 and row.roofline > 0 and not row.problem(place.chip)
    # Keys and values in bfloat16, heads divided over two devices, tiles of 128.
    assert rows["decode"].argument > 2 * 2 * 8 * 1 * 64 * 8 * 2


def _run(folder: Path, *more: str) -> subprocess.CompletedProcess:
    config = f"--config={ROOT}/configs/studies/exploration.py:short"
    command = [sys.executable, ROOT / "scripts" / "compile.py", config]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command += [f"--workdir={folder}", *more]
    return subprocess.run(command, env=env, text=True, capture_output=True)
