"""A Ray session: this machine's own, or a seat in a cluster that is already running.

A session of our own listens on loopback only, asks for a token that is made for it and never written
down, and keeps its files in a folder of its own that is removed with it. Ray's processes are tied to
this one: they end when it ends, however it ends.

In a cluster that is joined, nothing is ours but the actors: they end with this process. The code goes to
every node as Ray's `working_dir`; packages are the nodes' own. docs/cluster.md is the user's page.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from actors.fleet.fleet import FleetError
from actors.fleet.session_folder import session_folder
from actors.fleet.stops import HEAR, deaf
from configs.schema import ConfigError, EnvConfig, RayConfig

if TYPE_CHECKING:
    from actors.fleet.nodes import Free

_ROOT = Path(__file__).resolve().parents[2]
_EXCLUDES = (".git", ".venv", "runs", "build", "tests", "docs", "benchmarks/results")
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the process that `ray job submit` starts."""
CONNECT_TIMEOUT_S = 10.0
LEAVE_S = 5.0
"""So long Ray's processes have to end by themselves."""
NEEDED = ("raylet", "gcs_server")
"""Ray's processes without which the others, the driver too, end at once or after a while."""
START_ATTEMPTS = 3
_GIVEN_UP = "timed out during startup"


@contextmanager
def ray_session(
    config: RayConfig, num_cpus: int, env: EnvConfig | None = None, num_gpus: int = 0
) -> Iterator[Free | None]:
    """Ray is initialised inside and shut down after. Yields what is free in a cluster that is joined; None of
    a session of our own, which has `num_cpus` and `num_gpus`, however many the machine has.

    `env`: what the nodes of a cluster are examined for before anything runs there. Where `ray.address` is not
    set, Ray's own RAY_ADDRESS counts, which `ray job submit` sets.

    Raises ConfigError for a cluster that does not answer or does not let us in, for nodes that cannot run
    actors, and for a TMPDIR that Ray cannot use; FleetError where no session of our own comes up.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    address = config.joined
    with _joined(address) if address else _own(config, num_cpus, num_gpus):
        if address and env is not None:
            from actors.fleet.nodes import check_nodes

            check_nodes(env, config.start_timeout_s)
        yield _free() if address else None


def _free() -> Free:
    from actors.fleet.nodes import free

    return free()


def set_environment() -> None:
    """What a session of our own needs in the environment, before Ray is imported: it reads these once."""
    # One token serves all sessions of a process. The last one, under a name that its purpose on Linux does
    # not show, makes every Ray process listen on loopback.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # Workers that Ray starts ahead of need are of another environment than a run's, and would never be used.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    # The control store would keep a record of each of 100,000 calls, for a dashboard that is not there.
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
    # Ray makes its workers nice; here they are half of the work, and a busy machine would starve them.
    os.environ.setdefault("RAY_worker_niceness", "0")


@contextmanager
def _own(config: RayConfig, num_cpus: int, num_gpus: int) -> Iterator[None]:
    if config.follow_cluster:
        raise ConfigError(
            "--num-actors auto (ray.follow_cluster) follows a cluster whose nodes come and go: name it by "
            "--ray.address, or leave num_actors at 0, which chooses for this machine"
        )
    set_environment()
    import ray

    # What this process finds on PYTHONPATH, an environment's package say, its workers find too.
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    with session_folder() as folder:
        mine = psutil.Process()
        before, begun = set(mine.children()), list[psutil.Process]()
        try:
            _start(
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                include_dashboard=False,
                object_store_memory=(config.object_store_mib or 256) * 2**20,
                log_to_driver=False,
                logging_level=logging.WARNING,
                _temp_dir=str(folder),
                runtime_env={
                    "env_vars": {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
                    "worker_process_setup_hook": HEAR,
                },
            )
            begun = [child for child in mine.children() if child not in before]
            yield
        finally:
            family = _families(begun)
            _kill([process for process in begun if _name(process) not in NEEDED])
            ray.shutdown()
            _end(family, LEAVE_S)


def _families(begun: list[psutil.Process]) -> list[psutil.Process]:
    """These processes, and all that come from them."""
    found = list(begun)
    for process in begun:
        with suppress(psutil.NoSuchProcess):
            found += process.children(recursive=True)
    return found


def _end(processes: list[psutil.Process], within_s: float) -> None:
    """Waits until they have ended, and kills those that do not: one that is stopped hears of no end."""
    _, left = psutil.wait_procs(processes, timeout=within_s)
    _kill(left)
    psutil.wait_procs(left, timeout=LEAVE_S)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _name(process: psutil.Process) -> str | None:
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return None


def _start(**options: Any) -> None:
    """`ray.init`, begun again where Ray gives its own node up: after 30 s, which nothing can set, and which a
    machine with much else to do may take. Raises FleetError the last time, with no process left behind."""
    import ray

    mine = psutil.Process()
    for attempt in range(1, START_ATTEMPTS + 1):
        before = set(mine.children(recursive=True))
        try:
            with deaf():
                ray.init(**options)
            return
        except Exception as error:  # Ray has no class of its own for it
            if _GIVEN_UP not in str(error):
                raise
            left = [child for child in mine.children(recursive=True) if child not in before]
            _end(left, 0.0)  # Ray has given them up
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                raise FleetError(
                    f"Ray did not come up on this machine within 30 s, {attempt} times: it is too busy, or "
                    "Ray's processes cannot run here. Try again, or train without Ray: --runtime inline"
                ) from error
            print(f"Ray did not come up within 30 s; once more ({attempt} of {START_ATTEMPTS})", flush=True)


@contextmanager
def _joined(address: str) -> Iterator[None]:
    where = f"ray.address = {address!r}"
    _check_answers(address, where)
    # Seconds that Ray tries a wrong token for (20 otherwise), and no warnings of what _EXCLUDES says anyway.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")
    os.environ.setdefault("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")
    import ray
    import ray.exceptions

    try:
        with deaf():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.WARNING,
                runtime_env=_runtime_env(os.environ.get(_JOB)),
            )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise ConfigError(
            f"{where}: no cluster there that lets us in ({error}). Is it the address of a Ray head, and is "
            f"its token the one of this process, {_token_source()}?"
        ) from error
    except (RuntimeError, ValueError) as error:  # another Python or Ray, or no node on this machine
        raise ConfigError(f"{where}: the cluster cannot be joined: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str, where: str) -> None:
    """Refuses at once what Ray would look for during minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ConfigError(
            f"{where}: needs HOST:PORT of a Ray head, or 'auto'. The learner runs on one of its nodes: "
            "neither a Ray client (ray://) nor a dashboard (http://) will do"
        )
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"{where}: nothing answers there ({error}): is the head up?") from error


