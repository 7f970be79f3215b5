"""The nursery: it reads the data once, looks who is champion, and for each champion forks a process that scores.

    python scorer.py USECASE DATA FD        (FD: the socket to the front)

A child has the data and the libraries already, so a new champion takes a moment; and whatever its model does to its process, the others
go on. The front gets the child's socket by SCM_RIGHTS. A process ends when the other end of its socket is gone.
"""

import os

os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # a database that comes back may be another file

import json
import select
import shutil
import signal
import socket
import sqlite3
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

import delay

NOT_A_TIME = -(2**63)
AGAIN = 15.0  # seconds until a version that failed is tried again
STORE = Path(os.environ["MLEKIT_STATE"]) / "champions"


def short(problem):
    return f"{type(problem).__name__}: {problem}"[:300]


def take(door, n):
    out = bytearray()
    while len(out) < n:
        part = door.recv(n - len(out))
        if not part:
            raise EOFError
        out += part
    return bytes(out)


def put(door, what):
    data = msgspec.msgpack.encode(what)
    door.sendall(len(data).to_bytes(4, "big") + data)


def table(columns, request):
    out = {}
    for name, values in columns.items():
        kind = request[name].rstrip("?")
        if kind == "timestamp":
            moments = np.array([NOT_A_TIME if v is None else v for v in values], dtype="int64").view("datetime64[us]")
            out[name] = pd.Series(moments).dt.tz_localize("UTC")
        else:
            out[name] = pd.Series(values, dtype=object if kind == "str" else "float64")
    return pd.DataFrame(out)


class Nursery:
    def __init__(self, usecase, data, control):
        import mlflow.pyfunc  # noqa: F401  before the first fork
        import sklearn.ensemble  # noqa: F401

        self.control = control
        self.source = delay.Source(usecase, data)
        self.source.features(self.source.tables["flights"].head(2))
        self.usecase, self.registry = usecase, None  # MLflow looks into the store as soon as there is a client
        self.name, self.request = self.source.case["model_name"], self.source.case["request"]
        self.version, self.child, self.failed = None, None, {}

    def tell(self, doors=(), **news):
        data = json.dumps(news).encode()
        if doors:
            socket.send_fds(self.control, [data], doors)
        else:
            self.control.send(data)

    def live(self):
        refresh = float(os.environ["MLEKIT_REFRESH_SECONDS"])
        while True:
            start = time.monotonic()
            self.reap()
            try:
                self.look()
            except BrokenPipeError:
                return
            wait = max(0.05, refresh - (time.monotonic() - start))
            if select.select([self.control], [], [], wait)[0]:  # the front never says anything: it has gone
                return

    def reap(self):
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.child:
                self.child, self.version = None, None

    def readable(self):
        """Whether there is a store; MLflow would lay down a new one, or try for minutes."""
        uri = os.environ["MLFLOW_TRACKING_URI"]
        if uri.startswith("sqlite:///"):
            door = sqlite3.connect(f"{Path(uri.removeprefix('sqlite:///')).absolute().as_uri()}?mode=ro", uri=True, timeout=2)
            try:
                door.execute("SELECT count(*) FROM registered_models").fetchone()
            finally:
                door.close()

    def look(self):
        try:
            self.readable()
            self.registry = self.registry or delay.Registry(self.usecase)
            model = self.registry.there(self.registry.client.get_registered_model, self.name)
            version = model and model.aliases.get("champion")
            if version is None:
                if self.child:
                    self.child = self.version = None
                self.tell(withdrawn=True, problem=f"{self.name} has no champion")
                return
            version = str(version)
            if version == self.version or time.monotonic() < self.failed.get(version, 0):
                return
            run_id = self.registry.client.get_model_version(self.name, version).run_id
        except BrokenPipeError:
            raise
        except Exception as problem:
            print(f"registry: {short(problem)}", file=sys.stderr, flush=True)
            if self.version is None:
                self.tell(problem=f"the registry cannot be read: {short(problem)}")
                try:
                    last = json.loads((STORE / "last.json").read_text())
                except FileNotFoundError:
                    return
                if last["name"] == self.name and last["uri"] == os.environ["MLFLOW_TRACKING_URI"]:
                    self.raise_child(last["version"], last["run_id"], STORE / last["folder"])
            return
        try:
            self.raise_child(version, run_id, None)
        except BrokenPipeError:
            raise
        except Exception as problem:
            self.failed[version] = time.monotonic() + AGAIN
            print(f"version {version}: {short(problem)}", file=sys.stderr, flush=True)
            if self.version is None:
                self.tell(problem=f"version {version} cannot be loaded: {short(problem)}")

    def raise_child(self, version, run_id, folder):
        mine, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            mine.close()
            self.control.close()
            try:
                score(self, theirs, version, run_id, folder)
            finally:
                os._exit(0)
        theirs.close()
        mine.settimeout(50)
        try:
            word = msgspec.msgpack.decode(take(mine, int.from_bytes(take(mine, 4), "big")))
        except (EOFError, OSError) as problem:
            os.kill(pid, signal.SIGKILL)
            mine.close()
            raise RuntimeError("its process ended or gave no answer") from problem
        if "problem" in word:
            mine.close()
            raise RuntimeError(word["problem"])
        self.tell([mine.fileno()], version=version, run_id=run_id)
        mine.close()
        self.version, self.child = version, pid


def fetched(name, version, run_id):
    """The files of a version, kept for a day without a registry."""
    import mlflow

    STORE.mkdir(parents=True, exist_ok=True)
    folder = STORE / f"{version}-{time.time_ns()}"
    folder.mkdir()
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(folder)))


def score(nursery, door, version, run_id, folder):
    """The life of a child."""
    import mlflow

    try:
        path = folder or fetched(nursery.name, version, run_id)
        model = mlflow.pyfunc.load_model(str(path))
        source = nursery.source
        delay.said(model, source.features(source.tables["flights"].head(2)))
        if folder is None:
            last = {"version": version, "run_id": run_id, "folder": str(path.relative_to(STORE)), "name": nursery.name}
            last["uri"] = os.environ["MLFLOW_TRACKING_URI"]
            (STORE / "last.json.new").write_text(json.dumps(last))
            (STORE / "last.json.new").replace(STORE / "last.json")
            for other in STORE.iterdir():
                if other.is_dir() and other not in path.parents and other != path:
                    shutil.rmtree(other, ignore_errors=True)
    except BaseException as problem:
        put(door, {"problem": short(problem)})
        return
    put(door, {"ready": True})

    def probabilities(columns):
        return delay.said(model, source.features(table(columns, nursery.request)))

    while True:
        try:
            parts = msgspec.msgpack.decode(take(door, int.from_bytes(take(door, 4), "big")))
        except (EOFError, OSError):
            return
        sizes = [len(next(iter(part.values()))) for part in parts]
        try:
            p = probabilities({name: [v for part in parts for v in part[name]] for name in parts[0]})
            found = [part.tolist() for part in np.split(p, np.cumsum(sizes)[:-1])]
        except Exception:
            found = []
            for part in parts:
                try:
                    found.append(probabilities(part).tolist())
                except Exception as problem:
                    print(f"not scored: {type(problem).__name__}", file=sys.stderr, flush=True)
                    found.append(None)
        put(door, found)


if __name__ == "__main__":
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)  # it ends when the front does
    usecase, data, fd = sys.argv[1:]
    Nursery(usecase, data, socket.socket(fileno=int(fd))).live()
