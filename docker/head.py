"""The head container: Ray's head node, and the learner as its driver.

    python docker/head.py                   by the variables TRAIN and RUN (docker-compose.yml)
    python docker/head.py plan PRESET ...   checks a command line of `launch.py train`; prints the CPUs that
                                            its actors take on this machine, and their number
    python docker/head.py key               takes W&B's key from standard input to the file WANDB_API_KEY_FILE

The learner starts when the actor containers offer the CPUs that its actors take. Where TRAIN does not say how
many (--num-actors), the learner chooses by what the containers offer that have joined. A run that is in the
volume already goes on from its newest checkpoint (`launch.py train --auto-resume`); another one is not taken
for it.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

from command_line import asked_to_train
from configs.layout import laid_out
from configs.machine import available_cores
from configs.schema import Config, ConfigError
from envs.make import check_env
from envs.spec import EnvError
from learner.records.checkpoint import CheckpointError
from learner.records.run_dir import RunDirError

HEAD, PORT = "head", 6379
RUNS = Path("/runs")


def planned(arguments: list[str]) -> Config:
    """The config of the run that `launch.py train` would train. Raises what that raises for bad input."""
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError("a run is named as PRESET [--field value ...], as for `launch.py train`")
    return asked_to_train(arguments, prog="docker/up.sh").config


def write_secret(path: Path, secret: str) -> None:
    """Readable by its owner alone. It appears whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)
    os.replace(partial, path)


def make_token(path: Path) -> None:
    """Writes the cluster's token unless it is there."""
    if not path.exists():
        write_secret(path, secrets.token_hex(32))


def take_key(path: Path) -> None:
    key = sys.stdin.read().strip()
    if not key or key.split() != [key]:
        raise ConfigError(
            "docker/head.py key: standard input must hold W&B's key, one word, and nothing else"
        )
    write_secret(path, key)


def read_key(path: Path) -> None:
    """W&B's key, where there is one, for the learner: in its process's environment, not in the container's,
    which `docker inspect` shows."""
    if path.exists():
        os.environ["WANDB_API_KEY"] = path.read_text(encoding="utf-8")


def start_ray() -> None:
    """Ray's head node, in the background. It offers no CPU: actors live in the actor containers."""
    store = int(os.environ["OBJECT_STORE_MIB"]) * 2**20
    command = ["ray", "start", "--head", f"--port={PORT}", "--num-cpus=0", "--num-gpus=0"]
    command += [f"--object-store-memory={store}", "--dashboard-host=0.0.0.0", "--disable-usage-stats"]
    started = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if started.returncode != 0:
        print(started.stdout, file=sys.stderr)
        raise SystemExit(f"head: Ray did not start (`ray start` ended with {started.returncode})")


def joined_cpus(needed: int | None) -> int:
    """Waits for actor containers; the CPUs they offer (docker/wait_for_cpus.py)."""
    command = [sys.executable, "docker/wait_for_cpus.py", f"127.0.0.1:{PORT}", str(needed or 0)]
    waited = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    offered = re.search(r"^offered (\d+)$", waited.stdout, re.MULTILINE)  # Ray may print lines of its own
    if waited.returncode != 0 or offered is None:
        print(waited.stdout, file=sys.stderr)
        raise SystemExit("head: Ray's head node did not say which actor containers have joined")
    return int(offered[1])


def in_volume(words: list[str]) -> list[str]:
    """Arguments of `launch.py train`: to begin the run in its folder, or to go on with it there."""
    return [*words, "--run-dir", str(RUNS / (os.environ["RUN"] or words[0])), "--auto-resume"]


def main(arguments: list[str]) -> int:
    if arguments == ["key"]:
        take_key(Path(os.environ["WANDB_API_KEY_FILE"]))
        return 0
    if arguments:
        if arguments[0] != "plan":
            raise ConfigError(f"docker/head.py knows `plan` and `key`, not {arguments[0]!r}")
        config = planned(arguments[1:])
        check_env(config.env)
        laid = laid_out(config, available_cores())
        print(laid.num_cpus, laid.num_actors)
        return 0
    words = in_volume(os.environ["TRAIN"].split())
    config = planned(words)
    make_token(Path(os.environ["RAY_AUTH_TOKEN_PATH"]))
    start_ray()
    joined_cpus(config.num_cpus if config.num_actors else None)
    read_key(Path(os.environ["WANDB_API_KEY_FILE"]))  # after Ray's start: its processes need none
    command = ["launch.py", "train", *words, "--ray.address", f"{HEAD}:{PORT}"]
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ConfigError, EnvError, RunDirError) as error:
        named = " (RUN=name docker/up.sh ... names another run)" if isinstance(error, RunDirError) else ""
        print(f"head: {error}{named}", file=sys.stderr)
        sys.exit(2)
    except CheckpointError as error:
        print(f"head: {error}", file=sys.stderr)
        sys.exit(1)
