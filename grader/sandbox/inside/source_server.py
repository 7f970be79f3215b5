"""The source of a pipeline: hands out the files of a folder over HTTP, fails as planned, and keeps a log of its calls.

    python source_server.py FOLDER PLAN LOG

PLAN is JSON: {path: [what to do with the first call, with the second, ...]}; calls after those are answered. "always" as the last
word repeats the one before. The first line of LOG says on which port it listens, each further one tells of one call:
{"path", "at", "answer"}, written before the answer is.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_SECONDS = 60
MEETING_SECONDS = 5  # that the first of two calls waits for the other; less than a caller has to have patience for


class Source(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder, plan, log):
        super().__init__(("127.0.0.1", 0), Call)
        self.folder, self.plan, self.log = folder, plan, log
        self.calls, self.lock = {}, threading.Lock()

    def has(self, path):
        """Whether there is such a file at this moment: months come while it serves."""
        return any(
            os.path.relpath(os.path.join(where, name), self.folder) == path
            for where, _, names in os.walk(self.folder)
            for name in names
        )

    def write(self, record):
        self.log.write(json.dumps(record) + "\n")
        self.log.flush()

    def next_answer(self, path):
        """What to do with this call of a path, and the note that it came."""
        with self.lock:
            count = self.calls[path] = self.calls.get(path, 0) + 1
            planned = list(self.plan.get(path, ()))
            always = bool(planned) and planned[-1] == "always"
            if always:
                planned.pop()
            answer = planned[count - 1] if count <= len(planned) else planned[-1] if always else "whole"
            if not self.has(path):
                answer = "404"
            self.write({"path": path[:200], "at": time.time(), "answer": answer})
        return answer

    def meet(self, path):
        """Wait for a second call, so that two who run at the same time go on at the same moment."""
        deadline = time.monotonic() + MEETING_SECONDS
        while self.calls[path] < 2 and time.monotonic() < deadline:
            time.sleep(0.01)


class Call(BaseHTTPRequestHandler):
    timeout = 30

    def do_GET(self):
        path = self.path.split("?")[0].lstrip("/")
        answer = self.server.next_answer(path)
        if answer.isdigit():
            self.send_error(int(answer))
            return
        if answer == "hang":
            time.sleep(HANG_SECONDS)
            return
        if answer == "drip":  # there is always something to read, and never all of it
            self.send_response(200)
            self.send_header("Content-Length", str(HANG_SECONDS * 10))
            self.end_headers()
            for _ in range(HANG_SECONDS):
                self.wfile.write(b"P")
                time.sleep(1)
            return
        if answer == "meet":
            self.server.meet(path)
        with open(os.path.join(self.server.folder, path), "rb") as file:
            body = file.read()
        promised = len(body)
        if answer == "short":  # half of it, as if that were all
            body = body[: len(body) // 2]
            promised = len(body)
        elif answer == "cut":  # the line goes dead in the middle
            body = body[: len(body) // 2]
        elif answer == "garbled":
            middle = len(body) // 2
            body = body[:middle] + bytes(byte ^ 0xFF for byte in body[middle : middle + 64]) + body[middle + 64 :]
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as plan, open(sys.argv[3], "a", encoding="utf-8") as log:
        server = Source(sys.argv[1], json.load(plan), log)
        server.write({"port": server.server_address[1]})
        server.serve_forever()