def _token_source() -> str:
    """Where Ray takes this process's token from, in words, without the token."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "in RAY_AUTH_TOKEN"
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return f"in the file {path} (RAY_AUTH_TOKEN_PATH)"
    default = Path.home() / ".ray" / "auth_token"
    return f"in the file {default}" if default.exists() else "which has none (set RAY_AUTH_TOKEN_PATH)"


def _runtime_env(job_config: str | None) -> dict[str, Any]:
    """The code for every node, unless the job that we are in (`job_config`, JSON) has brought it already."""
    job = json.loads(job_config)["runtime_env"] or {} if job_config else {}
    ours: dict[str, Any] = {}
    if "OMP_WAIT_POLICY" not in job.get("env_vars", {}):
        ours["env_vars"] = {"OMP_WAIT_POLICY": "PASSIVE"}
    if "working_dir" not in job:
        ours |= {"working_dir": str(_ROOT), "excludes": list(_EXCLUDES)}
    return ours


def check_lasting(run_dir: str | None) -> None:
    """Raises ConfigError for a run directory that would lie in Ray's copy of the code and go with it."""
    if _JOB in os.environ and (run_dir is None or Path(run_dir).absolute().is_relative_to(Path.cwd())):
        raise ConfigError(
            f"run_dir = {run_dir!r}: a job's current folder is a copy that Ray deletes; give --run-dir an "
            "absolute path elsewhere, on a disk that stays"
        )
