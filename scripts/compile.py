r"""Compile the programs of a config for a slice that need not be there.

    python scripts/compile.py --config=configs/qwen3_pcs_pod.py --topology=v5p:2x2x1 \
        --workdir=runs/compiled
    python scripts/compile.py --config=configs/studies/triage.py:pod \
        --topology=v5e:4x4 --model=shapes/Qwen3-1.7B --workdir=runs/compiled

Every program of the config's trainings, of its run or of the arms and tests of its
study is lowered from shapes alone and compiled by the slice's own compiler: no weights,
no device. TPUs need the extra [tpu], GPUs the extra [cuda]. Prints time, memory,
operations and bytes moved of each program, and writes compile.json to --workdir. What
was compiled before is read from there (programs/). Ends with exit code 1 if a program
does not fit.
"""

import dataclasses
import os
import sys

from absl import flags
from etils import epath

from fr import cli

# Programs are compiled for the slice; this machine computes nothing. Here, because a
# module of --user_module may import jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
cli.define_flags(model=False)
flags.DEFINE_string(
    "topology",
    None,
    "The slice: v5e:4x4, v5p:2x2x1, v6e:2x4, h100, h200 (h200:8 for eight in one "
    "machine), or cpu, this machine.",
)
flags.DEFINE_string(
    "model",
    "",
    "A model whose shape stands for every named one: a folder with config.json, or a "
    "hub id.",
)
flags.DEFINE_integer("prompt", 256, "Tokens of the longest prompt.", lower_bound=2)
flags.DEFINE_float(
    "effort",
    0.0,
    "Effort of the compiler; 0: as in a run, -1: a tenth of the time and nearly the "
    "same memory.",
    lower_bound=-1.0,
    upper_bound=1.0,
)
flags.DEFINE_list("only", [], "Arms of a study, or training or run; all if empty.")
flags.DEFINE_list(
    "programs", [], "Programs by the start of the name: decode, update; all if empty."
)


def main() -> None:
    """Compile, print and write."""
    given, config = flags.FLAGS, cli.frozen_config()
    cli.require(topology=given.topology)
    from fr.compiling.measure import Measured, compile_all
    from fr.compiling.planner import Planner
    from fr.compiling.report import blocks, record_of
    from fr.compiling.slices import open_slice, types_of
    from fr.errors import UserError
    from fr.layout.text import to_text
    from fr.workdir import read_object, write_json

    folder, place = epath.Path(given.workdir), open_slice(given.topology)

    def known(key: str) -> dict | None:
        path = folder / "programs" / f"{key}.json"
        return read_object(path) if path.exists() else None

    def keep(one: Measured) -> None:
        write_json(folder / "programs" / f"{one.key}.json", dataclasses.asdict(one))
        print(f"{one.seconds:7.1f} s  {one.program}, {one.shape}", flush=True)

    with types_of(place.platform):
        stages = list(Planner(place, given.prompt, given.model).stages(config))
        owners = {owner for owner, _ in stages}
        for name in given.only:
            if name not in owners:
                raise UserError(f"--only={name}: there is {', '.join(sorted(owners))}")
        some = [each for each in stages if not given.only or each[0] in given.only]
        begins = tuple(given.programs)
        for _, stage in some:
            kept = [one for one in stage.programs if one.name.startswith(begins or "")]
            stage.programs[:] = kept
        found = compile_all(some, place, given.effort, known, keep)
    record = record_of(found, place, given.prompt, given.effort)
    write_json(folder / "compile.json", record)
    print(f"{to_text(blocks(record))}\n  compile.json is in {folder}")
    if any(row["problem"] for row in record["programs"]):
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
