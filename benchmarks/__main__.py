r"""Measure `fr` against its peers, against the machine's limits and against its goals.

    benchmarks/make_peers.sh /tmp/peers    # once; prints the --peer flags
    python -m benchmarks --workdir=/tmp/benchmark \
        --peer=transformers:/tmp/peers/transformers/bin/python \
        --peer=llama_cpp:/tmp/peers/llama_cpp/bin/python \
        --peer=tunix:/tmp/peers/tunix/bin/python
    python -m benchmarks --workdir=/tmp/benchmark --parts=update \
        --peer=trl:/tmp/peers/trl/bin/python \
        --model=countdown --config=configs/countdown_grpo.py

Every system runs in its own process, and they take turns. Writes benchmark.json to
--workdir. `--full` is the long form and `--short` one for every commit; both take the
same flags.
"""

import sys

from absl import flags
from etils import epath

from fr import cli
from fr.config import Config, freeze
from fr.errors import UserError
from fr.workdir import write_json

cli.define_flags(model=False)
flags.DEFINE_string(
    "model",
    None,
    "What is sampled: smollm2, or countdown with --short; or any name of a model.",
)
flags.DEFINE_multi_string(
    "peer", [], "name:/path/to/python of transformers, llama_cpp, tunix or trl."
)
flags.DEFINE_list(
    "parts", [], "What is measured; everything that can be, unless given."
)
flags.DEFINE_list("rows", [], "Numbers of rows; 1,8,32,64,128 unless given.")
flags.DEFINE_integer("repeats", 3, "Timed runs of each thing.", lower_bound=1)
flags.DEFINE_bool("full", False, "64 problems x 16 rollouts x 128 tokens.")
flags.DEFINE_bool("short", False, "A tiny model and tiny sizes: does it work?")


def main() -> None:
    """Measure, print and write.

    Raises:
        UserError: if flags exclude each other or are not numbers of rows.
    """
    given = flags.FLAGS
    cli.require(workdir=given.workdir)
    if given.full and given.short:
        raise UserError("--full and --short exclude each other")
    if not all(word.isdigit() and int(word) for word in given.rows):
        raise UserError(
            f"--rows={','.join(given.rows)} must be numbers of rows, e.g. 64,128"
        )
    from benchmarks.report import figures_table, roofline_lines, systems_table
    from benchmarks.run import Settings, benchmark

    c = freeze(given.config) if given.config else Config()
    settings = Settings(
        model=given.model or ("countdown" if given.short else "smollm2"),
        form="full" if given.full else "short" if given.short else "default",
        peers=tuple(given.peer),
        parts=tuple(given.parts),
        rows=tuple(map(int, given.rows)),
        repeats=given.repeats,
        policy=c.policy if given.config else None,
        engine={
            "chunk": c.sampling.chunk,
            "prefill": c.sampling.prefill,
            "tau": c.diagnosis.tau,
        },
    )
    found = benchmark(
        settings, say=lambda line: print(f"  {line}", file=sys.stderr, flush=True)
    )
    write_json(epath.Path(given.workdir) / "benchmark.json", found.record())
    if found.systems:
        print(systems_table(found.systems))
    if "roofline" in found.parts:
        print(f"\n{roofline_lines(found.parts['roofline'].record)}")
    print(f"\n{figures_table(found.verdict, found.parts, found.failed, given.short)}")
    print(f"\n  benchmark.json is in {given.workdir}")


if __name__ == "__main__":
    cli.run(main)
