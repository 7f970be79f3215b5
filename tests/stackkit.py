"""The stack of docker-compose.yml as it really runs: brought up by an engine, asked over its ports, looked into, and brought down."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import zlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
PUBLIC = ("python:3.11-slim", "postgres:15", "haproxy:2.6", "prom/prometheus:v2.42.0")
PORTS = {
    "API_PORT": "proxy",
    "MLFLOW_PORT": "mlflow",
    "PREFECT_PORT": "prefect",
    "PAGES_PORT": "pages",
    "PROMETHEUS_PORT": "prometheus",
}
# names of our own, so that nobody's image is changed while it runs
IMAGES = {"SYSTEM_IMAGE": "mlekit-system:tests", "WORLD_IMAGE": "mlekit-world:tests"}
TAIL = 25  # lines of a log that a failure shows
NO_INDEX = (
    "no matching distribution",
    "could not fetch",
    "connection",
    "temporary failure",
    "timed out",
    "unable to find image",
)


def said(*command: str, seconds: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
    """What a command says, stdout and stderr together; it has so many seconds."""
    try:
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **env}, timeout=seconds, text=True, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        heard = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        return subprocess.CompletedProcess(
            command, 124, f"{heard}\nnot done after {seconds:.0f} s: {' '.join(command)}"
        )


@cache
def compose() -> tuple[list[str], dict[str, str]]:
    """The command, and what its environment needs: the plugin where there is one, else docker-compose."""
    plugin = said("docker", "compose", "version").returncode == 0
    command = ["docker", "compose"] if plugin else ["docker-compose"]
    buildkit = said("docker", "buildx", "version").returncode == 0
    return command, {} if buildkit else {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}


@cache
def lacking() -> str:
    """Why no stack can be run here; an empty text if one can. What is wrong with our own files is no such reason."""
    try:
        if said("docker", "info", seconds=30).returncode:
            return "no container engine answers"
        if said(*compose()[0], "version").returncode:
            return "there is neither `docker compose` nor docker-compose"
    except FileNotFoundError as problem:
        return f"there is no {problem.filename}"
    for image in PUBLIC:
        if (
            said("docker", "image", "inspect", image).returncode
            and said("docker", "pull", "-q", image, seconds=60).returncode
        ):
            return f"there is no image {image}, and it cannot be pulled (tests/stack/images.py makes a stand-in)"
    command, env = compose()
    built = said("nice", *command, "build", "mlflow", "world", seconds=1500, POSTGRES_PASSWORD="none", **IMAGES, **env)
    if built.returncode:
        if any(word in built.stdout.lower() for word in NO_INDEX):
            return f"the image of the system cannot be made here: {built.stdout.strip().splitlines()[-1][:200]}"
        raise AssertionError(f"the image of the system cannot be built:\n{built.stdout[-3000:]}")
    return ""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    with contextlib.ExitStack() as opened:
        doors = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [door.getsockname()[1] for door in doors]


@dataclass
class Stack:
    """One project of the compose file, with a name, ports and a password of its own."""

    label: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # the same for each run from this checkout, so that a run finds what one that was killed left behind
        self.name = f"mlekit-{self.label}-{zlib.crc32(str(ROOT).encode()):08x}"
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self.settings = {
            "COMPOSE_PROJECT_NAME": self.name, "POSTGRES_PASSWORD": os.urandom(12).hex(), "EVERY_SECONDS": "5", "WORLD_SEED": "5",
            **ports, **IMAGES, **self.settings,
        }  # fmt: skip

    def compose(self, *words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        command, env = compose()
        return said(*command, *self._from_file(), *words, seconds=seconds, **env)

    def _from_file(self) -> list[str]:
        """All settings stand in a file beside, as they do in .env; that of the checkout, if there is one, is not read."""
        path = self.folder / f"{self.label}.env"
        path.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))
        return ["--env-file", str(path)]

    def begin(self, *words: str) -> subprocess.Popen[str]:
        command, env = compose()
        return subprocess.Popen(
            [*command, *self._from_file(), *words], cwd=ROOT, env={**os.environ, **env}, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def crash(self, service: str) -> int:
        """Kill the process as a fault would; its id. After `docker kill` the engine takes that for a wish and starts nothing again."""
        pid = int(self.inspect()[service]["State"]["Pid"])
        how = f"import os; os.kill({pid}, 9)"
        alone = ("--rm", "--pid=host", "--network=none", "--cap-drop=ALL")
        done = said("docker", "run", *alone, self.settings["SYSTEM_IMAGE"], "python", "-c", how)
        assert done.returncode == 0, done.stdout
        return pid

    def up(self, seconds: float = 240) -> float:
        """Bring all up, and wait until what says of itself that it is healthy does; how many seconds that took."""
        began = time.monotonic()
        done = self.compose("up", "--detach", "--no-build", seconds=seconds)
        if done.returncode:
            raise AssertionError(f"`up` failed with {done.returncode}:\n{done.stdout[-2000:]}\n{self.states()}")
        while ill := self.ill():
            if time.monotonic() - began > seconds:
                logs = "\n".join(self.log(service) for service in ill)
                raise AssertionError(f"not healthy after {seconds:.0f} s: {ill}\n{self.states()}\n{logs}")
            time.sleep(0.5)
        return time.monotonic() - began

    def down(self, *more: str) -> None:
        done = self.compose("down", "--remove-orphans", *more, seconds=180)
        if done.returncode:
            raise AssertionError(f"`down` failed:\n{done.stdout[-2000:]}")

    def ids(self) -> dict[str, str]:
        """The containers by service, those that ended as well."""
        found = said(
            "docker", "ps", "--all", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.name}", "--format",
            '{{.Label "com.docker.compose.service"}} {{.ID}}',
        )  # fmt: skip
        return dict(line.split() for line in found.stdout.splitlines())

    def inspect(self) -> dict[str, dict]:
        """What the engine says of each container as it runs."""
        ids = self.ids()
        found = json.loads(said("docker", "inspect", *ids.values()).stdout) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def ill(self) -> list[str]:
        """Services that do not run, or say of themselves that they are not healthy."""
        states = {name: one["State"] for name, one in self.inspect().items()}
        return [
            name
            for name, state in states.items()
            if state["Status"] != "running" or state.get("Health", {"Status": "healthy"})["Status"] != "healthy"
        ]

    def states(self) -> str:
        return self.compose("ps").stdout

    def log(self, service: str, lines: int = TAIL) -> str:
        """The last lines that a service printed."""
        found = said("docker", "logs", "--tail", str(lines), self.ids()[service]) if service in self.ids() else None
        return f"--- {service}\n{found.stdout[-3000:] if found else 'there is no such container'}"

    def docker(self, verb: str, service: str, *more: str, seconds: float = 60) -> None:
        """A verb of the engine on the container of a service, such as kill, restart or pause."""
        done = said("docker", verb, *more, self.ids()[service], seconds=seconds)
        assert done.returncode == 0, done.stdout

    def run_in(self, service: str, *command: str, seconds: float = 90) -> str:
        done = said("docker", "exec", self.ids()[service], *command, seconds=seconds)
        assert done.returncode == 0, (
            f"{command} in {service} ended with {done.returncode}: {done.stdout[-1500:]}\n{self.log(service)}"
        )
        return done.stdout

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.settings[port]}"

    def get(self, port: str, path: str, **params: str) -> object:
        return httpx.get(self.url(port) + path, params=params, timeout=30).raise_for_status().json()

    def ask_replica(self, number: int, path: str) -> str:
        """What one replica says, asked inside its container and not through the proxy."""
        program = (
            f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000{path}', timeout=10).read().decode())"
        )
        return self.run_in(f"api-{number}", "python", "-c", program)

    def wait(self, what: str, holds, seconds: float, *services: str):
        """Ask again and again until it is so, and return what was found; what is not there yet may fail to answer."""
        deadline, seen = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                if seen := holds():
                    return seen
            except (httpx.HTTPError, ValueError, LookupError, OSError, AssertionError) as problem:
                seen = repr(problem)[:600]
            time.sleep(0.5)
        raise AssertionError(
            f"not so after {seconds:.0f} s: {what}; seen last: {seen!r}\n" + "\n".join(map(self.log, services))
        )

    # What the system says of the year

    def next_month(self) -> str:
        """Let a month pass."""
        return self.run_in("world", "python", "-m", "world.next")

    def answers(self) -> dict[int, dict]:
        """What was answered to each month, by step."""
        program = (
            "import json, pathlib; out = sorted(pathlib.Path('/state/mailbox/out').glob('*.json')); "
            "print(json.dumps([[json.loads(p.read_bytes()), p.stat().st_mtime] for p in out]))"
        )
        return {
            one["step"]: {**one, "at": at} for one, at in json.loads(self.run_in("worker", "python", "-c", program))
        }

    def answered(self, step: int, seconds: float = 150) -> dict:
        """The answer to a month, when it is there."""
        return self.wait(
            f"month {step} is answered", lambda: self.answers().get(step), seconds, "worker", "prefect", "mlflow"
        )

    def weeks(self) -> list[dict]:
        """What the monitor said of each week."""
        program = (
            "import pathlib; p = pathlib.Path('/reports/weeks.json'); print(p.read_text() if p.exists() else '[]')"
        )
        return json.loads(self.run_in("pages", "python", "-c", program))

    def champion(self) -> str:
        """The version that the registry calls champion."""
        found = self.get(
            "MLFLOW_PORT", "/api/2.0/mlflow/registered-models/alias", name="flight-delay", alias="champion"
        )
        return found["model_version"]["version"]  # type: ignore[index]

    def versions(self) -> list[str]:
        found = self.get("MLFLOW_PORT", "/api/2.0/mlflow/model-versions/search", filter="name='flight-delay'")
        return sorted((one["version"] for one in found.get("model_versions", [])), key=int)  # type: ignore[attr-defined]

    def flow_runs(self, *states: str) -> list[dict]:
        """Flow runs of `month end` in some states, as Prefect's server knows them."""
        body = {
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
            "flows": {"name": {"any_": ["month end"]}},
            "limit": 200,
        }
        return (
            httpx.post(self.url("PREFECT_PORT") + "/api/flow_runs/filter", json=body, timeout=30)
            .raise_for_status()
            .json()
        )

    def predict(self, rows: list[dict], **headers: str) -> httpx.Response:
        return httpx.post(self.url("API_PORT") + "/v1/predict", json={"rows": rows}, headers=headers, timeout=30)

    def probabilities(self, rows: list[dict]) -> tuple[str, list[float]]:
        """Who answered, and what, asked in requests of as many rows as are allowed."""
        version, found = set(), []
        for at in range(0, len(rows), 1000):
            answer = self.predict(rows[at : at + 1000])
            assert answer.status_code == 200, (
                f"{answer.status_code}: {answer.text[:300]}\n{self.log('api-1')}\n{self.log('proxy')}"
            )
            version.add(answer.json()["model_version"])
            found += [one["probability"] for one in answer.json()["predictions"]]
        assert len(version) == 1, version
        return version.pop(), found
