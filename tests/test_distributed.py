"""Several processes of one run: the bytes of one process, and an end in one line where
one of them is lost.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from fr import distributed
from fr.errors import UserError
from fr.models import ModelConfig, save
from fr.models.transformer import init_params
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer

ROOT = pathlib.Path(__file__).parents[1]
SHORT = {
    "task.problems": 6,
    "sampling.rollouts": 4,
    "sampling.slots": 8,
    "sampling.shard_rows": 8,
    "sampling.max_new_tokens": 32,
    "intervention.attempts": 2,
    "routing.bootstrap": 50,
    "routing.splits": 10,
    "routing.permutations": 10,
}
TRAINED = {
    "training.steps": 30,
    "training.batch": 4,
    "training.warmup_steps": 5,
    "training.checkpoint_every": 5,
}
# The bonus moves a random model, which is never right.
LEARNT = {
    "algorithm": "grpo",
    "sampling.slots": 8,
    "sampling.chunk": 8,
    "policy.steps": 2,
    "policy.prompts": 4,
    "policy.rollouts": 2,
    "policy.max_new_tokens": 8,
    "policy.entropy": 0.1,
    "policy.kl": 0.01,
    "policy.learning_rate": 1e-3,
    "policy.eval_every": 0,
    "policy.checkpoint_every": 1,
}
AGAIN = "so this process ends too; start the same command again for every process"


def _address() -> str:
    with socket.create_server(("", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def _start(commands: list[list[str]], devices: int = 1) -> list[subprocess.Popen]:
    # Theirs alone: this process may not have read its own flags yet, and each of theirs
    # compiles all programs.
    flags = "--xla_backend_optimization_level=0 "
    flags += f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "XLA_FLAGS": flags}
    pipe = subprocess.PIPE
    return [
        subprocess.Popen(c, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True)
        for c in commands
    ]


def _script(
    name: str,
    workdir: pathlib.Path,
    settings: dict,
    count: int = 1,
    devices: int = 1,
    more: tuple[str, ...] = (),
) -> list[subprocess.Popen]:
    """`count` processes of a script, each with `devices` devices."""
    command = [
        sys.executable,
        f"scripts/{name}.py",
        "--config=configs/quickstart.py",
        f"--workdir={workdir}",
        *more,
    ]
    command += [f"--config.{name}={value}" for name, value in settings.items()]
    if count == 1:
        return _start([command], devices)
    command += [f"--processes={count}", f"--coordinator={_address()}", "--heartbeat=20"]
    return _start([[*command, f"--process={i}"] for i in range(count)], devices)


def _finish(running: list[subprocess.Popen]) -> list[str]:
    """Standard output of every process of a run that must succeed."""
    told = [process.communicate(timeout=500) for process in running]
    assert not any(process.returncode for process in running), told
    return [out for out, _ in told]


def _lines(errors: str) -> list[str]:
    """Lines of stderr without progress: bars, which are drawn over, and programs that
    take long to compile.
    """
    pieces = (line for line in re.split(r"[\r\n]+", errors) if line.strip())
    return [line for line in pieces if not re.search(r"%\||/s\]|^  compiling ", line)]


def _kill(
    running: list[subprocess.Popen], victim: int, workdir: pathlib.Path, made: str
) -> str:
    """The one line that the survivor of two ends with; `victim` is killed when
    `workdir` holds a file `made`.
    """
    while not list(workdir.glob(made)):
        assert [process.poll() for process in running] == [None, None], [
            p.communicate() for p in running
        ]
        time.sleep(0.02)
    running[victim].send_signal(signal.SIGKILL)
    running[victim].communicate()
    survivor = running[1 - victim]
    _, errors = survivor.communicate(timeout=100)
    assert survivor.returncode not in (0, 2)
    lines = _lines(errors)
    assert len(lines) == 1, lines
    return lines[0]


def _results(workdir: pathlib.Path) -> dict[str, bytes]:
    kept = ("*.parquet", "*.csv", "*.png", "*.json", "*.safetensors")
    files = [
        file
        for pattern in kept
        for file in workdir.rglob(pattern)
        if "checkpoints" not in file.parts
    ]
    return {str(file.relative_to(workdir)): file.read_bytes() for file in sorted(files)}


def _assert_equal(ours: pathlib.Path, theirs: pathlib.Path) -> None:
    ours, theirs = _results(ours), _results(theirs)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict:
    """Settings of a short run by a random model."""
    folder = tmp_path_factory.mktemp("models") / "child"
    config = ModelConfig(
        vocab=VOCABULARY, width=32, layers=2, heads=2, kv_heads=2, head_dim=16, ff=64
    )
    save(folder, config, init_params(config, jax.random.key(1)), countdown_tokenizer())
    return {**SHORT, "specialist": folder, "ancestor": ""}


def test_killed_and_started_again_it_is_one_process(tiny, tmp_path):
    _finish(_script("sample", tmp_path / "one", tiny))
    several = tmp_path / "several"
    line = _kill(
        _script("sample", several, tiny, count=2), 0, several, "rollouts/shard-*"
    )
    assert line.startswith("sample.py: process 0 is gone") and AGAIN in line
    # One process more than there are shards left to make.
    missing = 3 - len(list((several / "rollouts").glob("shard-*")))
    told = _finish(_script("sample", several, tiny, count=max(missing, 1) + 1))
    assert "24 rollouts of 6 problems" in told[0] and not any(told[1:])
    _assert_equal(several, tmp_path / "one")
    assert not list((several / "rollouts").glob(".*"))  # no claim is left


# Notes who samples, and makes one process slow.
SLOW = """
import os, time
import jax
from fr.rewards import register_term
from fr.sampling.engine import Engine

