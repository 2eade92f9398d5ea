"""What the results of a run must not be taken for: every plain word that its files carry, in one list."""

import itertools
from collections.abc import Iterator

from fr.report.page_tables import policy_name, protocol_name
from fr.report.tables import number

_CHANCE = 0.05  # p above which labels are called what chance makes


def limits(routing: dict, summary: dict | None, causes: dict | None) -> list[str]:
    """Sentences, the same one of several cells once; of what the files of these names hold."""
    said: dict[str, list[str]] = {}
    for cell in routing["cells"]:
        for words in _cell(cell):
            said.setdefault(words, []).append(cell["cell"])
    every = len(routing["cells"])
    found = [
        f"{'Every cell' if len(cells) == every > 1 else ', '.join(cells)}: {words}."
        for words, cells in said.items()
    ]
    found += [f"No {protocol_name(entry['protocol'])}: {entry['why']}." for entry in routing["unsupported"]]
    found += [
        f"Regimes of {record['cell']}: {record['why']}." for record in routing["regimes"] if record["why"]
    ]
    found += itertools.chain.from_iterable(_audit(record) for record in routing["audit"])
    frozen = routing["transfer"]["unsupported"] if routing["transfer"] else []
    found += [f"No {policy_name(entry['policy'])} on {entry['cell']}: {entry['why']}." for entry in frozen]
    operators = summary["attempts"]["operators"] if summary else {}
    outside = [name for name, tried in operators.items() if tried["outside"]]
    if outside := outside or (causes["outside"] if causes else []):
        found.append(f"Uses truth from outside of the model: {', '.join(outside)}.")
    left_out = summary["attempts"]["left_out"] if summary else {}
    return found + [f"Operator {name} left out: {why}." for name, why in left_out.items()]


def _cell(cell: dict) -> Iterator[str]:
    yield from cell["notes"]
    if not cell["attempts"]["given"]:
        yield "the profiles do not say how many attempts a rate has: their numbers are fitted, and lower bounds"
    if cell["single_failure"]:
        yield f"{cell['single_failure']} problems failed once only: their features are those of one rollout"
    null = cell["label_null"]
    if null is None:
        yield "what chance makes of the labels is not known"
    elif null["p"] > _CHANCE:
        yield f"about as many problems are called steerable as chance would make (p = {number(null['p'], 3)})"
    if cell["certainty"] is None:
        yield "true rates, label stability and power are not known, for attempts are not"
    if cell["cost"] is None:
        yield "costs are not known: policies are compared at one attempt each, not at equal cost"
    elif not cell["cost"]["recorded"]:
        yield "budgets are APPROXIMATE: every attempt is charged the mean price of its operator at its problem"
    halves = cell["protocols"]["split_halves"]
    if halves is None:
        yield "no split halves: attempts behind the rates are unknown"
    elif halves["dropped"]:
        yield f"{halves['dropped']} problems are left out of split halves: fewer than 4 attempts, or unknown ones"
    if halves and halves["deterministic"]:
        yield f"the same rate in both halves, being deterministic: {', '.join(halves['deterministic'])}"


def _audit(record: dict) -> Iterator[str]:
    what = f"Audit, {record['target']} within {record['scope']}"
    if record["confounded"]:
        yield f"{what}: confounded with the {' and with the '.join(record['confounded'])}."
    if record["why"]:
        yield f"{what}: {record['why']}."
