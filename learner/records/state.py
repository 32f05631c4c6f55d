"""Nested state, such as an optimizer's, taken apart into tensors and JSON, and put together again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

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
