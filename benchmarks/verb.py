"""What every verb of `launch.py bench` has: its options and its end."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from benchmarks.machine import header
from benchmarks.pairs import PAIRS
from configs.error import require
from configs.paths import new_file_argument


def parser(verb: str, doc: str | None) -> argparse.ArgumentParser:
    """With `--json`; the first line of `doc` says what is measured."""
    made = argparse.ArgumentParser(
        prog=f"launch.py bench {verb}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", type=new_file_argument, help="also write the result to this file")
    return made


def with_pairs(made: argparse.ArgumentParser, seconds: float) -> argparse.ArgumentParser:
    """With `--pairs` of measurements, each of `--seconds`."""
    made.add_argument("--pairs", type=int, default=PAIRS, help=f"measurements of each ({PAIRS})")
    made.add_argument("--seconds", type=float, default=seconds, help=f"of one measurement ({seconds:g})")
    return made


def asked(made: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Raises ConfigError for numbers that are not positive."""
    options = made.parse_args(arguments)
    for name in ("pairs", "seconds"):
        value = getattr(options, name, 1)
        require(0 < value < math.inf, f"--{name}", value, "must be positive, and finite")
    return options


def save(file: Path | None, result: dict[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps({"machine": header()} | result, indent=2) + "\n", encoding="utf-8")