register_term("slow")(lambda batch, config: 0.0)
sample, who = Engine.sample, os.environ.get("WHO", str(jax.process_index()))


def slowly(*args, **given):
    with open(os.environ["MADE"], "a") as made:
        made.write(who)
    time.sleep(6 * (who == "1"))
    return sample(*args, **given)


Engine.sample = slowly
"""


@pytest.mark.slow
def test_a_slow_process_of_a_job_makes_fewer_shards(tiny, tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    settings = tiny | {"sampling.shard_rows": 1}
    more = (f"--user_module={tmp_path / 'slow.py'}",)
    _finish(_script("sample", tmp_path / "several", settings, count=2, more=more))
    made = (tmp_path / "made").read_text()
    assert len(made) == 24 and 1 < 2 * made.count("1") < made.count("0")
    _finish(_script("sample", tmp_path / "one", settings))
    _assert_equal(tmp_path / "several", tmp_path / "one")


@pytest.mark.slow
def test_a_process_joins_a_run_and_outlives_it(tiny, tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    settings, several = tiny | {"sampling.shard_rows": 1}, tmp_path / "several"
    more = (f"--user_module={tmp_path / 'slow.py'}",)
    monkeypatch.setenv("WHO", "1")
    slow = _script("sample", several, settings, more=more)
    monkeypatch.setenv("WHO", "0")
    helping = (*more, "--join", "--heartbeat=3")
    helper = _script("sample", several, settings, more=helping)
    (tmp_path / "made").touch()
    while "0" not in (tmp_path / "made").read_text():
        assert helper[0].poll() is None, helper[0].communicate()
        time.sleep(0.02)
    slow[0].kill()
    slow[0].communicate()
    (told,) = _finish(helper)
    assert "rollouts is whole; this process made" in told
    _finish(_script("sample", several, settings))
    _finish(_script("sample", tmp_path / "one", settings))
    _assert_equal(several, tmp_path / "one")


def _assert_learnt_alike(ours: pathlib.Path, theirs: pathlib.Path) -> None:
    """The same numbers and the same model, except for the order of sums."""
    read = lambda folder: [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    ours, theirs = ours / "specialist", theirs / "specialist"
    assert len(read(ours)) == len(read(theirs))
    for line, wanted in zip(read(ours), read(theirs)):
        assert line == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    model, wanted = (
        load_file(ours / "model.safetensors"),
        load_file(theirs / "model.safetensors"),
    )
    for name in wanted:
        np.testing.assert_allclose(model[name], wanted[name], atol=1e-5, err_msg=name)


def test_processes_train_as_one(tiny, tmp_path):
    settings = LEARNT | {"ancestor": tiny["specialist"]}
    told = _finish(_script("train", tmp_path / "several", settings, count=2))
    assert "metrics.jsonl" in told[0] and not told[1]
    _finish(_script("train", tmp_path / "one", settings))
    _assert_learnt_alike(tmp_path / "several", tmp_path / "one")


# A copy of the parameters over both processes, one of the sampler in each.
DIVIDED = {
    "policy.model_axis": 4,
    "sampling.model_axis": 2,
    "lora.rank": 2,
    "policy.eval_every": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, DIVIDED, {"algorithm": "dapo", "policy.max_resample_rounds": 2}]
)
def test_training_killed_and_started_again(changes, tiny, tmp_path):
    settings = LEARNT | {"ancestor": tiny["specialist"], "policy.steps": 6} | changes
    several, devices = tmp_path / "several", 2 if changes is DIVIDED else 1
    begin = lambda workdir: _script(
        "train", workdir, settings, count=2, devices=devices
    )
    line = _kill(begin(several), 1, several, "specialist/checkpoints/1")
    assert line.startswith("train.py: process 1 is gone") and AGAIN in line
    _finish(begin(several))
    _finish(begin(tmp_path / "whole"))
    for name in ("metrics.jsonl", "model.safetensors"):
        ours, theirs = (
            tmp_path / run / "specialist" / name for run in ("several", "whole")
        )
        assert ours.read_bytes() == theirs.read_bytes(), name
    _finish(_script("train", tmp_path / "one", settings, devices=2 * devices))
    _assert_learnt_alike(several, tmp_path / "one")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """The workdir of two processes that train a specialist."""
    workdir = tmp_path_factory.mktemp("whole")
    _finish(_script("reproduce", workdir, SHORT | TRAINED, count=2))
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "victim"),
    [
        ("specialist/checkpoints/10", 0),
        ("rollouts/shard-*", 1),
        ("scores/shard-*", 0),
        ("attempts/shard-*", 1),
    ],
)
def test_the_whole_way_killed_in_any_stage(made, victim, whole, tmp_path):
    line = _kill(
        _script("reproduce", tmp_path, SHORT | TRAINED, count=2), victim, tmp_path, made
    )
    assert line.startswith(f"reproduce.py: process {victim} is gone") and AGAIN in line
    told = _finish(_script("reproduce", tmp_path, SHORT | TRAINED, count=2))
    assert "summary.json" in told[0] and not told[1]
    _assert_equal(tmp_path, whole)


def _pair(body: str, heartbeat: int, patience: int = 600) -> list[subprocess.Popen]:
    """Two processes of a job that run `body`, where `index` is the number of each."""
    source = f"""if True:
        import os, sys
        from fr import distributed
        from fr.errors import UserError
        index = int(sys.argv[1])
        settings = distributed.settings("2", index, "{_address()}")
        with distributed.job(settings, {heartbeat}, {patience}):
            {body}
    """
    return _start([[sys.executable, "-c", source, str(index)] for index in range(2)])


def test_what_processes_tell_each_other():
    body = """
            # The word of process 0 counts, whatever the other one saw.
            assert distributed.agree("what", ["yes", "no"][index]) == "yes"
            assert distributed.local_slice(range(5)) == [range(2), range(2, 5)][index]
            # Of unequal sizes, one of them nothing.
            for each in (["a" * 1000, b""], [None, {"x": [1.5]}]):
                assert distributed.gather(each[index]) == each
            print(index)
    """
    # The chatter of collectives does not get through.
    assert _finish(_pair(body, 60)) == ["0\n", "1\n"]


@pytest.mark.parametrize(
    "meets",
    ['wait("a barrier")', pytest.param("gather(index)", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(("raised", "code"), [("UserError", 2), ("ValueError", 1)])
def test_what_one_process_raises_ends_the_others(raised, code, meets):
    body = f"""
            if index == 1:
                raise {raised}("the reason")
            distributed.{meets}
    """
    began = time.monotonic()
    running = _pair(body, 60)
    (_, waiting), (_, failing) = [
        process.communicate(timeout=100) for process in running
    ]
    assert [process.returncode for process in running] == [code, code]
    (line,) = _lines(waiting)
    assert (
        "process 1" in line and "the reason" in line and raised in _lines(failing)[-1]
    )
    assert time.monotonic() - began < 55  # before a heartbeat is missed


@pytest.mark.parametrize("meets", ['wait("a barrier")', "gather(index)"])
def test_a_process_that_lives_and_hangs_ends_all_in_one_line(meets):
    body = f"""
            if index == 1:
                import time
                time.sleep(300)
            distributed.{meets}
    """
    running = _pair(body, 60, patience=10)
    (_, waiting), (_, hanging) = [
        process.communicate(timeout=100) for process in running
    ]
    assert all(process.returncode for process in running)
    (line,) = _lines(waiting)
    assert (
        "process 1" in line
        and "has made no progress for 10 s" in line
        and "--patience" in line
    )
    assert "process 1 has made no progress for 10 s" in _lines(hanging)[-1]


def test_killed_in_a_collective():
    body = """
            distributed.gather(index)
            if index == 1:
                os.kill(os.getpid(), 9)
            distributed.gather(index)
    """
    survivor, victim = _pair(body, 3)
    _, errors = survivor.communicate(timeout=100)
    assert survivor.returncode not in (0, 2) and victim.wait() == -signal.SIGKILL
    (line,) = _lines(errors)
    assert "process 1 is gone" in line and AGAIN in line


# As jaxlib 0.10.2 and 0.12.0.1 wrote them, shortened.
SILENT = """E1122 15:05:30.647554   14116 coordination_service.cc:1549] \
[21] Use error polling: UNAVAILABLE:
1
The tasks have crashed. Check the task logs for an earlier error.
E1122 15:05:30.649113   14127 coordination_service_agent.cc:289] \
Polled an error from coordination service.
F1122 15:05:30.649220   14127 client.h:80] \
Terminating process because the JAX distributed service detected \
fatal errors. absl::Status: UNAVAILABLE: \
The following tasks are unhealthy (stopped sending heartbeats):
2
1
The tasks have crashed. Check the task logs for an earlier error.

