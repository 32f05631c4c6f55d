"""Recurrent cores of a policy, as modules over the ops of this package."""

from __future__ import annotations

from kernels.cells.core import Core, State
from kernels.cells.elstm import ELSTM
from kernels.cells.lstm import LSTM
from kernels.cells.none import Identity
from kernels.cells.stack import ELSTMStack


def make_core(
    name: str, input_size: int, hidden_size: int, forget_bias: float = 0.0, num_layers: int = 1
) -> Core:
    """The core that `policy.core` names: "none", "lstm" or "elstm".

    forget_bias is added to the start value of the forget gate's bias; ValueError if set for "none", which
    has no gate and no hidden units, and whose output is as wide as its input. num_layers above 1 stacks
    eLSTMs, whose RTRL is then approximate (kernels/cells/stack.py); ValueError for another core.
    """
    if num_layers != 1 and name != "elstm":
        raise ValueError(f"num_layers = {num_layers}: only the core 'elstm' stacks, not {name!r}")
    match name:
        case "none" if forget_bias != 0.0:
            raise ValueError(
                f"forget_bias = {forget_bias}: the core 'none' has no forget gate, leave it at 0"
            )
        case "none":
            return Identity(input_size)
        case "lstm":
            return LSTM(input_size, hidden_size, forget_bias)
        case "elstm" if num_layers != 1:
            return ELSTMStack(input_size, hidden_size, num_layers, forget_bias)
        case "elstm":
            return ELSTM(input_size, hidden_size, forget_bias)
    raise ValueError(f"core = {name!r}: choose one of 'none', 'lstm', 'elstm'")


__all__ = ["ELSTM", "LSTM", "Core", "ELSTMStack", "Identity", "State", "make_core"]
