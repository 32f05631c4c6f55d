"""The sensitivities of a cell's state, one row a stream; and rows of a bank that backward advances in
place."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kernels.rtrl.cell import Cell
from kernels.trace import check_rows

ALIGN = 16
"""Inputs of a trace's row are padded to a multiple of this, so that every row begins on 16 bytes, whatever
D."""


class Trace(NamedTuple):
    """dh/dtheta of all units. Rows are independent: a bank of traces is this same class, a row a stream."""

    matrices: Tensor
    """[rows, K', d, N, D']: d h[i, n] / d W^k[n, :], of the matrices whose traces are stored; zero past D."""
    vectors: Tensor
    """[rows, V, d, N]: d h[i, n] / d psi^m[n]."""

    @classmethod
    def zeros(
        cls,
        cell: Cell,
        rows: int,
        hidden: int,
        input: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        matrix_dtype: torch.dtype | None = None,
    ) -> Trace:
        """The trace of `rows` streams at the start of an episode, `hidden` units that read `input` numbers.

        matrix_dtype: of the matrices, if other than `dtype`; torch.bfloat16 halves a bank's memory.
        """
        padded = -(-input // ALIGN) * ALIGN
        stored = cell.stored or len(cell.gates)
        return cls(
            torch.zeros(rows, stored, cell.d, hidden, padded, device=device, dtype=matrix_dtype or dtype),
            torch.zeros(rows, len(cell.vectors), cell.d, hidden, device=device, dtype=dtype),
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Trace:
        return Trace(*(function(tensor) for tensor in self))


@dataclass(frozen=True, slots=True)
class FixedTrace:
    """The sensitivities before a chunk that is learned from and left: its boundary term is taken from them,
    and nothing is advanced, which saves a batched GEMM. For a chunk that is gone over several times."""

    trace: Trace


# For each bank (its matrices): rows whose forward ran and whose backward has not.
_AWAITED: MutableMapping[Tensor, set[int]] = WeakTensorKeyDictionary()


class BankedTrace:
    """The rows of a bank that belong to the columns of one batch, for one forward and one backward.

    The forward only reads the rows. Its backward takes the boundary term from them and advances them in
    place, each in one visit. A ticket is good for one such pair; make a new one for each batch:

        h, _ = rtrl_scan(cell, x, ..., trace=BankedTrace(bank, rows))
        loss(h).backward()

    Raises RuntimeError where a pair is broken, before any row is touched: for a backward that runs twice,
    and for a forward over rows that still wait for the backward of an earlier one (`abandon` frees them).
    The bank must not be written to between forward and backward; autograd refuses the backward if it was.
    """

    def __init__(self, bank: Trace, rows: Tensor) -> None:
        """bank: contiguous; its matrices may be bfloat16.

        rows: int64 [B], none twice. Checked on the host: best a CPU tensor, which is then copied once.
        """
        self._numbers = check_rows(rows, bank.matrices.shape[0])
        self.bank = bank
        self.rows = rows
        self._stage: Literal["fresh", "awaited", "advanced", "abandoned"] = "fresh"

    def __len__(self) -> int:
        return self.rows.shape[0]

    def gather(self) -> Trace:
        """A copy of the rows, in the batch's order."""
        return self.bank.map(lambda s: s[self.rows_on(s.device)])

    def abandon(self) -> None:
        """Frees rows whose backward will not run. They miss this chunk: their histories are broken."""
        if self._stage == "awaited":
            self._stage = "abandoned"
            self._free()

    def rows_on(self, device: torch.device) -> Tensor:
        return self.rows.to(device, non_blocking=True)

    def check_fresh(self, differentiate: bool) -> None:
        """Before the forward. torch.compile traces no such bookkeeping: compiled code goes unguarded."""
        if torch.compiler.is_compiling():
            return
        if not differentiate:
            raise ValueError(
                "trace is a BankedTrace, which backward advances, but nothing here requires grad: "
                "pass trace.gather() and take the trace that comes back"
            )
        if self._stage != "fresh":
            raise RuntimeError("this BankedTrace has served a forward already: make a new one for each batch")
        awaited = _AWAITED.get(self.bank.matrices, set()).intersection(self._numbers)
        if awaited:
            raise RuntimeError(
                f"rows {sorted(awaited)} of the bank wait for the backward of an earlier forward: run it, or "
                "call abandon() on that BankedTrace, and zero the rows, whose histories it breaks"
            )

    def await_backward(self, h: Tensor) -> None:
        """After the forward: the rows wait until the backward of h has run."""
        if torch.compiler.is_compiling():
            return
        node = h.grad_fn
        assert node is not None
        self._stage = "awaited"
        _AWAITED.setdefault(self.bank.matrices, set()).update(self._numbers)
        node.register_prehook(self._before_backward)
        node.register_hook(self._after_backward)

    def _before_backward(self, gradients: object) -> None:
        if self._stage != "awaited":
            raise RuntimeError(
                f"backward over a BankedTrace that was {self._stage}: it runs once, since the boundary term "
                "needs the trace from before it. Run the forward again, with a new BankedTrace"
            )

    def _after_backward(self, gradients: object, outputs: object) -> None:
        self._stage = "advanced"
        self._free()

    def _free(self) -> None:
        _AWAITED[self.bank.matrices].difference_update(self._numbers)
