r"""Measure a model: accuracy, pass@k, calibration, and how early its confidence comes.

    python scripts/evaluate.py --config=configs/quickstart.py --workdir=/tmp/before \
        --model=countdown
    python scripts/evaluate.py --config=configs/quickstart.py --workdir=/tmp/after \
        --model=/tmp/run/specialist --against=/tmp/before

    python scripts/evaluate.py --config=configs/quickstart.py --workdir=/tmp/tests \
        --model=countdown --tests=tests.json

Killed at any moment, the same command continues. `--config.evaluation.sampled=True`
also samples answers after each cut, as the papers do, and compares. Writes evaluation/
and evaluation.json to --workdir.
"""

from absl import flags
from etils import epath

from fr import cli
from fr.config import Config, with_texts
from fr.errors import UserError
from fr.workdir import PathLike, read_object

cli.define_flags(join=True)
flags.DEFINE_string(
    "against",
    None,
    "The --workdir of another evaluation: differences are paired by problem.",
)
flags.DEFINE_string(
    "tests",
    None,
    'JSON {"tests": [{"folder": NAME, SETTING: TEXT, ...}, ...]}: several evaluations, '
    "each in its folder of --workdir; they share compiled programs.",
)


def main() -> None:
    """Evaluate, print and write; several tests one after the other."""
    given, config = flags.FLAGS, cli.frozen_config()
    from fr.evaluation.accuracy import check_evaluation

    tests = {given.workdir: config}
    if given.tests:
        tests = {
            epath.Path(given.workdir) / name: with_texts(config, own)
            for name, own in listed(given.tests)
        }
    for each in tests.values():
        check_evaluation(each)
    for folder, each in tests.items():
        one(each, folder)


def listed(path: PathLike) -> list[tuple[str, dict[str, str]]]:
    """Folders and changed settings of the tests in a file."""
    rows = read_object(path).get("tests")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict)
        and "folder" in row
        and all(isinstance(text, str) for text in row.values())
        for row in rows
    ):
        raise UserError(
            f'--tests={path} must be {{"tests": [{{"folder": NAME, SETTING: TEXT}}]}}, '
            "all of them texts"
        )
    return [
        (row["folder"], {key: row[key] for key in row if key != "folder"})
        for row in rows
    ]


def one(config: Config, workdir: PathLike) -> None:
    """One evaluation, in its own folder."""
    from fr import distributed
    from fr.evaluation.accuracy import evaluate
    from fr.report.render import render
    from fr.runs.run import open_run

    run = open_run(config, workdir, flags.FLAGS.redo)
    distributed.print0(render("evaluation", evaluate(run, flags.FLAGS.against)))
    distributed.print0(f"\n  evaluation.json and evaluation/ are in {workdir}")


if __name__ == "__main__":
    cli.run(main)
