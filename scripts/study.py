r"""Compare trainings: train and evaluate every arm of config.study with every seed.

    python scripts/study.py --config=configs/countdown_study.py --workdir=/tmp/study \
        --jobs=2

An arm is a name and the settings that it changes. Its setting `from` names the arm
whose model of the same seed is the start. Each training runs scripts/train.py and
scripts/evaluate.py, one process each, in WORKDIR/ARM/seed-N, and log.txt there holds
their output. Killed at any moment, the same command continues. Writes study.json to
--workdir.
"""

import functools
import pathlib

from absl import flags
from etils import epath

from fr import children, cli
from fr.config import Config
from fr.errors import UserError
from fr.workdir import PathLike, write_json

cli.define_flags()
flags.DEFINE_integer("jobs", 1, "Trainings that run at one time.", lower_bound=1)
flags.DEFINE_string("reward_module", None, "As of scripts/train.py.")

HERE = pathlib.Path(__file__).parent


def main() -> None:
    """Train and evaluate what is not there yet, then compare."""
    config, given = cli.frozen_config(), flags.FLAGS
    if not config.study.arms:
        raise UserError(
            "config.study.arms is empty: name the settings that are compared"
        )
    from fr.evaluation.study import (
        ANCESTOR,
        claim_study,
        declared_of,
        evaluation_files,
        start_arm,
        summarise,
        trainings,
    )
    from fr.layout.text import to_text
    from fr.report.render import render
    from fr.runs.declaration import declare, record

    claim_study(config, given.workdir)
    declaration = declare(
        given.workdir, declared_of(config), evaluation_files(config, given.workdir)
    )
    record(given.workdir, declaration)
    todo = trainings(config)
    jobs = {
        which: functools.partial(train_and_evaluate, config, given.workdir, *which)
        for which in todo
    }
    if config.study.ancestor:
        jobs = {
            ANCESTOR: functools.partial(evaluate_ancestor, config, given.workdir),
            **jobs,
        }
    children.run_jobs(
        jobs,
        given.jobs,
        "training",
        {(arm, seed): (start_arm(config, arm), seed) for arm, seed in todo},
    )
    result = summarise(config, given.workdir)
    # Again: whether it was made before the outcomes is known now that they are there.
    declaration = declare(
        given.workdir, declared_of(config), evaluation_files(config, given.workdir)
    )
    record(given.workdir, declaration)
    write_json(epath.Path(given.workdir) / "study.json", result)
    print(
        f"{render('study', result)}\n\n{to_text([f'  {declaration}'])}\n"
        f"  study.json is in {given.workdir}"
    )


def train_and_evaluate(config: Config, workdir: str, arm: str, seed: int) -> None:
    """One arm with one seed, in its own folder; what is finished is left alone."""
    from fr.evaluation.study import EVALUATED, config_changes, training_folder

    folder, module = training_folder(workdir, arm, seed), flags.FLAGS.reward_module
    settings = [
        f"--config.{name}={value}"
        for name, value in config_changes(config, workdir, arm, seed).items()
    ]
    settings += [f"--reward_module={module}"] * bool(module)
    if not (folder / EVALUATED / "evaluation.json").exists():
        children.run_script(
            HERE / "train.py", [*settings, f"--workdir={folder}"], folder
        )
    evaluate(folder, folder / "specialist")


def evaluate_ancestor(config: Config, workdir: str) -> None:
    """The arm that nothing has trained."""
    from fr.evaluation.study import ANCESTOR

    evaluate(epath.Path(workdir) / ANCESTOR, config.ancestor)


def evaluate(folder: epath.Path, model: PathLike) -> None:
    """Evaluate a model by the config, the same for all: only models
    differ.
    """
    from fr.evaluation.study import EVALUATED

    if not (folder / EVALUATED / "evaluation.json").exists():
        # Nothing is asked of an ancestor here, and it need not be loaded.
        settings = [
            "--config.ancestor=",
            "--config.algorithm=sft",
            f"--workdir={folder / EVALUATED}",
        ]
        children.run_script(
            HERE / "evaluate.py", [*settings, f"--model={model}"], folder
        )


if __name__ == "__main__":
    cli.run(main)
