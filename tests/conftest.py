"""Settings that hold for all tests."""

import signal

from hypothesis import settings

# A run that was started in the background or under nohup ignores these, and so would every program under test.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

settings.register_profile("busy", deadline=None)  # a machine with other work is no fault of an example
settings.load_profile("busy")
