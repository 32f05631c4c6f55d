"""What cluster/train.sbatch asks of launch.py and leaves alone, with stand-ins for SLURM's commands."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import asked_to_train
from learner.records.run_dir import RunDir, RunDirError

ROOT = Path(__file__).resolve().parents[2]

SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
exec "$@"
"""
PYTHON = """#!/bin/bash
case "$*" in
    *secrets*) exec "{python}" "$@" ;;
    *get_node_ip_address*) echo 127.0.0.1 ;;
    *ray.scripts*--head*) exec "{python}" -c '
import socket, sys
port = next(word for word in sys.argv if word.startswith("--port=")).partition("=")[2]
server = socket.create_server(("127.0.0.1", int(port)))
while True:
    server.accept()[0].close()
' "$@" ;;
    *launch.py*) printf "%s\\n" "$@" >"{asked}" ;;
esac
"""


def free_job() -> int:
    """The id of a job whose port, as the script computes it, nobody has."""
    while True:
        job = random.Random().randrange(10**6, 10**8)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", 20000 + 2 * (job % 5000))) != 0:
                return job


@pytest.fixture
def submit(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs the script as SLURM would on its first node; what it asked launch.py for."""
    commands, asked = tmp_path / "commands", tmp_path / "asked"
    commands.mkdir()
    stand_ins = {
        "srun": SRUN,
        "squeue": "#!/bin/bash\necho COMPLETED\n",
        "python": PYTHON.format(python=sys.executable, asked=asked),
    }
    for name, text in stand_ins.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)

    def run(*words: str) -> list[str]:
        job = free_job()
        environment = os.environ | {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHON": str(commands / "python"),
            "SLURM_JOB_ID": str(job),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_JOB_NUM_NODES": "1",
        }
        script = ["bash", str(ROOT / "cluster" / "train.sbatch"), *words]
        done = subprocess.run(script, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return asked.read_text().splitlines()

    return run


def test_whether_a_run_begins_or_goes_on_is_left_to_train(
    submit: Callable[..., list[str]], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    for checkpoint in (False, True):
        if checkpoint:
            (run_dir / "checkpoints" / "step_000000000000").mkdir(parents=True)
        asked = submit(str(run_dir), "memory_rtrl", "--seed", "2")
        expected = ["-u", "launch.py", "train", "memory_rtrl", "--run-dir", str(run_dir), "--auto-resume"]
        assert asked[: len(expected)] == expected and asked[-2:] == ["--seed", "2"]


def test_nothing_of_somebody_elses_is_removed(submit: Callable[..., list[str]], tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("config.json", "metrics.jsonl", "notes.txt"):
        (project / name).write_text("[1]")
    asked = submit(str(project), "cartpole_rtrl")
    assert {path.name for path in project.iterdir() if path.suffix in (".json", ".jsonl", ".txt")} == {
        "config.json",
        "metrics.jsonl",
        "notes.txt",
    }
    assert not list(project.glob(".ray-token-*"))
    assert not asked_to_train(asked[3:]).resume
    with pytest.raises(RunDirError, match=r"project already holds a run"):
        RunDir.check_free(project)
