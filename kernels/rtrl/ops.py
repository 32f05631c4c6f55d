"""A cell's chunk as torch.library ops: autograd, torch.compile and CUDA graphs see four opaque calls.

    rtrl_forward(..., trace, rows) -> h, u, extra      differentiable; its backward calls one of
        rtrl_backward(..., trace)                      TBPTT, or RTRL from gathered traces
        rtrl_backward_(..., bank, rows)                RTRL, advancing rows of the bank in place
    rtrl_advance(..., trace) -> trace                  gathered traces after the chunk

`cell` is a name of `kernels.rtrl.cell.CELLS`; `backend` names the module that computes: "chunked" or
"triton"."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kernels.rtrl import chunked
from kernels.rtrl.cell import CELLS

_STATES = "Tensor h, Tensor h_0, Tensor reset, Tensor u, Tensor extra"
_SAVED = f"Tensor x, Tensor W, Tensor psi, {_STATES}"
_NAMES = "str cell, str backend"
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
_GRADIENTS = "(Tensor, Tensor, Tensor, Tensor)"


def _module(backend: str) -> ModuleType:
    if backend == "triton":
        from kernels.rtrl import triton

        return triton
    assert backend == "chunked", backend
    return chunked


@torch.library.custom_op(
    "evertrace::rtrl_forward",
    mutates_args=(),
    schema="(Tensor x, Tensor W, Tensor psi, Tensor h_0, Tensor reset, Tensor[] trace, Tensor? rows, "
    f"bool derivatives, {_NAMES}) -> (Tensor, Tensor, Tensor)",
)
def rtrl_forward(
    x: Tensor,
    W: Tensor,
    psi: Tensor,
    h_0: Tensor,
    reset: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    derivatives: bool,
    cell: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return _module(backend).forward(CELLS[cell], x, W, psi, h_0, reset, derivatives)


@rtrl_forward.register_fake
def _(
    x: Tensor,
    W: Tensor,
    psi: Tensor,
    h_0: Tensor,
    reset: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    derivatives: bool,
    cell: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    T, B, _ = x.shape
    K, N, _ = W.shape
    kind = CELLS[cell]
    extra = x.new_empty(T if derivatives else 0, B, kind.extra, N)
    return x.new_empty(T, B, kind.d, N), x.new_empty(T, B, K, N), extra


@torch.library.custom_op(
    "evertrace::rtrl_backward",
    mutates_args=(),
    schema=f"(Tensor e, {_SAVED}, Tensor[] trace, bool need_x, {_NAMES}) -> {_GRADIENTS}",
)
def rtrl_backward(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    trace: list[Tensor],
    need_x: bool,
    cell: str,
    backend: str,
) -> Gradients:
    return _module(backend).backward(CELLS[cell], e, x, W, psi, h, h_0, reset, u, extra, trace, None, need_x)


@torch.library.custom_op(
    "evertrace::rtrl_backward_",
    mutates_args=("bank",),
    schema=f"(Tensor e, {_SAVED}, Tensor(a!)[] bank, Tensor rows, bool need_x, {_NAMES}) -> {_GRADIENTS}",
)
def rtrl_backward_(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    bank: list[Tensor],
    rows: Tensor,
    need_x: bool,
    cell: str,
    backend: str,
) -> Gradients:
    return _module(backend).backward(CELLS[cell], e, x, W, psi, h, h_0, reset, u, extra, bank, rows, need_x)


def _fake_gradients(x: Tensor, W: Tensor, psi: Tensor, h_0: Tensor, need_x: bool) -> Gradients:
    grad_x = x.new_empty(x.shape) if need_x else x.new_empty(0)
    return grad_x, W.new_empty(W.shape), psi.new_empty(psi.shape), h_0.new_empty(h_0.shape)


@rtrl_backward.register_fake
def _(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    trace: list[Tensor],
    need_x: bool,
    cell: str,
    backend: str,
) -> Gradients:
    return _fake_gradients(x, W, psi, h_0, need_x)


@rtrl_backward_.register_fake
def _(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    bank: list[Tensor],
    rows: Tensor,
    need_x: bool,
    cell: str,
    backend: str,
) -> Gradients:
    return _fake_gradients(x, W, psi, h_0, need_x)


@torch.library.custom_op(
    "evertrace::rtrl_advance",
    mutates_args=(),
    schema=f"(Tensor x, Tensor psi, {_STATES}, Tensor[] trace, {_NAMES}) -> Tensor[]",
)
def rtrl_advance(
    x: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    trace: list[Tensor],
    cell: str,
    backend: str,
) -> list[Tensor]:
    return _module(backend).advance(CELLS[cell], x, psi, h, h_0, reset, u, extra, trace)


@rtrl_advance.register_fake
def _(
    x: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    trace: list[Tensor],
    cell: str,
    backend: str,
) -> list[Tensor]:
    return [s.new_empty(s.shape) for s in trace]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, W, psi, h_0, reset, trace, rows, _, ctx.cell, ctx.backend = inputs
    h, u, extra = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(u, extra)
    ctx.save_for_backward(x, W, psi, h, h_0, reset, u, extra, *trace, *(() if rows is None else (rows,)))
    ctx.tensors, ctx.banked = len(trace), rows is not None


def _backward(ctx: Any, e: Tensor | None, *_: object) -> tuple[Any, ...]:
    """e [T, B, d, N]: the direct gradient dL/dh_t, without any path through later states."""
    nothing = [None] * ctx.tensors, None, None, None, None
    if e is None:
        return *(None,) * 5, *nothing
    *saved, need_x = *ctx.saved_tensors[:8], ctx.needs_input_grad[0]
    trace = list(ctx.saved_tensors[8 : 8 + ctx.tensors])
    names = ctx.cell, ctx.backend
    if ctx.banked:
        gradients = rtrl_backward_(e, *saved, trace, ctx.saved_tensors[-1], need_x, *names)
    else:
        gradients = rtrl_backward(e, *saved, trace, need_x, *names)
    grad_x, grad_W, grad_psi, grad_h_0 = gradients
    return grad_x if need_x else None, grad_W, grad_psi, grad_h_0, None, *nothing


rtrl_forward.register_autograd(_backward, setup_context=_save)
