"""The registry of operators: functions that change an attempt at a failed problem."""

import dataclasses
from collections.abc import Callable

from fr.interventions.intervention import Intervention, Operator, OperatorContext
from fr.interventions.restarts import cut_at, restart
from fr.registry import Registry
from fr.tasks.formats import Codec, encode_text, format_of

AT = "@"  # between an operator and the share of the reasoning that is kept


class Operators(Registry):
    """Registered operators by name, and each of them from a place of a failed trace.

    `NAME@SHARE`, such as `hot@0.5`, is the operator NAME after the whole steps within
    the first SHARE of the reasoning of a failed trace; attempts rotate the failures.
    """

    def __getitem__(self, name: str) -> Operator:
        base, share = _parts(name)
        operator = super().__getitem__(base)
        return operator if share is None else _from_share(operator, share)

    def __contains__(self, name: object) -> bool:
        base, share = _parts(name)
        return super().__contains__(base) and (share is None or 0 < share < 1)


def _parts(name: object) -> tuple[str, float | None]:
    """Name of the operator, and the share that is kept; None without one."""
    base, at, text = str(name).partition(AT)
    try:
        return base, float(text) if at else None
    except ValueError:
        return str(name), None


def _from_share(operator: Operator, share: float) -> Operator:
    def fill(context: OperatorContext) -> Intervention:
        cut = cut_at(context.failure.written, share)
        return restart(operator, context, cut)

    return dataclasses.replace(
        operator,
        name=f"{operator.name}{AT}{share:g}",
        fill=fill,
        deterministic=False,  # attempts rotate the failures
        reads_failures=True,
    )


OPERATORS = Operators("operator")


def register(
    name: str, *, needs_ancestor: bool = False, uses_ancestor: bool = False, **traits
) -> Callable:
    """Decorator that registers an operator, `fill(context) -> dict or Intervention`.

    `context` is an `OperatorContext`. A dict holds fields of `fr.types.SamplingParams`
    for one attempt; an `Intervention` may also change the prompt, keep tokens of a
    failed trace or react to pauses.

        @register("warm")
        def warm(context):
            return {"temperature": 1.2}

    Args:
        name: Name in `config.intervention.operators`.
        needs_ancestor: It cannot run without an ancestor.
        uses_ancestor: It reads an ancestor if there is one; implied by
            `needs_ancestor`.
        **traits: `deterministic`, `uses_oracle`, `reads_failures`, `words` and
            `uses_vectors`, fields of `Operator`.

    Returns:
        The decorator, which returns the function unchanged.
    """

    def add(
        fill: Callable[[OperatorContext], dict | Intervention],
    ) -> Callable[[OperatorContext], dict | Intervention]:
        uses = uses_ancestor or needs_ancestor
        OPERATORS.register(name)(Operator(name, fill, needs_ancestor, uses, **traits))
        return fill

    return add


def select(
    names: tuple[str, ...], has_ancestor: bool, codec: Codec, task: str
) -> tuple[list[Operator], dict[str, str]]:
    """Choose the operators that can run on a task.

    Args:
        names: Names of operators.
        has_ancestor: The run has a second model.
        codec: Encodes and decodes.
        task: Name of the task.

    Returns:
        The operators that can run, and the reason for each name that cannot.
    """
    operators, why = [OPERATORS[name] for name in names], {}
    for operator in operators:
        unwritten = [
            word
            for word in operator.words(format_of(task))
            if encode_text(codec, word) is None
        ]
        if operator.needs_ancestor and not has_ancestor:
            why[operator.name] = "needs an ancestor"
        elif unwritten:
            why[operator.name] = f"the tokenizer cannot write {unwritten[0].strip()!r}"
    return [operator for operator in operators if operator.name not in why], why
