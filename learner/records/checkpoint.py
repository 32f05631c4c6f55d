"""Checkpoints that survive a kill at any moment, and that are never trusted unchecked.

One checkpoint is one directory under `RUN_DIR/checkpoints`:

    step_000000120000/tensors.safetensors   flat name -> tensor, e.g. `policy/encoder.0.weight`
    step_000000120000/meta.json             counters, names and shapes, sha256 of both files' content

It is written under a temporary name, forced to disk and then renamed, so a directory with a final
name is complete; the checksums catch what the disk does to it later. No pickle: reading a checkpoint
runs no code. `split_state` and `join_state` take nested state, such as an optimizer's, apart into
tensors and JSON and put it together again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import torch as safetensors_torch

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

FORMAT_VERSION = 1
_NAME = re.compile(r"step_(\d{12,})")
_WRITING, _REPLACED = ".tmp-", ".old-"

_log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A checkpoint that could not be written or read. The message names the path and the cause."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that passed its checksums."""

    step: int
    """Agent steps done when it was taken."""
    tensors: dict[str, torch.Tensor]
    """On the CPU, each with memory of its own."""
    meta: dict[str, Json]
    path: Path
    refused: list[str] = dataclasses.field(default_factory=list)
    """Newer checkpoints that `load_latest` passed over: one message each, with path and cause."""


def save(
    folder: Path, step: int, tensors: dict[str, torch.Tensor], meta: dict[str, Json], keep_last: int
) -> Path:
    """Writes a checkpoint, then removes all but the newest `keep_last`. Returns its directory.

    `step` is the newest by definition: checkpoints of later steps belong to a course of the run that
    was abandoned (they were refused when it resumed) and are removed too. One writer at a time.

    Raises CheckpointError if the disk fails; the checkpoints before it are then as they were.
    Raises ValueError if `meta` is not plain JSON.
    """
    assert step >= 0 and keep_last >= 1, f"step {step}, keep_last {keep_last}"
    # Copies: safetensors refuses tensors that share memory, and training may go on in these.
    copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    data = safetensors_torch.save(copies)
    content = {
        "format_version": FORMAT_VERSION,
        "step": step,
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
        "tensors": {name: {"dtype": str(t.dtype), "shape": list(t.shape)} for name, t in copies.items()},
        "meta": meta,
    }
    try:
        text = json.dumps({"content": content, "content_sha256": _digest(content)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"checkpoint meta of step {step} is not plain JSON: {error}") from error

    final = folder / f"step_{step:012d}"
    writing, replaced = folder / (_WRITING + final.name), folder / (_REPLACED + final.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clean(folder)
        writing.mkdir()
        _write(writing / "tensors.safetensors", data)
        _write(writing / "meta.json", text.encode())
        _sync_folder(writing)
        if final.exists():
            os.rename(final, replaced)
        os.rename(writing, final)
        _sync_folder(folder)
        if replaced.exists():
            shutil.rmtree(replaced)
        _prune(folder, step, keep_last)
    except OSError as error:
        shutil.rmtree(writing, ignore_errors=True)  # frees a full disk; what stays, the next save removes
        raise CheckpointError(f"cannot save checkpoint {final}: {error}") from error
    return final


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint directory, unchecked; None if there is none."""
    return next(iter(_newest_first(folder)), None)


def load(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint directory. Raises CheckpointError naming what is wrong."""
    try:
        text = (path / "meta.json").read_bytes()
        data = (path / "tensors.safetensors").read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    try:
        document = json.loads(text)
        content = document["content"]
        intact = document["content_sha256"] == _digest(content)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path}: meta.json is damaged ({error!r})") from error
    if not intact:
        raise CheckpointError(f"checkpoint {path}: meta.json does not match its checksum")
    if content["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {path} has format {content['format_version']}, this version reads {FORMAT_VERSION}"
        )
    if hashlib.sha256(data).hexdigest() != content["tensors_sha256"]:
        raise CheckpointError(f"checkpoint {path}: tensors.safetensors does not match its checksum")
    return Checkpoint(content["step"], safetensors_torch.load(data), content["meta"], path)


def load_latest(folder: Path) -> Checkpoint:
    """The newest checkpoint that passes its checksums. Changes nothing on disk, so that a run can be
    evaluated while it trains. Those passed over are logged as warnings and listed in `refused`.

    Raises CheckpointError if there is none, or none that is intact.
    """
    while True:
        refused: list[str] = []
        for path in _newest_first(folder):
            try:
                checkpoint = load(path)
            except CheckpointError as error:
                if not path.exists():
                    break  # a training process has just pruned or replaced it: look again
                refused.append(str(error))
                continue
            for message in refused:
                _log.warning("%s; using %s instead", message, checkpoint.path.name)
            return dataclasses.replace(checkpoint, refused=refused)
        else:
            if refused:
                raise CheckpointError("no usable checkpoint:\n  " + "\n  ".join(refused))
            raise CheckpointError(f"no checkpoint in {folder}: the run ended before its first save")


def split_state(state: object, prefix: str = "") -> tuple[dict[str, torch.Tensor], Json]:
    """Nested state as (tensors by flat name, which `prefix` begins, and JSON that refers to them).

    Takes dicts with str or int keys, lists, tuples, tensors, NumPy arrays, and JSON scalars.
    Raises TypeError naming the place of anything else.
    """
    tensors: dict[str, torch.Tensor] = {}

    def keep(name: str, tensor: torch.Tensor) -> str:
        if name in tensors:
            raise ValueError(f"two tensors of the state are both called {name}: rename a key that holds '/'")
        tensors[name] = tensor
        return name

    def encode(value: Any, name: str) -> Json:
        if isinstance(value, torch.Tensor):
            return {"tensor": keep(name, value)}
        if isinstance(value, np.ndarray):
            return {"array": keep(name, torch.from_numpy(value.copy()))}
        below = f"{name}/" if name else ""
        if isinstance(value, dict):
            if not all(type(key) in (str, int) for key in value):
                raise TypeError(f"state {name} has a key that is neither str nor int")
            return {"dict": [[key, encode(item, f"{below}{key}")] for key, item in value.items()]}
        if type(value) in (list, tuple):
            items: list[Json] = [encode(item, f"{below}{index}") for index, item in enumerate(value)]
            return items if type(value) is list else {"tuple": items}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"state {name} is a {type(value).__name__}, which a checkpoint cannot hold")

    return tensors, encode(state, prefix)


