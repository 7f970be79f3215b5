"""Settings that hold for all tests, and a bound for the long run: `-m study --minutes 45`."""

import hashlib
import signal
import subprocess
import time

import pytest
from hypothesis import settings

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
