"""Every cell, backend and way to carry a trace is certified exact; and the certificate fails where it
must."""

from __future__ import annotations

import pytest
import torch

import kernels.cells  # registers every cell  # noqa: F401
from kernels.rtrl.cell import CELLS, Cell
from tests.kernels.rtrl.certificate import STEPS, Faults, chunk_by_chunk, errors, make_case, through_time

EXACT = 1e-12
WAYS = [("reference", False), ("chunked", False), ("chunked", True)]
LENGTHS = [[6, 5, 7], [9], [1, 1, 1, 4]]
ROTATING = ["lru", "rtu_relu/exp_exp/exp", "rtu_tanh/exp_exp/exp", "rtu_linear/exp_exp/exp"]
ONE_OF_A_KIND = ["elstm", "mingru", "indylstm", "block_diagonal", *ROTATING]
FAULTS = ["reset_late", "forget_trace", "boundary_twice", "keep_through_reset"]


def worst(name: str, lengths: list[int], backend: str, banked: bool, **options) -> float:
    case = make_case(name, lengths, **options)
    return max(errors(case, chunk_by_chunk(case, backend, banked), through_time(case)).values())


def test_every_cell_has_its_line() -> None:
    assert set(STEPS) == set(CELLS)


@pytest.mark.parametrize(("backend", "banked"), WAYS)
@pytest.mark.parametrize("name", sorted(CELLS))
def test_every_parameter_has_the_gradient_of_the_whole_stream(name, backend, banked) -> None:
    for seed, lengths in enumerate(LENGTHS):
        assert worst(name, lengths, backend, banked, seed=seed) < EXACT


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
@pytest.mark.parametrize("long", [True, False])
def test_over_twenty_chunks_and_long_memories(name, long) -> None:
    """Forget biases up to 7 and radii up to 0.9999: traces that gather over all chunks."""
    gated = name in ("elstm", "mingru", "indylstm")
    memory = (7.0 if long else 3.0) if gated else (0.9999 if long else 0.97)
    assert worst(name, [4] * 20, "chunked", True, memory=memory) < EXACT


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_on_triton_within_float32(name) -> None:
    for banked in (False, True):
        assert worst(name, [5, 1, 4], "triton", banked, shape=(2, 6, 3)) < 2e-5


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_of_the_frame_are_found(name, fault) -> None:
    found = []
    for seed in range(3):  # a fault may meet units that are closed just then
        case = make_case(name, [6, 5, 7], seed)
        case.faults = Faults(**{fault: True})
        found.append(max(errors(case, chunk_by_chunk(case, "chunked", False), through_time(case)).values()))
    assert max(found) > 1e-6


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        (
            4,
            lambda k, psi: torch.ones_like(k[4]),
        ),  # theta's factor left out, as in esraaelelimy/rtus at b10d4fe
        (5, lambda k, psi: k[5] * psi[2]),  # gamma_log in the place of its exponential, as in its online LRU
    ],
)
def test_faults_of_released_code_are_found(monkeypatch, row, wrong) -> None:
    cell = CELLS["lru" if row == 5 else "rtu_tanh/exp_exp/exp"]
    right = type(cell).constants

    def constants(self: Cell, psi: torch.Tensor) -> torch.Tensor:
        k = right(self, psi)
        k[row] = wrong(k, psi)
        return k

    monkeypatch.setattr(type(cell), "constants", constants)
    case = make_case(cell.name, [6, 5, 7])
    found = errors(case, chunk_by_chunk(case, "chunked", True), through_time(case))
    assert found["theta_log" if row == 4 else "gamma_log"] > 1e-3
    assert found["W_1"] < EXACT


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_a_cell_that_tells_its_equation_alone_is_exact_too(name) -> None:
    """Its step and pullback are then derived: what a new cell may begin with."""
    kind = type(CELLS[name])

    class Plain(kind):  # type: ignore[misc, valid-type]
        extra = 0
        constants, step, pull, fixed = Cell.constants, Cell.step, Cell.pull, Cell.fixed

    plain = Plain.__new__(Plain)
    plain.__dict__.update(CELLS[name].__dict__)
    case = make_case(name, [6, 5, 7])
    truth = through_time(case)
    registered = CELLS[name]
    CELLS[name] = case.cell = plain
    try:
        assert max(errors(case, chunk_by_chunk(case, "chunked", True), truth).values()) < EXACT
    finally:
        CELLS[name] = registered
