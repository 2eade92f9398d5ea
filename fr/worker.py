"""A bounded process: `python -m fr.worker module:function seconds bytes`. Imports no
jax.

It writes `{"ready": ...}` first. Then it reads one JSON list of arguments per line and
writes one line: `{"value": ...}`, `{"error": ...}`, or `{"limit": ...}` where time or
memory ran out.
"""

import json
import os
import signal
import sys

from fr.user_modules import import_named


class OutOfTime(BaseException):
    """A call has spent its processor time; nothing that it calls may catch this."""


def _stop(*_) -> None:
    raise OutOfTime


def main() -> None:
    """Serve calls until stdin ends, which also happens when the parent dies."""
    module, function = sys.argv[1].split(":")
    seconds = float(sys.argv[2])
    # The protocol keeps the real stdout; a grader's prints must not mix with it.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    call = getattr(import_named(module), function)
    # A runaway expression fails here instead of filling the machine.
    if sys.platform == "linux":
        _limit_memory(int(sys.argv[3]))
    signal.signal(signal.SIGPROF, _stop)
    answers.write('{"ready": true}\n')
    for line in sys.stdin:
        # The default action ends the process, even inside C code, if the parent is
        # gone.
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


def _limit_memory(more: int) -> None:
    """Allow `more` bytes of address space beyond the imports."""
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more,) * 2)


if __name__ == "__main__":
    main()
