"""Tables of the pages against what is registered."""

import pathlib
import re

import pytest

from fr.config.algorithms import ALGORITHMS
from fr.diagnosis.signals import PAID, SIGNALS
from fr.evaluation import accuracy  # noqa: F401
from fr.evaluation.measures import MEASURES
from fr.interventions import OPERATORS
from fr.rewards import TERMS

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def table(page: str) -> dict[str, list[str]]:
    """The cells of every row whose first cell is one name in backticks, by name."""
    found = {}
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if line.startswith("|") and (name := re.fullmatch(r"`(\w+)`", cells[0])):
            assert name[1] not in found
            found[name[1]] = cells
    return found


def test_every_operator_is_on_its_page():
    found = table("operators.md")
    assert found.keys() == set(OPERATORS)
    for name, (_, does, ancestor, outside, one, source) in found.items():
        operator = OPERATORS[name]
        wanted = (
            "needs"
            if operator.needs_ancestor
            else "reads"
            if operator.uses_ancestor
            else "–"
        )
        assert ancestor == wanted, name
        assert outside == ("yes" if operator.uses_oracle else "no"), name
        assert one == ("yes" if operator.deterministic else "no"), name
        assert does and re.fullmatch(r"–|\d{4}\.\d{5}", source), name


def test_every_signal_is_on_its_page():
    found = table("signals.md")
    assert found.keys() == set(SIGNALS)
    for name, (_, group, kind, paid, equation, unit, source) in found.items():
        assert (kind, group) == (SIGNALS[name].kind, SIGNALS[name].group), name
        assert paid == ("yes" if group in PAID else "no"), name
        assert equation and unit and re.fullmatch(r"–|\d{4}\.\d{5}", source), name


def test_every_measure_is_on_its_page():
    found = table("measures.md")
    # Without measures that examples of the pages have registered in this process.
    own = {name for name in MEASURES if MEASURES[name].__module__.startswith("fr.")}
    assert found.keys() == own
    for name, (_, tasks, metrics, unit, source) in found.items():
        assert tasks and metrics and unit, name
        assert re.fullmatch(r"–|\d{4}\.\d{5}", source), name


@pytest.mark.parametrize("page", ["operators.md", "signals.md"])
def test_a_page_names_settings_that_there_are(page):
    from fr.config import Config
    from fr.config.experiment import as_dict
    from fr.config.reads import flat

    known = flat(as_dict(Config()))
    groups = "diagnosis|intervention|rewards|sampling|evaluation"
    for name in re.findall(rf"`((?:{groups})\.\w+)`", (DOCS / page).read_text()):
        assert name in known, name


def test_every_reward_term_is_on_its_page():
    found = table("rewards.md")
    terms = {name: row for name, row in found.items() if len(row) == 6}
    assert terms.keys() == set(TERMS)
    for name, (_, pays, gold, probes, placement, source) in terms.items():
        term = TERMS[name]
        assert gold == ("yes" if term.needs_gold else "–"), name
        assert probes == (term.needs_confidence or "–"), name
        assert placement == term.placement, name
        assert pays and re.fullmatch(r"–|\d{4}\.\d{5}", source), name


def test_every_algorithm_is_on_its_page():
    rows = table("algorithms.md")
    assert rows.keys() == set(ALGORITHMS)
