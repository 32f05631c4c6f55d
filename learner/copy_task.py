"""The copy task: a supervised check that credit reaches back over a whole sequence (the paper's section 4.1).

    input    1 0 1 1 _ _ _ _ _ _        s bits, then blanks
    target   . . . . 1 0 1 1 . .        the bits again; `.` is not scored

The authors' loader numbers target symbols by first appearance and ignores number 2, which is one of the
two bits: as released it asks to count the bits, not to remember them. Here the vocabulary is fixed, what
is not scored has an index of its own, and every recalled bit counts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.cells.elstm import ELSTM
from kernels.elstm import ELSTMTrace

BLANK = 2
VOCABULARY = 3
"""0, 1 and blank."""
NOT_SCORED = -100

Credit = Literal["rtrl", "tbptt"]
Updates = Literal["sequence", "chunk"]


class CopyBatch(NamedTuple):
    inputs: Tensor
    """[T, B] int64 in {0, 1, BLANK}, with T twice the greatest length."""
    targets: Tensor
    """[T, B] int64: the bit at a recall step, NOT_SCORED elsewhere."""


def copy_batch(batch: int, min_length: int, max_length: int, generator: torch.Generator) -> CopyBatch:
    """Sequences of uniformly random bits, of lengths uniform in min_length..max_length (the paper: 1..L)."""
    if not 1 <= min_length <= max_length:
        raise ValueError(f"lengths {min_length} to {max_length}: give 1 <= min_length <= max_length")
    lengths = torch.randint(min_length, max_length + 1, (batch,), generator=generator)
    bits = torch.randint(0, 2, (max_length, batch), generator=generator)
    steps = torch.arange(2 * max_length).unsqueeze(1)
    nothing = bits.new_zeros(max_length, batch)
    inputs = torch.cat([bits, nothing]).where(steps < lengths, BLANK)
    recalled = torch.cat([bits, nothing]).gather(0, (steps - lengths).clamp(min=0))
    targets = recalled.where((steps >= lengths) & (steps < 2 * lengths), NOT_SCORED)
    return CopyBatch(inputs, targets)


class CopyModel(nn.Module):
    """One-hot symbols, an eLSTM of N units, a linear readout."""

    def __init__(self, hidden_size: int, init_std: float = 0.1) -> None:
        """`init_std`: of the core's recurrent parameters; the paper's 0.1. A larger one makes units differ
        more from the start, in what they keep and for how long, and speeds learning up."""
        super().__init__()
        self.core = ELSTM(VOCABULARY, hidden_size)
        self.readout = nn.Linear(hidden_size, VOCABULARY)
        for name in ELSTMTrace._fields:
            nn.init.normal_(self.core.get_parameter(name), std=init_std)

    def features(self, inputs: Tensor) -> Tensor:
        """[T, B] -> [T, B, VOCABULARY], in the dtype of the weights."""
        return F.one_hot(inputs, VOCABULARY).to(self.readout.weight.dtype)


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
    """Reads one batch in chunks of `span` steps and learns from it; returns the loss a recalled bit (nats).

    credit: `rtrl` carries the trace from chunk to chunk, `tbptt` cuts credit there. Full BPTT is `tbptt`
    with a span of the whole sequence.
    updates: `sequence` adds the gradients of all chunks up and steps once: RTRL is then exact, and equals
    BPTT. `chunk` steps after each chunk with a recalled bit (online, with span 1 after each symbol): the
    trace is then carried under weights that have moved since.
    """
    T, B = data.inputs.shape
    core = model.core
    state, trace = core.initial_state(B), core.initial_trace(B) if credit == "rtrl" else None
    reset = torch.zeros(T, B, dtype=torch.bool, device=data.inputs.device)
    scored = data.targets != NOT_SCORED
    recalled = scored.sum()
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
        (summed / (recalled if updates == "sequence" else here)).backward()
        if updates == "chunk":
            _step(model, optimizer, grad_norm_clipping)
    if updates == "sequence":
        _step(model, optimizer, grad_norm_clipping)
    return total / int(recalled)


def learn(
    model: CopyModel,
    *,
    lengths: tuple[int, int],
    credit: Credit,
    span: int,
    updates: Updates = "chunk",
    batches: int,
    batch_size: int = 32,
    learning_rate: float = 0.02,
    seed: int = 1,
) -> list[float]:
    """Trains by Adam, its rate falling linearly to 0, on fresh sequences of these (least, greatest) lengths.
    Returns the loss of each batch."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters())
    losses = []
    for index in range(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - index / batches)
        data = copy_batch(batch_size, *lengths, generator)
        losses.append(train_on(model, optimizer, data, credit=credit, span=span, updates=updates))
    return losses


def _step(model: CopyModel, optimizer: torch.optim.Optimizer, grad_norm_clipping: float) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), grad_norm_clipping)
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def accuracy(model: CopyModel, data: CopyBatch) -> tuple[float, float]:
    """Share of sequences with every bit recalled, and share of bits recalled."""
    T, B = data.inputs.shape
    reset = torch.zeros(T, B, dtype=torch.bool, device=data.inputs.device)
    h, _, _ = model.core.unroll(model.features(data.inputs), model.core.initial_state(B), reset)
    scored = data.targets != NOT_SCORED
    right = (model.readout(h).argmax(dim=-1) == data.targets) | ~scored
    bits = (right & scored).sum() / scored.sum()
    return float(right.all(dim=0).float().mean()), float(bits)
