"""Shortens the runtime's log: `python log_filter.py program heartbeat advice`.

jax's runtime aborts a process whose peer is gone, in a thread of its own and after some
forty lines of log. Python cannot change that: the client's callback takes a status that
has no type in Python, and a signal handler would never run. So native code writes to
this small process. It passes everything on, except the runtime's records, which become
one line that says what they mean. It imports nothing of `fr`.
"""

import re
import sys

RECORD = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ ([\w.]+):\d+\] ")
RUNTIME = ("client.h", "coordination_service.cc", "coordination_service_agent.cc")
# Written by collectives among CPUs at the first meeting of each group.
CONNECTED = "[Gloo] Rank "
FATAL = "Terminating process because the JAX distributed service detected fatal errors"


def main() -> None:
    """Filter standard input to standard error until the last writer is gone."""
    program, heartbeat, advice = sys.argv[1:]
    held: list[str] = []
    holding = False
    for line in sys.stdin:
        if line.startswith(CONNECTED):
            continue
        if record := RECORD.match(line):
            holding = record[1] in RUNTIME
        if holding:
            held.append(line)
        else:
            print(line, end="", file=sys.stderr, flush=True)
    text = "".join(held)
    if FATAL in text:
        who = meaning(text[text.index(FATAL) :], heartbeat)
        # The first line break ends a progress bar.
        text = f"\n{program}: {who}, so this process ends too; {advice}\n"
    sys.stderr.write(text)


def meaning(fatal: str, heartbeat: str) -> str:
    """The lost process, as far as the runtime knows it.

    Args:
      fatal: the runtime's text from its fatal record on.
      heartbeat: seconds without a sign of life.

    Returns:
      Half a sentence.
    """
    if silent := re.search(r"\(stopped sending heartbeats\):\s*([\d\s,]+)", fatal):
        numbers = ", ".join(re.findall(r"\d+", silent[1]))
        return f"process {numbers} is gone (killed, or not heard of for {heartbeat} s)"
    if "Failed to send RPC to coordination service" in fatal:
        return "process 0 is gone (killed, or out of reach)"
    status = fatal.splitlines()[0].rpartition("absl::Status: ")[2]
    return f"another process is gone or was never there ({status})"


if __name__ == "__main__":
    main()