RPC: /xla.coordination.CoordinationService/PollForError
*** Check failure stack trace: ***
    @     0x7f6dea240634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""
LEADERLESS = """F1122 15:07:32.823531   14988 client.h:86] \
Terminating process because the JAX distributed service \
detected fatal errors. absl::Status: UNAVAILABLE: \
Failed to send RPC to coordination service. Either the leader task
:UNAVAILABLE:Stream removed (Socket closed)
"""
ABSENT = """F1122 15:07:32.823531   14988 client.h:86] \
Terminating process because the JAX distributed service \
detected fatal errors. absl::Status: DEADLINE_EXCEEDED: Deadline Exceeded
"""


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (SILENT, "process 2, 1 is gone (killed, or not heard of for 60 s)"),
        (LEADERLESS, "process 0 is gone (killed, or out of reach)"),
        (
            ABSENT,
            "another process is gone or was never there (DEADLINE_EXCEEDED: Deadline "
            "Exceeded)",
        ),
    ],
)
def test_the_log_filter_makes_one_line_of_an_abort(written, means):
    other = "W1122 15:05:30.647554   14116 cpu_executable.cc:1] slow\n"
    assert (
        _filtered(other + written)
        == f"{other}\nx.py: {means}, so this process ends too; again\n"
    )


def test_the_log_filter_loses_nothing_else():
    mild = SILENT[: SILENT.index("F1122")]
    assert _filtered(f"a\n{mild}") == f"a\n{mild}"


def _filtered(written: str) -> str:
    command = [sys.executable, "fr/distributed/log_filter.py", "x.py", "60", "again"]
    return subprocess.run(
        command, cwd=ROOT, input=written, capture_output=True, text=True
    ).stderr


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("auto", 1, None), "--processes=auto"),
        (("two", 0, "a:1"), "--processes = 'two'"),
        (("0", 0, "a:1"), "--processes = '0'"),
        (("2", None, "a:1"), "--process = None"),
        (("2", 2, "a:1"), "--process = 2"),
        (("2", 0, None), "--coordinator = None"),
        (("2", 0, "host"), "--coordinator = 'host'"),
    ],
)
def test_flags_that_do_not_fit_are_named(given, named):
    with pytest.raises(UserError, match=named):
        distributed.settings(*given)


def test_a_taken_port_is_named():
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [
            sys.executable,
            "scripts/sample.py",
            "--config=configs/quickstart.py",
            "--workdir=unused",
        ]
        command += ["--processes=2", "--process=0", f"--coordinator={address}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and f"--coordinator = '{address}'" in done.stderr
    assert len(_lines(done.stderr)) == 1
