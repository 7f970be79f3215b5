"""Stage 11's year holds what it promises; answers are read strictly; the reference's own promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata

from grader import home, stages
from grader.checks import charts, statistics
from grader.checks import s11_retraining as stage
from grader.checks.s06_registry import Registered
from grader.contract.outputs import LoopAnswer, OutputProblem, parse_output
from grader.inplace import Written
from grader.report import plots
from grader.sandbox.reader import INSIDE
from grader.verdict import Series
from grader.world import build, replay
from grader.world.boosting import Boosting
from grader.world.build import LATE_MINUTES, Replay
from grader.world.layout import SCHEDULE
from grader.world.replay import DELIVERED, HISTORY, SCORED, STEPS, STORIES, make_season

SEED = 31
BRIEF = home.exercises() / "11-retraining" / "README.md"


@pytest.fixture(scope="module")
def season():
    return make_season(SEED)


def late_of(flights):
    return (flights["arr_delay_min"] > LATE_MINUTES)[flights["outcome"].eq("flown")]


def auc(label, score):
    return statistics.auc(np.asarray(label, bool), rankdata(score))


# The year


def test_the_same_seed_gives_the_same_year(season):
    again = make_season(SEED)
    assert again.story == season.story
    assert again.usecase == season.usecase
    pd.testing.assert_frame_equal(again.flights, season.flights)
    assert season.flights["flight_id"].is_unique


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_in_no_story_two_things_hide_each_other(story):
    assert 3 <= story.change <= STEPS - replay.SETTLING - 2
    assert not {story.wrong, story.wrong + 1, story.corrected} & set(story.settling)
    assert story.corrected <= STEPS
    assert len(story.quiet) >= 3
    assert story.down in story.quiet
    assert story.lacking not in (
        story.wrong,
        story.wrong + 1,
        story.change,
        story.change - 1,
        story.down,
        story.order,
        STEPS,
    )
    assert story.order > story.settling[-1] + 1
    assert story.order not in (story.wrong, story.wrong + 1)
    assert 2 <= story.again <= story.change
    assert story.again not in (
        story.wrong,
        story.wrong + 1,
        story.corrected,
        story.lacking,
        story.lacking + 1,
        story.down,
    )
    judged = [step for step in range(story.change + stage.SETTLED, STEPS + 2) if step <= story.order]
    assert len(judged) >= 2  # months in which the champions are looked at closely


def test_months_are_alike_but_for_the_change():
    alike = build(SEED, Replay())
    rates = [late_of(alike.flights[alike.month_of(alike.flights) == month]).mean() for month in alike.months]
    assert np.ptp(rates) < 0.04
    real = build(SEED)
    assert np.ptp([late_of(real.flights[real.month_of(real.flights) == month]).mean() for month in real.months]) > 0.1


@pytest.mark.parametrize("seed", [SEED, 32])
def test_from_the_change_on_other_flights_are_late_and_nothing_else_changes(seed):
    """A carrier's rate of late flights says rather the reverse of its rate after."""
    changed = HISTORY + 3
    world = build(seed, Replay(changed_from=changed))
    flights = world.flights[world.flights["outcome"].eq("flown")]
    flights = flights.assign(
        late=flights["arr_delay_min"] > LATE_MINUTES, then=world.month_of(flights) >= world.months[changed]
    )
    rates = flights.groupby(["carrier", "then"])["late"].agg(["mean", "size"]).unstack()
    rates = rates[(rates["size"] > 500).all(axis=1)]["mean"]
    assert np.corrcoef(rates[False], rates[True])[0, 1] < 0
    assert abs(flights.groupby("then")["late"].mean().diff().iloc[-1]) < 0.01
    otherwise = build(seed, Replay())
    pd.testing.assert_frame_equal(world.flights[SCHEDULE], otherwise.flights[SCHEDULE])
    pd.testing.assert_frame_equal(world.weather, otherwise.weather)


