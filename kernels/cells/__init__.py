"""Recurrent cores of a policy, as modules over the ops of this package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kernels.cells.block_diagonal.core import BlockDiagonal
from kernels.cells.core import Core, State
from kernels.cells.elstm.core import ELSTM
from kernels.cells.felstm.core import FELSTM
from kernels.cells.indylstm.core import IndyLSTM
from kernels.cells.mingru.core import MinGRU
from kernels.cells.none import Identity
from kernels.cells.recurrent import CellCore
from kernels.cells.rtu.core import LRU, RTU
from kernels.cells.stack import Stack
from kernels.cells.torch_rnn import GRU, LSTM

RTRL_CORES: dict[str, Callable[..., CellCore]] = {
    "elstm": ELSTM,
    "mingru": MinGRU,
    "indylstm": IndyLSTM,
    "rtu": RTU,
    "linear_rtu": partial(RTU, inside=False),
    "lru": LRU,
    "block_diagonal": BlockDiagonal,
}
"""Cores around an element-wise cell, by name: these are trained by exact RTRL, or by TBPTT."""
SNAP1_CORES: dict[str, Callable[..., CellCore]] = {"felstm": FELSTM}
"""Cores with full recurrent matrices: with a trace they are trained by SnAp-1, which is approximate."""


def make_core(name: str, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> Core:
    """The core that `policy.core` names.

    options: of that core's own constructor, such as forget_bias, r_min, activation; TypeError for one that it
    does not have. "none" has no hidden units, and its output is as wide as its input; it has no layers to
    stack: ValueError. A stack of RTRL_CORES is approximate by RTRL (kernels/cells/stack.py)."""
    if make := (RTRL_CORES | SNAP1_CORES).get(name):
        layer = partial(make, hidden_size=hidden_size, **options)
        return layer(input_size) if num_layers == 1 else Stack(input_size, num_layers, layer)
    match name:
        case "none" if num_layers == 1:
            return Identity(input_size, **options)
        case "none":
            raise ValueError(f"num_layers = {num_layers}: without a core there is nothing to stack")
        case "lstm":
            return LSTM(input_size, hidden_size, num_layers, **options)
        case "gru":
            return GRU(input_size, hidden_size, num_layers, **options)
    raise ValueError(f"core = {name!r}: choose one of none, lstm, gru, {', '.join(RTRL_CORES | SNAP1_CORES)}")


__all__ = ["RTRL_CORES", "SNAP1_CORES", "CellCore", "Core", "Stack", "State", "make_core"]
