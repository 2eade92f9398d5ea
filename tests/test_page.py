"""The page of a run says what its files say: all of it, nothing else, the same bytes whoever asks."""

import dataclasses
import html.parser
import json
import re
import shutil

import pytest
from synthetic_profiles import make

from fr.config import ClustersConfig, Config, RoutingConfig, as_dict
from fr.errors import UserError
from fr.pipeline.route import route
from fr.report.failure_tables import regime_blocks
from fr.report.page import plot_name, write_page
from fr.report.page_html import to_html
from fr.report.page_limits import limits
from fr.report.page_tables import policies_table, policy_name, primary, protocol_name
from fr.report.provenance import changed, revision, versions
from fr.report.tables import Bar, Table, number, span
from fr.routing.profiles import write_profiles
from fr.workdir import to_json

CONFIG = Config(
    seed=3,
    routing=RoutingConfig(bootstrap=50, splits=5, permutations=5, posterior=10, folds=2, nulls=19, splittings=1),
    clusters=ClustersConfig(largest=3, bootstrap=5, seeds=2, nulls=3, null_bootstrap=2),
)
HOSTILE = '<script>alert("1")</script> & co|task'
RATE = {"mean": 0.5, "low": 0.2, "high": 0.9}
SUMMARY = {
    "specialist": "our-model",
    "ancestor": "",
    "task": "sums",
    "seed": 0,
    "rollouts": {"rollouts": 16, "problems": 4, "failed_problems": 3, "truncated": 0.25, "accuracy": RATE,
                 "grades": {"right": 8, "wrong": 8}},
    "failures": {"failed_rollouts": 8, "failed_problems": 3, "features": {"spread": 0.5}},
    "attempts": {
        "operators": {"retry": RATE | {"n": 9, "fired": 0.0, "outside": False},
                      "repair": RATE | {"n": 9, "fired": 0.0, "outside": True}},
        "left_out": {"hint": "needs a prompt"},
        "without_verifier": {"rollout": RATE, "majority": RATE},
    },
}  # fmt: skip
CAUSES = {
    "causes": ["noise <5 %"],
    "seeds": [0],
    "operators": ["retry"],
    "outside": ["calculator"],
    "failed": {"noise <5 %": 7},
    "rescue": [{"cause": "noise <5 %", "operator": "retry", "minus_retry": None} | RATE],
    "diagnosis": [{"reads": "outside truth", "columns": ["slips"], "accuracy": RATE, "by_seed": [62.5],
                   "chance": 50.0, "confusion": [[87.25]]}],
}  # fmt: skip


class Reader(html.parser.HTMLParser):
    """Sections by heading: their text and the rows of their tables, as {header: cell}; elements must nest."""

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


