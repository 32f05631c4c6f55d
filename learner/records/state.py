"""Nested state, such as an optimizer's, taken apart into tensors and JSON, and put together again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.schema import ConfigError
from learner.records.checkpoint import CheckpointError, Json


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
    """The state that `split_state` took apart. Raises CheckpointError if a tensor of it is missing, or if it
    was put together otherwise."""
    try:
        return _join(skeleton, tensors)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"the checkpoint's state was not written by a run: {error}") from error


def _join(skeleton: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(skeleton, list):
        return [_join(item, tensors) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, value),) = skeleton.items()
    if kind == "dict":
        if not all(type(key) in (str, int) for key, _ in value):
            raise ValueError("a key is neither str nor int")
        return {key: _join(item, tensors) for key, item in value}
    if kind == "tuple":
        return tuple(_join(list(value), tensors))
    if kind not in ("tensor", "array"):
        raise ValueError(f"{kind!r} is no kind of state")
    if value not in tensors:
        raise CheckpointError(f"the checkpoint holds no tensor {value}, which its state refers to")
    return tensors[value] if kind == "tensor" else tensors[value].numpy()


def fill(tensor: torch.Tensor, saved: torch.Tensor) -> None:
    """Copies `saved` into `tensor`. Raises ValueError for another shape, which torch would spread over it."""
    if tensor.shape != saved.shape:
        raise ValueError(f"{list(saved.shape)} was saved of what is {list(tensor.shape)} here")
    tensor.copy_(saved)


@contextmanager
def taking_up(path: Path) -> Iterator[None]:
    """Within it the state of a checkpoint of the run at `path` is taken up, by those whose it is.

    Raises CheckpointError for whatever they found wrong: a state that lacks what they look for, or has
    something else there.
    """
    try:
        yield
    except (ConfigError, CheckpointError):
        raise
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"the state in the checkpoint of {path} is not one that this version of the code writes "
            f"({error!r}): go on with the version that wrote it, which starts.jsonl names, or move the "
            "checkpoint out of its folder and go on from an older one"
        ) from error
