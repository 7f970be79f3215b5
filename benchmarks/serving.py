"""What a request costs: the reference, that of stage 08 (no record), one by one, MLflow's, BentoML's, and a service that does nothing.

python benchmarks/serving.py [--seconds 5] [--bentoml PYTHON] [--out benchmarks/results/serving.md]

All have the same model and run one after the other, in turns, on the same machine. The reference is asked about flights and finds the
features itself; MLflow and BentoML are handed the features. PYTHON is the interpreter of an environment with bentoml, scikit-learn, polars
and joblib: BentoML needs other versions of shared packages than the kit. Load comes from the grader's client.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from grader import home
from grader.checks.asking import question, rows_of
from grader.overlays import checkpoint
from grader.sandbox import choose
from grader.sandbox.reader import INSIDE
from grader.services import HOST, Client, Request, free_port
from grader.stores import DATABASE, EXPERIMENT, QUIET, Stores
from grader.world import build, draw_rows, write_data

CLIENTS = (1, 8, 32)
FLIGHTS, ROWS = 3_000, 300
PATHS: dict[str, Callable[[Path], tuple[str, str]]] = {
    "usecase": lambda folder: ("--usecase", str(folder / "usecase.toml")),
    "data": lambda folder: ("--data", str(folder / "data")),
    "config": lambda folder: ("--config", str(folder / "config.toml")),
    "rows": lambda folder: ("--rows", str(folder / "rows.parquet")),
    "spec": lambda folder: ("--spec", str(home.reference_solution() / "features.toml")),
}
ONE_BY_ONE = "import flightdelay.batches as b; b.MOST_ROWS = 0; from flightdelay.serve import main; main()"
BENTO = """
import bentoml, joblib, os, polars as pl

@bentoml.service(traffic={"timeout": 30})
class Delay:
    def __init__(self):
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, rows: list[dict]) -> list[float]:
        return [float(p) for p in self.model.probability(pl.DataFrame(rows, infer_schema_length=None))]
