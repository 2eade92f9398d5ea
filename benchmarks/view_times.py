"""Seconds of the viewer's answers on a store, by the clock and of the processor.

python -m benchmarks.view_times --workdir=runs/million
"""

import resource
import time
from collections.abc import Callable
from pathlib import Path

from absl import app, flags

from fr.viewer.attempts_index import AttemptsIndex
from fr.viewer.lists import Viewer

WORKDIR = flags.DEFINE_string("workdir", None, "A run, such as one of million.py.")
_FILTERS = (
    {"grade": "wrong"},
    {"operator": "sparse_steer", "grade": "right"},
    {"label": "steerable"},
    {"failed": "3-7", "order": "failed"},
    {"folder": "attempts", "offset": "10000"},
)
_TRACES = ("attempts/0/5", "attempts/16/4000", "rollouts/16/100")
_MORE = "kl,varentropy,entropy_tau,delta_path"
_SEARCH = "answer ( 7 + 2 ) * 6 "


def main(_) -> None:
    """Measure and print."""
    index = _timed("index, cold", lambda: AttemptsIndex(Path(WORKDIR.value)))
    viewer = Viewer(index)
    run = _timed("facts of the run", lambda: viewer.run({}))
    print(f"{run['attempts']:,} attempts at {run['problems']:,} problems")
    first = _timed("first page", lambda: viewer.problems({}))["rows"][10]
    for given in _FILTERS:
        name = ", ".join(f"{k}={v}" for k, v in given.items())
        _timed(name, lambda given=given: viewer.problems(given))
    asked = {"name": first["name"], "task": first["task"]}
    _timed("attempts of a problem", lambda: viewer.attempts(asked))
    for trace in _TRACES:
        _timed(f"trace {trace}", lambda trace=trace: viewer.trace({"trace": trace}))
    more = {"trace": _TRACES[1], "names": _MORE}
    _timed("four more statistics", lambda: viewer.statistics(more))
    answer = _timed("search, first answer", lambda: viewer.problems({"text": _SEARCH}))
    began, used = time.perf_counter(), time.process_time()
    viewer.scans.search(_SEARCH).wait(600)
    found = viewer.problems({"text": _SEARCH})["total"]
    after = time.perf_counter() - began, time.process_time() - used
    print(f"{'search, the rest':40s} {after[0]:7.2f} s {after[1]:7.2f} s of processor")
    print(f"{answer['total']:,} problems at first, {found:,} in the end")
    viewer.scans.close()


def _timed(name: str, work: Callable) -> object:
    """The value of a call; prints its seconds and the most memory so far."""
    began, used = time.perf_counter(), time.process_time()
    value = work()
    took, cost = time.perf_counter() - began, time.process_time() - used
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    said = f"{name:40s} {took:7.2f} s {cost:7.2f} s of processor {most:6.0f} MB"
    print(said, flush=True)
    return value


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    app.run(main)
