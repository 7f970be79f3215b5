"""The HTML report: what it says, what it keeps out, and how it looks in a browser where there is one."""

import base64
import hashlib
import re
import shutil
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
from gradekit import EVERY_OUTCOME, HOSTILE, NAMES, check, example_charts, graded, hostile_grade, real_grade

from grader.report import plots
from grader.report.html import html
from grader.report.text import WORDS
from grader.verdict import Chart, ChartKind, Outcome, Series

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VOID = {"meta", "link", "img", "br", "hr", "input"}
WIDTHS = [360, 1280]
SCHEMES = ["light", "dark"]


GRADES = {"every": EVERY_OUTCOME, "real": real_grade(), "hostile": hostile_grade(), "none": graded()}


@cache
def page_of(name):
    """The report on one of the grades, made once."""
    return html(GRADES[name], NAMES)


class Page(HTMLParser):
    """What stands in a page: tags, attributes, and texts by the class around them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self._open.append((tag, dict(attributes).get("class") or ""))

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        self.texts.append((tuple(self._open), data))

    def values(self, name):
        return [value for _, found, value in self.attributes if found == name]

    def said(self, tag=None, kind=None):
        """The text inside elements with this tag or class, on one line."""
        inside = [
            text
            for around, text in self.texts
            if any(tag in (None, t) and kind in (None, *c.split()) for t, c in around)
        ]
        return " ".join(" ".join(inside).split())


def test_the_report_says_result_levels_next_stages_checks_scorecard_and_method_in_this_order():
    text = page_of("real")
    page = Page(text)
    assert page.said("h1").startswith("Result: 1.3 Implementation of the end-to-end ML workflow: work at junior level")
    ids = [value for value in page.values("id") if not re.match("(i|check)-", value)]
    assert ids == ["levels", "next", "ladder", "checks", "scorecard", "method"]


@pytest.mark.parametrize("name", GRADES)
def test_the_report_has_no_script_and_reaches_for_nothing(name):
    page = Page(page_of(name))
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "b"} & set(page.tags) - {
        "b"
    }
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name in ("style", "src", "srcset")]
    assert all(value.startswith("#") for value in page.values("href"))
    assert not [
        v for _, n, v in page.attributes if v and n not in ("aria-label", "content") and re.search(r"url\(|:\s*//", v)
    ]


def test_the_policy_allows_the_stylesheet_by_its_hash_and_nothing_else():
    text = page_of("every")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = Page(text).values("content")[0]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_hostile_texts_are_text_and_the_page_stays_small():
    text = page_of("hostile")
    page = Page(text)
    harmless = Page(html(replace(real_grade(), isolation="plain", notes=("a note",)), NAMES))
    assert set(page.tags) <= set(harmless.tags)
    assert {name for _, name, _ in page.attributes} <= {name for _, name, _ in harmless.attributes}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]", text)
    assert "{{ 7*7 }}" in page.said()
    assert "<script>alert(1)</script>" in page.said()
    assert len(text.encode()) < 1_000_000


def test_every_id_is_there_once_and_every_link_leads_to_one():
    for name in ("real", "hostile"):
        page = Page(page_of(name))
        ids = page.values("id")
        assert len(ids) == len(set(ids))
        assert {value[1:] for value in page.values("href")} <= set(ids)


def test_each_outcome_has_an_icon_of_its_own_and_a_word():
    text = page_of("every")
    page = Page(text)
    shapes = {re.search(f'<symbol id="i-{o.value}".*?</symbol>', text)[0].partition(">")[2] for o in Outcome}
    assert len(shapes) == len(Outcome)
    for outcome in Outcome:
        assert f"#i-{outcome.value}" in page.values("href")
        assert WORDS[outcome] in page.said("summary")


def test_a_check_says_measured_bar_what_to_do_and_how_to_see_it_again():
    said = Page(page_of("every")).said("details")
    assert "Measured AUC 0.93 Bar below 0.85 What to do this is too good to be true" in said
    assert "See it again mlekit grade /home/me/work --world 11 --stage 01" in said
    assert "Why there is no verdict this machine has no container engine" in said


def test_a_page_of_one_check_shows_only_that():
    text = html(graded(check("baseline.alone", Outcome.FAIL, reason="we looked")), NAMES, one_check=True)
    assert "we looked" in text
    assert not re.search("Levels the work shows|Scorecard|not graded", text)
    assert len(re.findall("<details", text)) == len(re.findall("<details [^>]*open", text)) == 1


def test_charts_are_seen_without_a_click():
    text = page_of("real")
    assert (
        text.count("<figure") == len(re.findall(r"<details [^>]*open(?:(?!</details>).)*?<figure", text, re.DOTALL)) > 3
    )


def test_what_is_next_is_open_and_at_most_three_steps_are_named():
    grade = graded(*(check(f"baseline.c{n}", Outcome.FAIL) for n in range(9)))
    text = html(grade, NAMES)
    assert len(re.findall(r"<details [^>]*open", text)) == 3
    assert Page(text).said(kind="steps").count("about 30 min") == 3


def test_the_level_map_has_48_squares_with_the_headline_rows_first():
    text = page_of("real")
    rows = re.findall(r'<tr role="row"(.*?)</tr>', text, re.DOTALL)[1:]
    assert len(rows) == 16
    assert ["headline" in row for row in rows[:3]] == [True, True, False]
    squares = [re.findall(r'<td role="cell" class="(\w+)"', row) for row in rows]
    assert squares[0] == ["shown", "missing", "unchecked"]
    assert all(len(one) == 3 for one in squares)
    assert "people" in squares[-1]


def test_a_level_that_hangs_on_checks_without_a_verdict_is_at_most():
    grade = graded(check("baseline.a", Outcome.NOT_RUN, critical=False), check("baseline.b", Outcome.PASS, row="1.4"))
    first, second = re.findall(r'<tr role="row" class="headline">(.*?)</tr>', html(grade, NAMES), re.DOTALL)
    assert 'class="perhaps"' in first
    assert 'class="shown"' in second


def test_the_ladder_has_all_stages_graded_or_not():
    said = Page(page_of("real")).said(kind="ladder")
    assert "01 A model you can trust not complete 3 of 4 required checks pass" in said
    assert "03 The data contract not graded" in said


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"isolation": "plain"}, "NOT ISOLATED"),
        ({"finished": False}, "PROVISIONAL"),
        ({"checks": EVERY_OUTCOME.checks}, "PROVISIONAL"),
    ],
)
def test_what_weakens_a_grade_stands_before_the_result(changed, word):
    sound = graded(check("baseline.runs"))
    assert word not in html(sound, NAMES)
    text = html(replace(sound, **changed), NAMES)
    assert 0 < text.index(word) < text.index("<h1>")


def test_the_scorecard_asks_what_no_check_can_show_and_the_page_judges_no_person():
    text = page_of("every")
    assert "Walk me from this prediction back" not in text  # a machine verifies that cell in full
    assert "Who disagreed with it?" in text
    assert not re.search(r"is an? (junior|senior|lead)\b", text)


def test_a_grade_without_checks_says_that_nothing_was_shown():
    assert "No check ran, so nothing was shown." in page_of("none")


@pytest.mark.parametrize("chart", example_charts(), ids=lambda chart: chart.title)
def test_a_chart_is_drawn_and_told(chart):
    (drawn,) = plots.drawings([chart])
    page = Page(drawn)
    assert page.values("role") == ["img"]
    assert page.values("aria-label") == [f"{chart.title}: {chart.says}"]
    assert {"var(--series-1)"} <= set(page.values("fill") + page.values("stroke"))
    assert ("currentColor" in re.sub(r"<(text|line)[^>]*>", "", drawn)) == (chart.reference is not None)
    for one in chart.series:
        assert one.name in page.said() or len(chart.series) == 1
    assert max(float(width) for tag, name, width in page.attributes if (tag, name) == ("svg", "width")) <= 345
    assert len(drawn) < 25_000


@pytest.mark.parametrize(
    "series",
    [(), (Series("a", (), ()),), (Series("a", (float("nan"),), (1.0,)),), (Series("a", (1.0,), (float("inf"),)),)],
)
@pytest.mark.parametrize("kind", list(ChartKind))
def test_a_chart_with_nothing_to_draw_is_told_only(kind, series):
    chart = Chart(kind, "a title", "x", "y", series, "what it shows")
    assert plots.drawings([chart]) == [""]
    said = Page(html(graded(check("baseline.runs", charts=(chart,))), NAMES)).said("figure")
    assert said == "a title what it shows"


def test_a_table_is_written_in_words_and_not_drawn():
    chart = Chart(
        ChartKind.TABLE, "Feeds", "feed", "", (Series("expected", ("a strike", HOSTILE), ("accepted", "refused")),
        Series("got", ("a strike", HOSTILE), ("refused", "refused"))), "1 of 2",
    )  # fmt: skip
    assert plots.drawings([chart]) == [""]
    page = html(graded(check("baseline.runs", charts=(chart,))), NAMES)
    assert '<tr><th scope="row">a strike</th><td>accepted</td><td>refused</td></tr>' in page
    assert '<th scope="col">expected</th>' in page
    assert "<script>alert" not in page
    assert Page(page).said("figcaption") == "Feeds 1 of 2"


def test_a_long_series_is_thinned_out_and_names_are_cut():
    numbers = tuple(float(n) for n in range(100_000))
    (drawn,) = plots.drawings(
        [Chart(ChartKind.POINTS, "t", "x", "y", (Series(HOSTILE * 1000, numbers, numbers),), "s")]
    )
    assert len(drawn) < 60_000
    assert "alert(1)</script>" not in drawn


@pytest.mark.parametrize(
    "odd",
    [
        "<style>*{}</style>",
        '<a href="x"/>',
        "<script/>",
        '<g style="x"/>',
        '<g onload="x"/>',
        '<path fill="url(#a)"/><g id="a"/>',
    ],
)
def test_a_drawing_with_more_than_shapes_is_refused(odd):
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg">{odd}</svg>'
    assert plots._checked(drawing, example_charts()[0]) == ""


def test_many_charts_stay_in_order_and_within_the_size_of_a_page():
    numbers = tuple(float(n) for n in range(1000))
    large = Chart(ChartKind.POINTS, "large", "x", "y", tuple(Series(f"s{n}", numbers, numbers) for n in range(12)), "s")
    drawn = plots.drawings([*example_charts(), large, large, large, *example_charts()])
    for small in (drawn[:5], drawn[-5:]):
        assert all(f'aria-label="{chart.title}' in svg for chart, svg in zip(example_charts(), small, strict=True))
    assert sum(map(len, drawn)) <= plots.MAX_BYTES
    assert drawn[7] == ""


def test_a_crash_of_the_engine_costs_the_drawings_after_it_and_nothing_else():
    good = plots._specification(example_charts()[0])
    crashing = good.replace("late flights called late", "\ufffe")
    drawn = plots._draw([good, crashing, good])
    assert len(drawn) == 1
    assert drawn[0].startswith("<svg")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is on the PATH")
    with api.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Opens a page from a file and returns it with what its console said."""
    opened = []

    def go(text, width=1280, scheme="light"):
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        opened.append(page)
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
        page.goto(file.as_uri())
        return page, said

    yield go
    for page in opened:
        page.close()


