"""The viewer's page in a browser: each feature by what a person sees and does."""

import itertools
import json
import threading
import unicodedata

import pytest
import viewer_runs
from chromium import Chromium, needs_chromium

from fr import store
from fr.errors import printable

pytest.importorskip("duckdb")
from fr.viewer.attempts_index import AttemptsIndex
from fr.viewer.export_page import export_page
from fr.viewer.lists import Viewer
from fr.viewer.page_server import PageServer

pytestmark = needs_chromium
STEERED = "of=countdown&name=countdown-3&trace=attempts%2F0%2F30"
SIZES = [(400, 800), (1280, 800), (3840, 2000)]
COLOUR = "getComputedStyle(document.querySelector(`{}`)).{}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all tests."""
    made = Chromium(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A function that serves a folder and gives its viewer and its address."""
    servers = []

    def serve(folder):
        server = PageServer(Viewer(AttemptsIndex(folder)), "127.0.0.1", 0)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append((server, thread))
        return server.viewer, server.url

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield serve
        for server, thread in servers:
            server.shutdown()
            thread.join()
            server.server_close()
            server.viewer.scans.close()


@pytest.fixture(scope="module")
def run(served, tmp_path_factory):
    """Viewer and address of a run of Countdown."""
    return served(viewer_runs.write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def hostile(served, tmp_path_factory):
    """Viewer and address of a run of hostile texts."""
    return served(viewer_runs.write_hostile(tmp_path_factory.mktemp("hostile")))


@pytest.fixture
def page(browser, run):
    """The page at 1280 x 800, in light colours, on the list."""
    browser.said.clear()
    browser.requests.clear()
    browser.size(1280, 800)
    browser.open(run[1])
    yield browser
    assert browser.said == []
    assert [r for r in browser.requests if not r.startswith((run[1], "about:"))] == []


def shown(page, link):
    """Open a permanent link and wait for its curves."""
    page.open(f"{page.run('location.origin')}/#{link}")
    page.wait("document.querySelectorAll('#curves .curve').length > 8")


# --------------------------------------------------------------------------- lists
def test_the_list_shows_the_problems_and_their_failures(page, run):
    rows = run[0].problems({"limit": "500"})["rows"]
    assert page.text("#count") == "12 problems"
    for i, row in enumerate(rows[:4]):
        text = page.text(f"[aria-posinset='{i + 1}']")
        assert row["question"] in text
        assert f"failed {row['failed']} of {row['rollouts']}" in text
        assert f"operators right {row['rescued']} of {row['tried']}" in text


def test_filters_narrow_the_list(page, run):
    for name, value in (
        ("grade", "unparsed"),
        ("failed", "3-4"),
        ("label", "steerable"),
        ("operator", "local_temp"),
        ("text", "3 7 -> 6"),
    ):
        total = run[0].problems({name: value})["total"]
        assert 0 < total < 12 or name == "operator"
        page.choose(f"[name='{name}']", value)
        noun = "problem" if total == 1 else "problems"
        page.wait(f"document.querySelector('#count').innerText === '{total} {noun}'")
        assert f"{name}=" in page.run("location.hash")
        page.click("#clear")
        page.wait("document.querySelector('#count').innerText === '12 problems'")
    page.choose("[name='failed']", "many")
    page.wait("!document.querySelector('#error').hidden")
    assert "write 3, 2-5 or 2-" in page.text("#error")
    page.said[:] = [line for line in page.said if "400" not in line]


def test_a_regime_is_a_filter(page, run):
    page.choose("[name='regime']", "wandering")
    page.wait("document.querySelector('#count').innerText.endsWith('problems')")
    run[0].scans.regimes().wait(120)
    total = run[0].problems({"regime": "wandering"})["total"]
    page.wait(f"document.querySelector('#count').innerText === '{total} problems'")
    page.key("j")
    page.wait("document.querySelector('.regime:not(:empty)')?.innerText")


def test_a_problem_shows_its_attempts_side_by_side(page):
    page.click("[aria-posinset='2']")
    page.wait("document.querySelectorAll('.attempt').length === 13")
    assert page.run("document.querySelectorAll('#problem thead th').length") == 5
    assert "right" in page.text("#problem thead")
    page.choose("[name='grade']", "wrong")
    page.wait("document.querySelectorAll('.attempt.pale').length > 0")
    pale = "[...document.querySelectorAll('.attempt.pale')].map(a => a.dataset.grade)"
    assert "wrong" not in page.run(pale)


def test_a_long_list_scrolls_and_holds_few_rows(browser, served, tmp_path):
    _, address = served(viewer_runs.write_run(tmp_path, problems=150))
    browser.open(address)
    assert browser.text("#count") == "150 problems"
    browser.run("document.querySelector('#list').scrollTop = 1e9")
    browser.wait("!!document.querySelector(\"[aria-posinset='150']\")")
    assert "2 3 149 ->" in browser.text("[aria-posinset='150']")
    assert browser.run("document.querySelectorAll('.entry').length") < 60


# -------------------------------------------------------------------------- traces
def test_tokens_are_shaded_by_any_statistic(page, run):
    shown(page, STEERED)
    head = run[0].trace({"trace": "attempts/0/30"})
    tokens = "[...document.querySelectorAll('.text .t')]"
    text = f"{tokens}.map(t => t.textContent).join('')"
    assert page.run(text) == "".join(head["pieces"])
    levels = "[...document.querySelectorAll('.text .t')].map(t => +t.dataset.level)"
    for name in ("entropy", "demotion", "logit_var", "margin", "logp", "kl"):
        page.choose("#by", name)
        values = run[0].statistics({"trace": "attempts/0/30", "names": name})[name]
        page.wait(f"document.querySelector('.large')?.dataset.name === '{name}'")
        found = page.run(levels)
        order = sorted(range(len(values)), key=lambda i: values[i])
        low, high = order[0], order[-1]
        reverse = name in ("margin", "logp")
        assert (found[low], found[high]) == ((8, 0) if reverse else (0, 8)), name
        assert f"by={name}" in page.run("location.hash")


def test_marks_stand_at_their_tokens(page, run):
    shown(page, STEERED)
    head = run[0].trace({"trace": "attempts/0/30"})
    at = lambda kind: page.run(
        f"[...document.querySelectorAll('.text .t.{kind}')].map(t => +t.dataset.i)"
    )
    assert at("junction") == [head["junction"]]
    assert at("fired") == [i for i, on in enumerate(head["fired"]) if on]
    assert at("forced") == [i for i, on in enumerate(head["forced"]) if on]
    assert at("pause") == [head["forced"].index(True)]
    assert "2 rewound" in page.text("#trace header")
    for sign in ("▼ junction", "◆ fired", "⏸ pause"):
        assert sign in page.text("#legend")
    cut = next(
        row["trace"]
        for row in run[0].attempts({"task": "countdown", "name": "countdown-3"})["rows"]
        if row["truncated"]
    )
    shown(page, f"of=countdown&name=countdown-3&trace={cut}")
    assert "✂ truncated (at most 96 tokens)" in page.text(".text .end")


def test_hovering_gives_the_numbers_of_a_token(page, run):
    shown(page, STEERED)
    head = run[0].statistics({"trace": "attempts/0/30", "names": "entropy,kl"})
    page.hover(".text .t[data-i='5']")
    page.wait("document.querySelector('.which').innerText.includes('token 5 of')")
    numbers = page.text("#inspector").replace("−", "-")
    for name in ("entropy", "kl"):
        assert f"{head[name][5]:.4g}" in numbers
    assert "forced" in numbers
    likely = page.text("#inspector .alternatives")
    assert likely.startswith("most probable:")
    assert "75 %" in likely and "12.5 %" in likely
    assert page.text(".text .t[data-i='5']").strip() in likely
    box = "document.querySelector('.curve.large svg').getBoundingClientRect()"
    middle = page.run(f"[{box}.x + {box}.width / 2, {box}.y + 9]")
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=middle[0], y=middle[1])
    place = (len(head["kl"]) - 1) // 2
    page.wait(f"document.querySelector('.t.here').dataset.i - {place} <= 1")


def test_an_operator_is_compared_with_its_retry(page, run):
    shown(page, STEERED)
    page.click("#compare")
    page.wait("document.querySelectorAll('.attempt-text').length === 2")
    head = run[0].trace({"trace": "attempts/0/30"})
    retry = run[0].trace({"trace": head["retry"]})
    pairs = enumerate(zip(head["tokens"], retry["tokens"]))
    fork = next((i for i, (a, b) in pairs if a != b), None)
    if fork is None:
        assert "same tokens" in page.text("#difference")
    else:
        said = page.text("#difference")
        assert f"Equal for {fork} token" in said and "keys are the same" in said
        assert head["pieces"][fork] in said and retry["pieces"][fork] in said
        forks = "[...document.querySelectorAll('.t.fork')].map(t => +t.dataset.i)"
        assert page.run(forks) == [fork, fork]
    assert "versus=" in page.run("location.hash")
    page.key("x")
    page.wait("document.querySelectorAll('.attempt-text').length === 1")


def test_keys_move_through_everything(page):
    page.key("j")
    page.wait("document.querySelectorAll('#curves .curve').length > 8")
    first = page.run("location.hash")
    page.key("j")
    page.wait("location.hash.includes('name=countdown-1')")
    page.key("k")
    page.wait(f"location.hash === {first!r}")  # its trace is chosen again
    page.key("n")
    page.wait(f"location.hash !== {first!r}")
    shown(page, STEERED)
    here = lambda: page.run("+document.querySelector('.t.here').dataset.i")
    page.key("ArrowRight")
    page.key("ArrowRight")
    assert here() == 2
    page.key("f")
    assert here() == 3
    page.key("o")
    assert here() == 4
    page.key("g")
    assert page.run("document.querySelector('.t.here').matches('.junction')")
    page.key("s")
    page.wait("location.hash.includes('by=demotion')")
    page.key("d")
    page.wait("document.querySelectorAll('.attempt-text').length === 2")
    page.key("/")
    assert page.run("document.activeElement.name") == "text"
    page.key("Escape")
    page.key("?")
    assert "next and previous problem" in page.text("#keys")


def test_a_link_is_permanent_and_the_history_goes_back(page):
    page.open(f"{page.run('location.origin')}/#grade=wrong&{STEERED}&by=kl&token=7")
    page.wait("document.querySelector('.t.here')?.dataset.i === '7'")
    assert page.run("document.querySelector('#by').value") == "kl"
    assert page.run("document.querySelector('[name=grade]').value") == "wrong"
    page.key("n")
    page.wait("!location.hash.includes('F30')")
    page.run("history.back()")
    page.wait("location.hash.includes('trace=attempts%2F0%2F30')")
    page.wait("document.querySelector('#trace h3').innerText.includes('sparse_steer')")


def test_the_heads_of_the_attempts_stay_and_do_not_touch(page):
    page.size(1280, 560)
    shown(page, STEERED)
    inside = "document.querySelector('.wide')"
    assert page.run(f"{inside}.scrollHeight > {inside}.clientHeight + 60")
    page.run(f"{inside}.scrollTop = 60")
    top = "Math.round({}.getBoundingClientRect().top)"
    head = top.format("document.querySelector('#problem thead th:last-child')")
    page.wait(f"{inside}.scrollTop >= 60")
    assert page.run(head) - page.run(top.format(inside)) in range(4)
    spans = "[...document.querySelectorAll('#problem thead th > *')]"
    assert page.run(f"{spans}.every(e => e.scrollWidth <= e.clientWidth + 1)")


def test_the_legend_names_what_each_junction_is(page, run):
    shown(page, f"{STEERED}&versus=attempts%2F0%2F27")
    heads = [run[0].trace({"trace": f"attempts/0/{i}"}) for i in (27, 30)]
    assert [head["junction_by"] for head in heads] == ["logit_var", "demotion"]
    page.wait("document.querySelector('#legend').innerText.includes('▼')")
    assert "junction: largest V in 1, largest J in 2" in page.text("#legend")
    shown(page, STEERED)
    assert "junction: largest J" in page.text("#legend")


def test_a_typed_text_outlives_another_choice(page):
    field = "document.querySelector('[name=failed]')"
    page.run(
        f"{field}.value = '3'; {field}.dispatchEvent(new Event('input')); "
        "document.querySelector('[name=fired]').click()"
    )
    page.wait("location.hash === '#failed=3&fired=1'")
    assert page.run(f"{field}.value") == "3"


def test_a_late_message_of_an_earlier_choice_is_not_shown(page):
    page.run(
        "window.whole = fetch; window.fetch = (path, given) => "
        "path.includes('name=countdown-1&') || path.endsWith('name=countdown-1') "
        "? new Promise((_, no) => setTimeout(() => no(new Error('late')), 300)) "
        ": whole(path, given)"
    )
    page.click("[aria-posinset='2']")
    page.wait("!document.querySelector('#error').hidden")
    assert page.text("#error") == "scripts/view.py does not answer"
    page.click("[aria-posinset='2']")
    page.click("[aria-posinset='3']")
    page.wait("document.querySelectorAll('#curves .curve').length > 8")
    page.run("new Promise(wake => setTimeout(wake, 400))")
    assert page.run("document.querySelector('#error').hidden")


def test_characters_that_are_not_seen_have_signs(page):
    mark = "\u0301"
    for text, seen in {
        "a\U000e0041\u034f\u180e\ufe0f\U000e0100": "a⟨E0041⟩⟨034F⟩⟨180E⟩⟨FE0F⟩⟨E0100⟩",
        "\u115f\u3164\uffa0\u2800\u00a0\u3000": "⟨115F⟩⟨3164⟩⟨FFA0⟩⟨2800⟩⟨00A0⟩⟨3000⟩",
        "\ue000\U0010fffd\u0378\x1b\x9b\u202e": "⟨E000⟩⟨10FFFD⟩⟨0378⟩␛⟨009B⟩⟨202E⟩",
        f"e{mark * 6}f{mark * 300}": f"e{mark * 6}f{mark * 6}⟨+294 marks⟩",
        "é ü\tא\n中 ❤\ufe0f👩\u200d👧": "é ü\tא\n中 ❤\ufe0f👩\u200d👧",
        "a\u200db": "a⟨200D⟩b",
    }.items():
        asked = f"import('/dom.js').then(m => m.plain({json.dumps(text)}))"
        assert page.run(asked) == seen


def test_the_page_and_the_terminal_hide_the_same_characters(page):
    codes = [*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE0200)]
    hidden = [
        code for code in codes if printable(f"x{chr(code)}x", "\t\n")[1] != chr(code)
    ]
    asked = (
        "import('/dom.js').then(m => {const found = [], newer = [];"
        "for (const code of CODES) {const c = String.fromCodePoint(code);"
        "if (m.plain(`x${c}x`) !== `x${c}x`) found.push(code);"
        "if (/\\p{Cn}/u.test(c)) newer.push(code);} return [found, newer]})"
    )
    found, unassigned = map(set, page.run(asked.replace("CODES", json.dumps(codes))))
    # Characters that only one of the two editions of Unicode knows.
    known = {c for c in codes if unicodedata.category(chr(c)) != "Cn"} - unassigned
    assert found & known == set(hidden) & known
    assert len(found & known) > 6_000  # private use among them
    pieces = ["a", "👩", "❤", "\ufe0f", "\u200d", "\U0001f3fd", "\u0301", "\u202e", "⁉"]
    texts = [
        "".join(some) for n in (3, 4) for some in itertools.product(pieces, repeat=n)
    ]
    asked = f"import('/dom.js').then(m => {json.dumps(texts)}.map(m.plain))"
    told = page.run(asked)
    differ = [
        (t, a, b) for t, a in zip(texts, told) if a != (b := printable(t, "\t\n"))
    ]
    assert differ == []


# ------------------------------------------------------------------- look and safety
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_wider_than_the_window(page, width, height, dark):
    page.size(width, height, dark)
    shown(page, f"{STEERED}&versus=attempts%2F0%2F27")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelector('#trace').scrollWidth") <= width
    ink = page.run(COLOUR.format("body", "color"))
    paper = page.run(COLOUR.format("body", "backgroundColor"))
    assert (luminance(ink) > luminance(paper)) == dark
    assert contrast(ink, paper) > 7
    for level in (4, 8):
        heat = page.run(
            COLOUR.format(f".steps [data-level='{level}']", "backgroundColor")
        )
        assert contrast(ink, over(heat, paper)) > 4.5
    page.click("#theme")
    assert page.run(COLOUR.format("body", "backgroundColor")) != paper
    page.click("#theme")


def numbers(colour):
    """Red, green, blue in [0, 1] and alpha of a computed colour."""
    inside = colour[colour.index("(") + 1 : -1].replace(",", " ").replace("/", " ")
    words = inside.replace("srgb", "").split()
    scale = 255 if colour.startswith("rgb") else 1
    values = [float(word) / scale for word in words[:3]]
    return values, float(words[3]) if len(words) > 3 else 1.0


def over(colour, paper):
    """A colour that lets the paper through."""
    (top, alpha), (below, _) = numbers(colour), numbers(paper)
    mixed = [255 * (alpha * t + (1 - alpha) * b) for t, b in zip(top, below)]
    return f"rgb({', '.join(map(str, mixed))})"


def luminance(colour):
    """Relative luminance as WCAG defines it."""
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
        for v in numbers(colour)[0]
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Contrast ratio of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def walk_hostile(page, width):
    """Look at every hostile problem and attempt; nothing may run or break the page."""
    page.size(width, 800)
    names = page.run("[...document.querySelectorAll('.entry')].length")
    assert names == len(viewer_runs.HOSTILE)
    for i in range(names):
        page.click(f"[aria-posinset='{i + 1}']")
        page.wait("document.querySelectorAll('#curves .curve').length > 8")
        page.key("n")
        page.wait("document.querySelectorAll('.attempt').length === 3")
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run("document.querySelector('#trace').scrollWidth") <= width
        page.key("Escape")
    assert page.run("window.hacked") is None
    allowed = "#data, body > script[type=module], head > *"
    made = "[...document.querySelectorAll('img, script, iframe')]"
    assert page.run(f"{made}.filter(e => !e.matches('{allowed}')).length") == 0
    assert page.run("document.querySelectorAll('.hidden-sign').length") > 0
    assert page.said == []


@pytest.mark.parametrize("width", [400, 1280])
def test_hostile_texts_stay_texts(browser, hostile, width):
    browser.said.clear()
    browser.size(width, 800)
    browser.open(hostile[1])
    walk_hostile(browser, width)
    shown_text = browser.text("#problem") + browser.text("#trace")
    assert "\x1b" not in shown_text and "\u202e" not in shown_text


def test_an_exported_file_needs_no_server(browser, run, hostile, tmp_path):
    for name, viewer in (("run", run[0]), ("hostile", hostile[0])):
        export_page(viewer, str(tmp_path / f"{name}.html"), (), 4, 4)
        browser.said.clear()
        browser.requests.clear()
        browser.size(1280, 800)
        browser.open(f"file://{tmp_path}/{name}.html")
        browser.click("[aria-posinset='1']")
        browser.wait("document.querySelectorAll('#curves .curve').length > 8")
        assert browser.run("document.querySelectorAll('.attempt').length") >= 3
        own = browser.requests.index(f"file://{tmp_path}/{name}.html")
        assert not [r for r in browser.requests[own:] if not r.startswith("file:")]
        assert browser.said == []
        assert browser.run("window.hacked") is None
    browser.open(f"file://{tmp_path}/run.html")
    held = {
        r["name"] for r in run[0].problems({"grade": "failed", "limit": "4"})["rows"]
    }
    for name, value in (("grade", "unparsed"), ("failed", "3-"), ("text", "3 2 ->")):
        rows = run[0].problems({name: value})["rows"]
        total = len(held & {row["name"] for row in rows})
        browser.choose(f"[name='{name}']", value)
        start = f"document.querySelector('#count').innerText.startsWith('{total} ')"
        browser.wait(start)
        browser.click("#clear")


def test_the_numbers_of_an_exported_file_are_those_of_the_attempts(
    browser, run, tmp_path
):
    """A file that holds a part of the attempts leaves numbers out and moves none."""
    export_page(run[0], str(tmp_path / "part.html"), (), 4, 1)
    browser.size(1280, 800)
    browser.open(f"file://{tmp_path}/part.html")
    problems = run[0].problems({"grade": "failed", "limit": "4"})["rows"]
    seen = set()
    for place, problem in enumerate(problems, 1):
        browser.click(f"[aria-posinset='{place}']")
        name = json.dumps(problem["name"])
        browser.wait(f"document.querySelector('#problem h2').innerText === {name}")
        rows = run[0].attempts({"task": problem["task"], "name": problem["name"]})
        rollouts = [r for r in rows["rows"] if r["operator"] == "rollout"]
        first = next(r for r in rollouts if r["grade"] != "right")
        told = browser.run(
            "[...document.querySelectorAll('#problem tbody tr')].map(tr => "
            "[tr.querySelector('th').innerText, "
            "...[...tr.querySelectorAll('td')].map(td => td.innerText !== '')])"
        )
        assert [int(row[0]) for row in told if row[1]] == [first["attempt"]]
        assert [row[0] for row in told if row[2]] == ["0"]
        seen.add(first["attempt"])
    assert seen - {0}  # else the number of a row would do


def test_a_trace_without_tokens_text_says_so(browser, served, run, tmp_path):
    source = run[0].index.workdir
    one = store.read(source / "rollouts")[0]
    long = store.Attempt(**{**vars(one), "text": "word " * 60_000})
    store.write_shard(tmp_path / "rollouts", 0, [long])
    _, address = served(tmp_path)
    browser.size(1280, 800)
    browser.open(f"{address}#of=countdown&name=countdown-0&trace=rollouts%2F0%2F0")
    browser.wait("document.querySelectorAll('#curves .curve').length > 4")
    assert "The text has no colours" in browser.text("#trace")
    assert "show more" in browser.text(".more")
