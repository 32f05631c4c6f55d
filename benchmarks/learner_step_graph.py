"""A learner step's loss and gradient, eager, under torch.compile, and as a replayed CUDA graph.

The bookkeeping of a `BankedTrace` asks the host, so the ticket is made before compiled or captured code runs;
for a graph its rows lie on the GPU, and overwriting them in place aims the next replay at other streams.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.kernels import medians
from benchmarks.learner_step_case import Rollouts, Size, make_learner
from kernels.rtrl import BankedTrace, Trace
from learner.batcher import Batch
from learner.learner import Learner
from learner.objectives.vtrace import ActorCriticLoss, actor_critic_loss

BUDGET_S = 5.0
WARM_UP = 3

LossFunction = Callable[[Batch, "BankedTrace | None"], ActorCriticLoss]


def loss_function(learner: Learner) -> LossFunction:
    """What `Learner.update` differentiates: unroll, heads and V-trace loss."""

    def loss(batch: Batch, trace: BankedTrace | None) -> ActorCriticLoss:
        unroll = learner.policy.unroll(
            batch.observation,
            batch.reward,
            batch.reset,
            batch.initial_state,
            batch.previous_action,
            trace,
            learner.config.credit,
        )
        return actor_critic_loss(unroll, learner.policy.distribution, batch, learner.config)

    return loss


class Gradient:
    """Gradients of all parameters on one batch; under RTRL the traces' rows move on with each call."""

    def __init__(self, learner: Learner, batch: Batch) -> None:
        self._parameters = list(learner.policy.parameters())
        self._batch = batch
        self.rows = torch.arange(batch.action.shape[1], device=batch.action.device)
        carries = learner.config.carries_traces
        self.bank: Trace | None = learner.policy.initial_trace(2 * len(self.rows)) if carries else None
        self.loss = loss_function(learner)

    def ticket(self) -> BankedTrace | None:
        """Waits for the GPU: `rows` are checked on the host."""
        return None if self.bank is None else BankedTrace(self.bank, self.rows)

    def rewind(self) -> None:
        """All traces as after an episode's start."""
        for tensor in self.bank or ():
            tensor.zero_()

    def __call__(self, loss: LossFunction, ticket: BankedTrace | None) -> list[Tensor]:
        return list(torch.autograd.grad(loss(self._batch, ticket).total, self._parameters))


def capture(gradient: Gradient) -> tuple[Callable[[], None], list[Tensor]]:
    """A replay of the gradient as one CUDA graph, and the tensors that it fills."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # kernels are compiled and chosen here, which capture does not allow
        for _ in range(WARM_UP):
            gradient(gradient.loss, gradient.ticket())
    torch.cuda.current_stream().wait_stream(stream)
    ticket = gradient.ticket()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = gradient(gradient.loss, ticket)
    return graph.replay, outputs


def _off(ours: list[Tensor], truth: list[Tensor]) -> float:
    pairs = zip(ours, truth, strict=True)
    return max(((a - b).norm() / b.norm().clamp(min=1e-30)).item() for a, b in pairs)


def _second(gradient: Gradient, call: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Of two calls from zero traces the second, so that there is a boundary term. Copies."""
    gradient.rewind()
    call()
    return [tensor.clone() for tensor in call()]


def compiled_and_captured(size: Size, device: torch.device) -> dict[str, float | str]:
    """Median ms of loss and gradient by credit and way, or why a way does not run here. For a GPU.

    SystemExit if a way's gradients are not those of eager, to twice the difference of two eager runs.
    """
    batch = Rollouts(size, device).next_batch()
    result: dict[str, float | str] = {}
    functions: dict[str, Callable[[], object]] = {}
    for credit in ("tbptt", "rtrl"):
        gradient = Gradient(make_learner(size, credit, device), batch)

        def eager(gradient: Gradient = gradient) -> list[Tensor]:
            return gradient(gradient.loss, gradient.ticket())

        def compiled(gradient: Gradient = gradient) -> Callable[[], list[Tensor]]:
            loss = torch.compile(gradient.loss, fullgraph=True)
            return lambda: gradient(loss, gradient.ticket())

        def captured(gradient: Gradient = gradient) -> Callable[[], list[Tensor]]:
            replay, outputs = capture(gradient)
            return lambda: (replay(), outputs)[1]

        truth = _second(gradient, eager)
        bound = 2 * _off(_second(gradient, eager), truth) + 1e-4  # compiled code may order its sums otherwise
        functions[f"{credit}, eager"] = eager
        for name, make in (("torch.compile", compiled), ("CUDA graph", captured)):
            way = f"{credit}, {name}"
            try:
                call = make()
                off = _off(_second(gradient, call), truth)
            except RuntimeError as error:  # a compiler that is missing, an op that cannot be captured
                result[way] = f"does not run: {type(error).__name__}: {str(error).splitlines()[0]}"
                print(f"{way}: {result[way]}", flush=True)
                continue
            if not off <= bound:
                raise SystemExit(f"WRONG: {way} is off eager by {off:.1e}, and {bound:.1e} is allowed")
            functions[way] = call
    times = medians(functions, device.type, BUDGET_S)
    return result | {name: row["ms"] for name, row in times.items()}
