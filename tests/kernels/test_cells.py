"""The recurrent cores: acting equals learning, resets forget, weights move between training modes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kernels.cells import RTRL_CORES, SNAP1_CORES, Core, make_core
from kernels.cells.elstm.core import ELSTM
from kernels.cells.none import Identity
from kernels.cells.recurrent import CellCore
from kernels.cells.torch_rnn import TorchRNN

TBPTT_CORES = ["lstm", "gru"]
NAMES = ["none", *TBPTT_CORES, *RTRL_CORES, *SNAP1_CORES]
LAYERED = [*((name, 1) for name in NAMES), *((name, 3) for name in NAMES if name != "none")]
T, B, D, N = 9, 4, 5, 6


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make(name: str, num_layers: int = 1) -> Core:
    return make_core(name, D, N, num_layers).double()


def random_state(core: Core) -> tuple[Tensor, ...]:
    return tuple(torch.randn_like(s) for s in core.initial_state(B))


def random_chunk() -> tuple[Tensor, Tensor]:
    """Resets at the first steps and the last, in a row, and nowhere in the last column."""
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[[0, 1, 3, 4, T - 1], [0, 2, 1, 1, 2]] = True
    return torch.randn(T, B, D, dtype=torch.float64), reset


@pytest.mark.parametrize(("name", "layers"), LAYERED)
def test_acting_step_by_step_equals_the_unroll(name, layers):
    core, (x, reset) = make(name, layers), random_chunk()
    start = random_state(core)
    with torch.no_grad():
        h, final, _ = core.unroll(x, start, reset, core.initial_trace(B))
        state, outputs = start, []
        for t in range(T):
            output, state = core.step(x[t], state, reset[t])
            outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs), h, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, final, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "layers"), LAYERED)
def test_an_unroll_may_be_cut_anywhere(name, layers):
    core, (x, reset) = make(name, layers), random_chunk()
    start, trace = random_state(core), core.initial_trace(B)
    h, final, final_trace = core.unroll(x, start, reset, trace)
    h_a, state, trace = core.unroll(x[:4], start, reset[:4], trace)
    h_b, state, trace = core.unroll(x[4:], state, reset[4:], trace)
    torch.testing.assert_close(torch.cat([h_a, h_b]), h, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, final, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trace, final_trace, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_dtypes_and_initial_values(name):
    core = make_core(name, D, N)
    wide = name in ("rtu", "linear_rtu", "block_diagonal")
    assert core.input_size == D and core.output_size == (D if name == "none" else 2 * N if wide else N)
    state = core.initial_state(B)
    d = core.cell.d if isinstance(core, CellCore) else 1
    assert all(s.shape == (B, d * N) and s.dtype == torch.float32 and not s.any() for s in state)
    assert len(state) == {"none": 0, "lstm": 2}.get(name, 1)
    assert [s.device.type for s in core.initial_state(B, device="meta")] == ["meta"] * len(state)
    trace = core.initial_trace(B)
    assert (trace is None) == (name in ("none", *TBPTT_CORES))
    assert core.supports_rtrl == (name in RTRL_CORES)
    if isinstance(core, CellCore):
        stored = 1 if name in ("linear_rtu", "lru") else len(core.cell.gates)
        assert trace.matrices.shape == (B, stored, d, N, 16) and not trace.matrices.any()
        assert trace.vectors.shape == (B, len(core.cell.vectors), d, N)
        assert core.double().initial_trace(B).matrices.dtype == torch.float64
        assert core.initial_trace(B, device="meta").vectors.device.type == "meta"


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_reset_forgets(name):
    core, (x, reset) = make(name), random_chunk()
    reset[4] = True
    with torch.no_grad():
        h, _, _ = core.unroll(x, random_state(core), reset)
        h_fresh, _, _ = core.unroll(x[4:], core.initial_state(B), reset[4:])
    torch.testing.assert_close(h[4:], h_fresh, rtol=0, atol=0)


@pytest.mark.parametrize("resets", ["some", "none", "all"])
@pytest.mark.parametrize("backend", ["stretches", "packed", "steps", "auto"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", TBPTT_CORES)
def test_torchs_cells_with_states_zeroed_by_hand(name, layers, backend, resets):
    core, (x, reset) = make(name, layers), random_chunk()
    if resets != "some":
        reset.fill_(resets == "all")
    x.requires_grad_()
    assert isinstance(core, TorchRNN)
    cells: list[nn.RNNCellBase] = []
    for i in range(layers):
        cells.append({"lstm": nn.LSTMCell, "gru": nn.GRUCell}[name](D if i == 0 else N, N).double())
        names = [n for n in core.rnn.state_dict() if n.endswith(f"_l{i}")]
        cells[i].load_state_dict({n.removesuffix(f"_l{i}"): core.rnn.state_dict()[n] for n in names})
    start = random_state(core)
    state = list(start)
    expected = []
    for t in range(T):
        output = x[t]
        for i, cell in enumerate(cells):
            h, *c = (s.clone() for s in state[i::layers])
            for s in (h, *c):
                s[reset[t]] = 0
            after = cell(output, (h, *c) if c else h)
            state[i::layers] = after if c else (after,)
            output = state[i]
        expected.append(output)
    outputs, final, _ = core.unroll(x, start, reset, backend=backend)
    torch.testing.assert_close(outputs, torch.stack(expected), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(final, tuple(state), rtol=1e-12, atol=1e-12)
    theirs = [p for cell in cells for p in cell.parameters()]
    loss, truth = (
        h.square().sum() + last.sum()
        for h, last in ((outputs, final[-1]), (torch.stack(expected), state[-1]))
    )
    ours = torch.autograd.grad(loss, [x, *core.parameters()])
    torch.testing.assert_close(ours, torch.autograd.grad(truth, [x, *theirs]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_elstm_gradients_with_the_output_gate_are_those_of_full_backpropagation(backend, autograd_states):
    core, (x, reset) = make("elstm"), random_chunk()
    assert isinstance(core, ELSTM)
    weights = [core.W_z, core.W_f, core.w_z, core.w_f, core.b_z, core.b_f]
    e = torch.randn(T, B, N, dtype=torch.float64)
    c = autograd_states(x, weights, torch.zeros(B, N).double(), reset)
    h_full = torch.sigmoid(core.output_gate(torch.cat([x, c], -1))) * c
    truth = torch.autograd.grad((e * h_full)[5:].sum(), list(core.parameters()))

    _, state, trace = core.unroll(x[:5], core.initial_state(B), reset[:5], core.initial_trace(B), backend)
    detached = tuple(s.detach() for s in state)
    h, _, _ = core.unroll(x[5:], detached, reset[5:], trace, backend)
    ours = torch.autograd.grad((e[5:] * h).sum(), list(core.parameters()))
    torch.testing.assert_close(h, h_full[5:], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-12)


def test_elstm_starts_as_the_paper_says():
    core = ELSTM(200, 300, forget_bias=2.0)
    for name in ("W_z", "W_f", "w_z", "w_f", "b_z"):
        parameter = core.get_parameter(name)
        assert abs(parameter.mean().item()) < 0.03 and abs(parameter.std().item() - 0.1) < 0.015
    assert abs(core.b_f.mean().item() - 2.0) < 0.03 and abs(core.b_f.std().item() - 0.1) < 0.015
    bound = (200 + 300) ** -0.5
    assert 0.9 * bound < core.output_gate.weight.abs().max().item() <= bound


def test_parameter_names_stay():
    gates = {"W_z", "W_f", "w_z", "w_f", "b_z", "b_f", "output_gate.weight", "output_gate.bias"}
    assert set(make("elstm").state_dict()) == gates
    for name in TBPTT_CORES:
        assert set(make(name, 2).state_dict()) == {
            f"{name}.{kind}_{gate}_l{i}"
            for kind in ("weight", "bias")
            for gate in ("ih", "hh")
            for i in range(2)
        }
    assert not make("none").state_dict()


@pytest.mark.parametrize("name", ["none", *TBPTT_CORES])
def test_a_trace_that_cannot_take_effect_is_refused(name):
    core, (x, reset) = make(name), random_chunk()
    with pytest.raises(ValueError, match=r"^trace was given, but (LSTM|GRU|Identity) is trained by TBPTT"):
        core.unroll(x, random_state(core), reset, make("elstm").initial_trace(B))


@pytest.mark.parametrize("name", NAMES)
def test_a_backend_that_the_core_does_not_have_is_refused(name):
    core, (x, reset) = make(name), random_chunk()
    with pytest.raises(ValueError, match=r"^backend = 'fast'"):
        core.unroll(x, random_state(core), reset, backend="fast")


def test_make_core_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"^core = 'rnn': choose one of"):
        make_core("rnn", D, N)
    with pytest.raises(TypeError, match="forget_bias"):
        make_core("rtu", D, N, forget_bias=1.0)
    with pytest.raises(ValueError, match=r"^num_layers = 2: without a core there is nothing to stack"):
        make_core("none", D, N, num_layers=2)
    with pytest.raises(ValueError, match=r"^input_size = 0"):
        Identity(0)
    with pytest.raises(ValueError, match=r"^hidden_size = 0"):
        make_core("elstm", D, 0)


@pytest.mark.parametrize("name", TBPTT_CORES)
def test_shapes_that_do_not_fit_are_named(name):
    core, (x, reset) = make(name), random_chunk()
    with pytest.raises(ValueError, match=r"expected \[T, B, D\] and \[T, B\]"):
        core.unroll(x, random_state(core), reset[:-1])


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3)])
def test_the_forget_bias_goes_to_the_gate_that_keeps_alone(name: str, gates: int) -> None:
    torch.manual_seed(1)
    plain = make_core(name, 3, 4, num_layers=2)
    torch.manual_seed(1)
    biased = make_core(name, 3, 4, num_layers=2, forget_bias=2.0)
    for key, value in biased.state_dict().items():
        change = value - plain.state_dict()[key]
        kept = "bias_ih" in key
        assert not change.any() or kept
        if kept:
            expected = torch.tensor([0.0] * 4 + [2.0] * 4 + [0.0] * 4 * (gates - 2))
            torch.testing.assert_close(change, expected)


@pytest.mark.parametrize("name", ["elstm", "felstm", "indylstm", "mingru", "lstm", "gru"])
def test_a_spread_start_is_a_forget_bias_of_its_own_for_each_unit(name: str) -> None:
    """Beside the start of a bias of 0, and nothing but that bias moves."""
    cores = []
    for bias in (0.0, "spread"):
        torch.manual_seed(1)
        cores.append(make_core(name, 3, 5, forget_bias=bias))
    flat, spread = (core.state_dict() for core in cores)
    moved = {key: spread[key] - flat[key] for key in flat if not torch.equal(spread[key], flat[key])}
    kept = {"lstm": "lstm.bias_ih_l0", "gru": "gru.bias_ih_l0", "mingru": "b_z"}.get(name, "b_f")
    expected = [0.0, 2.0, 4.0, 6.0, 8.0]
    if name in TBPTT_CORES:
        expected = [0.0] * 5 + expected + [0.0] * 5 * (len(moved[kept]) // 5 - 2)
    sign = -1.0 if name == "mingru" else 1.0
    assert set(moved) == {kept}
    torch.testing.assert_close(moved[kept], sign * torch.tensor(expected))


def test_a_spread_start_forgets_over_times_from_two_steps_to_three_thousand() -> None:
    """And evenly on a logarithmic scale, in between."""
    core = make_core("elstm", 3, 9, forget_bias="spread")
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            parameter.mul_(0.0 if name != "b_f" else 1.0)
        core.b_f.copy_(torch.round(core.b_f))  # without the paper's N(0, 0.1)
        _, (after,) = core.step(torch.zeros(1, 3), (torch.ones(1, 9),), torch.zeros(1, dtype=torch.bool))
    steps = 1.0 / (1.0 - after[0].double())
    assert steps[0] == pytest.approx(2.0) and 2900 < steps[-1] < 3000
    torch.testing.assert_close((steps - 1).log().diff(), torch.ones(8).double(), rtol=1e-2, atol=1e-2)


def test_a_gru_with_a_large_forget_bias_keeps_its_state() -> None:
    core = make_core("gru", 3, 4, forget_bias=50.0)
    (state,) = core.initial_state(2)
    with torch.no_grad():
        after, _ = core.step(torch.randn(2, 3), (state + 0.5,), torch.zeros(2, dtype=torch.bool))
    torch.testing.assert_close(after, state + 0.5)


@pytest.mark.parametrize("name", ["rtu", "linear_rtu", "lru", "block_diagonal"])
def test_rotations_start_between_the_radii_and_below_the_phase(name: str) -> None:
    core = make_core(name, 3, 200, r_min=0.5, r_max=0.8, max_phase=1.5)
    with torch.no_grad():
        if name == "block_diagonal":
            a, c = core.get_parameter("m_11"), core.get_parameter("m_21")
            radius, angle = torch.hypot(a, c), torch.atan2(c, a)
        else:
            radius = torch.exp(-torch.exp(core.get_parameter("nu_log")))
            angle = torch.exp(core.get_parameter("theta_log"))
    for values, low, high in ((radius, 0.5, 0.8), (angle, 0.0, 1.5)):
        assert low - 1e-6 <= values.min() and values.max() <= high + 1e-6  # float32
        assert values.min() < low + 0.1 * (high - low) and values.max() > high - 0.1 * (high - low)


@pytest.mark.parametrize("name", ["rtu", "linear_rtu", "lru"])
@pytest.mark.parametrize("r_min", [0.9999, 0.9999999])
def test_a_radius_starts_below_1_however_near(name: str, r_min: float) -> None:
    """In float32 a square drawn between r_min^2 and 1 may round to 1."""
    core = make_core(name, 1, 10_000, r_min=r_min)
    with torch.no_grad():
        assert torch.exp(-torch.exp(core.get_parameter("nu_log"))).max() < 1
        assert all(torch.isfinite(parameter).all() for parameter in core.parameters())


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("projection", [False, True])
def test_the_linear_trace_unit_projects_its_state_before_the_activation(activation, projection):
    core = make_core("linear_rtu", D, N, activation=activation, projection=projection).double()
    assert isinstance(core, CellCore) and core.output_size == 2 * N
    (x, reset), start = random_chunk(), random_state(core)
    h, final, _ = core.unroll(x, start, reset, core.initial_trace(B))
    last = final[0]
    if projection:
        last = last @ core.get_parameter("projection.weight").T + core.get_parameter("projection.bias")
    torch.testing.assert_close(h[-1], last.clamp(min=0) if activation == "relu" else last)
    torch.autograd.grad(h.square().sum(), list(core.parameters()))  # nothing is left out
    assert (len(core.recurrent_parameters()) < len(list(core.parameters()))) == projection
