"""The copy task: a supervised check that credit reaches back over a whole sequence (the paper's section 4.1).

The data is in `data.py`; here are the model, a start that holds many bits, and the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.core import carries_traces
from experiments.copy_task.data import BLANK, NOT_SCORED, SYMBOLS, CopyBatch
from kernels.cells.elstm.core import ELSTM

Credit = Literal["rtrl", "tbptt"]
Updates = Literal["sequence", "chunk"]
Draw = Callable[[int, torch.Generator], CopyBatch]
"""A batch of so many fresh sequences."""


class CopyModel(nn.Module):
    """One-hot symbols, an eLSTM of N units, a linear readout of 0, 1 or BLANK."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.core = ELSTM(SYMBOLS, hidden_size)
        self.readout = nn.Linear(hidden_size, 3)

    def features(self, inputs: Tensor) -> Tensor:
        """[T, B] -> [T, B, SYMBOLS], in the dtype of the weights."""
        return F.one_hot(inputs, SYMBOLS).to(self.readout.weight.dtype)


@torch.no_grad()
def start_with_spread_memory(core: ELSTM, longest: int) -> None:
    """Overwrites the forget gates' biases: units that forget within 2 to 2 `longest` steps, evenly in the
    logarithm (the chrono initialisation of Tallec and Ollivier 2018, with an even spread)."""
    core.b_f.uniform_(0.0, math.log(2 * longest))


@torch.no_grad()
def start_as_timers(core: ELSTM, longest: int) -> None:
    """Overwrites the parameters: each unit reads one bit, at a time of its own up to `longest`.

    A unit's state is one number. Near a fixed point it keeps a sum of past bits weighted by powers of one
    real factor, and such sums are so alike that about ten bits can be told apart in the end, whatever N is.
    Here w_f and w_z are strongly negative instead. The state creeps up from 0, as 1 - f starts at
    1 / (1 + 20 t) and grows with it, and jumps after about t steps. At the top z is no longer saturated:
    the bit read just then decides where below 0 the state lands, and there f is 1 and holds it.

    The first half of the units run on bits and stand still on blanks: they are the memory. The others run
    on blanks alone: they tell how far the recall is, and only they drive the output gates, by weights so
    large that a gate opens and shuts several times in a recall. Which bits a gate then lets through, and
    when, is left to learn; from small weights that takes many times as long.
    """
    N, half = core.output_size, core.output_size // 2
    core.w_f.fill_(-20.0)
    core.w_z.uniform_(-15.0, -9.0)
    for units in (slice(0, half), slice(half, N)):
        n = units.stop - units.start
        early = n // 4  # the first bits take several tries: a fast unit overshoots the point of reading
        top = torch.full((n,), 0.9)
        top[:early].uniform_(0.75, 1.0)
        t = torch.cat(
            [torch.logspace(-2, math.log10(5), early), torch.linspace(2.5, 1.15 * longest, n - early)]
        )
        core.b_z[units] = -core.w_z[units] * top + 0.1 * torch.randn(n)
        core.b_f[units] = (20 * t).log()
    first = half // 32  # read the first bit, from state 0
    core.b_z[:first].normal_(-0.7, 0.3)
    core.b_f[:first] = -2.0
    core.b_z[first : 2 * first] = -core.w_z[first : 2 * first] * 0.43 + 0.1 * torch.randn(first)
    core.b_f[first : 2 * first] = 0.0  # and the second, from the state 0.5
    core.W_z.zero_()
    core.W_z[:, 0] = 0.35 * torch.randn(N).sign()
    core.W_z[:, 1] = -core.W_z[:, 0]
    core.W_f.zero_()
    core.W_f[:half, BLANK:] = 30.0
    core.W_f[half:, :BLANK] = 30.0
    memory, clocks = core.output_gate.weight[:, SYMBOLS:].chunk(2, dim=1)
    memory.zero_()
    clocks.normal_(0.0, 2.0)