@pytest.mark.parametrize("seed", [SEED, 32])
def test_a_model_is_not_mended_by_turning_it_round(seed):
    """Of what a model of the new months knows, one of the old ones that answers the reverse knows less than the half that is asked for."""
    world = build(seed, Replay(changed_from=6))
    flights = world.flights[world.flights["outcome"].eq("flown")]
    late = (flights["arr_delay_min"] > LATE_MINUTES).to_numpy()
    table = pd.DataFrame(
        {"hour": flights["sched_dep_local"].str.slice(11, 13).astype(float), "distance": flights["distance_miles"]}
    )
    for name in ("carrier", "origin", "dest"):
        table[name] = flights[name].astype(object)
    month = world.month_of(flights).to_numpy(str)
    before, after, scored = (
        month < world.months[6],
        (month >= world.months[6]) & (month < world.months[9]),
        month >= world.months[9],
    )
    old, new = (Boosting.fit(table[at], late[at]).answers(table[scored]) for at in (before, after))
    base = np.log(late[before].mean() / (1 - late[before].mean()))
    worth = {}
    for name, p in {"new": new, "turned": 1 / (1 + np.exp(np.log(old / (1 - old)) - 2 * base))}.items():
        worth[name] = (
            stage.loss(late[scored], np.full(len(p), late[before].mean())) - stage.loss(late[scored], p)
        ).mean()
    assert worth["new"] > 0.03
    assert worth["turned"] < 0.35 * worth["new"]


def test_the_year_without_the_change_is_the_same_up_to_it(season):
    """So a step can be played again without it, from where the loop was."""
    without, month = season.as_before, season.world.month_of(season.flights)
    change = season.month(season.story.change)
    pd.testing.assert_frame_equal(without.flights[month < change], season.flights[month < change])
    then = month >= change
    assert not without.flights["arr_delay_min"][then].equals(season.flights["arr_delay_min"][then])
    pd.testing.assert_frame_equal(without.flights[SCHEDULE], season.flights[SCHEDULE])
    assert without.message(season.story.order) == season.message(season.story.order)


def test_an_order_is_for_days_that_nobody_else_would_choose(season):
    days = season.flights["sched_dep_local"].str.slice(0, 10)
    start, end = season.ordered
    assert days.min() < start < season.month(1) < end < season.month(season.story.change)
    assert (pd.Timestamp(end) - pd.Timestamp(start)).days > 35


def test_storms_stay_with_their_weather(season):
    """The weather of a day comes along with what the day left unexplained."""
    seasons = season.world.weather.assign(month=season.world.weather["observed_at"].dt.strftime("%m"))
    means = seasons.groupby("month")["temp"].mean()
    assert np.ptp(means) < 25  # no winter and no summer
    real = build(SEED).weather
    assert np.ptp(real.groupby(real["observed_at"].dt.strftime("%m"))["temp"].mean()) > 35


def test_a_hidden_world_without_a_replay_is_what_it_was():
    """That of a seed, to the content: other stages are graded on it."""
    assert build(SEED, None).flights.equals(build(SEED).flights)


def test_what_is_scored_was_delivered_to_nobody(season):
    assert len(season.scored) == STEPS + 1
    delivered = set(season.flights["flight_id"])
    for month, rows in season.scored.items():
        assert len(rows) == SCORED
        assert not set(rows.after["flight_id"]) & delivered
        assert set(rows.table["sched_dep_local"].str.slice(0, 7)) == {month}
    counts = season.world.month_of(season.flights).value_counts()
    assert set(counts) == {DELIVERED}


def test_a_step_names_the_newest_month_and_the_one_before(season):
    story = season.story
    assert season.message(0) == {"step": 0, "now": season.now(0), "months": []}
    for step in range(1, STEPS + 1):
        message = season.message(step)
        assert message["months"][-1] == season.month(step)
        assert step == 1 or message["months"][-2] == season.month(step - 1)
        assert (season.month(story.wrong) in message["months"][:-2]) == (step == story.corrected)
        assert ("order" in message) == (step == story.order)
        assert message["now"] > f"{season.month(step)}-28"
    start, end = season.message(story.order)["order"].values()
    assert (start[:7], end[:7]) == (season.history[0], season.month(story.again - 1))


