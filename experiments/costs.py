"""What a core costs: its parameters, and the floating-point operations of one agent step of learning.

Operations are those of matrix products, forward and backward, two for each multiplication; work that grows
with the number of units alone (activations, the scans over time) is left out, and so is all outside the core.
Of an element-wise cell with N units, D inputs, K matrices and d numbers a unit, of which `stored` traces are
kept, in unrolls of T steps (exact RTRL is TBPTT, one batched product that advances the trace, and one
contraction with it an unroll):

    forward, weight gradient    2 K N D each            readout, output gate    2 in out, three times
    RTRL: advance of the trace  2 d stored N D          boundary term           2 d K N D / T

The inputs are data here: no gradient flows into them. Textbook RTRL, a step at a time, has the same count at
T = 1.
"""

from __future__ import annotations

from configs.core import carries_traces
from kernels.cells import CellCore, make_core
from kernels.cells.core import Core
from kernels.cells.torch_rnn import TorchRNN


def parameters(core: Core) -> int:
    return sum(parameter.numel() for parameter in core.parameters())


def operations(core: Core, credit: str, unroll: int) -> float:
    """Of one agent step; `credit` as in the config. Raises TypeError for a core of another kind."""
    if isinstance(core, TorchRNN):  # the recurrent matrices hand a gradient on to the state
        sizes = {name: p.numel() for name, p in core.named_parameters() if p.ndim == 2}
        return float(sum(size * (6 if "weight_hh" in name else 4) for name, size in sizes.items()))
    if not isinstance(core, CellCore) or not core.supports_rtrl:
        raise TypeError(f"{type(core).__name__}: only element-wise cells, gru and lstm are counted")
    cell = core.cell
    matrix = core.num_units * core.input_size
    recurrent = {id(parameter) for parameter in core.recurrent_parameters()}
    readout = sum(p.numel() for p in core.parameters() if p.ndim == 2 and id(p) not in recurrent)
    total = 4.0 * len(cell.gates) * matrix + 6.0 * readout
    if carries_traces(credit):
        stored = cell.stored or len(cell.gates)
        total += 2.0 * cell.d * stored * matrix + 2.0 * cell.d * len(cell.gates) * matrix / unroll
    return total


def size_of(name: str, inputs: int, target: float, credit: str = "", unroll: int = 1) -> int:
    """The hidden_size whose parameters, or operations where `credit` is given, are nearest to `target`."""

    def cost(hidden_size: int) -> float:
        core = make_core(name, inputs, hidden_size)
        return operations(core, credit, unroll) if credit else parameters(core)

    return min(range(1, 200), key=lambda size: abs(cost(size) - target))
