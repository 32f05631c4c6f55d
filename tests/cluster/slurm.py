"""SLURM on this machine alone: munged, slurmctld and slurmd in a folder of their own, ended by process id."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.cluster.ray_nodes import ROOT, Process, free_port
from tests.integration.cli import PATIENCE_S, wait_until

DAEMONS = ("munged", "slurmctld", "slurmd")
CREDENTIAL_S = 5
"""SLURM starts a requeued job only after the credential of its last start has expired (120 s by default)."""


def missing() -> str | None:
    """Why no SLURM can be started here; None if one can."""
    absent = [daemon for daemon in DAEMONS if shutil.which(daemon) is None]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install --no-install-recommends slurm-wlm munge"
    return None if os.geteuid() == 0 else "SLURM's daemons need root"


class Slurm:
    """One node with four CPUs, whatever the machine has."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="et-slurm-", dir="/tmp")
        self.path = Path(self._folder.name)
        host = socket.gethostname().partition(".")[0]
        self._munge = self.path / "munge"
        self._munge.mkdir(mode=0o755)
        key = self._munge / "key"
        key.touch(mode=0o400)
        key.write_bytes(secrets.token_bytes(1024))
        config = self.path / "slurm.conf"
        auth = f"socket={self._munge}/socket,cred_expire={CREDENTIAL_S}"
        lines = {
            "ClusterName": "evertrace",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "AuthType": "auth/munge",
            "AuthInfo": auth,
            "SlurmUser": "root",
            "SlurmctldPort": str(free_port()),
            "SlurmdPort": str(free_port()),
            "StateSaveLocation": str(self.path / "state"),
            "SlurmdSpoolDir": str(self.path / "spool"),
            "SlurmctldPidFile": str(self.path / "slurmctld.pid"),
            "SlurmdPidFile": str(self.path / "slurmd.pid"),
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "MpiDefault": "none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU",
            "SlurmdParameters": "config_overrides",
            "ReturnToService": "2",
            "SchedulerParameters": "sched_interval=2,sched_min_interval=500000",
            "NodeName": f"{host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN",
            "PartitionName": f"main Nodes={host} Default=YES MaxTime=INFINITE State=UP",
        }
        config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        (self.path / "state").mkdir()
        (self.path / "spool").mkdir()
        self.environment = os.environ | {"SLURM_CONF": str(config)}
        self._started = [
            self._start(
                *("munged", "--foreground", "--force", f"--socket={self._munge}/socket", f"--key-file={key}"),
                *(f"--pid-file={self._munge}/pid", f"--log-file={self._munge}/log"),
                f"--seed-file={self._munge}/seed",
            )
        ]
        wait_until((self._munge / "socket").exists)
        self._started += [self._start("slurmctld", "-D"), self._start("slurmd", "-D")]
        wait_until(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T", check=False))

    def _start(self, *command: str) -> Process:
        return Process(list(command), self.path / f"{command[0]}.log", self.environment)

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED and so on."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job)
        return next(word for word in shown.split() if word.startswith("JobState=")).partition("=")[2]

    def _processes(self) -> Iterator[psutil.Process]:
        """Everything that descends from the daemons, jobs too, which outlive them."""
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                yield process

    def _jobs(self) -> list[str]:
        return self.run("squeue", "--noheader", "--format=%A", check=False).split()

    def close(self) -> None:
        for process in self._processes():  # of a job that a failed test has left; its slurmstepd then ends
            if process.name() not in DAEMONS:
                process.kill()
        self.run("scancel", "--me", check=False)
        deadline = time.monotonic() + PATIENCE_S
        while (jobs := self._jobs()) and time.monotonic() < deadline:
            time.sleep(0.5)
        for process in reversed(self._started):
            process.end()
        self._folder.cleanup()
        assert not jobs, f"SLURM did not end the jobs {jobs}"
