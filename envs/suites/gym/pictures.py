"""What `render()` returned, as a picture for people: Gymnasium holds no environment to a form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.spec import EnvError


def as_picture(env_id: str, drawn: Any) -> NDArray[np.uint8]:
    """[H, W, 3], 0 to 255, of grey [H, W] or [H, W, 1], of colours, and of colours with opacity [H, W, 4],
    which is left out; of integers 0 to 255, floats 0 to 1, or bools.

    Raises EnvError, which says what came, for anything else.
    """
    if drawn is None:
        raise _refused(env_id, "None: its render() draws nothing")
    try:
        picture = np.asarray(drawn)
    except ValueError as error:  # a list of pictures that differ in size
        raise _refused(env_id, f"{type(drawn).__name__}, which is no array ({error})") from error
    if picture.ndim == 2:
        picture = picture[:, :, None]
    kind, shape = picture.dtype.kind, picture.shape
    if kind not in "buif" or len(shape) != 3 or shape[2] not in (1, 3, 4) or 0 in shape:
        raise _refused(env_id, f"{picture.dtype}{list(np.shape(drawn))}")
    most = 1 if kind in "bf" else 255
    low, high = picture.min(), picture.max()
    if not (low >= 0 and high <= most):  # also where one is NaN
        raise _refused(env_id, f"{picture.dtype}{list(np.shape(drawn))} from {low:g} to {high:g}")
    if most == 1:
        picture = np.rint(picture.astype(np.float32) * 255)
    colours = picture[:, :, :3].astype(np.uint8)
    return np.repeat(colours, 3, axis=2) if shape[2] == 1 else np.ascontiguousarray(colours)


def _refused(env_id: str, found: str) -> EnvError:
    return EnvError(
        f"env.id = {env_id!r} draws {found}; expected [H, W, 3], [H, W, 4], [H, W, 1] or [H, W], "
        "integers 0 to 255 or floats 0 to 1. Add --observation to draw what the policy sees"
    )
