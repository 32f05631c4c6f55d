"""Unroll, loss and gradient as one graph: what torch.compile traces, and what a CUDA graph replays."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from actors.policy import Policy
from benchmarks.learner_step_graph import Gradient, capture
from configs.schema import Credit, PolicyConfig
from kernels.rtrl import BankedTrace
from learner.learner import Learner
from tests.learner.batches import SPEC, config, random_batch

T, B = 6, 3
ENDS = [(2, 1, "terminated"), (4, 0, "truncated")]
CREDITS: list[Credit] = ["tbptt", "rtrl"]


def make_gradient(credit: Credit, device: str) -> Gradient:
    """Of a policy with an encoder, from traces that are not zero."""
    torch.manual_seed(0)
    settings = config(credit=credit, policy=PolicyConfig(encoder="mlp", features=8, hidden_size=5))
    learner = Learner(Policy(SPEC, settings.policy), settings, torch.device(device))
    batch = random_batch(T, B, seed=1, ends=ENDS, first_reset=[2], dtype=torch.float32)
    moved = {
        field.name: value.to(device)
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor)
    }
    state = tuple(tensor.to(device) for tensor in batch.initial_state)
    gradient = Gradient(learner, dataclasses.replace(batch, **moved, initial_state=state))
    for tensor in gradient.bank or ():
        tensor.normal_()
    return gradient


def state_of(gradient: Gradient) -> list[Tensor]:
    return [tensor.clone() for tensor in gradient.bank or ()]


def put_back(gradient: Gradient, state: list[Tensor]) -> None:
    for tensor, value in zip(gradient.bank or (), state, strict=True):
        tensor.copy_(value)


@pytest.mark.parametrize("credit", CREDITS)
def test_the_learners_loss_compiles_as_one_graph_for_all_batches(credit: Credit) -> None:
    """fullgraph: a graph break is an error. Backward, and the traces' advance in it, is part of the trace."""
    gradient = make_gradient(credit, "cpu")
    start = state_of(gradient)
    compiled = torch.compile(gradient.loss, backend="aot_eager", fullgraph=True)
    for stance, rows in (("default", [0, 1, 2]), ("fail_on_recompile", [4, 0, 5])):
        gradient.rows = torch.tensor(rows)
        put_back(gradient, start)
        truth = [*gradient(gradient.loss, gradient.ticket()), *state_of(gradient)]
        put_back(gradient, start)
        with torch.compiler.set_stance(stance):
            ours = [*gradient(compiled, gradient.ticket()), *state_of(gradient)]
        assert len(ours) == len(truth)
        for value, expected in zip(ours, truth, strict=True):
            assert torch.equal(value, expected)
        if gradient.bank is not None:
            moved = (gradient.bank.matrices != start[0]).flatten(1).any(1)
            assert moved.nonzero()[:, 0].tolist() == sorted(rows)


def test_a_graph_break_in_the_loss_would_be_seen() -> None:
    gradient = make_gradient("rtrl", "cpu")

    def asks_the_host(batch, trace):
        loss = gradient.loss(batch, trace)
        if loss.total.item() > 0:
            loss = loss._replace(total=-loss.total)
        return loss

    compiled = torch.compile(asks_the_host, backend="aot_eager", fullgraph=True)
    with pytest.raises(RuntimeError, match="item"):
        gradient(compiled, gradient.ticket())


@pytest.mark.gpu
@pytest.mark.parametrize("credit", CREDITS)
def test_a_cuda_graph_of_the_learners_gradient_replays_the_same_bits(credit: Credit) -> None:
    """Overwriting `rows` aims a replay at other streams, without a new capture."""
    gradient = make_gradient(credit, "cuda")
    start = state_of(gradient)
    replay, captured = capture(gradient)
    for rows in ([0, 1, 2], [4, 0, 5]):
        gradient.rows.copy_(torch.tensor(rows))
        put_back(gradient, start)
        truth = [*gradient(gradient.loss, gradient.ticket()), *state_of(gradient)]
        put_back(gradient, start)
        for tensor in captured:
            tensor.fill_(float("nan"))
        replay()
        ours = [*captured, *state_of(gradient)]
        assert all(torch.equal(value, expected) for value, expected in zip(ours, truth, strict=True))


@pytest.mark.gpu
def test_a_learners_loss_and_gradient_never_wait_for_the_gpu() -> None:
    gradient = make_gradient("rtrl", "cuda")
    gradient(gradient.loss, gradient.ticket())  # compiles the kernels
    ticket = BankedTrace(gradient.bank, torch.arange(B))  # as in training: the rows are a CPU tensor
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients = gradient(gradient.loss, ticket)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(tensor.isfinite().all() for tensor in gradients)
