"""A run on a mixed task: every part is a cell of its own problems, and no policy reads
two parts as one.
"""

import copy
import dataclasses
import zlib

import numpy as np
import pytest
from synthetic_profiles import routing_data

from fr import store
from fr.config import Config, InterventionConfig, SamplingConfig, TaskConfig
from fr.errors import UserError
from fr.pipeline.diagnose import diagnose
from fr.pipeline.intervene import intervene
from fr.pipeline.online import open_router
from fr.pipeline.sample import sample
from fr.profiles import read_profiles
from fr.runs.run import Run, check_chat
from fr.sampling.devices import Devices
from fr.tasks import make
from fr.tasks.mixed import Mixed
from fr.types import RIGHT, WRONG

PARTS = ("sums", "letters", "gcd")
TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


class Lucky(Mixed):
    """Sums are right in every third attempt, the rest in every sixth: an untrained
    model solves nothing.
    """

    def grade(self, problem, completion):
        return (
            WRONG
            if zlib.crc32(completion.encode()) % (3 if problem.task == "sums" else 6)
            else RIGHT
        )


@pytest.fixture(scope="module")
def done(tiny_model, plain_engine, tmp_path_factory):
    tokenizer = copy.deepcopy(tiny_model.tokenizer)
    tokenizer.chat_template = TEMPLATE
    config = Config(
        task=TaskConfig(name="mixed", parts=PARTS, problems=9),
        sampling=SamplingConfig(
            rollouts=4, max_new_tokens=8, slots=4, chunk=4, shard_rows=20
        ),
        intervention=InterventionConfig(("retry", "hot", "sparse_steer"), 3),
    )
    task, workdir = Lucky(config.task), tmp_path_factory.mktemp("mixed")
    chat = dataclasses.replace(tiny_model, tokenizer=tokenizer)
    problems = task.problems("test", 9)
    run = Run(config, workdir, task, problems, chat, None, Devices("one"))
    run._engines[False] = plain_engine
    sample(run)
    return run, diagnose(run), intervene(run)


def test_every_part_is_a_cell_of_its_own_problems(done):
    run, failures, attempts = done
    cells = read_profiles(run.workdir / "profiles.csv")
    assert [cell.cell for cell in cells] == [f"{run.names[0]}|{part}" for part in PARTS]
    assert failures["failed_problems"] == sum(map(len, cells)) > 6
    assert attempts["left_out"] == {"sparse_steer": "needs an ancestor"}
    tried = list(store.read(run.workdir / "attempts"))
    assert {a.task for a in tried} == set(PARTS)
    for cell, part in zip(cells, PARTS):
        own = [p.id for p in run.problems if p.task == part]
        assert (
            set(cell.problems) <= set(own)
            and len(cell) + cell.excluded == len(own) == 3
        )
        assert cell.operators == ("retry", "hot")
        for name, rates in zip(cell.operators, cell.rates.T):
            for problem, rate in zip(cell.problems, rates):
                right = [
                    a.grade == RIGHT
                    for a in tried
                    if (a.problem, a.operator) == (problem, name)
                ]
                assert len(right) == 3 and np.isclose(np.mean(right), rate)


def test_the_parts_are_the_families_that_routing_compares(done):
    cells = read_profiles(done[0].workdir / "profiles.csv")
    assert (
        routing_data(*cells).families == PARTS
    )  # a best fixed operator of each, and one to leave out at a time


def test_online_only_a_policy_that_reads_nothing_routes_a_mixture(done):
    run = done[0]
    assert open_router(run, "fixed:hot", None, None).choose({}) == "hot"
    with pytest.raises(
        UserError,
        match="--router=rule routes failures of one task .* sums, letters, gcd; set",
    ):
        open_router(run, "rule", None, None)


def test_without_a_template_a_model_is_asked_in_plain_text_unless_one_is_demanded(
    tiny_model, capsys
):
    config = Config(task=TaskConfig(name="sums"))
    prompt = make(config.task).prompt(make(config.task).problems("test")[0])
    check_chat(config, tiny_model, prompt)
    assert (
        "tiny has no chat template: it is asked in plain text"
        in capsys.readouterr().out
    )
    demanded = Config(task=TaskConfig(name="sums", chat="template"))
    with pytest.raises(
        UserError, match="tiny has no chat template; set config.task.chat=plain"
    ):
        check_chat(demanded, tiny_model, prompt)
    check_chat(demanded, tiny_model, "3 7 -> 10 :")  # a prompt that is text anyway
