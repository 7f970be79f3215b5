"""Stage 10's weeks of traffic hold what they promise; pages are read without being opened; the reference's own promises."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from grader import home, stages
from grader.checks import s10_monitoring as stage
from grader.contract.outputs import Judgement, Monitored, OutputProblem, parse_output
from grader.sandbox import Limits
from grader.sandbox.reader import Reader, Unreadable
from grader.world import build, windows
from grader.world.windows import (
    CATEGORIES,
    DATA_KINDS,
    EACH,
    KINDS,
    MIX,
    ONSET,
    QUIET,
    REFERENCE_WEEKS,
    UNSEEN,
    make_traffic,
)

SEED = 77


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    return make_traffic(build(SEED), tmp_path_factory.mktemp("season"))


def test_the_same_seed_gives_the_same_weeks(traffic, tmp_path):
    again = make_traffic(build(SEED), tmp_path)
    assert [w.name for w in again.windows] == [w.name for w in traffic.windows]
    for one, other in zip(again.windows[::40], traffic.windows[::40], strict=True):
        pd.testing.assert_frame_equal(one.rows, other.rows)
        assert one.about == other.about


def test_there_are_as_many_weeks_as_the_brief_says_and_nothing_tells_them_apart(traffic):
    assert len(traffic.reference) == REFERENCE_WEEKS
    assert len(traffic.of("good")) == QUIET
    assert {kind: len(traffic.of(kind)) for kind in KINDS} == dict.fromkeys(KINDS, EACH)
    brief = (home.exercises() / "10-monitoring" / "README.md").read_text()
    assert f"Once on {len(traffic.windows)} weeks" in brief
    names = [w.name for w in traffic.windows]
    assert len(set(names) | {w.name for w in traffic.reference}) == len(names) + REFERENCE_WEEKS
    kinds = [w.kind for w in traffic.windows]
    assert len(set(kinds[:20])) > 3  # in no order
    positions = [w.position for w in traffic.of("good")]
    assert set(positions) == set(range(10))  # so a late week of a service is not a changed one
    assert {w.about["service"] for w in traffic.of("good")}.isdisjoint(traffic.slow)


@pytest.mark.parametrize("seed", [SEED, 78, 79])
def test_what_has_to_be_said_follows_from_what_is_handed_out(seed, traffic, tmp_path):
    """The truth that checks use, computed again from the files' contents alone."""
    traffic = traffic if seed == SEED else make_traffic(build(seed), tmp_path)
    rules = traffic.rules
    for window in traffic.windows:
        about, rows = window.about, window.rows
        now = pd.Timestamp(about["now"])
        age = (now.tz_convert("UTC").date() - dt.date.fromisoformat(about["model_train_end"])).days
        assert window.stale == (age > rules.max_model_age_days)
        known = set()
        if window.labels is not None:
            known = set(window.labels["row_id"][window.labels["label_known_at"] <= now]) & set(rows["row_id"])
        if window.known is not None:
            assert window.known == (len(rows) > 0 and len(known) >= rules.min_labels * len(rows)), window.kind
        assert (window.skew, window.skewed) == skew_of(window, rules), window.kind
    assert {w.stale for w in traffic.windows} == {True, False}
    assert {w.known for w in traffic.of("good")} == {True, False}
    assert {w.skew for w in traffic.of("good")} == {"ok", "skew", "unknown"}


def skew_of(window, rules):
    if window.batch is None:
        return "unknown", ()
    shared = window.rows.merge(window.batch, on="row_id", suffixes=("", "_batch"))
    if len(shared) < rules.min_rows:
        return "unknown", ()
    skewed = []
    for name in window.batch.columns.drop("row_id"):
        one, other = shared[name], shared[f"{name}_batch"]
        if pd.api.types.is_numeric_dtype(one.dtype):
            finite = np.isfinite(one) & np.isfinite(other)
            far = (one - other).abs() > rules.skew_relative * np.maximum(one.abs(), other.abs())
            apart = far.where(finite, one != other)
        else:
            apart = one != other
        both, neither = one.notna() & other.notna(), one.isna() & other.isna()
        if ((apart & both) | (~both & ~neither)).mean() > rules.skew_share:
            skewed.append(name)
    return ("skew" if skewed else "ok"), tuple(sorted(skewed))


