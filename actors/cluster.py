"""A Ray session: this machine's own, or a seat in a cluster that is already running.

A session of our own listens on loopback only, asks for a token that is made for it and never written
down, and keeps its files in a folder of its own that is removed with it. Ray's processes are tied to
this one: they end when it ends, however it ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.schema import ConfigError, RayConfig

_ROOT = Path(__file__).resolve().parent.parent
_PREFIX = "evertrace-ray-"


def _remove_stale_folders(parent: Path) -> None:
    """Removes the session folders that killed runs have left behind, told by their dead process id."""
    for folder in parent.glob(f"{_PREFIX}*"):
        pid = folder.name[len(_PREFIX) :].split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_session(config: RayConfig, num_actors: int) -> Iterator[None]:
    """Ray is initialised inside and shut down after.

    Raises ConfigError for a cluster that does not answer.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if config.address is None:
        # Ray reads these once, when it is imported: one token serves all sessions of a process. The last one,
        # under a name that its purpose on Linux does not show, makes every Ray process listen on loopback.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Ray makes its workers nice; here they are half of the work, and a busy machine would starve them.
        os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    # What this process finds on PYTHONPATH, an environment's package say, its workers find too.
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    worker_env = {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}
    if config.address is not None:
        try:
            ray.init(
                address=config.address,
                runtime_env={"working_dir": str(_ROOT), "excludes": [".venv", "runs", ".git", "tests"]},
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"ray.address = {config.address!r}: no cluster there that lets us in ({error})"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()
        return

    parent = Path(tempfile.gettempdir())
    _remove_stale_folders(parent)
    # The path is short because a Unix socket's may not exceed 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    try:
        ray.init(
            num_cpus=num_actors,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=config.object_store_mib * 2**20,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _temp_dir=str(folder),
            runtime_env={"env_vars": worker_env},
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
