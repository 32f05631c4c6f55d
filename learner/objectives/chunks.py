"""A batch cut into sub-chunks of L steps: what comes before each of them, and how some of them are drawn.

Sub-chunk k = c B + b is steps c L to (c + 1) L - 1 of column b, of (T / L) B in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from actors.policy import Policy, State
from actors.rollout import map_observation
from kernels.rtrl import FixedTrace, Trace
from learner.batcher import Batch

AnyTrace = TypeVar("AnyTrace", Trace, FixedTrace)


@dataclass(frozen=True, slots=True)
class Pass:
    """A batch run through the policy once, without gradient, under the weights of that moment."""

    states: State
    """Before each sub-chunk, each [(T / L) B, ...]."""
    traces: list[Trace] | None
    """Likewise, one a layer; None without RTRL. (T / L) B rows: T / L times the memory of the batch's rows of
    the bank."""
    advanced: list[Trace] | None
    """After x_{T-1}, [B, ...]."""
    logits: Tensor
    """[T, B, P]"""
    values: Tensor
    """[T, B] V(x_0) .. V(x_{T-1})"""
    next_values: Tensor
    """[T, B] V(x_1) .. V(x_T)"""


@torch.no_grad()
def run(policy: Policy, batch: Batch, length: int, traces: list[Trace] | None) -> Pass:
    """From the batch's initial states and the `traces` before it: each x_t is consumed once, from the state
    before it."""
    T, B = batch.reset[:-1].shape
    kept = traces
    if traces is not None:
        kept = [layer.map(lambda s: s.new_empty(T // length * B, *s.shape[1:])) for layer in traces]
    state, states = batch.initial_state, list[State]()
    logits, values = list[Tensor](), list[Tensor]()
    for start in range(0, T, length):
        states.append(state)
        if kept is not None and traces is not None:
            first = start // length * B
            for whole, part in zip(kept, traces, strict=True):
                for mine, new in zip(whole, part, strict=True):
                    mine[first : first + B] = new
        here = partial(_at, slice(start, start + length))
        chunk = policy.chunk(
            map_observation(here, batch.observation),
            here(batch.reward),
            here(batch.reset),
            state,
            here(batch.previous_action),
            None if traces is None else for_core(traces),
        )
        state = chunk.state
        if traces is not None:
            traces = [chunk.trace] if isinstance(chunk.trace, Trace) else chunk.trace
        logits.append(chunk.logits)
        values.append(chunk.baseline)
    at_T = partial(_at, T)
    last = policy.step(
        map_observation(at_T, batch.observation),
        at_T(batch.reward),
        at_T(batch.reset),
        state,
        at_T(batch.previous_action),
    ).baseline
    every = torch.cat([*values, last[None]])
    joined = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
    return Pass(joined, kept, traces, torch.cat(logits), every[:-1], every[1:])


def _at(part: slice | int, tensor: Tensor) -> Tensor:
    return tensor[part]


def for_core(traces: list[AnyTrace]) -> AnyTrace | list[AnyTrace]:
    """As the core's `unroll` takes them: a stack takes a list."""
    return traces[0] if len(traces) == 1 else traces


def draw(observation: Any, length: int, chunks: Tensor) -> Any:
    """Sub-chunks `chunks` [M] of a batch's tensor, or of several by name: [T or T + 1, B, ...] ->
    [L, M, ...]."""

    def one(tensor: Tensor) -> Tensor:
        B = tensor.shape[1]
        cut = tensor[: tensor.shape[0] // length * length].unflatten(0, (-1, length))
        return cut.transpose(0, 1)[:, chunks // B, chunks % B]

    return map_observation(one, observation)
