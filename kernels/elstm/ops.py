"""The eLSTM's chunk as torch.library ops: autograd, torch.compile and CUDA graphs see four opaque calls.

    elstm_forward(..., trace, rows) -> c, local, a      differentiable; its backward calls one of
        elstm_backward(..., trace)                      TBPTT, or RTRL from gathered traces
        elstm_backward_(..., bank, rows)                RTRL, advancing rows of the bank in place
    elstm_advance(..., trace) -> trace                  gathered traces after the chunk

`backend` names the module that computes: "chunked" (torch) or "triton". Weights are stacked, z before f.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kernels.elstm import chunked

_STATES = "Tensor c, Tensor c_0, Tensor reset, Tensor local, Tensor a"
_SAVED = f"Tensor x, Tensor W, {_STATES}"
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
_GRADIENTS = "(Tensor, Tensor, Tensor, Tensor, Tensor)"


def _module(backend: str) -> ModuleType:
    if backend == "triton":
        from kernels.elstm import triton

        return triton
    assert backend == "chunked", backend
    return chunked


@torch.library.custom_op(
    "evertrace::elstm_forward",
    mutates_args=(),
    schema="(Tensor x, Tensor W, Tensor w, Tensor b, Tensor c_0, Tensor reset, Tensor[] trace, Tensor? rows, "
    "bool derivatives, str backend) -> (Tensor, Tensor, Tensor)",
)
def elstm_forward(
    x: Tensor,
    W: Tensor,
    w: Tensor,
    b: Tensor,
    c_0: Tensor,
    reset: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    derivatives: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return _module(backend).forward(x, W, w, b, c_0, reset, derivatives)


@elstm_forward.register_fake
def _(
    x: Tensor,
    W: Tensor,
    w: Tensor,
    b: Tensor,
    c_0: Tensor,
    reset: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    derivatives: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    T, B, _ = x.shape
    N = w.shape[1]
    return x.new_empty(T, B, N), x.new_empty(T, B, 2, N), x.new_empty(T if derivatives else 0, B, N)


@torch.library.custom_op(
    "evertrace::elstm_backward",
    mutates_args=(),
    schema=f"(Tensor e, {_SAVED}, Tensor[] trace, bool need_x, str backend) -> {_GRADIENTS}",
)
def elstm_backward(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    trace: list[Tensor],
    need_x: bool,
    backend: str,
) -> Gradients:
    return _module(backend).backward(e, x, W, c, c_0, reset, local, a, trace, None, need_x)


@torch.library.custom_op(
    "evertrace::elstm_backward_",
    mutates_args=("bank",),
    schema=f"(Tensor e, {_SAVED}, Tensor(a!)[] bank, Tensor rows, bool need_x, str backend) -> {_GRADIENTS}",
)
def elstm_backward_(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    bank: list[Tensor],
    rows: Tensor,
    need_x: bool,
    backend: str,
) -> Gradients:
    return _module(backend).backward(e, x, W, c, c_0, reset, local, a, bank, rows, need_x)


def _fake_gradients(x: Tensor, W: Tensor, c_0: Tensor, need_x: bool) -> Gradients:
    vectors = W.new_empty(W.shape[:2])
    grad_x = x.new_empty(x.shape) if need_x else x.new_empty(0)
    return grad_x, W.new_empty(W.shape), vectors, torch.empty_like(vectors), c_0.new_empty(c_0.shape)


@elstm_backward.register_fake
def _(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    trace: list[Tensor],
    need_x: bool,
    backend: str,
) -> Gradients:
    return _fake_gradients(x, W, c_0, need_x)


@elstm_backward_.register_fake
def _(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    bank: list[Tensor],
    rows: Tensor,
    need_x: bool,
    backend: str,
) -> Gradients:
    return _fake_gradients(x, W, c_0, need_x)


@torch.library.custom_op(
    "evertrace::elstm_advance",
    mutates_args=(),
    schema=f"(Tensor x, {_STATES}, Tensor[] trace, str backend) -> Tensor[]",
)
def elstm_advance(
    x: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    trace: list[Tensor],
    backend: str,
) -> list[Tensor]:
    return _module(backend).advance(x, c, c_0, reset, local, a, trace)


@elstm_advance.register_fake
def _(
    x: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    trace: list[Tensor],
    backend: str,
) -> list[Tensor]:
    return [s.new_empty(s.shape) for s in trace]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, W, _, _, c_0, reset, trace, rows, _, backend = inputs
    c, local, a = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(local, a)
    ctx.save_for_backward(x, W, c, c_0, reset, local, a, *trace, *(() if rows is None else (rows,)))
    ctx.matrices, ctx.banked, ctx.backend = len(trace), rows is not None, backend


def _backward(ctx: Any, e: Tensor | None, *_: object) -> tuple[Any, ...]:
    """e [T, B, N]: the direct gradient dL/dc_t, without any path through later states."""
    if e is None:
        return *(None,) * 6, [None] * ctx.matrices, None, None, None
    *saved, need_x, backend = *ctx.saved_tensors[:7], ctx.needs_input_grad[0], ctx.backend
    trace = list(ctx.saved_tensors[7 : 7 + ctx.matrices])
    if ctx.banked:
        rows = ctx.saved_tensors[-1]
        gradients = elstm_backward_(e, *saved, trace, rows, need_x, backend)
    else:
        gradients = elstm_backward(e, *saved, trace, need_x, backend)
    grad_x, *others = gradients
    return grad_x if need_x else None, *others, None, [None] * ctx.matrices, None, None, None


elstm_forward.register_autograd(_backward, setup_context=_save)
