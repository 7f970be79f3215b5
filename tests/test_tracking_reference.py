"""What the reference of stage 05 does with months that are missing, empty, doubled or to come, and how its files are changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from grader import home, world
from grader.checks.s05_tracking import _other_comment
from grader.world import write_data


@pytest.fixture(scope="module")
def months(tmp_path_factory):
    made = world.build(5)
    folder = tmp_path_factory.mktemp("data")
    write_data(made, folder, made.months[:4], 600)
    return folder, made.months[:4]


@pytest.fixture
def package(reference):
    """The modules of the reference that these tests ask."""
    from flightdelay import config, data, definitions, learning, staleness, usecase

    return config, data, definitions, learning, staleness, usecase


def learned(package, folder: Path, first: str, last: date):
    config, data, definitions, learning, _, usecase = package
    settings = config.Config(7, date.fromisoformat(f"{first}-01"), last, trees=3)
    case = usecase.read_usecase(home.datasets() / "usecase.toml")
    spec = definitions.read_definitions(home.reference_solution() / "features.toml")
    return learning.learn(case, data.DataFolder(folder), spec, settings)


def end_of(month: str) -> date:
    return (pd.Period(month).end_time).date()


@pytest.mark.parametrize(
    ("file", "counts"),
    [(".github/workflows/ci.yml", True), ("docs/notes.md", True), (".git/HEAD", False), (".venv/pyvenv.cfg", False)],
)
def test_the_hash_of_the_code_is_of_all_that_a_clean_copy_holds(reference, tmp_path, file, counts):
    from flightdelay.tracking import code_hash

    (tmp_path / "train.py").write_text("print(1)\n")
    before = code_hash(tmp_path)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("one more\n")
    assert (code_hash(tmp_path) != before) == counts


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_month_of_the_window_that_is_not_there_is_done_without(package, months, tmp_path, how):
    source, names = months
    shutil.copytree(source, tmp_path / "data")
    path = tmp_path / "data" / "flights" / f"{names[1]}.parquet"
    empty = pd.read_parquet(path).head(0)
    path.unlink()
    if how == "empty":
        empty.to_parquet(path, index=False)
    whole = learned(package, source, names[0], end_of(names[2]))
    part = learned(package, tmp_path / "data", names[0], end_of(names[2]))
    assert 0 < len(part.learned) < len(whole.learned)


def test_flights_that_came_twice_are_refused(package, months, tmp_path, capsys):
    source, names = months
    shutil.copytree(source, tmp_path / "data")
    shutil.copy(source / "flights" / f"{names[0]}.parquet", tmp_path / "data" / "flights" / "again.parquet")
    with pytest.raises(SystemExit) as ended:
        learned(package, tmp_path / "data", names[0], end_of(names[1]))
    assert ended.value.code == 2
    assert "more than once" in capsys.readouterr().err


def test_months_to_come_change_no_model(package, months, tmp_path):
    source, names = months
    shutil.copytree(source, tmp_path / "data")
    (tmp_path / "data" / "flights" / f"{names[3]}.parquet").unlink()
    with_it, without = (learned(package, folder, names[0], end_of(names[1])) for folder in (source, tmp_path / "data"))
    assert (with_it.probability == without.probability).all()


def test_ages_count_by_the_calendar(package):
    staleness = package[4]
    assert staleness.months_between(date(2013, 11, 30), "2014-02") == 3
    settings = replace(package[0].Config(7, date(2013, 1, 1), date(2013, 2, 28)))
    found = [(str(s.train_end), later) for s, later in staleness.histories(settings, ["2013-01", "2013-02", "2013-04"])]
    assert found == [("2013-02-28", ["2013-04"])]


@pytest.mark.parametrize(
    ("program", "changed"),
    [
        (b"import os\n\nx = 1  # is one\n", b"import os\n\nx = 1  # is onx\n"),
        (b"import os\n\nx = 1  # prefix\n", b"import os\n\nx = 1  # prefiy\n"),
        (b"# -*- coding: utf-8\nx = 1\n", b""),  # it would do something
        (b'x = """\n\n# no comment\n"""\n', b""),
        (b"def x(:\n", b""),
        (b"", b""),
        (b"\xff\n\n# e\n", b""),
    ],
)
def test_another_comment_is_as_long_and_does_nothing(program, changed):
    assert _other_comment(program) == changed
