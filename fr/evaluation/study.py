"""Studies: which arms are made from what, where each is, and what is declared."""

import dataclasses
import json
import re

from etils import epath

from fr.config import Config, as_dict
from fr.config.reads import flat
from fr.config.studies import ANCESTOR, ARMS, FROM, MAKES, MODEL, RUN
from fr.errors import UserError
from fr.evaluation.accuracy import check_evaluation
from fr.evaluation.analyses import known_analyses
from fr.registry import suggest
from fr.runs.inputs import own_parts
from fr.workdir import PathLike, claim_workdir, to_json

_KEYS = {"arms": (FROM, RUN, MAKES, MODEL), "tests": (ARMS,)}
EVALUATED = "evaluated"  # folder of an evaluation, in the folder of an arm and seed


def arms_of(config: Config) -> dict[str, dict[str, str]]:
    """Every arm whose model is tested, or that others learn from.

    Args:
        config: Settings of the study.

    Returns:
        Its changes by its name, the ancestor first where it is an arm.
    """
    first = {ANCESTOR: {MODEL: config.ancestor}} if config.study.ancestor else {}
    return first | {name: dict(changes) for name, changes in config.study.arms}


def tests_of(config: Config) -> dict[str, dict[str, str]]:
    """The tests of the models.

    Args:
        config: Settings of the study.

    Returns:
        Changes by name; the name "" if there is one test, as the config says.
    """
    return {name: dict(changes) for name, changes in config.study.tests} or {"": {}}


def takes_test(arm: str, changes: dict[str, str], test: dict[str, str]) -> bool:
    """True if a test is made of an arm.

    Args:
        arm: Name of the arm.
        changes: Changes of the arm; a run of attempts has no model to test.
        test: Changes of the test.

    Returns:
        True or False.
    """
    return MAKES not in changes and (not test.get(ARMS) or arm in test[ARMS].split(","))


def is_made(changes: dict[str, str]) -> bool:
    """True if an arm is made, once with every seed.

    Args:
        changes: Changes of the arm.

    Returns:
        False for a model that is tested as it is.
    """
    return MODEL not in changes


def arm_folder(workdir: PathLike, arm: str, seed: int | None) -> epath.Path:
    """Folder of one arm with one seed.

    Args:
        workdir: Folder of the study.
        arm: Name of the arm.
        seed: Seed of the training; None: the arm is not made.

    Returns:
        `WORKDIR/ARM/seed-N`, or `WORKDIR/ARM`.
    """
    folder = epath.Path(workdir) / arm
    return folder if seed is None else folder / f"seed-{seed}"


def evaluated_folder(folder: epath.Path, test: str) -> epath.Path:
    """Folder of one test of one model.

    Args:
        folder: Folder of the arm and seed.
        test: Name of the test.

    Returns:
        `FOLDER/evaluated`, with the test's name after it where there are several.
    """
    return folder / (f"{EVALUATED}-{test}" if test else EVALUATED)


def made_with(config: Config, arm: str) -> list[int | None]:
    """Seeds with which an arm is made.

    Args:
        config: Settings of the study.
        arm: Name of the arm.

    Returns:
        The study's seeds; [None] for an arm that is not made.
    """
    return list(config.study.seeds) if is_made(arms_of(config)[arm]) else [None]


def jobs_of(config: Config) -> list[tuple[str, int | None]]:
    """All arms with all seeds.

    Args:
        config: Settings of the study.

    Returns:
        (arm, seed), each after those that it starts or learns from.
    """
    pairs = [(arm, seed) for arm in arms_of(config) for seed in made_with(config, arm)]
    place = {seed: i for i, seed in enumerate((None, *config.study.seeds))}
    depth = {arm: len(chain(config, arm)) for arm in arms_of(config)}
    return sorted(pairs, key=lambda pair: (depth[pair[0]], place[pair[1]]))


def chain(config: Config, arm: str) -> list[str]:
    """Arms that one arm is made from, the nearest first.

    Args:
        config: Settings of the study.
        arm: Name of the arm.

    Returns:
        Names, without the arm's own; each once.
    """
    changes = arms_of(config)[arm]
    near = [changes[key] for key in (FROM, RUN) if key in changes]
    return list(dict.fromkeys([*near, *(a for n in near for a in chain(config, n))]))


