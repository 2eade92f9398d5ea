r"""Train the models of a lineage that the config does not name.

    python scripts/train.py --config=configs/countdown_ancestor.py \
        --workdir=/tmp/ancestor
    python scripts/train.py --config=configs/countdown_grpo.py --workdir=/tmp/grpo

`--config.algorithm` selects how the specialist is trained from its ancestor. The
algorithm reward_model trains `reward_model/` instead, a model without answers that the
reward term `reward_model` reads (`--config.rewards.model=FOLDER`). Killed at any
moment, the same command continues from the newest checkpoint and ends with the same
bytes. Writes `ancestor/` and `specialist/` to --workdir: models that `fr.models.load`
and transformers open, each with checkpoints/, metrics.jsonl and timings.jsonl.
"""

from absl import flags

from fr import cli

cli.define_flags()
flags.DEFINE_bool(
    "dry_run",
    False,
    "Check settings and data, print the bytes of every device, and train nothing.",
)
cli.rename_flags(reward_module="user_module")


def main() -> None:
    """Train, and say where the models are."""
    config = cli.frozen_config()
    from fr import distributed
    from fr.errors import UserError
    from fr.training.checks import trains_specialist
    from fr.training.dry_run import dry_run
    from fr.training.lineage import train_lineage

    workdir, redo = flags.FLAGS.workdir, flags.FLAGS.redo
    if config.ancestor != "scratch" and not trains_specialist(config):
        raise UserError(
            'nothing to train: set config.ancestor = "scratch", or the steps of the '
            "algorithm (training.steps, policy.steps, preference.steps) and no "
            "config.specialist"
        )
    if flags.FLAGS.dry_run:
        distributed.print0(dry_run(config, workdir, redo))
        return
    for folder in train_lineage(config, workdir, redo):
        distributed.print0(
            f"  {folder}: model, checkpoints/, metrics.jsonl, timings.jsonl"
        )


if __name__ == "__main__":
    cli.run(main)
