"""Snapshots of any arrays, as the learner would publish them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.weights import Place, WeightSnapshot


def snapshot_of(version: int, arrays: Mapping[str, NDArray[Any]]) -> WeightSnapshot:
    parts: dict[str, list[NDArray[Any]]] = {}
    places: dict[str, Place] = {}
    for name, array in arrays.items():
        before = parts.setdefault(str(array.dtype), [])
        places[name] = Place(str(array.dtype), sum(map(len, before)), array.shape)
        before.append(array.reshape(-1))
    flat = {dtype: np.concatenate(some) for dtype, some in parts.items()}
    for array in flat.values():
        array.setflags(write=False)  # as Ray hands them out
    return WeightSnapshot(version, flat, places)