def join_state(skeleton: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The state that `split_state` took apart. Raises CheckpointError if a tensor of it is missing."""
    if isinstance(skeleton, list):
        return [join_state(item, tensors) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, value),) = skeleton.items()
    if kind == "dict":
        return {key: join_state(item, tensors) for key, item in value}
    if kind == "tuple":
        return tuple(join_state(item, tensors) for item in value)
    if value not in tensors:
        raise CheckpointError(f"the checkpoint holds no tensor {value}, which its state refers to")
    return tensors[value] if kind == "tensor" else tensors[value].numpy()


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Forces the names in `folder` to disk; without it a rename may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _newest_first(folder: Path) -> list[Path]:
    """Complete checkpoints; one that was being replaced when the writer died counts under its old name."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob(_REPLACED + "step_*")) + sorted(folder.glob("step_*")):
        match = _NAME.fullmatch(path.name.removeprefix(_REPLACED))
        if match:
            found[int(match[1])] = path
    return [found[step] for step in sorted(found, reverse=True)]


def _clean(folder: Path) -> None:
    """Removes what a killed save left behind, and puts back what it had only half replaced."""
    for path in folder.glob(_REPLACED + "step_*"):
        final = folder / path.name.removeprefix(_REPLACED)
        if final.exists():
            shutil.rmtree(path)
        else:
            os.rename(path, final)
    for path in folder.glob(_WRITING + "step_*"):
        shutil.rmtree(path)


def _prune(folder: Path, step: int, keep_last: int) -> None:
    kept = 0
    for path in _newest_first(folder):
        later = int(path.name.removeprefix("step_")) > step
        kept += not later
        if later or kept > keep_last:
            doomed = folder / (_WRITING + path.name)  # a half-deleted directory never has a final name
            os.rename(path, doomed)
            shutil.rmtree(doomed)
