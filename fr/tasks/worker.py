"""What a grader process runs: `python -m fr.tasks.worker module:function seconds`. Imports no jax.

Reads one JSON list of arguments a line, writes `{"value": ...}`, `{"error": ...}` or, where time or
memory ran out, `{"limit": ...}` a line; `{"ready": ...}` first.
"""

import importlib
import json
import os
import signal
import sys

MEMORY = 4 << 30  # bytes: a runaway expression fails in here instead of filling the machine


class OutOfTime(BaseException):
    """Raised inside a call that has spent its processor time; nothing that it calls may catch it."""


def _stop(*_) -> None:
    raise OutOfTime


def main() -> None:
    """Serve calls until stdin ends, which it also does when the parent dies."""
    module, function = sys.argv[1].split(":")
    seconds = float(sys.argv[2])
    # The protocol keeps the real stdout; what a grader prints must not mix with it.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _stop)
    call = getattr(importlib.import_module(module), function)
    answers.write('{"ready": true}\n')
    for line in sys.stdin:
        # The default action ends the process, even inside C code, should the parent be gone.
        signal.setitimer(signal.ITIMER_REAL, 4 * seconds)
        try:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            reply = {"value": call(*json.loads(line))}
            signal.setitimer(signal.ITIMER_PROF, 0)
        except OutOfTime:
            reply = {"limit": f"no answer in {seconds:g} s of processor time"}
        except MemoryError as error:
            reply = {"limit": f"MemoryError: {error}"[:500]}
        except Exception as error:  # told apart from a wrong answer by the parent
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
