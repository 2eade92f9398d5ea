"""Names in settings, checked before a model is loaded or a file is made."""

from collections.abc import Iterable, Iterator

from fr.config import PREFERENCES, Config
from fr.errors import UserError
from fr.interventions import OPERATORS
from fr.orders.routers import FIXED, ROUTERS
from fr.registry import suggest


def check_names(config: Config, training: bool = False) -> None:
    """Check the registered names that settings hold.

    Args:
        config: All settings.
        training: Check reward terms and kinds of traces too.

    Raises:
        UserError: An operator, reward term or kind of trace is unknown (the message
            suggests a name), or a name is given twice.
    """
    _known(
        "intervention.operators", config.intervention.operators, OPERATORS, "operator"
    )
    if training:
        _check_training(config)


def check_router(name: str) -> None:
    """Check the name of a router for live failures.

    Args:
        name: of ROUTERS, or `fixed:OPERATOR`.

    Raises:
        UserError: for a name, or an operator, that does not exist.
    """
    if name in ("head", "frozen_head"):
        raise UserError(f"--router={name} is now --router=learned")
    if name.startswith(FIXED):
        _known("router", [name.removeprefix(FIXED)], OPERATORS, "operator", "--")
    else:
        _known("router", [name], ROUTERS, "router", "--")


def _check_training(config: Config) -> None:
    # Imported here, because they load the training side of jax.
    from fr.rewards import TERMS

    if config.ancestor == "scratch":
        _check_traces("pretraining", config)
    if config.algorithm == "sft":
        _check_traces("training", config)
    elif config.algorithm not in PREFERENCES:
        names = list(_first(config.rewards.terms))
        _known("rewards.terms", names, TERMS, "reward term")
        for field in ("normalise", "placement"):
            _known(
                f"rewards.{field}",
                _first(getattr(config.rewards, field)),
                names,
                "term of the mix",
            )


def _check_traces(group: str, config: Config) -> None:
    from fr.tasks import traces_of

    training = getattr(config, group)
    if training.source in ("", "traces") and (kinds := traces_of(config.task.name)):
        _known(f"{group}.traces", _first(training.traces), kinds, "kind of trace")


def _first(pairs: Iterable[tuple]) -> Iterator[str]:
    return (name for name, *_ in pairs)


def _known(
    setting: str, names: Iterable[str], known, kind: str, prefix: str = "config."
) -> None:
    seen = set()
    for name in names:
        if name not in known:
            raise UserError(
                f"{prefix}{setting}: unknown {kind} {name!r}{suggest(name, known)}"
            )
        if name in seen:
            raise UserError(f"{prefix}{setting}: {name!r} stands there twice")
        seen.add(name)