def read(folder, month):
    return pq.read_table(folder / month / "flights" / f"{month}.parquet").to_pandas()


def test_the_source_has_what_has_been_named_and_no_day_too_many(season, tmp_path):
    story = season.story
    for step in range(1, STEPS + 1):
        season.deliver(step, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [season.month(n) for n in range(1, step + 1)]
        if step == story.lacking:
            continue
        if step == story.again:
            assert replay.GONE not in read(tmp_path, season.month(step - 1))
        newest = read(tmp_path, season.month(step))
        whole = season.flights[season.world.month_of(season.flights) == season.month(step)]
        days = newest["sched_dep_local"].str.slice(8, 10).astype(int)
        assert 3 <= whole["sched_dep_local"].str.slice(8, 10).astype(int).max() - days.max() <= 6
        assert len(newest) < len(whole)
        if step > 1 and step - 1 not in (story.wrong, story.wrong + 1):
            before = season.flights[season.world.month_of(season.flights) == season.month(step - 1)]
            assert set(read(tmp_path, season.month(step - 1))["flight_id"]) == set(before["flight_id"])
        manifest = json.loads((tmp_path / season.month(step) / "manifest.json").read_text())
        for file in manifest["files"]:
            assert (tmp_path / season.month(step) / file["path"]).is_file()


def test_a_learner_has_the_whole_year_before_anything_answers(season, tmp_path):
    stage.lay_down_year(season, tmp_path)
    for step in range(STEPS + 1):
        here = tmp_path / f"step-{step}"
        assert json.loads((here / "message.json").read_text()) == season.message(step)
        assert {path.name for path in here.iterdir() if path.is_dir()} == set(season.months(step))
    planted = json.loads((tmp_path / "planted.json").read_text())
    assert planted[str(season.story.change)] == ["from this month on other flights are late"]
    assert [int(step) for step in planted] == list(range(STEPS + 1))


LOOP = """
import json, os, sys, time
mailbox, source, how = sys.argv[1:]
print("begun", flush=True)
while True:
    for name in sorted(os.listdir(mailbox + "/in")):
        if name.startswith(".") or os.path.exists(f"{mailbox}/out/{name}"):
            continue
        message = json.load(open(f"{mailbox}/in/{name}"))
        step, months = message["step"], sorted(os.listdir(source))
        if step == 2 and how == "ends":
            sys.exit("there is no step 2 for me")
        if step == 2 and how == "sleeps" and not os.path.exists("slept"):
            open("slept", "w").close()
            time.sleep(60)
        if step == 2 and how == "never":
            time.sleep(60)
        came = [{"month": month, "status": "accepted", "bytes": len(open(f"{source}/{month}/a").read())} for month in months]
        answer = {"step": step, "decision": "keep", "trigger": f"{months}", "versions": [], "champion": "1", "months": came}
        with open(f"{mailbox}/out/.part", "w") as out:
            json.dump(answer, out)
        os.rename(f"{mailbox}/out/.part", f"{mailbox}/out/{name}")
    time.sleep(0.02)
"""


@pytest.fixture
def play_again(tmp_path):
    """Play a small year to a small loop with the tool that scripts of `why` call."""
    for step, months in enumerate(({}, {"m1": "h"}, {"m1": "whole", "m2": "h"})):
        here = tmp_path / "year" / f"step-{step}"
        here.mkdir(parents=True)
        (here / "message.json").write_text(json.dumps({"step": step, "months": list(months)}))
        for month, text in months.items():
            (here / month).mkdir()
            (here / month / "a").write_text(text)
    (tmp_path / "year" / "planted.json").write_text(json.dumps({"0": [], "1": ["a flood"], "2": []}))
    (tmp_path / "loop.py").write_text(LOOP)

    def play(how, *options, patience=20):
        mailbox, source = tmp_path / "mailbox", tmp_path / "source"
        argv = [sys.executable, "-I", INSIDE / "year_player.py", tmp_path / "year", mailbox, source]
        argv += [
            "--patience",
            str(patience),
            *options,
            "--",
            sys.executable,
            tmp_path / "loop.py",
            mailbox,
            source,
            how,
        ]
        return subprocess.run(list(map(str, argv)), capture_output=True, text=True, cwd=tmp_path, timeout=60)

    return play


def test_a_year_is_played_again_step_by_step(play_again, tmp_path):
    (tmp_path / "mailbox" / "out").mkdir(parents=True)
    (tmp_path / "mailbox" / "out" / "0000.json").write_text("of the time before")
    for _ in range(2):
        done = play_again("well")
        assert done.returncode == 0, done.stderr
        assert [text for text in done.stdout.splitlines() if "on what" in text] == [
            f"        on what: {months}" for months in ([], ["m1"], ["m1", "m2"])
        ]
        assert done.stdout.count("planted: a flood") == 1
    last = json.loads((tmp_path / "mailbox" / "out" / "0002.json").read_text())
    assert [month["bytes"] for month in last["months"]] == [5, 1]  # the month before is whole by now
    assert (tmp_path / "played-again.txt").read_text() == "begun\n"


def test_a_year_is_played_as_far_as_one_likes(play_again, tmp_path):
    assert "step 2" not in play_again("well", "--until", "1").stdout
    assert not (tmp_path / "mailbox" / "in" / "0002.json").exists()


def test_a_loop_that_ends_or_says_nothing_is_told_of(play_again):
    ended, silent = play_again("ends"), play_again("never", patience=1)
    assert (ended.returncode, silent.returncode) == (1, 1)
    assert "step 2: the loop ended with 1" in ended.stdout
    assert "there is no step 2 for me" in ended.stdout
    assert "step 2: no answer within 1 s" in silent.stdout


def test_a_loop_is_killed_where_one_likes(play_again, tmp_path):
    done = play_again("sleeps", "--kill", "2:0.3")
    assert done.returncode == 0, done.stdout
    assert "killed after 0.3 s" in done.stdout
    assert (tmp_path / "played-again.txt").read_text() == "begun\nbegun\n"
    assert "not killed: the answer was there" in play_again("well", "--kill", "1:5").stdout
    assert "5 is not STEP:SECONDS" in play_again("well", "--kill", "5").stderr
    assert "five is not STEP:SECONDS" in play_again("well", "--kill", "five").stderr


def test_wrong_labels_belong_to_other_flights_until_they_are_put_right(season):
    story, month = season.story, season.month(season.story.wrong)
    for step, wrong in ((story.wrong, True), (story.wrong + 1, True), (story.corrected, False)):
        came = season.feed(month, step).tables["flights"].to_pandas()
        true = season.flights.set_index("flight_id").loc[came["flight_id"]].reset_index()
        landed = came["outcome"].eq("flown")
        pd.testing.assert_series_equal(came["dep_delay_min"], true["dep_delay_min"])
        assert late_of(came).mean() == pytest.approx(late_of(true).mean())  # the rate does not tell
        telling = auc(late_of(came), came["dep_delay_min"][landed])
        assert telling < 0.6 if wrong else telling > 0.8
        arrived = came["sched_arr"] + pd.to_timedelta(came["arr_delay_min"], unit="m")
        assert (came["arr_time"][landed] == arrived[landed]).all()  # nothing else gives it away
        assert (came["label_known_at"][landed] == arrived[landed]).all()


@pytest.mark.parametrize("seed", range(40, 43))
def test_what_a_month_lacks_is_a_file_that_the_manifest_promises(seed, tmp_path):
    season = make_season(seed)
    step, month = season.story.lacking, season.month(season.story.lacking)
    season.deliver(step, tmp_path)
    folder = tmp_path / month
    assert (folder / "manifest.json").exists() == (len(list(folder.rglob("*"))) > 4) or _broken(folder)
    season.deliver(step + 1, tmp_path)
    assert not _broken(folder)


def _broken(folder):
    """Whether what the manifest promises is not there, or another thing."""
    import hashlib

    path = folder / "manifest.json"
    if not path.exists():
        return True
    files = json.loads(path.read_text())["files"]
    there = [folder / file["path"] for file in files]
    if not all(place.is_file() for place in there):
        return True
    return any(hashlib.sha256(p.read_bytes()).hexdigest() != f["sha256"] for p, f in zip(there, files, strict=True))


def test_the_brief_states_the_numbers_and_the_bars():
    brief, bars = " ".join(BRIEF.read_text().split()), stages.find("11").bars
    for said in (
        f"two months of history ({DELIVERED:,} flights each), nine months that arrive",
        f"scored, on complete data, on {SCORED:,} flights of each month",
        f"at least {100 * bars['regret']:.0f} % of what hindsight would have gained",
        f"There are {stage.STEP_SECONDS} seconds for a step",
        f"better than the first one by {bars['errors']:.0f} standard errors",
        f"has to know {100 * bars['first']:.0f} % of what a plain model",
    ):
        assert said in brief, said
    assert (HISTORY, STEPS, bars["flaps"], stage.SETTLED) == (2, 9, 1, 3)
    assert "you train in one of the three at most" in brief
    assert "from the third month after it" in brief


# The source and the store


def test_a_source_has_a_month_as_soon_as_it_is_there(tmp_path):
    files, own = tmp_path / "files", tmp_path / "own"
    files.mkdir()
    own.mkdir()
    (own / "plan.json").write_text("{}")
    server = subprocess.Popen([sys.executable, INSIDE / "source_server.py", files, own / "plan.json", own / "log"])
    try:
        deadline = time.monotonic() + 30
        while not ((own / "log").exists() and "port" in (own / "log").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        url = f"http://127.0.0.1:{json.loads((own / 'log').read_text().splitlines()[0])['port']}"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/m/manifest.json")
        (files / "m").mkdir()
        (files / "m" / "manifest.json").write_text("here")
        assert urllib.request.urlopen(f"{url}/m/manifest.json").read() == b"here"
        for outside in ("../own/plan.json", "m/../../own/plan.json"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{url}/{outside}")
    finally:
        server.kill()
        server.wait()


# What is answered

RIGHT = {
    "step": 3, "decision": "retrain", "trigger": "it is stale", "versions": ["2"], "champion": "2",
    "months": [{"month": "2014-03", "status": "accepted", "rows_in": 5, "rows_accepted": 5, "rows_quarantined": 0}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"versions": []}, "versions has to name what was made where decision is retrain"),
        ({"decision": "keep"}, "versions has to name what was made where decision is retrain"),
        ({"decision": "wait"}, "decision"),
        ({"trigger": " "}, "trigger"),
        ({"champion": None}, "champion"),
        ({"versions": [2]}, "versions"),
        ({"step": "3"}, "step"),
        ({"months": [{**RIGHT["months"][0], "status": "failed"}]}, "reason has to say why"),
    ],
)
def test_an_answer_that_contradicts_itself_is_none(change, said):
    with pytest.raises(OutputProblem, match=said):
        parse_output(LoopAnswer, RIGHT | change)
    parse_output(LoopAnswer, RIGHT | {"more": 1})


def played(season, made, order=True):
    """A made-up replay in which so many versions were made at each step; the champion is always the last one."""
    steps, there = [], []
    for number in range(STEPS + 1):
        count = made.get(number, 0) + (order and number == season.story.order)
        there += [str(len(there) + n + 1) for n in range(count)]
        answer = LoopAnswer(
            **(
                RIGHT
                | {
                    "step": number,
                    "versions": there[-count:] if count else [],
                    "decision": "retrain" if count else "keep",
                }
            )
        )
        steps.append(stage.Step(number, 1.0, answer, {}, Registered(frozenset(there), there[-1], {}, {})))
    return stage.Played(season, steps)


def test_what_was_made_is_told_by_the_registry_and_an_order_is_no_training_of_its_own(season):
    found = played(season, {0: 1, season.story.change: 2, season.story.order: 0})
    assert found.made(0) == ["1"]
    assert found.made(season.story.change) == ["2", "3"]
    assert found.retrainings == [season.story.change]
    assert not found.own(season.story.order)
    assert played(season, {0: 1, season.story.order: 1}).own(season.story.order)


@pytest.mark.parametrize(
    ("noted", "right"),
    [
        (["1", "2", "3", "4"], True),
        (["1", "3", "4"], True),
        (["1", "2", "3", "2", "3", "4"], True),
        (["1", "3", "2", "4"], True),
        (["1", "2", "4"], False),
        (["1", "4"], False),
        (["1", "2", "3"], False),
        (["1", "2", "3", "4", "2"], False),
        (["1", "4", "3", "4"], False),
    ],
)
def test_several_champions_of_one_step_may_be_noted_one_after_the_other(season, noted, right):
    found = played(season, {0: 1, season.story.change: 2})
    assert stage.leads_to(noted, found) == right


def test_a_file_that_is_written_in_place_is_told_from_one_that_is_moved_there(tmp_path):
    written = Written(tmp_path)
    (tmp_path / "0.part").write_text("{}")
    (tmp_path / "0.part").rename(tmp_path / "0.json")
    os.link(tmp_path / "0.json", tmp_path / "1.json")
    assert set(written.names()) <= {"0.part"}
    (tmp_path / "2.json").write_text("{}")
    assert written.names() == (["2.json"] if sys.platform == "linux" else [])
    written.close()
    assert written.names() == []


def test_many_versions_are_in_the_order_of_their_numbers(season):
    assert played(season, {0: 12}).made(0)[-3:] == ["10", "11", "12"]


def test_hindsight_keeps_the_first_champion_until_the_world_changes():
    month = np.array(["a", "a", "b", "b"])
    first, plain, after = np.array([0.5, 0.4, 0.9, 0.8]), np.array([0.6, 0.6, 0.7, 0.7]), np.array([0.6, 0.6, 0.3, 0.2])
    found = stage.Losses(month, month, {"1": first, "2": after}, plain + 1, plain, after, {"a": "1", "b": "2"}, "a")
    assert list(found.after_change) == [0.5, 0.4, 0.3, 0.2]
    assert list(found.loop) == [0.5, 0.4, 0.3, 0.2]
    assert found.by_month(found.loop) == pytest.approx([0.45, 0.25])


def test_marks_are_drawn_on_the_lines_and_survive_being_written():
    from grader.verdict import Chart, _chart

    line = Series("yours", ("2014-03-15", "2014-04-15", "2014-05-15"), (0.0, 0.1, -0.2))
    mark = Series("trained", ("2014-04-15",), (0.1,))
    chart = charts.marked("gain", "month", "sum", [line], [mark], "it fell")
    (drawn,) = plots.drawings([chart])
    (plain,) = plots.drawings([replace(chart, marks=())])
    assert "trained" in drawn
    assert drawn.count("<path") > plain.count("<path")
    from dataclasses import asdict

    assert _chart(json.loads(json.dumps(asdict(chart)))) == chart
    assert isinstance(chart, Chart)


def test_the_error_of_a_mean_counts_days_and_not_flights():
    draw = np.random.default_rng(0)
    day = np.repeat(np.arange(30), 100)
    values = draw.normal(0, 1, 30)[day] + draw.normal(0, 0.1, 3000)
    mean, error = statistics.mean_by_cluster(values, day)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(1 / np.sqrt(30), rel=0.3)  # ten times that of three thousand independent values


# The reference's own promises


def reference(program, folder):
    """Run a program in the reference solution; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=home.reference_solution(), capture_output=True, text=True, check=False,
        env={**os.environ, "MLEKIT_STATE": str(folder / "state"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


DOUBTS = """
import json, sys
from pathlib import Path
import polars as pl
from flightdelay.labels import telling
from flightdelay.usecase import read_usecase
folder = Path(sys.argv[1])
case = read_usecase(folder / "usecase.toml")
print(json.dumps({p.stem: telling(case, pl.read_parquet(p)) for p in sorted(folder.glob("*.parquet"))}))
"""


@pytest.mark.parametrize("seed", [SEED, 60])
def test_labels_are_doubted_where_they_are_wrong_and_not_where_the_world_has_changed(seed, tmp_path):
    season = make_season(seed)
    (tmp_path / "usecase.toml").write_text(season.usecase)
    for month in season.world.months:
        season.flights[season.world.month_of(season.flights) == month].to_parquet(tmp_path / f"{month}.parquet")
    wrong = season.month(season.story.wrong)
    season.feed(wrong, season.story.wrong).tables["flights"].to_pandas().to_parquet(tmp_path / "wrong.parquet")
    found = {name: told["dep_delay_min"] for name, told in json.loads(reference(DOUBTS, tmp_path)).items()}
    usual = found[season.history[0]]
    assert found.pop("wrong") < 0.3 * usual
    assert min(found.values()) > 0.9 * usual


MAILBOX = """
import json, sys
from pathlib import Path
from flightdelay.mailbox import Mailbox
folder = Path(sys.argv[1])
box = Mailbox(folder)
(folder / "in" / ".0002.json.part").write_text("half")
for n in (1, 0):
    (folder / "in" / f"{n:04d}.json").write_text(json.dumps({"step": n}))
first = box.next()["step"]
box.answer(0, {"step": 0})
again = Mailbox(folder)
print(first, again.next()["step"], json.loads((folder / "out/0000.json").read_text()))
"""


def test_the_next_message_is_the_first_without_an_answer(tmp_path):
    (tmp_path / "in").mkdir()
    assert reference(MAILBOX, tmp_path).split() == ["0", "1", "{'step':", "0}"]


NOTES = """
import sys
from flightdelay.loop import Notes, Plan
notes = Notes(4)
assert notes.plan() is None
notes.decided(Plan("stale", [("2014-01-01", "2014-02-01")]))
notes.trained(0, "abc")
again = Notes(4)
assert again.plan() == Plan("stale", [("2014-01-01", "2014-02-01")])
assert again.run(0) == "abc" and again.run(1) is None and Notes(5).plan() is None
"""


def test_a_decision_is_found_again_after_a_crash(tmp_path):
    reference(NOTES, tmp_path)


STALE = """
import numpy as np
from flightdelay.stale import worth
draw = np.random.default_rng(0)
day = np.repeat(np.arange(25), 160)
storm = draw.normal(0, 0.4, 25)[day]
signal = draw.normal(0, 1, len(day))
chance = 1 / (1 + np.exp(-(-1.3 + 0.8 * signal + storm)))
late = (draw.random(len(day)) < chance).astype(float)
good = worth(late, 1 / (1 + np.exp(-(-1.3 + 0.8 * signal))), day)
bad = worth(late, 1 / (1 + np.exp(-(-1.3 - 0.8 * signal))), day)
none = worth(late, np.full(len(day), late.mean()), day)
assert good.mean > 4 * good.error > 0 > -4 * bad.error > bad.mean
assert abs(none.mean) < 1e-9
"""


def test_a_model_is_worth_what_it_knows_beyond_the_rate(tmp_path):
    reference(STALE, tmp_path)


def test_the_use_case_has_a_cost_and_every_grading_carries_it(season):
    published = tomllib.loads(Path(home.datasets() / "usecase.toml").read_text())
    assert tomllib.loads(season.usecase)["retraining"] == published["retraining"]