@pytest.mark.parametrize("name", ["real", "hostile"])
@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser_the_page_fits_and_the_policy_stops_nothing_of_it(visit, name, width):
    page, said = visit(page_of(name), width)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser_axe_finds_nothing(visit, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page, _ = visit(
        html(replace(real_grade(), isolation="plain", checks=(*real_grade().checks, *EVERY_OUTCOME.checks)), NAMES),
        width,
        scheme,
    )
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_in_a_browser_a_script_that_slips_in_does_not_run(visit):
    text = page_of("real")
    page, said = visit(
        text.replace("<main>", "<main><script>document.title = 'owned'</script><b style='color:red'>x</b>")
    )
    assert page.title() == "work: mlekit report"
    assert len([line for line in said if "Content Security Policy" in line]) == 2


def test_in_a_browser_a_link_to_a_closed_card_opens_it(visit):
    page, _ = visit(page_of("real"))
    card = page.locator("details", has=page.locator("#check-baseline\\.runs_top_to_bottom"))
    assert card.get_attribute("open") is None
    page.evaluate("location.hash = '#check-baseline.runs_top_to_bottom'")
    page.wait_for_function("document.getElementById('check-baseline.runs_top_to_bottom').closest('details').open")


def test_in_a_browser_paper_shows_what_is_closed_on_the_screen(visit):
    page, _ = visit(page_of("real"))
    closed = page.locator("#check-baseline\\.runs_top_to_bottom .command")
    assert not closed.is_visible()
    page.emulate_media(media="print")
    assert closed.bounding_box()["height"] > 10
    assert page.locator(".blank").first.bounding_box()["height"] > 10


def test_in_a_browser_dark_is_dark_and_charts_are_legible_on_a_phone(visit):
    page, _ = visit(page_of("real"), 360, "dark")
    ink = page.evaluate("getComputedStyle(document.querySelector('figure text')).fill")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 200
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    heights = page.evaluate(
        "[...document.querySelectorAll('figure text')].map(one => one.getBoundingClientRect().height)"
    )
    assert min(heights) > 8