def read(workdir) -> Reader:
    return Reader((workdir / "report.html").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    cost = {name: 50.0 for name in ("retry_cost", "local_temp_cost", "diagnosis_cost")}
    cheap = make(problems=30, seed=1, operators=("retry", "local_temp"), cell="lonely|task", **cost)
    write_profiles(workdir / "profiles.csv", [make(problems=40, cell=HOSTILE), cheap])
    summary = route([workdir / "profiles.csv"], CONFIG, workdir)["summary"]
    write_page(workdir, CONFIG)
    return workdir, summary


def test_every_policy_has_its_line(run):
    workdir, summary = run
    lines = [[cell for _, cell in row] for row in read(workdir).rows["Policies"]]
    shown = [row for row in summary["rates"] if row["population"] == "all" and row["cell"] == "all cells"]
    assert len({row["policy"] for row in shown}) == 14
    for row in shown:
        wanted = {number(row["rate"]), span(row["low"], row["high"]), str(row["n"])}
        assert any(wanted <= set(line) for line in lines), row
    gaps = [row for row in summary["comparisons"] if "p_holm" in row and row["population"] == "all"]
    for row in gaps:
        wanted = {number(row["diff"], sign=True), span(row["low"], row["high"], sign=True)}
        wanted |= {number(row["p"], 3), number(row["p_holm"], 3)}
        assert any(wanted <= set(line) for line in lines), row
    for cell in summary["cells"]:
        for protocol in cell["protocols"].values():
            wanted = {
                cell["cell"],
                number(protocol["rates"]["routed"]),
                span(*protocol["intervals"]["routed"]),
            }
            assert any(wanted <= set(line) for line in lines)


def test_the_table_of_policies_says_of_each_how_far_it_is_from_the_best_fixed_operator(run):
    _, summary = run
    dear, adjusted = {"cost": 123.0, "cost_per_rescue": 456.0}, {"p_holm": 0.125}
    told = {
        "rates": [row | dear for row in summary["rates"]],
        "comparisons": [row | adjusted if "p_holm" in row else row for row in summary["comparisons"]],
    }
    table = policies_table(told)
    lines, protocol = {}, ""
    for row in filter(None, table.rows):
        line = dict(zip(table.header, row))
        protocol = line["protocol"] or protocol
        lines[protocol, line["policy"]] = line
    rows = [
        row
        for row in told["comparisons"]
        if row["reference"] == "best_fixed_per_model"
        and (row["cell"], row["population"]) == ("all cells", "all")
    ]
    assert len(rows) > 3
    for row in rows:
        line = lines[protocol_name(row["protocol"]), policy_name(row["policy"])]
        assert line["minus best fixed, per model"] == number(row["diff"], sign=True)
        assert line["p"] == number(row["p"], 3)
        assert line["Holm p"] == ("0.125" if "p_holm" in row else "")
        assert (line["cost"], line["cost a rescue"]) == ("123", "456")


def test_one_comparison_is_primary_and_all_others_are_exploratory(run):
    workdir, summary = run
    text = (workdir / "report.html").read_text().split("<h2>Policies</h2>")[1].split("</section>")[0]
    titles = re.findall(r"<(?:h3|summary)>(.*?)<", text)
    assert titles[0].startswith("Primary") and len(titles) > 3
    assert all(title.startswith("Exploratory") for title in titles[1:])
    first, *others = read(workdir).rows["Policies"]
    claim = primary(summary)
    assert (claim["policy"], claim["reference"], claim["protocol"]) == (
        "posterior",
        "best_fixed_per_model",
        "kfold",
    )
    assert dict(first)["minus"] == "best fixed, per model and task" and dict(first)["problems"] == str(claim["n"])
    assert first not in others
    # Without a row of the primary router the rule is judged, and without any the page says why.
    rule = claim | {"policy": "rule"}
    assert primary({"comparisons": [rule, claim]}) is claim and primary({"comparisons": [rule]}) is rule
    assert primary({"comparisons": []}) is None


def test_text_is_escaped(run):
    workdir, _ = run
    page = read(workdir)
    assert "script" not in page.tags and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert HOSTILE in page.sections["What was run"]
    assert HOSTILE in [cell for row in page.rows["Data"] for _, cell in row]
    with pytest.raises(TypeError):
        to_html(3)


def test_sections_and_what_would_fill_them(run, tmp_path):
    workdir, summary = run
    page = read(workdir)
    order = ["What was run", "Data", "Labels and their stability", "Policies", "Power", "Cost", "Limits"]
    assert [heading for heading in page.sections if heading in order] == order
    assert "scripts/reproduce.py" in page.sections["Data"]
    assert page.sections["Exploratory: planted causes"].count("benchmarks/planted.py") == 1
    assert "--frozen=" in page.sections["Exploratory: transfer"]
    assert "seed 3, 2 folds, 50 resamples" in page.sections["What was run"]
    assert "routing.splits = 5" in page.sections["What was run"]
    assert versions()["jax"] in page.sections["What was run"]
    # One cell knows its costs: its curve is there, beside two plots of each cell.
    assert "lonely|task" in page.sections["Cost"] and len(page.links) == 5

    for name, value in {"routing": summary, "summary": SUMMARY, "causes": CAUSES}.items():
        (tmp_path / f"{name}.json").write_text(to_json(value))
    (tmp_path / "config.json").write_text(to_json(as_dict(dataclasses.replace(CONFIG, specialist="a & b"))))
    write_page(tmp_path, CONFIG)
    page = read(tmp_path)
    assert "scripts/reproduce.py" not in page.sections["Data"] and "16 rollouts" in page.sections["Data"]
    assert (
        "our-model" in page.sections["What was run"]
        and 'specialist = "a & b"' in page.sections["What was run"]
    )
    assert "benchmarks/planted.py" not in page.sections["Exploratory: planted causes"]
    rescue, told, confusion = page.rows["Exploratory: planted causes"]
    assert rescue[0] == ("rescued, % [95 %]", "retry") and ("by seed", "62") in told
    assert confusion[1] == ("noise <5 %", "87")
    assert "Uses truth from outside of the model: repair." in page.sections["Limits"]
    assert "scripts/intervene.py" in page.sections["Cost"] and not page.links  # no plots were left here


def test_limits_carry_every_plain_word(run):
    workdir, summary = run
    found = limits(summary, None, None)
    text = read(workdir).sections["Limits"]
    assert all(line in text for line in found)
    said = [note for cell in summary["cells"] for note in cell["notes"]]
    said += [entry["why"] for entry in summary["unsupported"]] + [
        r["why"] for r in summary["regimes"] if r["why"]
    ]
    assert said and all(any(words in line for line in found) for words in said)
    assert any("costs are not known" in line and HOSTILE in line for line in found)
    both = {"cell": "b", "notes": ["the same word"]}
    cells = [cell | both | {"cell": name} for cell, name in zip(summary["cells"], "ab")]
    assert "Every cell: the same word." in limits(summary | {"cells": cells}, None, None)
    confounded = [{"target": "method", "scope": "t", "confounded": ["task"], "why": "there is one run"}]
    assert "Uses truth from outside of the model: calculator." in limits(summary, None, CAUSES)
    words = limits(summary | {"audit": confounded}, None, None)
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
    assert again == first and str(workdir).encode() not in first and b"http" not in first
    with pytest.raises(UserError, match="scripts/route.py"):
        write_page(tmp_path / "empty", CONFIG)
    assert not (tmp_path / "empty").exists()


def test_numbers_stand_under_their_names_after_the_file_has_sorted_them(run):
    _, summary = run
    at = lambda tables: [
        [dict(zip(table.header, row)) for row in table.rows] for table in tables if isinstance(table, Table)
    ]
    records = summary["regimes"]
    assert at(regime_blocks(records)) == at(regime_blocks(json.loads(to_json(records))))


def test_a_table_is_the_same_in_text_and_in_html():
    bars = [Bar(1.0, -1.0, 2.0, (-2.0, 2.0), 9), Bar(None, None, None, (-2.0, 2.0), 9)]
    table = Table(["a <b>", "n", "bar"], [["x", "1", bars[0]], [], ["y", "2", bars[1]]], note="  so & so")
    text, markup = str(table), to_html(table)
    assert "··├───●─┤" in text and "·" * 9 in text
    assert markup.count("<tbody>") == 2 and "a &lt;b&gt;" in markup and "so &amp; so" in markup
    # 150 pixels, 4 at each end: −1 is a quarter of the way, 1 three quarters.
    assert "M39.5 6H146.0" in markup and 'cx="110.5"' in markup and markup.count("<circle") == 1
    assert bars[0].place(-9) == 0 and bars[0].place(9) == 1


def test_settings_that_are_not_the_default():
    assert changed(as_dict(Config())) == {}
    given = dataclasses.replace(CONFIG, ancestor='with "quotes"')
    found = changed(as_dict(given))
    assert found["ancestor"] == '"with \\"quotes\\""' and found["routing.bootstrap"] == "50"
    assert found["seed"] == "3" and "routing.margin" not in found
    assert revision() is None or re.fullmatch(r"[0-9a-f]{7,}(-dirty)?", revision())


def test_cells_whose_names_look_alike_have_plots_of_their_own():
    cells = ["a-b|c", "a_b|c", "d|e"]
    names = [plot_name("cost", cell, cells) for cell in cells]
    assert len(set(names)) == 3 and names[2] == plot_name("cost", "d|e") == "cost_d_e.png"
