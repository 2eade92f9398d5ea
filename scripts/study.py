r"""Compare arms: train every arm of config.study with every seed and test the models.

    python scripts/study.py --config=configs/studies/signal.py --workdir=/tmp/signal \
        --jobs=2
    python scripts/study.py --all=short --workdir=/tmp/studies
    python scripts/study.py --config=configs/studies/signal.py:pod --dry_run

An arm is a name and the settings that it changes; a test is an evaluation of every
arm's model (docs/studies.md). Each runs scripts of its own, one process each, in
WORKDIR/ARM/seed-N, and log.txt there holds their output. Killed at any moment, the same
command continues. Writes study.json to --workdir. `--all` makes every study of
configs/studies in WORKDIR/NAME, and studies.json with their declared comparisons.
"""

import functools
import pathlib
import subprocess
import sys
import tempfile

from absl import flags
from etils import epath

from fr import children, cli
from fr.config import Config
from fr.errors import UserError
from fr.workdir import PathLike, read_object, write_json

cli.define_flags()
flags.DEFINE_integer("jobs", 1, "Arms that are made at one time.", lower_bound=1)
flags.DEFINE_bool(
    "dry_run", False, "Print what every training would hold, and make nothing."
)
flags.DEFINE_enum(
    "all",
    None,
    ["laptop", "short", "pod"],
    "Every study of configs/studies, at a size.",
)

cli.rename_flags(reward_module="user_module")

HERE = pathlib.Path(__file__).parent


def main() -> None:
    """Make what is not there yet, then compare."""
    given = flags.FLAGS
    if given.all:
        cli.require(workdir=given.workdir)
        every_study(given.all, epath.Path(given.workdir))
        return
    config = cli.frozen_config()
    from fr.evaluation.study import (
        arms_of,
        chain,
        check_study,
        claim_study,
        declared_of,
        evaluation_files,
        is_made,
        jobs_of,
    )

    if not arms_of(config):
        raise UserError(
            "config.study.arms is empty: name the settings that are compared"
        )
    check_study(config)
    if given.dry_run:
        dry_run(config)
        return
    from fr.evaluation.study_summary import summarise
    from fr.layout.text import to_text
    from fr.report.render import render
    from fr.runs.declaration import declare, record

    claim_study(config, given.workdir)
    declaration = declare(
        given.workdir, declared_of(config), evaluation_files(config, given.workdir)
    )
    record(given.workdir, declaration)
    todo = jobs_of(config)
    jobs = {
        which: functools.partial(make_and_test, config, given.workdir, *which)
        for which in todo
    }
    # What a model as it is says may choose the problems of the others.
    given_models = [which for which in todo if which[1] is None]
    after = {
        (arm, seed): [
            *given_models * (seed is not None),
            *((o, seed) for o in chain(config, arm) if is_made(arms_of(config)[o])),
        ]
        for arm, seed in todo
    }
    children.run_jobs(jobs, given.jobs, "arm", after)
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


def make_and_test(config: Config, workdir: str, arm: str, seed: int | None) -> None:
    """One arm with one seed, in its own folder; what is finished is left alone."""
    from fr.config.studies import MAKES, MODEL
    from fr.evaluation.study import (
        arm_folder,
        arms_of,
        evaluated_folder,
        placed,
        takes_test,
        tests_of,
    )

    folder, changes = arm_folder(workdir, arm, seed), arms_of(config)[arm]
    tests = {
        evaluated_folder(folder, name): own
        for name, own in tests_of(config).items()
        if takes_test(arm, changes, own)
    }
    left = [each for each in tests if not (each / "evaluation.json").exists()]
    if left or MAKES in changes:
        if seed is not None:
            make(config, workdir, arm, seed)
    if left:
        model = changes.get(MODEL) or folder / "specialist"
        asked = {each.name: placed(tests[each], workdir, seed) for each in left}
        evaluate(folder, model, asked)


def make(config: Config, workdir: str, arm: str, seed: int) -> None:
    """Train the model of an arm, or make its run of attempts."""
    from fr.config.studies import MAKES
    from fr.evaluation.study import arm_folder, arms_of, config_changes

    folder = arm_folder(workdir, arm, seed)
    settings = as_flags(config_changes(config, workdir, arm, seed))
    settings.append(f"--workdir={folder}")
    if MAKES not in arms_of(config)[arm]:
        children.run_script(HERE / "train.py", settings, folder)
    elif not (folder / "summary.json").exists():
        children.run_script(HERE / "reproduce.py", settings, folder)


def evaluate(
    folder: epath.Path, model: PathLike, tests: dict[str, dict[str, str]]
) -> None:
    """Test a model by the config and the changes of each test: only models differ."""
    from fr.config.studies import ARMS

    # Nothing is asked of an ancestor here, and it need not be loaded.
    own = [
        {"folder": name, "ancestor": "", "algorithm": "sft"}
        | {setting: text for setting, text in changes.items() if setting != ARMS}
        for name, changes in tests.items()
    ]
    write_json(folder / "tests.json", {"tests": own})
    settings = [f"--workdir={folder}", f"--model={model}"]
    settings.append(f"--tests={folder / 'tests.json'}")
    children.run_script(HERE / "evaluate.py", settings, folder)


def as_flags(settings: dict[str, str]) -> list[str]:
    """Changes of settings as flags of a script."""
    return [f"--config.{name}={value}" for name, value in settings.items()]


def dry_run(config: Config) -> None:
    """Print the bytes of every arm's training, as scripts/train.py --dry_run does."""
    from fr.config.studies import MAKES
    from fr.evaluation.study import arms_of, config_changes, is_made

    for arm, changes in arms_of(config).items():
        if not is_made(changes) or MAKES in changes:
            continue
        with tempfile.TemporaryDirectory() as folder:
            own = config_changes(config, folder, arm, config.study.seeds[0])
            # What it starts from does not exist yet, and has the ancestor's shape.
            for name in ("training.run", "training.source"):
                own.pop(name, None)
            if own.get("ancestor", "").startswith(folder):
                own["ancestor"] = config.ancestor or "scratch"
            settings = [*as_flags(own), "--dry_run", f"--workdir={folder}"]
            where = epath.Path(folder) / "dry"
            children.run_script(HERE / "train.py", settings, where)
            print(f"{arm}:\n{(where / 'log.txt').read_text()}", flush=True)


def every_study(size: str, workdir: epath.Path) -> None:
    """Make every study of configs/studies, one after the other.

    Raises:
        UserError: a study failed; the others are made first.
    """
    files = sorted((HERE.parent / "configs" / "studies").glob("*.py"))
    form, failed, found = "" if size == "laptop" else f":{size}", [], {}
    for path in files:
        folder = workdir / path.stem
        command = [sys.executable, __file__, f"--config={path}{form}"]
        command += [f"--workdir={folder}", f"--jobs={flags.FLAGS.jobs}"]
        command += children.shared_flags()
        if flags.FLAGS.dry_run:
            command.append("--dry_run")
        print(f"== {path.stem}", flush=True)
        if subprocess.run(command).returncode:
            failed.append(path.stem)
        elif not flags.FLAGS.dry_run:
            rows = read_object(folder / "study.json")["differences"]
            found[path.stem] = [row for row in rows if row["declared"]]
            write_json(workdir / "studies.json", found)
    if failed:
        raise UserError(
            f"{', '.join(failed)} of {len(files)} studies failed (their lines are "
            "above); the same command continues"
        )


if __name__ == "__main__":
    cli.run(main)