def test_changed_weeks_are_changed_by_the_stated_sizes(traffic):
    good = pd.concat([w.rows for w in traffic.reference])
    for window in traffic.of("missing values"):
        before, after = good[window.column].isna().mean(), window.rows[window.column].isna().mean()
        assert after - before * 0.75 == pytest.approx(0.25, abs=0.08)
    for window in traffic.of("new category"):
        assert window.rows[window.column].isin(UNSEEN).mean() == pytest.approx(0.08, abs=0.04)
    for window in traffic.of("other mix"):
        if window.column in CATEGORIES:
            value = window.says.split()[4]
            grown = (window.rows[window.column] == value).mean() - (good[window.column] == value).mean()
            assert grown == pytest.approx(MIX, abs=0.05), window.says
    rate = np.mean([w.late.mean() for w in traffic.reference])
    assert np.mean([w.late.mean() for w in traffic.of("more late flights")]) - rate == pytest.approx(0.35, abs=0.03)
    for window in traffic.of("labels turned round"):
        high = window.rows["probability"] > window.rows["probability"].median()
        assert window.late[high].mean() < window.late[~high].mean()
    odds = [np.log(w.rows["probability"] / (1 - w.rows["probability"])).mean() for w in traffic.of("other answers")]
    usual = np.mean([np.log(w.rows["probability"] / (1 - w.rows["probability"])).mean() for w in traffic.reference])
    assert np.abs(np.array(odds) - usual).min() > 0.7


def test_the_brief_states_the_sizes_and_the_bars():
    brief = " ".join((home.exercises() / "10-monitoring" / "README.md").read_text().split())
    bars = stages.find("10").bars
    for said in (
        f"{100 * windows.NULLS:.0f} % of the values of a column are gone",
        f"{100 * windows.NEW:.0f} % of the rows have a carrier",
        f"has {100 * MIX:.0f} points more of the flights",
        f"about {np.exp(windows.TILT):.0f} times as often",
        f"{100 * windows.LATE_POINTS:.0f} points more of the flights are late",
        f"moved by {windows.ODDS}",
        f"{REFERENCE_WEEKS} good weeks",
        f"{QUIET} good weeks. At most {bars['alarms']:.0f} may",
        f"{EACH} of each of seven kinds, of which at least {bars['found']:.0f}",
        f"{windows.SERIES} services of {windows.LENGTH} weeks",
        f"{bars['slow']:.0f} of them have to be noticed by the sixth week",
        f"There are {Limits().seconds:.0f} seconds for all of them",
        f"{100 * bars['named']:.0f} % have to name the column",
    ):
        assert said in brief, said
    assert bars["slow_weeks"] == 6
    assert len(KINDS) == 7


def test_good_weeks_and_the_reference_are_drawn_alike(traffic):
    """For each number its mean over weeks: within what sixty and two hundred draws of one kind differ by."""
    good = traffic.of("good")
    for name in traffic.features:
        if name in CATEGORIES:
            continue
        one, other = ([w.rows[name].mean() for w in weeks] for weeks in (traffic.reference, good))
        error = np.sqrt(np.var(one) / len(one) + np.var(other) / len(other)) + 1e-9
        assert abs(np.mean(one) - np.mean(other)) < 4.5 * error, name


def test_weeks_differ_by_more_than_their_rows_would(traffic):
    """Else a test that takes rows for independent would be right."""
    means = [w.rows["wx_temp"].mean() for w in traffic.reference]
    alone = np.mean([w.rows["wx_temp"].std() / np.sqrt(len(w.rows)) for w in traffic.reference])
    assert np.std(means) > 5 * alone


def test_no_row_of_a_window_stands_in_the_reference(traffic):
    """Weather and histories of a row are nowhere the same, so no lookup finds what was changed."""
    columns = ["wx_temp", "wx_wind_speed", "carrier_late_7d", "route_late_28d"]
    known = set(map(tuple, pd.concat([w.rows for w in traffic.reference])[columns].to_numpy()))
    for window in traffic.of("good")[:20]:
        assert not known & set(map(tuple, window.rows[columns].to_numpy()))


def test_numbers_of_services_do_not_tell_which_of_them_change(traffic):
    good = {w.about["service"] for w in traffic.of("good") if w.about["service"].startswith("v")}
    assert len(good) == len(traffic.slow) == 10
    for names in (good, set(traffic.slow)):
        assert {int(name[1:]) % 2 for name in names} == {0, 1}
        assert min(int(name[1:]) for name in names) < 1_000 < max(int(name[1:]) for name in names)


def test_slow_changes_begin_as_nothing_and_grow(traffic):
    assert len(traffic.slow) == 10
    for weeks in traffic.slow.values():
        assert [w.position for w in weeks] == list(range(10))
        assert len({w.column for w in weeks}) == 1
        starts = [pd.Timestamp(w.about["start"]) for w in weeks]
        assert {later - earlier for earlier, later in pairwise(starts)} == {pd.Timedelta(days=7)}
        assert weeks[ONSET - 1].says != weeks[-1].says


