"""The copy task: its data, and what RTRL does on it that TBPTT does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from learner.copy_task import (
    BLANK,
    NOT_SCORED,
    CopyBatch,
    CopyModel,
    Credit,
    Updates,
    accuracy,
    copy_batch,
    learn,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def held_out(lengths: tuple[int, int]) -> CopyBatch:
    return copy_batch(500, *lengths, torch.Generator().manual_seed(999))


def test_targets_are_the_bits_again() -> None:
    data = copy_batch(64, 1, 7, torch.Generator().manual_seed(0))
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
    first, again, other = (copy_batch(256, 8, 8, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs) and not torch.equal(first.inputs, other.inputs)
    ones = (first.targets == 1).sum() / (first.targets != NOT_SCORED).sum()
    assert 0.45 < float(ones) < 0.55, "both bits are scored, about equally often"


def test_bad_lengths_are_refused() -> None:
    for lengths in ((0, 5), (6, 5)):
        with pytest.raises(ValueError, match="lengths"):
            copy_batch(4, *lengths, torch.Generator())


@pytest.mark.parametrize("bit", [0, 1])
def test_counting_without_memory_scores_nothing(bit: int) -> None:
    """The defect of the authors' loader: there, answering one constant bit for s steps was always right."""
    model = CopyModel(hidden_size=4)
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.copy_(torch.nn.functional.one_hot(torch.tensor(bit), 3))
    sequences, bits = accuracy(model, held_out((10, 10)))
    assert sequences < 0.01 and 0.4 < bits < 0.6


def losses_of(credit: Credit, span: int, updates: Updates) -> tuple[list[float], list[torch.Tensor]]:
    torch.manual_seed(3)
    model = CopyModel(hidden_size=12).double()
    losses = learn(
        model, lengths=(1, 10), credit=credit, span=span, updates=updates, batches=40, batch_size=8
    )
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
    lengths = (length, length)
    learn(model, lengths=lengths, credit=credit, span=span, batches=batches)
    return accuracy(model, held_out(lengths))[0]


@pytest.mark.parametrize(
    ("length", "span", "batches"), [(6, 3, 900), (4, 1, 300)], ids=["chunks of 3", "after every symbol"]
)
def test_rtrl_recalls_what_tbptt_cannot(length: int, span: int, batches: int) -> None:
    """A bit comes back `length` steps later, beyond the chunk. Same weights, data and number of updates."""
    assert recalled("rtrl", length, span, batches) == 1.0
    assert recalled("tbptt", length, span, batches) < 0.5
