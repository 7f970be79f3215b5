"""Make a disk slow or full for one command: its writes below a folder wait, or fail as if there were no space.

    python disk_fault.py FOLDER CONTROL -- COMMAND...

COMMAND runs as a child of this tool, which ends with its exit code (128 and the signal, where one ended it) and passes on SIGTERM and
SIGINT. CONTROL is a file that is read again at every call that writes, and that may change at any time. It is one line:

    none          all is as usual; so it is where there is no such file
    slow SECONDS  each write, fsync and ftruncate of a file below FOLDER waits so long first
    full          each write to a file below FOLDER fails with ENOSPC; fsync and ftruncate go on, which need no space

What is none of these leaves things as they were. A call that waits keeps its time, and no other call waits with it; only the end of
its process ends it early, as on a real disk (before Linux 5.19 a signal has it begin anew). This is done by the kernel (Linux 5.5 or
later, x86_64 or aarch64), which asks this tool before such a call, so it holds for every language and for all processes that COMMAND
starts. What is left of them when the tool has ended cannot write any more, to any file.
Not seen are writes through mapped memory, io_uring and splice, and new, renamed or removed files.

Exit codes of its own: 70 where the kernel does not offer this, told before COMMAND begins; 127 or 126 where COMMAND cannot be run.
"""

import ctypes
import errno
import fcntl
import heapq
import math
import os
import platform
import re
import select
import signal
import socket
import struct
import sys
import time

CANNOT = 70
LONGEST = 1e6
ORDER = re.compile(rb"none|full|slow\s+(\d*\.?\d+(?:e-?\d+)?)")
PASSED_ON = (signal.SIGTERM, signal.SIGINT)
MACHINES = {  # the kernel's name of the architecture; its numbers of seccomp and copy_file_range; of fsync, fdatasync and ftruncate;
    # of write, writev, pwrite64, pwritev, pwritev2, sendfile and fallocate
    "x86_64": (0xC000003E, 317, 326, (74, 75, 77), (1, 20, 18, 296, 328, 40, 285)),
    "aarch64": (0xC00000B7, 277, 285, (82, 83, 46), (64, 66, 68, 70, 287, 71, 47)),
}
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
NEW_LISTENER, WAIT_KILLABLE = 1 << 3, 1 << 5
ALLOW, ASK = 0x7FFF0000, 0x7FC00000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
RECEIVE, SEND, SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
SYNC_WAKE_UP = CONTINUE = 1
CALL = struct.Struct("=QIIiIQ6Q")  # id, thread, flags, number of the call, architecture, instruction, arguments
ANSWER = struct.Struct("=QqiI")  # id, value, error, flags


class Cannot(Exception):
    """The kernel does not let a process answer the calls of another."""


