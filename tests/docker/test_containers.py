"""The composition for real: real containers, real Atari, exact RTRL. Opt-in: `make test-docker`.

The tests are the life of one run, in order; each goes on where the one before it ended. Names, ports and
volumes are this test's own, so that a composition of yours is left alone. The image is `evertrace`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.integration import cli

ROOT = Path(__file__).resolve().parents[2]
PRESET = "atari_breakout_rtrl_cpu"
RUN_DIR = f"/runs/{PRESET}"
KEY = "fedcba9876543210" * 5
FIELDS = ["--wandb.mode", "offline", "--time-limit-s", "3600", "--total-steps", "50000000"]

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        "EVERTRACE_TEST_DOCKER" not in os.environ,
        reason="opt-in, minutes and a Docker engine: make test-docker",
    ),
]


class Composition:
    """A copy of the clone's files, and docker-compose in its folder docker/."""

    def __init__(self, root: Path) -> None:
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
            if name and (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.project, self.docker = f"evertrace-test-{os.getpid()}", root / "docker"
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": self.project,
            "VOLUMES": self.project,
            "DASHBOARD_PORT": str(self.port),
            "EXTRAS": os.environ.get("EXTRAS", "ray,atari,wandb"),
            "WANDB_API_KEY": KEY,
        }
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        self._compose = ["docker", "compose"] if plugin else ["docker-compose"]

    def run(self, *command: str, code: int | None = 0) -> str:
        """What a command printed. `code`: the exit code it must have; None: any."""
        done = subprocess.run(
            command,
            cwd=self.docker,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert code is None or done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def compose(self, *arguments: str, code: int | None = 0) -> str:
        return self.run(*self._compose, *arguments, code=code)

    def containers(self, service: str = "") -> list[str]:
        """Ids, of stopped ones too."""
        labels = [f"label=com.docker.compose.project={self.project}"]
        labels += [f"label=com.docker.compose.service={service}"] if service else []
        filters = [word for label in labels for word in ("--filter", label)]
        return self.run("docker", "ps", "--all", "--quiet", *filters).split()

    def head(self, *command: str) -> str:
        return self.run("docker", "exec", self.containers("head")[0], *command)

    def logs(self) -> str:
        return self.run("docker", "logs", self.containers("head")[0])

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of the run's metrics. The head may be stopped."""
        target = self.docker.parent / "metrics.jsonl"
        self.run("docker", "cp", f"{self.containers('head')[0]}:{RUN_DIR}/metrics.jsonl", str(target))
        return cli.read_metrics(target.parent)

    def step(self) -> int:
        return self.metrics()[-1]["global_step"]

    def checkpoints(self) -> list[str]:
        target = self.docker.parent / "checkpoints"
        shutil.rmtree(target, ignore_errors=True)
        self.run("docker", "cp", f"{self.containers('head')[0]}:{RUN_DIR}/checkpoints", str(target))
        return sorted(path.name for path in target.iterdir())

    def token(self) -> str:
        return self.head("cat", "/token/ray").strip()


wait_until = partial(cli.wait_until, interval_s=1.0)


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    made = Composition(tmp_path_factory.mktemp("clone"))
    try:
        yield made
    finally:
        if os.environ.get("KEEP_LOGS"):
            print(made.compose("logs", "--no-color", code=None))
        made.compose("down", "--volumes", code=None)


def test_a_bad_command_line_starts_nothing(composition: Composition) -> None:
    said = composition.run("./up.sh", "--detach", PRESET, "--num-actors", "-1", code=2)
    assert "num_actors" in said
    assert composition.containers() == []


def test_one_command_trains(composition: Composition) -> None:
    start = time.monotonic()
    composition.run("./up.sh", "--detach", "--containers", "2", PRESET, *FIELDS)
    wait_until(lambda: " steps (" in composition.logs())
    print(f"from up.sh to the first update, the build included: {time.monotonic() - start:.0f} s")
    assert len(composition.containers("actor")) == 2
    wait_until(lambda: composition.step() > 10_000)


def test_the_image_has_the_pinned_versions_and_no_root(composition: Composition) -> None:
    lines = composition.head("pip", "list", "--format=freeze").splitlines()
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    pinned = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    installed = {
        name.lower().replace("_", "-"): version.partition("+")[0]
        for name, version in (line.split("==") for line in lines if "==" in line)
    }
    shared = installed.keys() & pinned.keys()
    assert {"torch", "ray", "ale-py", "numpy"} <= shared
    assert {name: installed[name] for name in shared if installed[name] != pinned[name]} == {}
    assert composition.head("id", "-u").strip() == "1000"
    inside = set(composition.head("ls", "-A", "/evertrace").split())
    assert inside.isdisjoint({".git", ".venv", "runs", "tests", "docs"})
    assert ".env" not in composition.head("ls", "-A", "/evertrace/docker").split()


def test_nothing_but_loopback_is_published(composition: Composition) -> None:
    inspected = json.loads(composition.run("docker", "inspect", *composition.containers()))
    published = [
        binding
        for container in inspected
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    ]
    assert published == [{"HostIp": "127.0.0.1", "HostPort": str(composition.port)}]


def test_token_and_key_are_nowhere_to_be_seen(composition: Composition) -> None:
    token = composition.token()
    assert len(token) == 64 and composition.head("cat", "/secrets/wandb") == KEY
    for file in ("/token/ray", "/secrets/wandb"):
        assert composition.head("stat", "-c", "%a", file).strip() == "600"
    seen = composition.run("docker", "inspect", *composition.containers())
    seen += composition.run("docker", "history", "--no-trunc", "evertrace")
    seen += composition.compose("logs") + composition.compose("config")
    assert token not in seen and KEY not in seen
    for path in composition.docker.iterdir():
        for secret in (token, KEY):
            assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_the_dashboard_asks_for_the_token(composition: Composition) -> None:
    nodes = f"http://127.0.0.1:{composition.port}/api/v0/nodes"
    with pytest.raises(HTTPError) as refused:
        urlopen(nodes, timeout=cli.PATIENCE_S)
    assert refused.value.code == 401
    refused.value.close()
    asked = Request(nodes, headers={"Authorization": f"Bearer {composition.token()}"})
    with urlopen(asked, timeout=cli.PATIENCE_S) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("variables", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}], ids=str)
