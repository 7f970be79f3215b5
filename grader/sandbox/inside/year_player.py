"""Plays a year to a loop of stage 11, for whoever wants to see it again: months and messages step by step, a line for each answer.

    python year_player.py YEAR MAILBOX SOURCE [--until STEP] [--kill STEP:SECONDS] -- COMMAND...

YEAR holds `step-N/message.json` with the months that the source has then, and `planted.json`, what each step holds. SOURCE is the folder
that the source serves; what was in it and in MAILBOX goes. The loop prints into a file beside the mailbox.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time

POLL_SECONDS = 0.05
LINES_SHOWN = 12


class Loop:
    """The command, in a group of its own, so that what it starts ends with it."""

    def __init__(self, argv, printed):
        self.argv, self.printed, self.job = argv, printed, None

    def start(self):
        with open(self.printed, "ab") as out:
            self.job = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def ended(self):
        return self.job.poll()

    def stop(self, number):
        if self.job is not None:
            try:
                os.killpg(self.job.pid, number)
                self.job.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
            try:
                os.killpg(self.job.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.job.wait()


def emptied(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def deliver(step, source):
    """Put what the source has at a step into its folder."""
    for month in sorted(os.listdir(step)):
        if os.path.isdir(os.path.join(step, month)):
            aside, place = os.path.join(source, "." + month), os.path.join(source, month)
            shutil.copytree(os.path.join(step, month), aside)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(aside, place)


def put(message, folder, name):
    aside = os.path.join(folder, "." + name)
    shutil.copyfile(message, aside)
    os.replace(aside, os.path.join(folder, name))


def wait(loop, answer, patience, kill_after):
    """Wait for an answer; says what is wrong, or nothing."""
    began = time.monotonic()
    while not os.path.exists(answer):
        waited = time.monotonic() - began
        if kill_after is not None and waited >= kill_after:
            loop.stop(signal.SIGKILL)
            loop.start()
            print(f"        killed after {waited:.1f} s, and started again", flush=True)
            kill_after = None
        if loop.ended() is not None:
            return f"the loop ended with {loop.ended()}, and there is no answer"
        if waited > patience:
            return f"no answer within {patience:g} s"
        time.sleep(POLL_SECONDS)
    return ""


def line(step, took, answer, planted):
    made = answer.get("versions") or []
    months = ", ".join(f"{month.get('month')} {month.get('status')}" for month in answer.get("months") or [])
    yield f"step {step}  {took:5.1f} s  {answer.get('decision')}, champion {answer.get('champion')}" + (
        f", made {', '.join(map(str, made))}" if made else ""
    )
    for what in planted:
        yield f"        planted: {what}"
    if months:
        yield f"        months: {months}"
    yield f"        on what: {str(answer.get('trigger'))[:200]}"


def kill_at(text):
    step, _, seconds = text.partition(":")
    try:
        return int(step), float(seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not STEP:SECONDS, such as 5:1.5") from None


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description="Play the year to your loop again.", allow_abbrev=False)
    for name in ("year", "mailbox", "source"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--patience", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=int, metavar="STEP", help="the last step that is played; without it all are")
    parser.add_argument(
        "--kill", type=kill_at, action="append", default=[], metavar="STEP:SECONDS",
        help="kill the loop so long after the message of a step, and start it again; may be given more than once",
    )  # fmt: skip
    own, command = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    given = parser.parse_args(own)
    steps = sorted(int(name.partition("-")[2]) for name in os.listdir(given.year) if name.startswith("step-"))
    with open(os.path.join(given.year, "planted.json"), encoding="utf-8") as file:
        planted = json.load(file)
    messages, answers = (emptied(os.path.join(given.mailbox, name)) for name in ("in", "out"))
    emptied(given.source)
    printed = os.path.join(os.path.dirname(given.mailbox), "played-again.txt")
    open(printed, "wb").close()
    kills, loop = dict(given.kill), Loop(command, printed)
    print(f"What your loop prints: {printed}", flush=True)
    try:
        loop.start()
        for step in steps:
            if given.until is not None and step > given.until:
                break
            here, name = os.path.join(given.year, f"step-{step}"), f"{step:04d}.json"
            deliver(here, given.source)
            put(os.path.join(here, "message.json"), messages, name)
            began = time.monotonic()
            wrong = wait(loop, os.path.join(answers, name), given.patience, kills.get(step))
            if not wrong:
                try:
                    with open(os.path.join(answers, name), encoding="utf-8") as file:
                        answer = json.load(file)
                    wrong = "" if isinstance(answer, dict) else "the answer is no object"
                except ValueError as problem:
                    wrong = f"the answer cannot be read: {problem}"
            if wrong:
                print(f"step {step}: {wrong}. The end of what it printed:", flush=True)
                with open(printed, encoding="utf-8", errors="replace") as file:
                    print("".join("  " + text for text in file.readlines()[-LINES_SHOWN:]), end="", flush=True)
                return 1
            took = time.monotonic() - began
            if step in kills and took < kills[step]:
                print(f"        not killed: the answer was there after {took:.1f} s", flush=True)
            for text in line(step, took, answer, planted.get(str(step), [])):
                print(text, flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        return 130
    finally:
        loop.stop(signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