def filter_code(architecture, numbers):
    """The kernel's program for each call: ask about those with one of these numbers, of this architecture, and allow all others."""
    lines = [(LOAD, 0, 0, 4), (EQUAL, 0, len(numbers) + 1, architecture), (LOAD, 0, 0, 0)]
    lines += [(EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    return b"".join(struct.pack("=HBBI", *line) for line in (*lines, (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ASK)))


def become(command, line, parent, machine):
    """The child's part: from the filter on it must not write, so it tells its errors on the line, by send."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, *PASSED_ON):
            signal.signal(number, signal.SIG_DFL)
        libc = ctypes.CDLL(None, use_errno=True)

        def call(function, *arguments):
            value = function(*(ctypes.c_ulong(argument) for argument in arguments))
            if value < 0:
                raise OSError(ctypes.get_errno(), "")
            return value

        architecture, seccomp, copy, without_space, others = machine
        code = ctypes.create_string_buffer(filter_code(architecture, (copy, *without_space, *others)))
        rules = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(code)))
        call(libc.prctl, PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before that was set
            os._exit(CANNOT)
        call(libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        try:
            listener = call(libc.syscall, seccomp, 1, NEW_LISTENER | WAIT_KILLABLE, ctypes.addressof(rules))
        except OSError:  # before Linux 5.19
            listener = call(libc.syscall, seccomp, 1, NEW_LISTENER, ctypes.addressof(rules))
        line.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", listener))])
        libc.fsync(-1)  # comes back once calls are answered
        os.execvp(command[0], command)
    except OSError as problem:
        line.send(struct.pack("i", problem.errno or 0))
    finally:
        os._exit(CANNOT)


class Disk:
    """Answers the calls that the kernel asks about, as CONTROL says."""

    def __init__(self, folder, control, listener, machine):
        self.folder, self.control, self.listener = os.path.realpath(folder), control, listener
        _, _, self.copy, self.without_space, _ = machine
        self.said, self.wait, self.full = b"none", 0.0, False
        self.waiting = []  # (when to go on, the call's id)
        try:
            fcntl.ioctl(listener, SET_FLAGS, SYNC_WAKE_UP)  # faster, from Linux 6.6 on
        except OSError:
            pass

    def look(self):
        """Read CONTROL again."""
        try:
            file = os.open(self.control, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                said = os.read(file, 100)
            finally:
                os.close(file)
        except FileNotFoundError:
            said = b"none"
        except OSError:
            return
        if said != self.said and (found := ORDER.fullmatch(said.strip())):
            self.said, self.full, self.wait = said, found[0] == b"full", min(float(found[1] or 0), LONGEST)

    def concerns(self, thread, file):
        try:
            path = os.readlink(f"/proc/{thread}/fd/{file & 0xFFFFFFFF}")
        except OSError:
            return False
        return path == self.folder or path.startswith(self.folder.rstrip("/") + "/")

    def take(self):
        """Take the next call and answer it, or have it wait."""
        call = bytearray(CALL.size)
        if not self.ioctl(RECEIVE, call):
            return
        which, thread, _, number, _, _, *arguments = CALL.unpack(call)
        self.look()
        faulty = (self.wait or self.full) and self.concerns(thread, arguments[2 if number == self.copy else 0])
        if faulty and self.wait:
            heapq.heappush(self.waiting, (time.monotonic() + self.wait, which))
        elif faulty and number not in self.without_space:
            self.ioctl(SEND, ANSWER.pack(which, 0, -errno.ENOSPC, 0))
        else:
            self.ioctl(SEND, ANSWER.pack(which, 0, 0, CONTINUE))

    def ioctl(self, request, data):
        """Whether it could be done: not if the thread that called is gone."""
        while True:
            try:
                fcntl.ioctl(self.listener, request, data)
                return True
            except InterruptedError:
                if request == RECEIVE:
                    return False
            except OSError as problem:
                if problem.errno != errno.ENOENT:
                    raise Cannot(problem.strerror) from None
                return False

    def serve(self, child, signals):
        """Answer calls and pass on signals until the child has ended; its exit code."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(signals, select.POLLIN)
        while True:
            left = max(0, math.ceil((self.waiting[0][0] - time.monotonic()) * 1000)) if self.waiting else None
            for ready, event in poll.poll(left):
                if ready == signals:
                    for number in os.read(signals, 100):
                        if number in PASSED_ON:
                            os.kill(child, number)
                    ended, status = os.waitpid(child, os.WNOHANG)
                    if ended:
                        code = os.waitstatus_to_exitcode(status)
                        return code if code >= 0 else 128 - code
                elif event & select.POLLIN:
                    self.take()
                else:
                    poll.unregister(ready)  # nobody is left who could call
            while self.waiting and self.waiting[0][0] <= time.monotonic():
                self.ioctl(SEND, ANSWER.pack(heapq.heappop(self.waiting)[1], 0, 0, CONTINUE))


def run(folder, control, command):
    machine = MACHINES.get(platform.machine()) if sys.platform == "linux" and sys.maxsize > 2**32 else None
    if machine is None:
        raise Cannot(f"it is not made for {platform.system()} on {platform.machine()}")
    signals, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *PASSED_ON):
        signal.signal(number, lambda *_: None)  # only the number is used, which arrives in the pipe
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        become(command, theirs, parent, machine)
    theirs.close()
    said, rights, _, _ = ours.recvmsg(4, socket.CMSG_SPACE(4))
    if not rights:
        raise Cannot(os.strerror(struct.unpack("i", said)[0]) if said else "the child ended")
    try:
        code = Disk(folder, control, struct.unpack("i", rights[0][2])[0], machine).serve(child, signals)
    except Cannot:
        os.kill(child, signal.SIGKILL)
        raise
    if problem := ours.recv(4):
        number = struct.unpack("i", problem)[0]
        print(f"disk_fault: {command[0]} cannot be run: {os.strerror(number)}", file=sys.stderr)
        return 127 if number == errno.ENOENT else 126
    return code


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[3] != "--":
        print("usage: python disk_fault.py FOLDER CONTROL -- COMMAND...", file=sys.stderr)
        sys.exit(2)
    try:
        sys.exit(run(sys.argv[1], sys.argv[2], sys.argv[4:]))
    except Cannot as why:
        print(f"disk_fault: writes cannot be held up here: {why}", file=sys.stderr)
        sys.exit(CANNOT)