def config_changes(
    config: Config, workdir: PathLike, arm: str, seed: int
) -> dict[str, str]:
    """Settings of one arm with one seed that differ from the study's config.

    Args:
        config: Settings of the study.
        workdir: Folder of the study.
        arm: Name of the arm.
        seed: Seed of the training.

    Returns:
        Values by name of the setting.
    """
    given = arms_of(config)[arm]
    found = {name: value for name, value in given.items() if name not in _KEYS["arms"]}
    # A run of attempts asks the model; a training starts from it.
    start = "specialist" if MAKES in given else "ancestor"
    other = {FROM: (start, "specialist"), RUN: ("training.run", "")}
    for key, (setting, folder) in other.items():
        if key in given:
            if arms_of(config)[given[key]].get(MODEL):
                found[setting] = arms_of(config)[given[key]][MODEL]
            else:
                made = arm_folder(workdir, given[key], seed)
                found[setting] = str(made / folder if folder else made)
    return placed(found, workdir, seed) | {"seed": str(seed)}


def placed(
    changes: dict[str, str], workdir: PathLike, seed: int | None = None
) -> dict[str, str]:
    """Changes of an arm or a test with the study's folder in place of `{workdir}`.

    Args:
        changes: Values by name of the setting.
        workdir: Folder of the study.
        seed: The seed of the arm, in place of `{seed}`.

    Returns:
        The changes as the scripts take them.
    """
    here = str(epath.Path(workdir))
    fill = lambda text: text.replace("{workdir}", here).replace("{seed}", str(seed))
    return {name: fill(text) for name, text in changes.items()}


def claim_study(config: Config, workdir: PathLike) -> None:
    """Bind a study's folder to its settings and each arm's folder to its changes.

    Arms, tests and seeds may be added later. An arm that uses a part of the user's own
    is bound to its text, too: its models and evaluations are not made again.

    Args:
        config: Settings of the study.
        workdir: Folder of the study. A UserError names the setting in which the folder
            differs.
    """
    # Intervals are made again every time: what they read is no other study.
    claim_workdir(
        workdir, as_dict(config), as_dict(Config()), unread=("routing", "clusters")
    )
    tested = [changes for _, changes in config.study.tests]
    for arm, settings in config.study.arms:
        texts = [text for changes in (settings, *tested) for _, text in changes]
        words = {word for text in texts for word in re.findall(r"\w+", text)}
        own = own_parts(config, words)
        claimed = {"settings": dict(settings)} | own
        claim_workdir(epath.Path(workdir) / arm, claimed, usual=own)


def check_study(config: Config) -> None:
    """Check the names of settings, measures and analyses before anything is made.

    Args:
        config: Settings of the study.

    Raises:
        UserError: The first name that does not exist.
    """
    settings = flat(as_dict(Config()))
    groups = {"arms": config.study.arms, "tests": config.study.tests}
    for group, rows in groups.items():
        for name, changes in rows:
            for setting, _ in changes:
                if setting not in settings and setting not in _KEYS[group]:
                    known = [*settings, *_KEYS[group]]
                    raise UserError(
                        f"config.study.{group}: {name!r} changes {setting!r}, which is "
                        f"not a setting{suggest(setting, known)}"
                    )
    for name in config.study.analyses:
        if name not in known_analyses():
            raise UserError(
                f"config.study.analyses: unknown analysis {name!r}"
                f"{suggest(name, known_analyses())}"
            )
    check_evaluation(config)


def declared_of(config: Config) -> dict:
    """The comparisons of a study, as plain values that need no outcome.

    Args:
        config: Settings of the study; an added arm or seed changes the declaration.

    Returns:
        Content of the declaration.
    """
    study = json.loads(to_json(dataclasses.asdict(config.study)))
    return {
        "what": "arms of a study, by tests of their models",
        **study,
        "family": "primary and declared comparisons by Holm; all others, by Holm",
        "task": json.loads(to_json(dataclasses.asdict(config.task))),
        "evaluation": json.loads(to_json(dataclasses.asdict(config.evaluation))),
        "resamples": config.routing.bootstrap,
    }


def evaluation_files(config: Config, workdir: PathLike) -> list[epath.Path]:
    """Paths of the evaluations of a study, whether made or not.

    Args:
        config: Settings of the study.
        workdir: Folder of the study.

    Returns:
        Paths of evaluation.json, of all arms and tests.
    """
    return [
        evaluated_folder(arm_folder(workdir, arm, seed), test) / "evaluation.json"
        for arm, seed in jobs_of(config)
        for test, changes in tests_of(config).items()
        if takes_test(arm, arms_of(config)[arm], changes)
    ]
