"""`RUN_DIR/control.json`: what a run that trains is asked to change (`launch.py scale`).

Whoever asks writes it whole; the run reads it again and again. It holds from the moment at which it is
written until the run is begun anew, with a new config.json, which `train --resume` takes it up into.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from configs.error import ConfigError, require
from configs.paths import write_whole

NAME = "control.json"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Order:
    num_actors: int | None
    """None: as many as the cluster has room for, whatever comes and goes."""

    def __str__(self) -> str:
        return f"num_actors = {AUTO if self.num_actors is None else self.num_actors}"


def parse_num_actors(value: object) -> Order:
    """An order for so many actors: a number or `auto`, also as text. Raises ConfigError for all else."""
    if value == AUTO:
        return Order(None)
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    good = isinstance(number, int) and not isinstance(number, bool) and number >= 1
    require(good, "num_actors", value, f"needs a number of at least 1, or {AUTO!r}")
    assert isinstance(number, int)
    return Order(number)


def write_order(run_dir: Path, order: Order) -> None:
    document = {"num_actors": AUTO if order.num_actors is None else order.num_actors}
    write_whole(run_dir / NAME, json.dumps(document) + "\n")


def read_order(run_dir: Path) -> Order | None:
    """The order that holds; None where there is none, or an older one than config.json.

    Raises ConfigError for a file that is no order, or cannot be read.
    """
    path = run_dir / NAME
    try:
        if path.stat().st_mtime_ns <= (run_dir / "config.json").stat().st_mtime_ns:
            return None
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; delete it to go on without an order") from error
    if not isinstance(document, dict) or set(document) != {"num_actors"}:
        raise ConfigError(
            f'{path} is no order: needs {{"num_actors": N}} alone, N a number or "{AUTO}"; delete it to go '
            "on without one"
        )
    return parse_num_actors(document["num_actors"])
