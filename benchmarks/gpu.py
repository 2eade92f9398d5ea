r"""Everything to measure on a GPU, as one command of ten minutes.

    python -m benchmarks.gpu --out=docs/results/data/gpu.json
    python -m benchmarks.gpu --out=/tmp/gpu.json --small    # on a CPU: does it work?

Parts run one after the other, each in its own process with its own limit. The file is
written after each part, so that a run that is cut off keeps what it has. Without a GPU
it ends with exit code 2.
"""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fr.workdir import write_json

ABSENT = (
    "no GPU: jax finds {found}; start it on a machine with an NVIDIA GPU after "
    "pip install -e '.[cuda]', or try the script here with --small"
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One part of the run.

    Attributes:
        name: Its name in the file.
        limit: Seconds after which it is ended.
        command: Words of its process; the last line that it prints is JSON.
    """

    name: str
    limit: float
    command: tuple[str, ...]


# Seconds of each part at most. A GPU of the size of an H200 is expected to need about
# half of them, most of it for compiling.
LIMITS = {
    "device": 60,
    "decode 128": 80,
    "decode 128 statistics": 80,
    "decode 512": 80,
    "decode 512 statistics": 80,
    "drift": 90,
    "grpo": 120,
    "tests": 150,
}
TOTAL = 585  # seconds of all parts together


def jobs(small: bool) -> list[Job]:
    """The parts, in order.

    Args:
        small: Tiny sizes.

    Returns:
        The parts.
    """
    form = "small" if small else "full"
    run = (sys.executable, "-m", "benchmarks.gpu_parts")
    return [
        Job(name, _longer(small) * limit, (*run, name.replace(" ", "_"), form))
        for name, limit in LIMITS.items()
    ]


def _longer(small: bool) -> int:
    # The small form is a test: it must not fail because a machine is busy.
    return 10 if small else 1


def run_all(
    todo: Sequence[Job],
    out: Path,
    total: float,
    say: Callable[[str], object],
    usable: Callable[[dict], str] = lambda found: "",
) -> dict:
    """Run parts and write their results after each one.

    Args:
        todo: The parts.
        out: File to write.
        total: Seconds of all parts together.
        say: Receives a line per part.
        usable: Gives the reason to stop after the first part, from its result.

    Returns:
        What the file has: results by part, seconds, and errors of parts that failed.
    """
    found: dict = {"parts": {}, "seconds": {}, "failed": {}}
    start = time.monotonic()
    for number, job in enumerate(todo):
        left = total - (time.monotonic() - start)
        if left <= 0:
            found["failed"][job.name] = "not started: no time was left"
        else:
            begun = time.monotonic()
            result, error = _run(job, min(job.limit, left))
            found["seconds"][job.name] = round(time.monotonic() - begun, 1)
            if error:
                found["failed"][job.name] = error
            else:
                found["parts"][job.name] = result
            if number == 0 and (reason := error or usable(result)):
                found["stopped"] = reason
                return found
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, found)
        say(f"{job.name}: {found['failed'].get(job.name, 'done')}")
    return found


def _run(job: Job, limit: float) -> tuple[dict, str]:
    """The result of a part, and why there is none."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        # Its own group: a part starts processes, too, and they must end with it.
        process = subprocess.Popen(
            job.command, stdout=out, stderr=err, text=True, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return {}, f"ended after {limit:.0f} s"
            raise
        out.seek(0)
        err.seek(0)
        printed, errors = out.read().splitlines(), err.read().strip().splitlines()
    if code:
        return {}, (errors or [f"exit code {code}"])[-1]
    try:
        return json.loads(printed[-1]), ""
    except (IndexError, ValueError):
        return {}, "it printed no result"


def without_gpu(found: dict) -> str:
    """Say why the machine cannot be measured.

    Args:
        found: The result of the part `device`.

    Returns:
        The line; "" if there is a GPU.
    """
    platform = found["platform"]
    return (
        "" if platform == "gpu" else ABSENT.format(found=f"a {platform.upper()} only")
    )


def main(given: Sequence[str] | None = None) -> int:
    """Run all parts and print what the file has.

    Args:
        given: Words of the command line; None: the process's own.

    Returns:
        The exit code: 2 without a GPU, 1 if a part failed, else 0.
    """
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--out", required=True, help="JSON file to write")
    flags.add_argument(
        "--small", action="store_true", help="tiny sizes, on any machine"
    )
    flags.add_argument("--parts", default="", help="names of parts, by commas; '': all")
    asked = flags.parse_args(given)
    todo, names = jobs(asked.small), asked.parts.split(",") if asked.parts else []
    if unknown := set(names) - LIMITS.keys():
        flags.error(f"--parts: {min(unknown)!r} is none of {', '.join(LIMITS)}")
    # The device is always looked at first.
    todo = [job for job in todo if not names or job.name in ("device", *names)]
    say = lambda line: print(f"  {line}", file=sys.stderr, flush=True)
    check = (lambda found: "") if asked.small else without_gpu
    total = TOTAL * _longer(asked.small)
    found = run_all(todo, Path(asked.out), total, say, check)
    if reason := found.get("stopped"):
        print(f"benchmarks.gpu: {reason}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=1))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    # Ended by a scheduler, it takes its part with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
