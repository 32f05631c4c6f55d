"""The trace op against its formula, column by column."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.trace import advance_trace_, reference
from kernels.trace.triton import advance_trace_triton, choose_columns
from tests.kernels.precision import product

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU, Triton runs in its interpreter
EXACT = {"rtol": 1e-11, "atol": 1e-11}
SHAPES = [  # T, B, N, D, K, d, L, rows
    (5, 3, 20, 9, 2, 1, 1, 6),
    (1, 3, 20, 9, 2, 1, 1, 3),
    (5, 3, 20, 9, 2, 2, 1, 4),
    (1, 4, 6, 37, 1, 2, 2, 9),
    (35, 9, 70, 34, 3, 1, 1, 11),
    (18, 2, 65, 33, 4, 2, 1, 5),
    (17, 1, 1, 257, 1, 1, 2, 1),
    (9, 3, 33, 16, 1, 2, 2, 4),
    (5, 3, 20, 9, 2, 1, 0, 6),
    (6, 3, 20, 9, 2, 2, 0, 6),
]
PAD = 3


def make_arguments(T, B, N, D, K, d, L, rows, seed=0, dtype=torch.float64) -> list:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).to(DEVICE)

    matrices = normal(rows, K, d, N, D + PAD)
    matrices[..., D:] = 0.0
    chosen = torch.randperm(rows, generator=g)[:B]
    # As the scans hand them over: slices of what they gathered for all rows.
    decay, update = normal(B, d + 1, d, N)[:, 1:], normal(T, B, d + 1, K + 1, N)[:, :, 1:, :K]
    return [matrices, chosen, normal(B, L, d, N) if L else None, decay, update, normal(T, B, D)]


def by_formula(matrices, rows, lam, decay, update, x) -> tuple[Tensor, Tensor]:
    """Column by column, in float64; returns the boundary terms and the bank afterwards."""
    decay, update, x = (v.double() for v in (decay, update, x))
    bank, D = matrices.double().clone(), x.shape[2]
    _, K, d, N, _ = bank.shape
    turns = [] if lam is None else list(lam.double().unbind(1))
    boundary = x.new_zeros(K, len(turns), N, D)
    for b, row in enumerate(rows.tolist()):
        for k in range(K):
            before = bank[row, k, :, :, :D].clone()
            for i in range(d):
                for turn, vectors in enumerate(turns):
                    boundary[k, turn] += vectors[b, i, :, None] * before[i]
                bank[row, k, i, :, :D] = sum(decay[b, i, j, :, None] * before[j] for j in range(d))
                for t in range(x.shape[0]):
                    bank[row, k, i, :, :D] += torch.outer(update[t, b, i, k], x[t, b])
    return boundary.flatten(0, 1) if turns else x.new_empty(0), bank


def error(value: Tensor, truth: Tensor) -> float:
    return ((value.double() - truth).norm() / truth.norm().clamp(min=1e-30)).item()


@pytest.mark.parametrize(("backend", "few_numbers"), [("reference", 0), ("chunked", 0), ("chunked", 2**30)])
@pytest.mark.parametrize("shape", SHAPES)
def test_torch_backends_equal_the_formula(backend, few_numbers, shape, monkeypatch):
    monkeypatch.setattr(reference, "_FEW_NUMBERS", few_numbers)  # row by row, and all rows at once
    arguments = make_arguments(*shape)
    boundary, bank = by_formula(*arguments)
    torch.testing.assert_close(advance_trace_(*arguments, backend=backend), boundary, **EXACT)
    torch.testing.assert_close(arguments[0], bank, **EXACT)


@pytest.mark.parametrize("shape", SHAPES)
def test_triton_is_at_most_twice_as_far_from_float64_as_torch(shape, poison):
    ours, plain = (make_arguments(*shape, dtype=torch.float32) for _ in range(2))
    truth, bank = by_formula(*ours)
    boundary = advance_trace_(*ours, backend="triton", precision="ieee")
    boundary_plain = advance_trace_(*plain, backend="reference")
    assert error(boundary, truth) <= 2 * error(boundary_plain, truth) + 2e-8  # one column: plain may be exact
    assert error(ours[0], bank) <= 2 * error(plain[0], bank)


def by_matrix_units(matrices, rows, decay, update, x, precision) -> Tensor:
    """The bank afterwards, with the products as matrix units form them."""
    bank = matrices.clone()
    factors, inputs = update.cpu().numpy(), x.cpu().numpy()
    for b, row in enumerate(rows.tolist()):
        for k in range(bank.shape[1]):
            before = matrices[row, k, :, :, : x.shape[2]]
            for i in range(bank.shape[2]):
                carried = sum(decay[b, i, j, :, None] * before[j] for j in range(bank.shape[2]))
                formed = product(factors[:, b, i, k], inputs[:, b], precision)
                bank[row, k, i, :, : x.shape[2]] = carried + torch.from_numpy(formed).to(carried)
    return bank


@pytest.mark.parametrize("precision", ["tf32x3", "tf32"] if DEVICE == "cuda" else ["tf32x3"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] > 1])
def test_on_matrix_units_triton_is_at_most_twice_as_far_from_float64_as_these(shape, precision):
    """The interpreter computes in float32 whatever the precision; a GPU tells."""
    matrices, rows, _, decay, update, x = make_arguments(*shape, dtype=torch.float32)
    _, bank = by_formula(matrices, rows, None, decay, update, x)
    emulated = by_matrix_units(matrices, rows, decay, update, x, precision)
    advance_trace_(matrices, rows, None, decay, update, x, backend="triton", precision=precision)
    assert error(matrices, bank) <= 2 * error(emulated, bank)


@pytest.mark.parametrize("B", [1, 3, 4, 5, 31, 32, 128, 1000])
@pytest.mark.parametrize("tiles", [1, 80, 10_000])
def test_the_shares_of_a_batch_cover_it_once_and_are_not_many(B, tiles):
    columns = choose_columns(B, tiles)
    shares = -(-B // columns)
    assert (shares - 1) * columns < B <= shares * columns
    assert shares <= max(1, -(-640 // tiles)) and columns >= min(B, 2)


@pytest.mark.parametrize("backend", ["reference", "chunked", "triton"])
@pytest.mark.parametrize("state", [1, 2])
def test_rows_of_other_streams_are_untouched_and_the_padding_stays_zero(backend, state):
    arguments = make_arguments(4, 2, 17, 5, 2, state, 1, rows=7, dtype=torch.float32)
    before = arguments[0].clone()
    advance_trace_(*arguments, backend=backend)
    others = [row for row in range(7) if row not in arguments[1].tolist()]
    torch.testing.assert_close(arguments[0][others], before[others], rtol=0, atol=0, equal_nan=True)
    mine = arguments[0][arguments[1]]
    assert mine[..., :5].isfinite().all() and not torch.equal(mine[..., :5], before[arguments[1]][..., :5])
    assert not arguments[0][..., 5:].any()


@pytest.mark.parametrize("backend", ["chunked", "triton"])
def test_the_same_call_gives_the_same_bits(backend):
    results = []
    for _ in range(2):
        arguments = make_arguments(20, 11, 40, 35, 2, 1, 1, rows=11, dtype=torch.float32)
        results.append([advance_trace_(*arguments, backend=backend), arguments[0]])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("backend", ["reference", "chunked", "triton"])
@pytest.mark.parametrize("state", [1, 2])
def test_a_bfloat16_trace_is_advanced_in_float32_and_rounded_once(backend, state):
    arguments = make_arguments(6, 3, 20, 9, 2, state, 1, rows=5, dtype=torch.float32)
    arguments[0] = arguments[0].bfloat16()
    truth, bank = by_formula(*arguments)
    boundary = advance_trace_(*arguments, backend=backend)
    assert boundary.dtype == torch.float32
    assert error(boundary, truth) < 1e-6  # the bfloat16 trace is read exactly
    # Rounded to nearest, it is off by half a unit in the last of 8 bits; Triton's interpreter cuts it off.
    rtol = 2**-7 if backend == "triton" and DEVICE == "cpu" else 2**-8
    assert arguments[0].dtype == torch.bfloat16
    torch.testing.assert_close(arguments[0].double(), bank, rtol=rtol, atol=1e-5)


def test_every_guard_names_its_argument():
    def call(position: int, value: object, **options: object) -> Tensor:
        arguments = make_arguments(4, 2, 6, 5, 2, 1, 1, rows=7, dtype=torch.float32)
        arguments[position] = value(arguments[position]) if callable(value) else value
        return advance_trace_(*arguments, **options)

    for position, value, message in (
        (
            0,
            lambda s: s.repeat(1, 3, 1, 1, 1),
            r"^matrices has shape \[7, 6, 1, 6, 8\], expected .* K = 1 to 4",
        ),
        (0, lambda s: s[0], r"^matrices has shape \[2, 1, 6, 8\]"),
        (0, lambda s: s[..., :4].clone(), r"^matrices has shape .* D' at least D = 5"),
        (0, lambda s: s.double(), r"^matrices is torch.float64"),
        (0, lambda s: s.mT.contiguous().mT, r"^matrices is not contiguous"),
        (0, lambda s: s.to("meta"), r"^matrices is on meta"),
        (1, lambda rows: rows.int(), r"^rows is torch.int32 \[2\], expected int64"),
        (1, lambda rows: rows[:1], r"^rows has shape"),
        (1, torch.tensor([3, 7]), r"^rows names row 7, but the bank holds rows 0 to 6"),
        (1, torch.tensor([3, -1]), r"^rows names row -1"),
        (1, torch.tensor([3, 3]), r"^rows names row 3 twice"),
        (2, lambda lam: lam.expand(2, 3, 1, 6), r"^lam has shape \[2, 3, 1, 6\], expected L <= 2"),
        (2, lambda lam: lam[:, 0], r"^lam has shape"),
        (2, lambda lam: lam.double(), r"^lam is torch.float64"),
        (3, lambda decay: decay[..., :-1], r"^decay has shape"),
        (4, lambda update: update[:, :, :, :1], r"^update has shape"),
        (5, lambda x: x[0], r"^x has shape"),
        (5, lambda x: x.half(), r"^x is torch.float16"),
    ):
        with pytest.raises(ValueError, match=message):
            call(position, value)
    with pytest.raises(ValueError, match=r"^backend = 'fast'"):
        call(1, torch.tensor([0, 1]), backend="fast")
    with pytest.raises(ValueError, match=r"^precision = 'fp8'"):
        call(1, torch.tensor([0, 1]), precision="fp8")
    with pytest.raises(ValueError, match=r"^x is torch.float64: backend 'triton' computes in float32"):
        advance_trace_(*make_arguments(4, 2, 6, 5, 2, 1, 1, rows=7), backend="triton")


def test_a_batch_beyond_32_bit_offsets_is_refused():
    huge = torch.zeros(1, device=DEVICE).expand(2**15, 2**8, 2**8)
    matrices, decay = torch.zeros(1, 1, 1, 4, 2**8, device=DEVICE), torch.zeros(1, 1, 1, 4, device=DEVICE)
    with pytest.raises(ValueError, match=r"^x has 2147483648 elements"):
        advance_trace_triton(matrices, torch.tensor([0]), None, decay, decay[None], huge)


def test_a_refused_call_has_written_nothing():
    arguments = make_arguments(4, 2, 6, 5, 2, 1, 1, rows=7)
    before = arguments[0].clone()
    arguments[1] = torch.tensor([3, 3])
    with pytest.raises(ValueError, match="twice"):
        advance_trace_(*arguments)
    assert torch.equal(arguments[0], before)