def train_on(
    model: CopyModel,
    optimizer: torch.optim.Optimizer,
    data: CopyBatch,
    *,
    credit: Credit,
    span: int,
    updates: Updates = "chunk",
    grad_norm_clipping: float = 1.0,
) -> float:
    """Reads one batch in chunks of `span` steps and learns from it; returns the loss a scored step (nats).

    credit: `rtrl` carries the trace from chunk to chunk, `tbptt` cuts credit there. Full BPTT is `tbptt`
    with a span of the whole sequence.
    updates: `sequence` adds the gradients of all chunks up and steps once: RTRL is then exact, and equals
    BPTT. `chunk` steps after each chunk with a scored step (online, with span 1 after each symbol): the
    trace is then carried under weights that have moved since.
    """
    T, B = data.inputs.shape
    core = model.core
    state, trace = core.initial_state(B), core.initial_trace(B) if carries_traces(credit) else None
    reset = torch.zeros(T, B, dtype=torch.bool, device=data.inputs.device)
    scored = data.targets != NOT_SCORED
    count = scored.sum()
    total = 0.0
    optimizer.zero_grad()
    for start in range(0, T, span):
        chunk = slice(start, start + span)
        h, state, trace = core.unroll(model.features(data.inputs[chunk]), state, reset[chunk], trace)
        state = tuple(tensor.detach() for tensor in state)
        here = scored[chunk].sum()
        if not here:
            continue
        logits = model.readout(h)
        summed = F.cross_entropy(
            logits.flatten(0, 1), data.targets[chunk].flatten(), ignore_index=NOT_SCORED, reduction="sum"
        )
        total += float(summed.detach())
        (summed / (count if updates == "sequence" else here)).backward()
        if updates == "chunk":
            _step(model, optimizer, grad_norm_clipping)
    if updates == "sequence":
        _step(model, optimizer, grad_norm_clipping)
    return total / int(count)


def learn(
    model: CopyModel,
    draw: Draw,
    *,
    credit: Credit,
    span: int,
    updates: Updates = "chunk",
    batches: int,
    batch_size: int = 32,
    learning_rate: float = 0.02,
    recurrent_scale: float = 1.0,
    grad_norm_clipping: float = 1.0,
    seed: int = 1,
) -> list[float]:
    """Trains by Adam, its rate falling linearly to 0, on fresh sequences. The recurrent parameters learn at
    `recurrent_scale` times the rate. Returns the loss of each batch."""
    generator = torch.Generator().manual_seed(seed)
    recurrent = model.core.recurrent_parameters()
    others = [*model.core.output_gate.parameters(), *model.readout.parameters()]
    scales = (recurrent_scale, 1.0)
    optimizer = torch.optim.Adam([{"params": recurrent}, {"params": others}])
    losses = []
    for index in range(batches):
        for group, scale in zip(optimizer.param_groups, scales, strict=True):
            group["lr"] = learning_rate * scale * (1 - index / batches)
        data = draw(batch_size, generator)
        loss = train_on(
            model,
            optimizer,
            data,
            credit=credit,
            span=span,
            updates=updates,
            grad_norm_clipping=grad_norm_clipping,
        )
        losses.append(loss)
    return losses


def _step(model: CopyModel, optimizer: torch.optim.Optimizer, grad_norm_clipping: float) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), grad_norm_clipping)
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def accuracy(model: CopyModel, data: CopyBatch) -> tuple[float, float]:
    """Share of sequences with every scored step right, and share of such steps right."""
    T, B = data.inputs.shape
    reset = torch.zeros(T, B, dtype=torch.bool, device=data.inputs.device)
    h, _, _ = model.core.unroll(model.features(data.inputs), model.core.initial_state(B), reset)
    scored = data.targets != NOT_SCORED
    right = (model.readout(h).argmax(dim=-1) == data.targets) | ~scored
    bits = (right & scored).sum() / scored.sum()
    return float(right.all(dim=0).float().mean()), float(bits)
