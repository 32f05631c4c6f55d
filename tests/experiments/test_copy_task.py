"""The copy task: its data, and what RTRL does on it that TBPTT does not."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from experiments.copy_task.data import BLANK, NOT_SCORED, RECALL, CopyBatch, copying, counting, delayed
from experiments.copy_task.training import (
    CopyModel,
    Credit,
    Draw,
    Updates,
    accuracy,
    learn,
    start_as_timers,
    start_with_spread_memory,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def copies(least: int, greatest: int) -> Draw:
    return lambda batch, generator: copying(batch, least, greatest, generator)


def held_out(draw: Draw) -> CopyBatch:
    return draw(500, torch.Generator().manual_seed(999))


def test_targets_are_the_bits_again() -> None:
    data = copying(64, 1, 7, torch.Generator().manual_seed(0))
    assert data.inputs.shape == data.targets.shape == (14, 64)
    seen = set()
    for inputs, targets in zip(data.inputs.T.tolist(), data.targets.T.tolist(), strict=True):
        length = inputs.index(BLANK)
        seen.add(length)
        bits = inputs[:length]
        assert set(bits) <= {0, 1}
        assert inputs[length:] == [BLANK] * (14 - length)
        assert targets == [NOT_SCORED] * length + bits + [NOT_SCORED] * (14 - 2 * length)
    assert seen == set(range(1, 8))


def test_data_is_drawn_by_seed_and_balanced() -> None:
    first, again, other = (copying(256, 8, 8, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs) and not torch.equal(first.inputs, other.inputs)
    ones = (first.targets == 1).sum() / (first.targets != NOT_SCORED).sum()
    assert 0.45 < float(ones) < 0.55, "both bits are scored, about equally often"


def test_bad_lengths_are_refused() -> None:
    for lengths in ((0, 5), (6, 5)):
        with pytest.raises(ValueError, match="lengths"):
            copying(4, *lengths, torch.Generator())


def test_delayed_bits_come_back_after_the_distance() -> None:
    inputs, targets = delayed(64, 3, 7, torch.Generator().manual_seed(0))
    assert inputs.shape == targets.shape == (10, 64)
    assert set(inputs[:3].flatten().tolist()) == {0, 1}
    assert inputs[3:, 0].tolist() == [BLANK] * 4 + [RECALL] + [BLANK] * 2
    assert torch.equal(inputs[3:], inputs[3:, :1].expand(-1, 64))
    assert torch.equal(targets[7:], inputs[:3]) and (targets[:7] == NOT_SCORED).all()
    for bits, distance in ((0, 5), (6, 5)):
        with pytest.raises(ValueError, match=f"{bits} bits at a distance of {distance}"):
            delayed(4, bits, distance, torch.Generator())


def test_counting_is_scored_as_released() -> None:
    """There, answering one bit for s steps is always right: no bit need be remembered."""
    inputs, targets = counting(200, 1, 9, torch.Generator().manual_seed(0))
    for symbols, wanted in zip(inputs.T.tolist(), targets.T.tolist(), strict=True):
        s = symbols.index(BLANK)
        without_memory = [BLANK] * s + [1] * s + [BLANK] * (9 - s) + [NOT_SCORED] * (9 - s)
        for right, answer in zip(wanted, without_memory, strict=True):
            assert right in (answer, NOT_SCORED)
        assert [right != NOT_SCORED for right in wanted[s : 2 * s]] == [bit == 1 for bit in symbols[:s]]
        assert wanted[:s] + wanted[2 * s : s + 9] == [BLANK] * 9


@pytest.mark.parametrize("bit", [0, 1])
def test_answering_one_bit_does_not_pass_for_copying(bit: int) -> None:
    model = CopyModel(hidden_size=4)
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.copy_(torch.nn.functional.one_hot(torch.tensor(bit), 3))
    sequences, bits = accuracy(model, held_out(copies(10, 10)))
    assert sequences < 0.01 and 0.4 < bits < 0.6


def losses_of(credit: Credit, span: int, updates: Updates) -> tuple[list[float], list[torch.Tensor]]:
    torch.manual_seed(3)
    model = CopyModel(hidden_size=12).double()
    losses = learn(model, copies(1, 10), credit=credit, span=span, updates=updates, batches=40, batch_size=8)
    return losses, [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("span", [1, 3, 7])
def test_rtrl_learns_step_for_step_like_full_bptt(span: int) -> None:
    """One update a sequence: the weights are frozen within it, and RTRL is exact whatever the span."""
    bptt, bptt_weights = losses_of("tbptt", span=20, updates="sequence")
    rtrl, rtrl_weights = losses_of("rtrl", span=span, updates="sequence")
    assert bptt[-1] < bptt[0], "it learns at all"
    assert rtrl == pytest.approx(bptt, rel=0, abs=1e-10)
    torch.testing.assert_close(rtrl_weights, bptt_weights, rtol=0, atol=1e-9)


def test_tbptt_does_not() -> None:
    bptt, _ = losses_of("tbptt", span=20, updates="sequence")
    truncated, _ = losses_of("tbptt", span=3, updates="sequence")
    assert truncated[0] == pytest.approx(bptt[0], abs=1e-12), "same weights, same data"
    assert max(abs(a - b) for a, b in zip(truncated, bptt, strict=True)) > 1e-3


def recalled(credit: Credit, length: int, span: int, batches: int) -> float:
    """Share of whole sequences recalled after training with an update after every chunk."""
    torch.manual_seed(1)
    model = CopyModel(hidden_size=128)
    learn(model, copies(length, length), credit=credit, span=span, batches=batches)
    return accuracy(model, held_out(copies(length, length)))[0]


def test_rtrl_recalls_what_tbptt_cannot() -> None:
    """An update after every symbol; a bit comes back four symbols later. Same weights, data and updates."""
    assert recalled("rtrl", 4, 1, 300) == 1.0
    assert recalled("tbptt", 4, 1, 300) < 0.5


def recalled_after_twenty_steps(credit: Credit) -> float:
    """Share of sequences with both bits recalled, from units that were told nothing of the task."""
    torch.manual_seed(1)
    model = CopyModel(hidden_size=64)
    start_with_spread_memory(model.core, 20)

    def draw(batch: int, generator: torch.Generator) -> CopyBatch:
        return delayed(batch, 2, 20, generator)

    learn(model, draw, credit=credit, span=10, batches=600, learning_rate=0.02)
    return accuracy(model, held_out(draw))[0]


@pytest.mark.slow
def test_rtrl_recalls_across_twenty_steps_what_tbptt_cannot() -> None:
    """Chunks of ten steps: no path within one leads from a recalled bit to where it was read. What units that
    were never taught happen to hold is one bit: with the other by chance, half of the sequences are right."""
    assert recalled_after_twenty_steps("rtrl") == 1.0
    assert recalled_after_twenty_steps("tbptt") < 0.6


def state_after(bits: torch.Tensor, model: CopyModel, blanks: int = 0) -> torch.Tensor:
    inputs = torch.cat([bits, torch.full((blanks, bits.shape[1]), BLANK)])
    reset = torch.zeros(inputs.shape, dtype=torch.bool)
    state = model.core.initial_state(bits.shape[1])
    with torch.no_grad():
        return model.core.unroll(model.features(inputs), state, reset)[1][0]


def decoded_bits(model: CopyModel, length: int) -> float:
    """How many bits ridge regression reads from the state after the last: the sum of R^2 held out."""
    bits = torch.randint(0, 2, (length, 2000), generator=torch.Generator().manual_seed(5))
    c, y = state_after(bits, model).double(), bits.T.double() - 0.5
    c = c - c.mean(0)
    fit, test = slice(0, 1200), slice(1200, 2000)
    ridge = 3.6 * torch.eye(c.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(c[fit].T @ c[fit] + ridge, c[fit].T @ y[fit])
    residual = ((c[test] @ weights - y[test]) ** 2).mean(0) / 0.25
    return float((1 - residual).clamp(min=0).sum())


def test_timers_hold_what_random_parameters_forget() -> None:
    torch.manual_seed(1)
    random, timers = CopyModel(hidden_size=256), CopyModel(hidden_size=256)
    start_as_timers(timers.core, 50)
    assert decoded_bits(random, 50) < 10
    assert decoded_bits(timers, 50) > 40


def test_timers_keep_memory_through_the_recall_and_clocks_tell_its_step() -> None:
    torch.manual_seed(1)
    model = CopyModel(hidden_size=64)
    start_as_timers(model.core, 10)
    bits = torch.randint(0, 2, (10, 8), generator=torch.Generator().manual_seed(2))
    states = [state_after(bits, model, blanks) for blanks in (0, 3, 9)]
    memory, clocks = zip(*(state.chunk(2, dim=1) for state in states), strict=True)
    torch.testing.assert_close(memory[2], memory[0], rtol=0, atol=0.01)
    assert clocks[0].abs().max() < 0.02, "they stand still on bits"
    assert (clocks[2] - clocks[1]).abs().max() > 0.5, "and some jump between the steps of the recall"
    assert (clocks[2] - clocks[2][0]).abs().max() < 0.02, "whatever the bits were"


@pytest.mark.slow
def test_rtrl_recalls_twelve_bits_from_timers() -> None:
    """More than the ten or so that sums weighted by powers of one factor can tell apart, whatever N is."""
    torch.manual_seed(1)
    model = CopyModel(hidden_size=192)
    start_as_timers(model.core, 12)
    learn(
        model,
        copies(12, 12),
        credit="rtrl",
        span=4,
        batches=500,
        learning_rate=0.01,
        recurrent_scale=0.1,
        grad_norm_clipping=math.inf,
    )
    assert accuracy(model, held_out(copies(12, 12))) == (1.0, 1.0)
