"""Between what native code writes and the terminal: `python witness.py program heartbeat advice`.

jax's runtime ends a process whose peer is gone by an abort in a thread of its own, behind some forty lines of
log. The process cannot help it: the client's callback takes a status that has no type in Python, and a handler of
signals would never get to run. So native code writes to this small process, which passes everything on, but keeps the
runtime's records to itself and says in one line what they mean. Imports nothing of `fr`.
"""

import re
import sys

RECORD = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ ([\w.]+):\d+\] ")
RUNTIME = ("client.h", "coordination_service.cc", "coordination_service_agent.cc")
CONNECTED = "[Gloo] Rank "  # collectives among CPUs, each time that some of them meet for the first time
FATAL = "Terminating process because the JAX distributed service detected fatal errors"


def main() -> None:
    """Serve until the last writer is gone."""
    program, heartbeat, advice = sys.argv[1:]
    held, holding = [], False
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
        text = f"\n{program}: {who}, so this process ends too; {advice}\n"  # below a progress bar
    sys.stderr.write(text)


def meaning(fatal: str, heartbeat: str) -> str:
    """Who is gone, as far as the runtime knows."""
    if silent := re.search(r"\(stopped sending heartbeats\):\s*([\d\s,]+)", fatal):
        numbers = ", ".join(re.findall(r"\d+", silent[1]))
        return f"process {numbers} is gone (killed, or not heard of for {heartbeat} s)"
    if "Failed to send RPC to coordination service" in fatal:
        return "process 0 is gone (killed, or out of reach)"
    return f"another process is gone or was never there ({fatal.splitlines()[0].rpartition('absl::Status: ')[2]})"


if __name__ == "__main__":
    main()