PAGE = """<!doctype html><html><head><title>x</title><style>b {}</style></head><body>
<p>Data: <b data-mlekit="data">dr<i>if</i>t</b><br>
<div style="display: none"><b data-mlekit="prediction">ok</b></div>
<template><b data-mlekit="skew">ok</b></template><b hidden data-mlekit="model_age">ok</b>
<td data-mlekit='columns'> wx_temp,
 a &amp; b </td><img src="data:image/png;base64,AAAA"><a href="https://example.org">read on</a>
</body></html>"""


@pytest.fixture
def page(sandbox, tmp_path):
    def read(text, max_mb=1):
        (tmp_path / "page.html").write_text(text)
        return Reader(sandbox, tmp_path / "answers").page(tmp_path / "page.html", "data-mlekit", max_mb)

    return read


def test_a_page_is_read_as_it_is_shown(page):
    found = page(PAGE)
    assert found.flags == [("data", "drift"), ("columns", "wx_temp, a & b")]
    assert found.loads == []


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/a.css">',
        '<img src="picture.png">',
        '<iframe src="http://127.0.0.1:8000/"></iframe>',
    ],
)
def test_what_a_page_would_load_is_seen(page, tag):
    assert len(page(PAGE.replace("<p>", f"<p>{tag}")).loads) == 1


def test_a_page_that_is_too_large_or_endlessly_nested_does_no_harm(page):
    with pytest.raises(Unreadable, match="larger than 1 MB"):
        page(" " * (2 << 20))
    assert page("<div>" * 20_000 + '<b data-mlekit="data">ok</b>').flags == [("data", "ok")]
    assert page("</b></p>" * 50_000 + "<![CDATA[ <b " + "<!" * 1000).flags == []


RIGHT = {
    "window_id": "w1", "data": "ok", "prediction": "ok", "performance": "unknown", "model_age": "ok", "skew": "unknown",
    "columns": [], "skewed": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "fine"}, "data"),
        ({"data": "drift"}, "must name columns in columns where data is drift"),
        ({"columns": ["a"]}, "must name columns in columns where data is drift"),
        ({"skew": "skew"}, "must name columns in skewed where skew is skew"),
        ({"performance": "ok "}, "performance"),
        ({"window_id": 7}, "window_id"),
    ],
)
def test_a_decision_that_contradicts_itself_is_no_decision(change, said):
    with pytest.raises(OutputProblem, match=said):
        parse_output(Monitored, {"windows": [RIGHT | change]})
    parse_output(Monitored, {"windows": [RIGHT | {"more": 1}]})


def verdicts(traffic, says):
    """Made-up decisions: `says` gives the flags of a window that are not ok."""
    every = []
    for window in traffic.windows:
        flags = {"window_id": window.name, **says(window)}
        every.append(stage.Judged(window, Judgement(**(RIGHT | {"performance": "ok"} | flags))))
    return stage.Verdicts(every)


def test_silence_and_noise_are_told_from_good_work(traffic):
    drift = {"data": "drift", "columns": ["carrier"]}
    assert verdicts(traffic, lambda w: {}).silence
    assert verdicts(traffic, lambda w: drift).noise
    right = verdicts(traffic, lambda w: drift if w.kind in DATA_KINDS else {})
    assert not right.silence
    assert not right.noise


def test_the_sizes_keep_a_good_monitor_away_from_the_bars():
    """A monitor with 5 % of false alarms, or that notices 95 of 100, is rejected less often than once in 400 gradings."""
    draw, bars = np.random.default_rng(0), stages.find("10").bars
    assert (draw.binomial(200, 0.05, 100_000) > bars["alarms"]).mean() < 0.0025
    assert (draw.binomial(20, 0.95, (100_000, 6)) < bars["found"]).any(axis=1).mean() < 0.0025
    assert (draw.binomial(200, 0.15, 100_000) <= bars["alarms"]).mean() < 0.05
    assert (draw.binomial(20, 0.5, 100_000) >= bars["found"]).mean() < 0.05


def test_the_reference_judges_nothing_without_a_word(traffic, tmp_path):
    for window in traffic.reference[:3]:
        window.write(tmp_path / "reference")
    (tmp_path / "windows").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "usecase.toml").write_text(traffic.rules.usecase())
    command = [sys.executable, "-m", "flightdelay.monitor", "--usecase", "usecase.toml", "--reference", "reference",
               "--windows", "windows", "--out", "out"]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, env={"PYTHONPATH": str(home.reference_solution())})
    assert json.loads((tmp_path / "out" / "decisions.json").read_text()) == {"windows": []}
