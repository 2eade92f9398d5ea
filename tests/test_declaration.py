"""A declaration is written, hashed and dated before the outcomes exist."""

import json
import os

import pytest
from synthetic_profiles import make

from fr.config import Config, RoutingConfig
from fr.errors import UserError
from fr.evaluation.study import declared_of as study_declared
from fr.pipeline.route import declared_of, route
from fr.profiles import write_profiles
from fr.report.page import write_page
from fr.runs.declaration import DECLARATION, declare, record, restore


def test_a_declaration_counts_only_before_the_outcomes_and_as_it_was_made(tmp_path):
    outcomes, content = tmp_path / "profiles.csv", {"primary": ["a", "b"]}
    record(tmp_path, declare(tmp_path, content, [outcomes]))
    outcomes.write_text("x")
    os.utime(outcomes, (2e9, 2e9))  # later
    found = declare(tmp_path, content, [outcomes])
    assert found.beforehand and "before outcomes were read" in str(found)
    record(tmp_path, found)
    # Another content, once outcomes are there, is a change and no declaration
    # beforehand.
    os.utime(outcomes, (1e9, 1e9))
    changed = declare(tmp_path, {"primary": ["a", "c"]}, [outcomes])
    assert not changed.beforehand and "it changes the declaration of" in str(changed)
    assert changed.changes[0]["sha256"] == found.sha256
    # To write the outcomes again does not make it an earlier one.
    record(tmp_path, changed)
    os.utime(outcomes, (2.1e9, 2.1e9))
    assert not declare(tmp_path, {"primary": ["a", "c"]}, [outcomes]).beforehand
    # Nor does editing the file.
    text = json.loads((tmp_path / DECLARATION).read_text())
    text["content"]["primary"] = ["a", "z"]
    (tmp_path / DECLARATION).write_text(json.dumps(text))
    assert not restore(tmp_path).intact and "altered" in str(restore(tmp_path))
    (tmp_path / DECLARATION).write_text('{"content": {}}')
    with pytest.raises(UserError, match="not a declaration of this version"):
        restore(tmp_path)


def test_route_declares_before_it_reads_and_its_page_says_which(tmp_path):
    routing = RoutingConfig(
        bootstrap=50,
        splits=5,
        permutations=5,
        posterior=5,
        folds=2,
        nulls=19,
        splittings=1,
    )
    config, profiles = Config(routing=routing), tmp_path / "profiles.csv"
    early, late = tmp_path / "early", tmp_path / "late"
    record(early, declare(early, declared_of([profiles], config), [profiles]))
    write_profiles(profiles, [make(problems=30)])
    os.utime(profiles, (2e9, 2e9))
    route([profiles], config, early)
    write_page(early, config)
    assert "before outcomes were read" in (early / "report.html").read_text()
    os.utime(profiles, (1e9, 1e9))
    route([profiles], config, late)
    write_page(late, config)
    assert "not declared beforehand" in (late / "report.html").read_text()
    assert restore(late).content["primary"][0] == ["posterior", "best_fixed_per_model"]


def test_what_a_study_declares_names_its_arms_seeds_and_primary_comparison():
    found = study_declared(Config())
    assert {"primary", "arms", "seeds", "family", "evaluation"} <= found.keys()
    json.dumps(found, allow_nan=False)
