"""Train the models of a lineage that the config does not name: `ancestor/` and `specialist/` in --workdir.

    python scripts/train.py --config=configs/countdown_ancestor.py --workdir=/tmp/ancestor

Killed at any moment, the same command goes on from the newest checkpoint and ends with the same bytes. Leaves
models that `fr.models.load` and transformers open, each with checkpoints/, metrics.jsonl and timings.jsonl.
"""

from absl import flags

from fr import cli, processes
from fr.errors import UserError
from fr.pipeline.train import train_lineage

cli.define_flags()


def main() -> None:
    """Train, and say where the models are."""
    config = cli.frozen_config()
    cli.require(workdir=flags.FLAGS.workdir)
    made = train_lineage(config, flags.FLAGS.workdir)
    if not made:
        raise UserError(
            'nothing to train: set config.ancestor = "scratch", or training.steps and no config.specialist'
        )
    for folder in made:
        processes.say(f"  {folder}: model, checkpoints/, metrics.jsonl, timings.jsonl")


if __name__ == "__main__":
    cli.run(main)