"""


class Bench:
    """A folder with data, a trained model that is champion, and the questions that all are asked."""

    client: Client

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        world = build(5)
        months = world.months[:3]
        rows = draw_rows(world, months[2:], ROWS, "bench")
        write_data(world, folder / "data", months, FLIGHTS, without=rows)
        rows.write(folder / "rows.parquet")
        (folder / "usecase.toml").write_bytes((home.datasets() / "usecase.toml").read_bytes())
        config = f'seed = 20\ntrain_start = "{months[0]}-01"\ntrain_end = "{months[1]}-28"\n'
        (folder / "config.toml").write_text(config)
        for name in ("model", "state"):
            (folder / name).mkdir()
        Stores(choose("plain"), folder / "scratch").lay_down(folder / "store")
        self.run("train", "usecase", "data", "config", out="model")
        run_id = json.loads((folder / "model" / "train.json").read_text())["run_id"]
        self.run("register", "usecase", "--run-id", run_id, out="version.json")
        self.run("promote", "usecase", "data", "--version", "1", out="decision.json")
        self.run("features", "usecase", "data", "spec", "rows", out="features.parquet")
        self.questions = [question([row]) for row in rows_of(rows.table)]
        features = pd.read_parquet(folder / "features.parquet").drop(columns="row_id")
        self.features = json.loads(features.to_json(orient="records"))

    def env(self, **more: str) -> dict[str, str]:
        return {
            **os.environ, **QUIET, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/store/{DATABASE}",
            "MLFLOW_EXPERIMENT_NAME": EXPERIMENT, "MLEKIT_STATE": str(self.folder / "state"), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(home.reference_solution()), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(self.folder / "bento-home"), **more,
        }  # fmt: skip

    def run(self, command: str, *arguments: str, out: str) -> None:
        """Run a command of the reference; `usecase` and others stand for the option and its file."""
        words = [word for name in arguments for word in (PATHS[name](self.folder) if name in PATHS else (name,))]
        argv = [sys.executable, "-m", f"flightdelay.{command}", *words, "--out", str(self.folder / out)]
        subprocess.run(argv, env=self.env(), cwd=self.folder, check=True)

    @contextmanager
    def server(self, argv: list[str], probe: Request, **env: str) -> Iterator[str]:
        """A server that answers, until it is no longer needed."""
        port = next(word for word in (*argv, *env.values()) if word.isdigit() and len(word) > 3)
        with (self.folder / "server.log").open("w") as log:
            process = subprocess.Popen(
                argv, env=self.env(**env), cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        try:
            url = f"http://{HOST}:{port}"
            deadline = time.monotonic() + 90
            while True:
                answer = self.client.ask(url, [probe]).answers()[0]
                if answer.status == 200:
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"no answer: {(self.folder / 'server.log').read_text()[-2000:]}")
                time.sleep(0.2)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bentoml", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    sandbox = choose("plain", slots=4)
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place))
        (bench.folder / "client").mkdir()
        bench.client = Client(sandbox, bench.folder / "client")
        found: dict[str, dict[int, list[tuple[float, float, float]]]] = {}
        try:
            for _ in range(arguments.rounds):
                for name, argv, env, asked in variants(bench, arguments.bentoml):
                    with bench.server(argv, asked[0], **env) as url:
                        for clients in CLIENTS:
                            bench.client.ask(url, asked, count=50, concurrency=clients).answers()
                            answers = bench.client.ask(
                                url, asked, count=1_000_000, seconds=arguments.seconds, concurrency=clients, keep=0
                            ).answers()
                            assert all(a.status == 200 and not a.error for a in answers), answers[0]
                            took = np.array([a.done - a.sent for a in answers]) * 1000
                            span = max(a.done for a in answers) - min(a.sent for a in answers)
                            numbers = (float(np.median(took)), float(np.percentile(took, 99)), len(answers) / span)
                            found.setdefault(name, {}).setdefault(clients, []).append(numbers)
                            print(name, clients, *(f"{n:.1f}" for n in numbers), flush=True)
        finally:
            sandbox.close()
    text = table(found, arguments)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def variants(bench: Bench, bentoml: Path | None) -> Iterator[tuple[str, list[str], dict[str, str], list[Request]]]:
    """Name, command line, environment and questions of each service."""
    served = ["--usecase", str(bench.folder / "usecase.toml"), "--data", str(bench.folder / "data")]
    place = {"MLEKIT_HOST": HOST, "MLEKIT_REFRESH_SECONDS": "5"}
    yield "nothing", [sys.executable, str(INSIDE / "control_server.py"), str(free_port())], {}, bench.questions
    argv = [sys.executable, "-m", "flightdelay.serve", *served]
    yield "reference", argv, {**place, "MLEKIT_PORT": str(free_port())}, bench.questions
    earlier = bench.folder / "stage-08"
    if not earlier.exists():
        checkpoint("08", earlier)
    env = {**place, "MLEKIT_PORT": str(free_port()), "PYTHONPATH": str(earlier)}
    yield "reference of stage 08, which keeps no record", argv, env, bench.questions
    argv = [sys.executable, "-c", ONE_BY_ONE, *served]
    yield "reference, one by one", argv, {**place, "MLEKIT_PORT": str(free_port())}, bench.questions
    split = [{"columns": list(row), "data": [list(row.values())]} for row in bench.features]
    asked = [Request("POST", "/invocations", json.dumps({"dataframe_split": one}).encode()) for one in split]
    argv = [
        "mlflow",
        "models",
        "serve",
        "-m",
        "models:/flight-delay/1",
        "--env-manager",
        "local",
        "-h",
        HOST,
        "-p",
        str(free_port()),
    ]
    yield "mlflow models serve", argv, {}, asked
    if bentoml is not None:
        (bench.folder / "bento.py").write_text(BENTO)
        asked = [Request("POST", "/predict", json.dumps({"rows": [row]}).encode()) for row in bench.features]
        argv = [str(bentoml.parent / "bentoml"), "serve", "bento:Delay", "--host", HOST, "--port", str(free_port())]
        path = f"{bentoml.parent}:{os.environ['PATH']}"
        yield "BentoML", argv, {"MODEL": str(bench.folder / "model" / "model.joblib"), "PATH": path}, asked


def table(found: dict[str, dict[int, list[tuple[float, float, float]]]], arguments: argparse.Namespace) -> str:
    lines = [
        "# What a request costs", "",
        f"`python benchmarks/serving.py --seconds {arguments.seconds:g} --rounds {arguments.rounds}"
        f"{' --bentoml PYTHON' if arguments.bentoml else ''}`", "",
        "Requests about one row; medians over the rounds. Times in milliseconds; `x` is the median time over that of the service that "
        "does nothing, with as many clients.", "",
        "| service | clients | p50 | p99 | requests/s | x |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, by_clients in found.items():
        for clients, rounds in by_clients.items():
            p50, p99, rate = (float(np.median(column)) for column in zip(*rounds, strict=True))
            floor = float(np.median([one[0] for one in found["nothing"][clients]]))
            lines.append(f"| {name} | {clients} | {p50:.1f} | {p99:.1f} | {rate:.0f} | {p50 / floor:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
