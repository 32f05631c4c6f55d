"""Reads the history back out of a W&B run file, so that tests can look at what W&B was really given.

A run file is a 7-byte header (`:W&B`, a magic number, a version) and then the log format of LevelDB:
blocks of 32 KiB that hold chunks of crc32 (4 bytes), length (2), kind (1) and data. A record that does
not fit a block is cut into a first, middle and last chunk.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
HEADER = struct.Struct("<4sHB")
CHUNK = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path: Path) -> Iterator[Any]:
    """Yields each `Record` protobuf of the file. Raises ValueError where the format is broken."""
    data = path.read_bytes()
    if HEADER.unpack_from(data) != (b":W&B", 0xBEE1, 0):
        raise ValueError(f"{path} is not a W&B run file")
    position, parts = HEADER.size, b""
    while position + CHUNK.size <= len(data):
        room = BLOCK - position % BLOCK
        if room < CHUNK.size:
            position += room
            continue
        crc, length, kind = CHUNK.unpack_from(data, position)
        chunk = data[position + CHUNK.size : position + CHUNK.size + length]
        if kind not in (FULL, FIRST, MIDDLE, LAST) or zlib.crc32(bytes([kind]) + chunk) != crc:
            raise ValueError(f"{path}: broken chunk at byte {position}")
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        position += CHUNK.size + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()  # pyright: ignore[reportAttributeAccessIssue]
            record.ParseFromString(parts)
            yield record


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows that were logged, oldest first; W&B's own columns begin with an underscore."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in read_records(path)
        if record.WhichOneof("record_type") == "history"
    ]


def run_files(run_dir: Path) -> list[Path]:
    """The W&B run files under a run directory, oldest first."""
    return sorted(run_dir.glob("wandb/*run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)
