"""The page of a run says what its files say: all of it, the same bytes for
everybody."""

import dataclasses
import html.parser
import json
import re
import shutil

import numpy as np
import pytest
import viewer_runs
from etils import epath
from synthetic_profiles import make

from fr import store
from fr.comparison.titles import select, titled
from fr.config import ClustersConfig, Config, RoutingConfig, as_dict
from fr.errors import UserError, printable
from fr.layout.html import page, to_html
from fr.layout.tables import (
    REPORTS,
    Column,
    Forest,
    Passage,
    Section,
    Table,
    number,
    table,
    words,
)
from fr.layout.text import WIDTH, to_text
from fr.pipeline.route import route
from fr.profiles import write_profiles
from fr.report.findings import merged
from fr.report.limits import limits
from fr.report.page import plot_name, write_page
from fr.report.render import render
from fr.report.routing_tables import routing_sections
from fr.runs.provenance import changed, revision, versions
from fr.viewer.one_failure import clearest, failure_blocks, failure_section
from fr.workdir import to_json

CONFIG = Config(
    seed=3,
    routing=RoutingConfig(
        bootstrap=50,
        splits=5,
        permutations=5,
        posterior=10,
        folds=2,
        nulls=19,
        splittings=1,
    ),
    clusters=ClustersConfig(largest=3, bootstrap=5, seeds=2, nulls=3, null_bootstrap=2),
)
HOSTILE = '<script>alert("1")</script> & co|task'
RATE = {"interval": {"value": 50.0, "low": 20.0, "high": 90.0}, "n": 9}
SUMMARY = {
    "schema": 2,
    "specialist": "our-model",
    "ancestor": "",
    "task": "sums",
    "seed": 0,
    "rollouts": {
        "rollouts": 16,
        "problems": 4,
        "failed_problems": 3,
        "truncated": 25.0,
        "accuracy": RATE,
        "grades": {"right": 8, "wrong": 8},
    },
    "failures": {
        "failed_rollouts": 8,
        "failed_problems": 3,
        "features": {"spread": 0.5},
    },
    "attempts": {
        "operators": {
            "retry": RATE | {"fired": 0.0, "uses_oracle": False},
            "repair": RATE | {"fired": 12.5, "uses_oracle": True},
        },
        "left_out": {"hint": "needs a prompt"},
        "without_verifier": {"rollout": RATE, "majority": RATE},
    },
}
show = Column("").show
signed = Column("", sign=True).show
EVERYWHERE = {"population": "all", "cell": "all cells"}


class Reader(html.parser.HTMLParser):
    """Sections by heading: their text and the rows of their tables, as {header: cell};
    elements must nest.
    """

    ALONE = ("meta", "img", "path", "circle")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.sections, self.rows = [], set(), {"": ""}, {"": []}
        self.heading, self.links = "", []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.ALONE:
            self.open.append(tag)
        if tag == "h2":
            self.heading = ""
        if tag == "thead":
            self.header = None
        if tag == "tr":
            self.row = []
        if tag in ("th", "td"):
            self.row.append("")

    def handle_endtag(self, tag):
        if tag in self.ALONE:
            return
        assert self.open.pop() == tag
        if tag == "h2":
            assert self.heading not in self.sections
            self.sections[self.heading], self.rows[self.heading] = "", []
        if tag == "tr" and self.header is None:
            self.header = self.row
        elif tag == "tr":
            assert len(self.row) == len(self.header)
            self.rows[self.heading].append(list(zip(self.header, self.row)))

    def handle_data(self, data):
        if "h2" in self.open:
            self.heading += data
        elif "style" not in self.open:
            self.sections[self.heading] += data
        if "tr" in self.open:
            self.row[-1:] = [(self.row or [""])[-1] + data]


def section(summary: dict, title: str) -> list:
    return next(s.blocks for s in routing_sections(summary) if s.title == title)


