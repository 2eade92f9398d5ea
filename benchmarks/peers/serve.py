"""The drivers' side of the benchmark's protocol: JSON lines in and out.

Imports only the standard library. A driver is a file in this folder that calls
`serve(load)`, or `converse` if it does not sample. Its first input line holds its
settings, each further line a job; each line gets one reply.
"""

import json
import os
import resource
import sys
import time


def serve(load, device_bytes=lambda: None):
    """Sample until the input ends.

    Args:
        load: function of the settings that returns (job, description). job(request)
            returns (tokens, logp, entropy): the new tokens of each rollout, and an
            array of each statistic over all of them (None unless
            `request["statistics"]`).
        device_bytes: function that returns the accelerator's peak memory in bytes, or
            None.

    Raises:
        ValueError: if a rollout has another number of tokens than asked for.
    """

    def sampled(job, request):
        start = time.perf_counter()
        tokens, logp, entropy = job(request)
        seconds = time.perf_counter() - start
        if any(len(row) != request["new_tokens"] for row in tokens):
            raise ValueError(
                f"a rollout has {min(map(len, tokens))} tokens, not "
                f"{request['new_tokens']}"
            )
        means = (
            {"logp": float(logp.mean()), "entropy": float(entropy.mean())}
            if logp is not None
            else None
        )
        return {
            "seconds": seconds,
            "tokens": sum(map(len, tokens)),
            "first": list(map(int, tokens[0])),
            "means": means,
        }

    converse(load, sampled, device_bytes)


def converse(load, answer, device_bytes=lambda: None):
    """Reply to each line with the result of `answer(job, request)`.

    Args:
        load: as for `serve`.
        answer: function that returns a dict for the reply.
        device_bytes: as for `serve`.
    """
    # What libraries print must not get between the lines: descriptor 1 becomes stderr,
    # replies keep the real one.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**reply):
        device = device_bytes()
        memory = {
            "peak_rss_mb": peak_rss_mb(),
            "peak_device_mb": device and device / 1024**2,
        }
        replies.write(json.dumps({**reply, **memory}) + "\n")
        replies.flush()

    job, about = load(json.loads(sys.stdin.readline()))
    say(about=about)
    for line in sys.stdin:
        say(**answer(job, json.loads(line)))


def batches(request):
    """Split the prompts of a job into batches, each prompt `rollouts` times in a row.

    Args:
        request: a job, with `prompts`, `rollouts`, `limit` and `rows`.

    Returns:
        Lists of at most `rows` prompts.
    """
    rows = [
        prompt for prompt in request["prompts"] for _ in range(request["rollouts"])
    ][: request["limit"]]
    return [rows[i : i + request["rows"]] for i in range(0, len(rows), request["rows"])]


def peak_rss_mb():
    """Peak resident memory of this process, in MB."""
    try:
        with open("/proc/self/status") as lines:
            # Not ru_maxrss: there a child begins with what its parent had when it
            # forked.
            return (
                next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
                / 1024
            )
    except (OSError, StopIteration):
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
