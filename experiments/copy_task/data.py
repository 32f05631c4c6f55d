"""The data of the copy task (the paper's section 4.1), and of two tasks beside it.

    copying     input    1 0 1 1 _ _ _ _ _ _      s bits, then blanks
                target   . . . . 1 0 1 1 . .      the bits again; `.` is not scored
    delayed     input    1 0 _ _ _ > _            k bits, blanks, the sign to recall
                target   . . . . . 1 0            each bit, the same number of steps after it was read
    counting    input    1 0 1 1 _ _ _ _ _ _
                target   _ _ _ _ 1 . 1 1 _ _      as the paper's authors released it

The authors' loader numbers target symbols by first appearance and ignores number 2, which is one of the
two bits: as released, whoever counts the bits scores 100 % and need not remember one (`counting`). In the
others the vocabulary is fixed, what is not scored has an index of its own, and every bit counts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLANK, RECALL = 2, 3
SYMBOLS = 4
"""0, 1, BLANK, and the sign to recall."""
NOT_SCORED = -100


class CopyBatch(NamedTuple):
    inputs: Tensor
    """[T, B] int64 in {0, 1, BLANK, RECALL}."""
    targets: Tensor
    """[T, B] int64 in {0, 1, BLANK}, or NOT_SCORED."""


def copying(batch: int, min_length: int, max_length: int, generator: torch.Generator) -> CopyBatch:
    """Uniformly random bits, of lengths uniform in min_length..max_length (the paper: 1..L). T is twice
    max_length. Raises ValueError for lengths that are none."""
    if not 1 <= min_length <= max_length:
        raise ValueError(f"lengths {min_length} to {max_length}: give 1 <= min_length <= max_length")
    lengths = torch.randint(min_length, max_length + 1, (batch,), generator=generator)
    bits = torch.randint(0, 2, (max_length, batch), generator=generator)
    steps = torch.arange(2 * max_length).unsqueeze(1)
    nothing = bits.new_zeros(max_length, batch)
    inputs = torch.cat([bits, nothing]).where(steps < lengths, BLANK)
    recalled = torch.cat([bits, nothing]).gather(0, (steps - lengths).clamp(min=0))
    targets = recalled.where((steps >= lengths) & (steps < 2 * lengths), NOT_SCORED)
    return CopyBatch(inputs, targets)


def counting(batch: int, min_length: int, max_length: int, generator: torch.Generator) -> CopyBatch:
    """The same sequences with the targets of the authors' loader. A sequence of s bits ends after step
    s + max_length; up to there blanks are scored, and of the recalled bits the ones."""
    inputs, recalled = copying(batch, min_length, max_length, generator)
    lengths = (inputs != BLANK).sum(dim=0)
    inside = torch.arange(2 * max_length).unsqueeze(1) < lengths + max_length
    targets = recalled.where(recalled != NOT_SCORED, BLANK)
    return CopyBatch(inputs, targets.where(inside & (recalled != 0), NOT_SCORED))


def delayed(batch: int, bits: int, distance: int, generator: torch.Generator) -> CopyBatch:
    """`bits` uniformly random bits, each to be recalled `distance` steps after it was read. T is the sum of
    the two. Raises ValueError if a bit would have to be recalled before the last was read."""
    if not 1 <= bits <= distance:
        raise ValueError(f"{bits} bits at a distance of {distance}: give 1 <= bits <= distance")
    drawn = torch.randint(0, 2, (bits, batch), generator=generator)
    inputs, targets = drawn.new_full((2, distance + bits, batch), BLANK)
    inputs[:bits], inputs[distance] = drawn, RECALL
    targets[:distance], targets[distance:] = NOT_SCORED, drawn
    return CopyBatch(inputs, targets)
