"""Settings that hold for all tests, and a bound for the long run: `-m study --minutes 45`."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings

from grader import home
from grader.sandbox import choose, detect

# A run that was started in the background or under nohup ignores these, and so would every program under test.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

settings.register_profile("busy", deadline=None)  # a machine with other work is no fault of an example
settings.load_profile("busy")

STARTED = time.monotonic()


@pytest.fixture(params=["plain", "bubblewrap"])
def sandbox(request):
    """Each rung that this machine has, for three jobs at a time."""
    if request.param == "bubblewrap" and detect().rung != "bubblewrap":
        pytest.skip(detect().why)
    made = choose(request.param, slots=3)
    yield made
    made.close()


@pytest.fixture
def reference(monkeypatch):
    """The package of the reference solution can be imported in one test, and is gone after it."""
    monkeypatch.syspath_prepend(str(home.reference_solution()))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "flightdelay"]:
        del sys.modules[name]


@pytest.fixture
def very_deep(tmp_path):
    """A folder with folders in it, deeper than Python calls and paths go, with one file of one address; how it lies, from the first."""
    folder, here, depth = tmp_path / "very-deep", os.open(".", os.O_RDONLY), 1_200
    folder.mkdir()
    try:
        os.chdir(folder)
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        Path("file").write_text("ana@x.example")
    finally:
        os.fchdir(here)
        os.close(here)
    yield folder, "d/" * depth + "file"
    subprocess.run(["rm", "-rf", folder], check=True)  # pytest's own way calls itself


def pytest_addoption(parser):
    parser.addoption(
        "--minutes",
        type=float,
        help="begin no test after so many minutes; which come first changes with the commit, so that a few runs see all",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("minutes") is None:
        return
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    items.sort(key=lambda item: hashlib.sha256(f"{commit}{item.nodeid}".encode()).digest())


def pytest_runtest_setup(item):
    minutes = item.config.getoption("minutes")
    if minutes is not None and time.monotonic() - STARTED > minutes * 60:
        pytest.skip(f"the {minutes:g} minutes of this run are over; another commit begins with others")
