"""Checkpoints that survive a kill at any moment, and that are never trusted unchecked.

One checkpoint is one directory under `RUN_DIR/checkpoints`:

    step_000000120000/tensors.safetensors   flat name -> tensor, e.g. `policy/encoder.0.weight`
    step_000000120000/meta.json             counters, names and shapes, sha256 of both files' content

It is written under a temporary name, forced to disk and then renamed, so a directory with a final
name is complete; the checksums catch what the disk does to it later. No pickle: reading a checkpoint
runs no code. learner/records/state.py takes nested state apart into what a checkpoint holds.
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

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

FORMAT_VERSION = 1
_NAME = re.compile(r"step_(\d{12,})")
_WRITING, _REPLACED = ".tmp-", ".old-"

_log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A checkpoint that could not be written or read. The message names the path and the cause."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that was read and is not what was written: cut short, altered, a file of it gone.

    One that could not be read (a disk or a server that does not answer, a permission, another format) may be
    intact, and is no DamagedCheckpointError.
    """


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


def steps(folder: Path) -> dict[int, Path]:
    """Complete checkpoint directories by their step, unchecked. One that was being replaced when the writer
    died counts under its old name.

    Raises CheckpointError if the folder cannot be read.
    """
    try:
        names = os.listdir(folder)  # Path.glob takes a folder that it may not read for an empty one
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CheckpointError(_unreadable(folder, error)) from error
    found: dict[int, Path] = {}
    for name in sorted(names):  # .old-step_* before step_*, which replaced it
        if match := _NAME.fullmatch(name.removeprefix(_REPLACED)):
            found[int(match[1])] = folder / name
    return found


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint directory, unchecked; None if there is none.

    Raises CheckpointError if the folder cannot be read.
    """
    return next(iter(_newest_first(folder)), None)


def load(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint directory.

    Raises DamagedCheckpointError naming what is wrong with it; CheckpointError if it cannot be read.
    """
    text, data = _read(path / "meta.json"), _read(path / "tensors.safetensors")
    try:
        document = json.loads(text)
        content = document["content"]
        intact = document["content_sha256"] == _digest(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"checkpoint {path}: meta.json is damaged ({error!r})") from error
    if not intact:
        raise DamagedCheckpointError(f"checkpoint {path}: meta.json does not match its checksum")
    _check(path, content)
    if hashlib.sha256(data).hexdigest() != content["tensors_sha256"]:
        raise DamagedCheckpointError(f"checkpoint {path}: tensors.safetensors does not match its checksum")
    try:
        tensors = safetensors_torch.load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch has not
        raise DamagedCheckpointError(
            f"checkpoint {path}: tensors.safetensors is damaged ({error})"
        ) from error
    return Checkpoint(content["step"], tensors, content["meta"], path)


def load_latest(folder: Path) -> Checkpoint:
    """The newest checkpoint that is not damaged. Changes nothing on disk, so that a run can be evaluated
    while it trains. Those passed over are logged as warnings and listed in `refused`.

    Raises CheckpointError if there is none, if all are damaged, or if one cannot be read: that one may be
    intact, and a run that went on from an older one would remove it.
    """
    while True:
        refused: list[str] = []
        for path in _newest_first(folder):
            try:
                checkpoint = load(path)
            except CheckpointError as error:
                if path not in _newest_first(folder):
                    break  # a training process has just pruned or replaced it: look again
                if not isinstance(error, DamagedCheckpointError):
                    raise
                refused.append(str(error))
                continue
            for message in refused:
                _log.warning("%s; using %s instead", message, checkpoint.path.name)
            return dataclasses.replace(checkpoint, refused=refused)
        else:
            if refused:
                raise DamagedCheckpointError("no usable checkpoint:\n  " + "\n  ".join(refused))
            raise CheckpointError(f"no checkpoint in {folder}: the run ended before its first save")


def _check(path: Path, content: Any) -> None:
    """A checksum says that nothing was altered by chance; not that it was written by `save`."""
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is int and version != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {path} has format {version}, this version reads {FORMAT_VERSION}: "
            "use the version of the code that wrote it"
        )
    wrong = [
        name
        for name, kind in {"format_version": int, "step": int, "tensors_sha256": str, "meta": dict}.items()
        if not isinstance(content, dict) or type(content.get(name)) is not kind
    ]
    if wrong or content["step"] < 0:
        raise DamagedCheckpointError(f"checkpoint {path}: meta.json has no sound {(*wrong, 'step')[0]}")


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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"checkpoint {path.parent}: {path.name} is missing") from error
    except OSError as error:
        raise CheckpointError(_unreadable(path.parent, error)) from error


def _unreadable(path: Path, error: OSError) -> str:
    return (
        f"{path} cannot be read: {error}. It may be intact, so that nothing older is taken for it and "
        "nothing was changed: try again when its disk answers, or move it out of its folder"
    )


def _newest_first(folder: Path) -> list[Path]:
    found = steps(folder)
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