def read(workdir) -> Reader:
    return Reader((workdir / "report.html").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    cost = {k: 50.0 for k in ("retry_cost", "local_temp_cost", "diagnosis_cost")}
    operators = ("retry", "local_temp")
    cheap = make(problems=30, seed=1, operators=operators, cell="lonely|task", **cost)
    write_profiles(workdir / "profiles.csv", [make(problems=40, cell=HOSTILE), cheap])
    summary = route([workdir / "profiles.csv"], CONFIG, workdir)
    write_page(workdir, CONFIG)
    return workdir, summary


def test_every_policy_has_its_line(run):
    workdir, summary = run
    page = read(workdir)
    lines = [[cell for _, cell in row] for row in page.rows["Policies"]]
    rows = titled(summary["rows"], summary)
    shown = select(rows, **EVERYWHERE, reference=None)
    assert len({row["policy"] for row in shown}) == 14
    for row in shown:
        named = lambda line, row=row: row["title"] in line[0].split("; ")
        value = show(row["interval"])
        assert any(named(line) and value in line for line in lines if line), row
    gaps = [row for row in select(rows, **EVERYWHERE) if "p_holm" in row]
    assert len(gaps) > 5
    for row in gaps:
        wanted = {row["title"], row["minus"], signed(row["interval"])}
        wanted |= {number(row["p"], 3), number(row["p_holm"], 3)}
        assert any(wanted <= set(line) for line in lines), row
    cells = [[cell for _, cell in row] for row in page.rows["Cell by cell"]]
    inside = [row for row in rows if row["protocol"] in ("source", "split_halves")]
    assert len(inside) > 20
    for row in inside:
        value = (signed if row["minus"] else show)(row["interval"])
        name = row["minus"] or row["title"]
        held = [line for line in cells if line and name in line[0].split("; ")]
        assert any(value in line for line in held), row


def test_every_policy_says_how_far_it_is_from_the_best_fixed_operator(run):
    workdir, summary = run
    lines = [[cell for _, cell in row] for row in read(workdir).rows["Policies"]]
    rows = titled(summary["rows"], summary)
    rows = select(rows, **EVERYWHERE, reference="best_fixed_per_model")
    assert len(rows) > 3
    for row in rows:
        value, minus = row["interval"], row["minus"]
        gap = "the same" if value["low"] is None else signed(value)
        wanted = {row["title"], minus, gap}
        assert any(wanted <= set(line) for line in lines), row


def test_costs_entropies_and_choices_are_shown(run):
    _, summary = run
    dear = {"cost": 123.0, "cost_per_rescue": 456.0, "route_entropy": 0.25}
    dear |= {"departures": 12.0, "routes": {"retry": 3, "local_temp": 7, "hint": 0}}
    rows = [r if r.get("reference") else r | dear for r in summary["rows"]]
    blocks = section({**summary, "rows": rows}, "Policies")
    inner = next(block for block in blocks if block.title.endswith("k-fold by problem"))
    rates, choices = inner.blocks[:2]
    at = lambda table, row: dict(zip([c.title for c in table.columns], row))
    for row in filter(None, rates.rows):
        found = at(rates, row)
        assert (found["cost"], found["cost per rescue"]) == (123, 456)
    for row in choices.rows:
        found = at(choices, row)
        assert found["choices"] == "local_temp 7, retry 3"
        assert (found["entropy, nats"], found["deviates, %"]) == (0.25, 12)
    assert "forward tokens of the chosen attempt" in rates.note


def test_one_comparison_is_primary_and_all_others_are_exploratory(run):
    workdir, summary = run
    page = (workdir / "report.html").read_text()
    text = page.split("<h2>Policies</h2>")[1].split("<h2>")[0]
    titles = re.findall(r"<h3>(.*?)<", text)
    assert titles[0].startswith("Primary") and len(titles) > 2
    assert all(title.startswith("Exploratory") for title in titles[1:])
    first, *others = read(workdir).rows["Policies"]
    pooled = select(summary["rows"], protocol="kfold", **EVERYWHERE)
    pair = {"policy": "posterior", "reference": "best_fixed_per_model"}
    (claim,) = select(pooled, **pair)
    assert dict(first)["minus"] == "best fixed, per model and task"
    assert dict(first)["problems"] == str(claim["n"])
    assert signed(claim["interval"]) in dict(first).values()
    # Without a row of the primary router the rule is judged, else the page says why.
    policies = lambda **changed: section({**summary, **changed}, "Policies")[0]
    rest = [row for row in summary["rows"] if row["policy"] != "posterior"]
    assert policies(rows=rest).blocks[0].rows[0][0] == "rule"
    why = [{"protocol": "kfold", "cell": "all cells", "why": "too few"}]
    (told,) = policies(rows=[], certified=[], unsupported=why).blocks
    assert told == "It cannot be made: k-fold by problem: left out (too few)"


def test_text_is_escaped(run):
    workdir, _ = run
    page = read(workdir)
    assert "script" not in page.tags
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert HOSTILE in page.sections["Run"]
    assert HOSTILE in [cell for row in page.rows["Data"] for _, cell in row]
    for writer in (to_html, to_text):
        with pytest.raises(TypeError):
            writer([3])


def test_sections_and_what_would_fill_them(run, tmp_path):
    workdir, summary = run
    page = read(workdir)
    order = ["What was found", "Is there anything to route", "What it costs", "Words"]
    order += ["Limits", "Run", "Data", "Labels", "Policies", "Power", "Cost"]
    assert [heading for heading in page.sections if heading in order] == order
    # Nothing to say about these: no such section.
    assert "Exploratory: transfer" not in page.sections
    assert "seed 3, 2 folds, 50 resamples" in page.sections["Run"]
    assert "routing.splits = 5" in page.sections["Run"]
    assert versions()["jax"] in page.sections["Run"]
    # One cell knows its costs: its curve is there, beside a plot of each cell.
    assert "lonely|task" in page.sections["Cost"] and len(page.links) == 3

    for name, value in {"routing": summary, "summary": SUMMARY}.items():
        (tmp_path / f"{name}.json").write_text(to_json(value))
    settings = as_dict(dataclasses.replace(CONFIG, specialist="a & b"))
    (tmp_path / "config.json").write_text(to_json(settings))
    columns = [Column("cause", left=True), Column("n")]
    more = [Section("Planted", [Table(columns, [["noise <5 %", 87]])])]
    write_page(tmp_path, CONFIG, more)
    page = read(tmp_path)
    assert "16 rollouts" in page.sections["Data"]
    assert "our-model" in page.sections["Run"]
    assert 'specialist = "a & b"' in page.sections["Run"]
    assert page.rows["Planted"] == [[("cause", "noise <5 %"), ("n", "87")]]
    outside = "Uses truth from outside of the model: repair."
    assert outside in page.sections["Limits"]
    assert "Operator hint left out: needs a prompt." in page.sections["Limits"]
    assert not page.links  # no plots were left here


def test_limits_carry_every_plain_word(run):
    workdir, summary = run
    found = limits(summary, None)
    text = read(workdir).sections["Limits"]
    assert all(line in text for line in found)
    said = [note for cell in summary["cells"] for note in cell["notes"]]
    said += [entry["why"] for entry in summary["unsupported"]]
    said += [r["why"] for r in summary["clusters"] if r["why"]]
    assert said and all(any(words in line for line in found) for words in said)
    assert any("costs are not known" in line and HOSTILE in line for line in found)
    both = {"notes": ["the same word"]}
    cells = [c | both | {"cell": name} for c, name in zip(summary["cells"], "ab")]
    assert "Every cell: the same word." in limits({**summary, "cells": cells}, None)
    record = {"target": "method", "scope": "t"}
    record |= {"confounded": ["task"], "why": "there is one run"}
    words = limits({**summary, "audit": [record]}, None)
    assert "Audit, method within t: confounded with the task." in words
    assert "Audit, method within t: there is one run." in words


def test_the_same_bytes_wherever_it_lies(run, tmp_path):
    workdir, _ = run
    first = (workdir / "report.html").read_bytes()
    write_page(workdir, CONFIG)
    assert (workdir / "report.html").read_bytes() == first
    shutil.copytree(workdir, tmp_path / "moved")
    write_page(tmp_path / "moved", CONFIG)
    again = (tmp_path / "moved" / "report.html").read_bytes()
    assert again == first and str(workdir).encode() not in first
    assert b"://" not in first  # base64 of a plot may spell http
    with pytest.raises(UserError, match="routing.json is missing; scripts/route.py"):
        write_page(tmp_path / "empty", CONFIG)
    (tmp_path / "moved" / "routing.json").write_text('{"rates": []}')
    with pytest.raises(UserError, match="an earlier version; run scripts/route.py"):
        write_page(tmp_path / "moved", CONFIG)
    assert not (tmp_path / "empty").exists()


def test_numbers_stand_under_their_names_after_the_file_has_sorted_them(run):
    _, summary = run
    at = lambda records: [
        [dict(zip([c.title for c in block.columns], row)) for row in block.rows]
        for block in REPORTS["clusters"](records)
        if isinstance(block, Table)
    ]
    records = summary["clusters"]
    assert at(records) == at(json.loads(to_json(records)))


def test_a_table_is_the_same_in_text_and_in_html():
    first = {"value": 1.0, "low": -1.0, "high": 2.0}
    columns = [Column("a <b>", left=True), Column("n")]
    columns.append(Column("bar", sign=True, bar=True))
    rows = [["x", 1234, first], [], ["y", 2, dict.fromkeys(first)]]
    table = Table(columns, rows, note="so & so")
    text, markup = to_text([table]), to_html([table])
    assert text.splitlines()[0].split() == ["a", "<b>", "n", "bar", "−2", "+2"]
    # 31 characters, −2 at the first: −1 is the eighth, 1 the 23rd.
    drawn = next(line for line in text.splitlines() if "●" in line)[-31:]
    assert (drawn.index("├"), drawn.index("●"), drawn.index("┤")) == (8, 22, 30)
    assert "+1.0 [−1.0, +2.0]  " + drawn in text
    assert "1,234" in text and text.splitlines()[-2].split() == ["y", "2"]
    assert markup.count("<tbody>") == 2 and "a &lt;b&gt;" in markup
    assert "so &amp; so" in markup and "+1.0 [−1.0, +2.0]" in markup
    # 150 pixels, 4 at each end: −1 is a quarter of the way, 1 three quarters.
    assert "M39.5 6H146.0" in markup and 'cx="110.5"' in markup
    assert markup.count("<circle") == 1


def test_a_terminal_of_100_columns_holds_every_table(run):
    _, summary = run
    wide = [Column(f"a header of many words, {i}") for i in range(12)]
    cells = [{"value": 10.0, "low": -100.0, "high": 1000.0}] * 12
    columns = [Column("policy", left=True), *wide, Column("choices", left=True)]
    table = Table(columns, [["p" * 30, *cells, "operator 7, " * 40]])
    stages = ("rollouts", "failures", "attempts")
    texts = [to_text([table]), render("routing", summary)]
    for text in (*texts, *(render(name, SUMMARY[name]) for name in stages)):
        assert max(map(len, text.splitlines())) <= WIDTH == 100
    # Every part is headed by the names, and no number is lost.
    assert texts[0].count("policy") > 2 and texts[0].count("[−100.0, 1,000.0]") == 12
    assert texts[0].count("operator") == texts[0].count("7,") == 40


def test_settings_that_are_not_the_default():
    assert changed(as_dict(Config())) == {}
    given = dataclasses.replace(CONFIG, ancestor='with "quotes"')
    found = changed(as_dict(given))
    assert (
        found["ancestor"] == '"with \\"quotes\\""'
        and found["routing.bootstrap"] == "50"
    )
    assert found["seed"] == "3" and "routing.margin" not in found
    assert revision() is None or re.fullmatch(r"[0-9a-f]{7,}(-dirty)?", revision())


def test_cells_whose_names_look_alike_have_plots_of_their_own():
    cells = ["a-b|c", "a_b|c", "d|e"]
    names = [plot_name("cost", cell, cells) for cell in cells]
    assert (
        len(set(names)) == 3 and names[2] == plot_name("cost", "d|e") == "cost_d_e.png"
    )


def test_the_page_begins_with_a_verdict_and_a_forest_plot(run):
    workdir, summary = run
    found = summary["verdict"]
    assert found["verdict"] in ("lift", "none", "too little data", "leaked")
    first, second = (s.blocks for s in routing_sections(summary)[:2])
    (forest,) = [block for block in first if isinstance(block, Forest)]
    assert [name for name, _ in forest.panels] == ["all cells", HOSTILE, "lonely|task"]
    gap = lambda cell, policy, minus: select(
        summary["rows"], protocol="kfold", population="all", cell=cell, policy=policy,
        reference=minus,
    )[0]["interval"]  # fmt: skip
    at = {(p, m): i for i, (p, m) in enumerate(forest.rows)}
    cell = dict(forest.panels)
    assert cell[HOSTILE][at["dense_steer", "retry"]] == gap(
        HOSTILE, "always_dense_steer", "retry"
    )
    assert cell["lonely|task"][at["dense_steer", "retry"]] is None
    pair = "posterior mean", "best fixed, per model and task"
    wanted = gap("all cells", "posterior", "best_fixed_per_model")
    assert cell["all cells"][at[pair]] == wanted
    page = (workdir / "report.html").read_text()
    assert page.index("verdict: ") < page.index('class="forest"') < page.index("<h2>Is")
    assert [row[0] for row in second[0].rows] == [HOSTILE, "lonely|task"]
    text = render("routing", summary, full=False)
    assert text.startswith("── What was found") and len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_forest_plot_draws_each_interval_where_it_lies():
    clear, none = (
        {"value": 10.0, "low": 5.0, "high": 20.0},
        dict.fromkeys(("value", "low", "high")),
    )
    same = none | {"value": 0.0}
    rows = [("a <b>", "retry"), ("b", "retry"), ("router", "best")]
    forest = Forest(rows, [("x", [clear, same, None]), ("y", [None, clear, clear])])
    drawn = to_html([forest])
    # Two panels of 485 pixels after 190 for names, 20 at each edge, from -20 to 20: in
    # the first 5 is 5/8 of 445 pixels after 210, 20 its end, and 10 3/4.
    assert "M488.1 49H655.0" in drawn and 'cx="543.8"' in drawn
    assert drawn.count("<circle") == 4
    assert drawn.count('class="clear"') == 3 and drawn.count('class="unclear"') == 1
    assert "a &lt;b&gt;" in drawn and "minus best" in drawn
    text = to_text([forest])
    assert "a <b>" in text and "+10.0 [+5.0, +20.0]" in text and "router" not in text


def test_policies_that_choose_the_same_share_a_row():
    row = {"interval": {"value": 1.0, "low": 0.0, "high": 2.0}, "routes": {"retry": 3}}
    other = row | {"routes": {"retry": 2, "hot": 1}}
    rows = [row | {"title": "a", "cost": 9.0}, other | {"title": "b"}]
    rows += [row | {"title": "c", "cost": 5.0}]
    found = merged(rows)
    assert [r["title"] for r in found] == ["a; c", "b"] and found[0]["cost"] == 5.0
    bare = {"interval": row["interval"], "title": "d"}
    assert len(merged([bare, bare | {"title": "e"}])) == 2


def test_folded_sections_are_shown_on_request_and_empty_columns_never():
    blocks = [Section("open", ["a"]), Section("closed", ["b"], folded=True)]
    assert to_text(blocks) == "── open\n\na\n\n── closed\n\nb"
    assert to_text(blocks, full=False) == "── open\n\na"
    (found,) = table("attempts", [{"name": "retry", "n": 3, "fired": None}])
    assert [c.title for c in found.columns] == ["operator", "attempts"]
    lone = {"value": 0.0, "low": None, "high": None}
    assert signed(lone) == "+0.0"


def test_one_failure_shows_its_tokens_and_what_operators_did(tmp_path):
    assert failure_section(tmp_path) is None
    folder = viewer_runs.write_run(tmp_path)
    section = failure_section(epath.Path(folder))
    head, passage, told = section.blocks
    text = "".join(part for part, *_ in passage.parts)
    scored = {a.problem: a for a in reversed(store.read(folder / "scores"))}
    failed = next(
        a for a in scored.values() if a.question.strip(" :") in head and len(text) > 3
    )
    shares = [share for _, share, _ in passage.parts]
    assert len(passage.parts) == len(failed.tokens) and max(shares) == 1
    marked = [i for i, (*_, mark) in enumerate(passage.parts) if mark]
    assert marked == [int(np.argmax(failed.stats["demotion"]))]
    assert re.search(r"retry \d+ of \d+", told)
    html = to_html([section])
    assert html.count("<span") == len(passage.parts) and "<mark>junction</mark>" in html
    hostile = dataclasses.replace(failed, question="\x1b[2J<script>", answer=None)
    shown = failure_blocks(hostile, ["<b>"] * len(failed.tokens), {})
    assert "\x1b" not in to_html(shown) and "<script" not in to_html(shown)
    assert "<b>" not in to_html(shown)


def test_sentences_count_one():
    counts = dict(problems=1, failed_problems=1, right=0.0, counts="", truncated=0.0)
    said = words("rollouts", rollouts=1, **counts)
    assert said.startswith("1 rollout of 1 problem: right 0.0 %")
    assert said.endswith("\n1 problem failed at least once")
    assert words("wrote", wrote=1).startswith("1 shard was replaced")
    assert words("wrote", wrote=2).startswith("2 shards were replaced")
    said = words("engine_unknown", format="vllm", rollouts=1, retokenised=0)
    assert "no token of 1 failed rollout has" in " ".join(said.split())


CODES = "\x1b[2J\x07\u202eabc\U000e0041\ud800 " + "m" * 10**6


@pytest.mark.parametrize("place", ["sentence", "title", "cell", "column", "note"])
def test_no_name_of_a_file_moves_what_is_read_or_floods_it(place):
    name = lambda here: CODES if place == here else "x"
    columns = [Column(name("column"), left=True), Column("n")]
    shown = Table(columns, [[name("cell"), 1]], name("title"), name("note"))
    blocks = [name("sentence"), Section(name("title"), [shown])]
    text, markup = to_text(blocks), page(name("title"), name("sentence"), blocks)
    for whole in (text, markup):
        assert all(c.isprintable() or c in "\n\t" for c in whole)
        joined = " ".join(whole.split())
        assert "␛[2J␇⟨202E⟩abc⟨E0041⟩⟨D800⟩" in joined and "more characters)" in joined
    assert len(text) < 5000 and len(markup) < 15_000
    assert place == "column" or max(map(len, text.splitlines())) <= WIDTH


def test_a_passage_keeps_its_lines_and_hides_nothing():
    passage = Passage([("a\n\u202eb\x1b", 0.5, CODES)], "m\u2066")
    markup = to_html([passage])
    assert "a\n⟨202E⟩b␛</span>" in markup and "m⟨2066⟩" in markup


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 日本 e\u0301", "naïve 日本 e\u0301"),
        ("👩\u200d👧 ❤\ufe0f", "👩\u200d👧 ❤\ufe0f"),  # parts of one picture
        ("a\u200db\ufe0f", "a⟨200D⟩b⟨FE0F⟩"),
        ("\u115f\u3164\u034f\xa0\x7f", "⟨115F⟩⟨3164⟩⟨034F⟩⟨00A0⟩␡"),
        ("e" + "\u0301" * 9, "e" + "\u0301" * 6 + "⟨+3 marks⟩"),
    ],
)
def test_signs_stand_for_what_is_not_seen(text, shown):
    assert printable(text) == shown


def test_the_failure_shown_is_one_of_operators_with_enough_attempts():
    once = {"retry": (0, 12), "once": (1, 1), "hot": (1, 12)}
    often = {"retry": (2, 12), "once": (0, 1), "hot": (8, 12)}
    assert clearest({"once": once, "often": often}) == "often"
    assert clearest({"alone": {"once": (1, 1)}}) == "alone"


def test_what_is_unknown_is_left_out():
    unknown = dict.fromkeys(("value", "low", "high"))
    rows = [{"name": "retry", "n": 3, "interval": unknown}, {"name": "hot"}]
    (found,) = table("attempts", rows)
    assert [c.title for c in found.columns] == ["operator", "attempts"]
    assert found.rows == [["retry", 3]]
    assert "n/a" not in to_text([found]) + to_html([found])
