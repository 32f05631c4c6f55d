"""A stack of frames travels once: frame by frame on the wire, and stacked again where it is read.

    acting    the env's stacks [E, S c, H, W]         x_t = frames t-S+1 .. t, of this game alone, else zeros
    wire      frames [S-1 + T+1, E, c, H, W]          those of x_0, then the newest of x_1 .. x_T;
              game_over [T+1, E]                      after which no older frame is shown
    learning  stacks [T+1, B, S c, H, W]              channels last, as the convolutions take them

1 / S of the bytes, and S - 1 frames. S is `EnvSpec.frames_stacked`, which promises the first line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.rollout import Rollout, map_observation


def oldest_first(stack: NDArray[Any], frames: int) -> NDArray[Any]:
    """[E, S c, H, W] as its S = `frames` frames, [S, E, c, H, W]; a view."""
    E, channels, *size = stack.shape
    return np.moveaxis(stack.reshape(E, frames, channels // frames, *size), 1, 0)


def stack_frames(frames: Tensor, game_over: Tensor, out: Tensor | None = None) -> Tensor:
    """frames [S-1 + T+1, B, c, H, W], game_over [T+1, B] bool -> [T+1, B, S c, H, W], on their device.

    `out`: where it is written, as an earlier call returned it.
    """
    steps, B, c, H, W = len(game_over), *frames.shape[1:]
    S = len(frames) - steps + 1
    if out is None:
        out = frames.new_empty(steps, B, H, W, S * c).movedim(-1, 2)
    of_earlier_game = torch.zeros_like(game_over)
    """Whether the frame that is `age` steps old belongs to a game before that of the observation."""
    for age in range(S):
        frame = frames[S - 1 - age : S - 1 - age + steps]
        if age:
            of_earlier_game[age:] |= game_over[:-age]
            frame = frame.masked_fill(of_earlier_game[:, :, None, None, None], 0)
        out[:, :, (S - 1 - age) * c : (S - age) * c] = frame
    return out


def observations(rollout: Rollout) -> Any:
    """[T+1, E, ...] as `EnvSpec` says: tensors of what the policy saw in it."""
    tensors = map_observation(torch.from_numpy, rollout.observation)
    if rollout.game_over is None:
        return tensors
    return stack_frames(tensors, torch.from_numpy(rollout.game_over))
