"""`launch.py scale RUN_DIR --num-actors N`: another number of actors for a run that trains, which goes on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from configs.layout import with_order
from configs.orders import parse_num_actors, write_order
from configs.paths import absolute
from configs.schema import ConfigError
from learner.records.run_dir import RunDir, RunDirError


def is_training(run_dir: Path) -> bool:
    """Whether a process holds the run directory."""
    try:
        RunDir.open(run_dir).release()
    except RunDirError:
        return True
    return False


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="launch.py scale",
        description="Another number of actors for a run that trains. They carry the same streams; those "
        "whose streams change begin new episodes. The run takes it up within seconds, and says so.",
    )
    parser.add_argument("run_dir", type=absolute)
    parser.add_argument("--num-actors", required=True, metavar="N", help="a number, or 'auto'")
    options = parser.parse_args(arguments)
    order = parse_num_actors(options.num_actors)
    config = RunDir.saved_config(options.run_dir)
    if config.runtime == "inline":
        raise ConfigError(
            f"{options.run_dir} trains with runtime = 'inline', in one process, and cannot be scaled: "
            "resume it with --runtime ray"
        )
    with_order(config, order)  # raises for a number that cannot carry the run's streams
    if not is_training(options.run_dir):
        raise RunDirError(
            f"nothing trains in {options.run_dir}: go on with it by `launch.py train --resume "
            f"{options.run_dir} --num-actors {options.num_actors}`"
        )
    write_order(options.run_dir, order)
    print(json.dumps({"run_dir": str(options.run_dir), "ordered": str(order)}))
    return 0