@pytest.mark.parametrize(
    "command", [["ray", "start", "--address=head:6379"], ["train"]], ids=["node", "driver"]
)
def test_without_the_token_nobody_gets_in(
    composition: Composition, command: list[str], variables: dict[str, str]
) -> None:
    network = f"{composition.project}_default"
    given = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    if command == ["train"]:
        options = ["--ray.address", "head:6379", "--wandb.mode", "disabled"]
        command = ["python", "launch.py", "train", PRESET, *options, "--run-dir", "/runs/intruder"]
    said = composition.run(
        *("docker", "run", "--rm", "--network", network, *given, "evertrace", *command), code=None
    )
    assert "uthenticat" in said or "token" in said.lower(), said
    assert "Ray runtime started" not in said and "updates" not in said


def test_training_goes_on_while_an_actor_container_is_gone(composition: Composition) -> None:
    victim = composition.containers("actor")[0]
    composition.run("docker", "kill", victim)
    wait_until(lambda: "was lost with its node" in composition.logs())
    here = composition.step()
    wait_until(lambda: composition.step() > here + 5_000)
    assert composition.metrics()[-1]["faults/actor_restarts"] >= 1
    alive = composition.run("docker", "ps", "--quiet").split()
    assert victim not in alive
    composition.run("docker", "start", victim)

    def acted_since() -> bool:
        rows = composition.metrics()[-5:]
        return len(rows) == 5 and composition.run("docker", "exec", victim, *LIST).count("RolloutWorker") == 1

    wait_until(acted_since)
    here = composition.step()
    wait_until(lambda: composition.step() > here + 5_000)


LIST = ("python", "-c", "import psutil; print([p.info for p in psutil.process_iter(['cmdline'])])")
"""Processes of a container; Ray names its workers after their classes."""


def test_a_stop_leaves_a_checkpoint_and_the_next_up_goes_on_from_it(composition: Composition) -> None:
    start = time.monotonic()
    composition.compose("stop")
    print(f"stop: {time.monotonic() - start:.0f} s")
    head = json.loads(composition.run("docker", "inspect", composition.containers("head")[0]))[0]
    assert head["State"]["ExitCode"] == 0
    assert "stopped by SIGTERM" in composition.logs()
    stopped_at = composition.step()
    assert str(stopped_at) in composition.checkpoints()[-1]

    composition.compose("up", "--detach")
    wait_until(lambda: composition.step() > stopped_at + 2_000)
    assert f"head: going on with {RUN_DIR}" in composition.logs()
    steps = [row["global_step"] for row in composition.metrics()]
    assert steps == sorted(set(steps))
    after = steps[steps.index(stopped_at) + 1]
    assert after - stopped_at < 10_000
    said = composition.head("python", "launch.py", "eval", RUN_DIR, "--episodes", "1")
    assert "return" in said


def test_a_learner_that_is_killed_is_back_by_itself(composition: Composition) -> None:
    kill = "import psutil; [p.kill() for p in psutil.process_iter() if 'launch.py' in p.cmdline()]"
    before = composition.logs().count("head: going on with")
    composition.run("docker", "exec", composition.containers("head")[0], "python", "-c", kill, code=None)
    wait_until(lambda: composition.logs().count("head: going on with") == before + 1)
    wait_until(lambda: " steps (" in composition.logs().rpartition("head: going on with")[2])


def test_every_container_becomes_healthy(composition: Composition) -> None:
    def states() -> set[str]:
        inspected = json.loads(composition.run("docker", "inspect", *composition.containers()))
        return {container["State"]["Health"]["Status"] for container in inspected}

    wait_until(lambda: states() == {"healthy"})


def test_dmlab_without_a_wheel_is_refused(composition: Composition) -> None:
    build = ["docker", "build", "-t", f"{composition.project}-dmlab", "-f", "dmlab.Dockerfile", ".."]
    said = composition.run(*build, code=1)
    assert "no DeepMind Lab wheel" in said
