"""Names that settings hold, checked before the first token and before anything is made."""

from collections.abc import Iterable, Iterator

from fr.config import PREFERENCES, Config
from fr.errors import UserError
from fr.interventions import OPERATORS
from fr.registry import suggest
from fr.routing.router import FIXED, POLICIES


def check_names(config: Config, training: bool = False) -> None:
    """Raise UserError for an operator, and with `training` a reward term or kind of trace, that is not known."""
    _known(
        "intervention.operators", config.intervention.operators, OPERATORS, "operator"
    )
    if training:
        _check_training(config)


def check_policy(name: str) -> None:
    """Raise UserError for a policy of routing that does not exist, or that always takes an unknown operator."""
    if name.startswith(FIXED):
        _known("policy", [name.removeprefix(FIXED)], OPERATORS, "operator", "--")
    else:
        _known("policy", [name], POLICIES, "policy", "--")


def _check_training(config: Config) -> None:
    # Here, because they need jax's training side.
    from fr.rewards import TERMS
    from fr.tasks.countdown_traces import TRACES

    if config.ancestor == "scratch":
        _known(
            "pretraining.traces",
            _first(config.pretraining.traces),
            TRACES,
            "kind of trace",
        )
    if config.algorithm == "sft":
        _known(
            "training.traces", _first(config.training.traces), TRACES, "kind of trace"
        )
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
