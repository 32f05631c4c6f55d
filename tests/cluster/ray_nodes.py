"""A Ray cluster of several nodes on this machine: `ray start`, as a user types it, ended by process id."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.integration.cli import PATIENCE_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).resolve().parent / "site"
BIN = Path(sys.executable).parent
# A killed node is noticed after about 10 s; one that a busy machine holds up has 40 s to answer.
HEALTH = {"initial_delay_ms": 1000, "period_ms": 1000, "timeout_ms": 10_000, "failure_threshold": 4}

TOO_SLOW = ("timed out during startup", "Deadline Exceeded")
"""What Ray says of a node that did not start within its 30 s."""
STARTS = 3
"""Tries to start a node: on a busy machine Ray gives up after 30 s, which no setting changes."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A command in a session of its own, with its output in a file."""

    def __init__(
        self, command: list[str], output: Path, environment: dict[str, str], cwd: Path = ROOT
    ) -> None:
        self._output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def finished(self, timeout_s: float = PATIENCE_S) -> tuple[int, str]:
        return self.process.wait(timeout_s), self.output

    def end(self) -> None:
        """Kills it and all that descends from it."""
        if self.process.poll() is not None:
            return
        family = [psutil.Process(self.process.pid)]
        family += family[0].children(recursive=True)
        for member in family:
            if member.is_running():
                member.kill()
        self.process.wait()
        psutil.wait_procs(family[1:], timeout=PATIENCE_S)


class RayNodes:
    """A head and any number of nodes, each with CPUs, ports and a folder of its own, and one token."""

    def __init__(self, head_cpus: int = 1) -> None:
        # A short path, since that of a Unix socket is bounded.
        self._folder = tempfile.TemporaryDirectory(prefix="et-", dir="/tmp")
        self.path = Path(self._folder.name)
        self.token = self.path / "token"
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))
        self.order = self.path / "order"
        self.address = f"127.0.0.1:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}"
        self._started: list[Process] = []
        self.nodes: list[Process] = []
        self.head = self._start(
            *("--head", f"--port={self.address.rpartition(':')[2]}", f"--num-cpus={head_cpus}"),
            *(f"--dashboard-port={self.dashboard.rpartition(':')[2]}", "--dashboard-host=127.0.0.1"),
            f"--ray-client-server-port={free_port()}",
        )

    def add(self, cpus: int = 1, *, bare: bool = False, bad: bool = False) -> Process:
        """A node with so many CPUs, which are numbers of Ray's alone. `bare`: the package of the environment
        is missing there. `bad`: no environment can be reset there."""
        arguments = (f"--address={self.address}", f"--num-cpus={cpus}")
        self.nodes.append(self._start(*arguments, bare=bare, bad=bad))
        return self.nodes[-1]

    def _start(self, *arguments: str, bare: bool = False, bad: bool = False) -> Process:
        name = f"n{len(self._started)}"
        environment = self.environment() | {f"RAY_health_check_{key}": str(n) for key, n in HEALTH.items()}
        if bare:
            del environment["PYTHONPATH"]
        if bad:
            environment["EVERTRACE_BAD_NODE"] = "1"
        for _ in range(STARTS):
            node = self.run(
                str(BIN / "ray"),
                *("start", "--block", *arguments, "--node-ip-address=127.0.0.1", "--num-gpus=0"),
                *(f"--temp-dir={self.path / name}", "--object-store-memory=100000000"),
                *("--disable-usage-stats", f"--dashboard-agent-listen-port={free_port()}"),
                *("--min-worker-port=0", "--max-worker-port=0"),
                environment=environment,
            )
            wait_until(
                lambda node=node: "Ray runtime started" in node.output or node.process.poll() is not None
            )
            if not any(words in node.output for words in TOO_SLOW):
                break
        assert node.process.poll() is None, node.output
        return node

    def environment(self) -> dict[str, str]:
        """Of a process that belongs to the cluster. Nothing of another Ray is in it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return inherited | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(SITE),
            "EVERTRACE_DYING": str(self.order),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }

    def run(self, *command: str, environment: dict[str, str] | None = None, cwd: Path = ROOT) -> Process:
        output = self.path / f"output-{len(self._started)}"
        process = Process(list(command), output, environment or self.environment(), cwd)
        self._started.append(process)
        return process

    def train(self, *arguments: str, environment: dict[str, str] | None = None) -> Process:
        command = (sys.executable, "launch.py", "train", "cartpole_rtrl", "--wandb.mode", "disabled")
        return self.run(*command, "--ray.address", self.address, *arguments, environment=environment)

    def close(self) -> None:
        for process in reversed(self._started):
            process.end()
        self._folder.cleanup()
