"""The eLSTM core with exact real-time recurrent learning (RTRL).

Irie, Gopalakrishnan, Schmidhuber, "Exploring the Promise and Limits of Real-Time Recurrent
Learning", ICLR 2024 (arXiv 2305.19044), equations 5 to 7. The chunked form is derived in README.md.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kernels.elstm.chunked import elstm_chunked
from kernels.elstm.contract import ELSTMTrace, check_arguments
from kernels.elstm.reference import elstm_reference

Backend = Literal["auto", "reference", "chunked"]

_BACKENDS = {"auto": elstm_chunked, "reference": elstm_reference, "chunked": elstm_chunked}


def elstm(
    x: Tensor,
    W_z: Tensor,
    W_f: Tensor,
    w_z: Tensor,
    w_f: Tensor,
    b_z: Tensor,
    b_f: Tensor,
    c_0: Tensor,
    reset: Tensor,
    trace: ELSTMTrace | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, ELSTMTrace | None]:
    """Runs the eLSTM over a chunk of T steps.

    x [T, B, D], W_z and W_f [N, D], w_z, w_f, b_z and b_f [N], c_0 [B, N] (before x[0]) in float32 or
    float64; reset [T, B] bool: where set, state and trace are zeroed before x[t] is consumed.

    trace: None trains by truncated BPTT, and None comes back. With the sensitivities before x[0] the
    weight gradients are those of exact RTRL: the gradient of every loss on this chunk's states reaches
    back through the whole stream, as long as the weights that built the trace are the present ones.
    The gradients of x and c_0 stay inside the chunk.

    Returns the states c [T, B, N] and a new trace, the one after x[T-1]; the trace handed in is left as
    it is. Differentiable once in x, the weights and c_0, not in the trace.

    Raises ValueError, naming the argument, for a wrong shape, dtype or device.
    """
    if backend not in _BACKENDS:
        raise ValueError(f"backend = {backend!r}: choose one of {', '.join(map(repr, _BACKENDS))}")
    check_arguments(x, W_z, W_f, w_z, w_f, b_z, b_f, c_0, reset, trace)
    return _BACKENDS[backend](x, W_z, W_f, w_z, w_f, b_z, b_f, c_0, reset, trace)


__all__ = ["Backend", "ELSTMTrace", "elstm"]
