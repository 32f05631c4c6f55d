"""Rows of a trace bank, advanced in place by backward, and the guards that this needs."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Literal

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kernels.elstm.contract import ELSTMTrace
from kernels.trace import check_rows

# For each bank (its W_z): rows whose forward ran and whose backward has not.
_AWAITED: MutableMapping[Tensor, set[int]] = WeakTensorKeyDictionary()


class BankedTrace:
    """The rows of a bank that belong to the columns of one batch, for one forward and one backward.

    The forward of `elstm` only reads the rows. Its backward takes the boundary term from them and advances
    them in place, each in one visit. A ticket is good for one such pair; make a new one for each batch:

        c, _ = elstm(x, ..., trace=BankedTrace(bank, rows))
        loss(c).backward()

    Raises RuntimeError where a pair is broken, before any row is touched: for a backward that runs twice,
    and for a forward over rows that still wait for the backward of an earlier one (`abandon` frees them).
    The bank must not be written to between forward and backward; autograd refuses the backward if it was.
    """

    def __init__(self, bank: ELSTMTrace, rows: Tensor) -> None:
        """bank: W_z and W_f [rows, N, D] (bfloat16 is allowed), vectors [rows, N]; contiguous.

        rows: int64 [B], none twice. Checked on the host: best a CPU tensor, which is then copied once.
        """
        self._numbers = check_rows(rows, bank.W_z.shape[0])
        self.bank = bank
        self.rows = rows
        self._stage: Literal["fresh", "awaited", "advanced", "abandoned"] = "fresh"

    def __len__(self) -> int:
        return self.rows.shape[0]

    def gather(self) -> ELSTMTrace:
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
        awaited = _AWAITED.get(self.bank.W_z, set()).intersection(self._numbers)
        if awaited:
            raise RuntimeError(
                f"rows {sorted(awaited)} of the bank wait for the backward of an earlier forward: run it, or "
                "call abandon() on that BankedTrace, and zero the rows, whose histories it breaks"
            )

    def await_backward(self, c: Tensor) -> None:
        """After the forward: the rows wait until the backward of c has run."""
        if torch.compiler.is_compiling():
            return
        node = c.grad_fn
        assert node is not None
        self._stage = "awaited"
        _AWAITED.setdefault(self.bank.W_z, set()).update(self._numbers)
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
        _AWAITED[self.bank.W_z].difference_update(self._numbers)
