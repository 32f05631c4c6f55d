"""Faults in `kernels/`. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

_STREAM = "kernels/test_elstm.py::test_rtrl_chunk_by_chunk_is_backpropagation_through_the_whole_stream"
_CERTIFICATE = "kernels/rtrl/test_certificate.py"
_CERTIFIED = f"{_CERTIFICATE}::test_every_parameter_has_the_gradient_of_the_whole_stream"
_FUSED = f"{_CERTIFICATE}::test_on_triton_within_float32"
_DERIVED = f"{_CERTIFICATE}::test_a_cell_that_tells_its_equation_alone_is_exact_too"

MUTANTS = [
    *in_file(
        "kernels/vtrace/reference.py",
        "kernels/test_vtrace.py",
        ("a step's next value is not discounted", "select_product(discounts, next_values)", "next_values"),
        ("c is not clipped", "_clipped(rhos, clip_c) * lambda_", "rhos * lambda_"),
        ("lambda is left out", "_clipped(rhos, clip_c) * lambda_", "_clipped(rhos, clip_c)"),
        ("the advantage has rho's clip", "_clipped(rhos, clip_pg_rho)", "_clipped(rhos, clip_rho)"),
        (
            "the advantage looks one step ahead",
            "continues[:-1], vs[1:], next",
            "continues[:-1], next_values[:-1], next",
        ),
        (
            "the recursion goes through an end",
            "torch.where(continues[t], decays[t] * correction, 0)",
            "decays[t] * correction",
        ),
        ("rho is its logarithm", "clamp(max=MAX_LOG_RHO).exp()", "clamp(max=MAX_LOG_RHO)"),
    ),
    *in_file(
        "kernels/vtrace/triton.py",
        "kernels/test_triton.py::test_vtrace_is_at_most_twice_as_far_from_float64_as_the_reference "
        "kernels/test_triton.py::test_vtrace_cuts_by_selection_and_hides_no_nan",
        ("c has rho's clip", "_clipped(rho, clip_c)", "_clipped(rho, clip_rho)"),
        ("the last step's target is 0", "goes_on, following, next_value", "back > 0, following, next_value"),
    ),
    *in_file(
        "kernels/rtrl/reference.py",
        f"{_STREAM}[reference] {_CERTIFIED}[elstm-reference-False] "
        "kernels/test_elstm.py::test_chunked_equals_reference_on_any_shape",
        (
            "the vectors' trace does not decay",
            "return matrices + torch",
            "vectors = trace[1]\n    return matrices + torch",
        ),
        ("a trace lives through a reset", "torch.where(gone[:, None], torch.zeros_like(A), A)", "A"),
        ("the adjoint does not decay", "lam = select_product(A[t], lam[:, :, None]).sum(1)", "pass"),
    ),
    *in_file(
        "kernels/rtrl/chunked.py",
        f"{_STREAM}[chunked] kernels/test_elstm_bank.py::test_equals_the_gathered_trace "
        f"{_CERTIFIED}[rtu_relu/exp_exp/exp-chunked-True]",
        (
            "the state lives through a reset",
            "        before = _after_reset(before, columns)\n        cell.step",
            "        cell.step",
        ),
        ("the trace lives through a reset", "_forget_(rows, resets[t])", "pass"),
        ("the direct gradient comes once", "rows[:, 0].add_(e[t])", "rows[:, 0].copy_(e[t])"),
        ("the suffix product begins at 0", "rows[:, adjoint + i, i] = 1.0", "rows[:, adjoint + i, i] = 0.0"),
        (
            "the boundary term of gathered matrices is subtracted",
            "grad_W += boundary_of_gathered(",
            "grad_W -= boundary_of_gathered(",
        ),
        (
            "the boundary term of vectors is lost",
            "grad_psi += select_product(lam_0[:, None], own).sum((0, 2))",
            "pass",
        ),
        ("vectors of the bank stay as they were", "vectors.index_copy_(0, rows, carried", "(carried"),
        (
            "banked vectors forget their past",
            "carried + v.transpose(1, 2)",
            "0 * carried + v.transpose(1, 2)",
        ),
        ("a bias has no gradient", "v[:, :, cell.biases].add_(q[t])", "pass"),
        (
            "P is transposed",
            "select_product(P_0[:, None], vectors",
            "select_product(P_0.transpose(1, 2)[:, None], vectors",
        ),
    ),
    *in_file(
        "kernels/rtrl/triton.py",
        f"{_FUSED}[elstm] {_FUSED}[indylstm] {_FUSED}[lru]",
        ("a state of a neighbouring stream is read", "h + (row - B) * (d * N)", "h + (row - 1) * (d * N)"),
        ("the adjoint lives through a reset", "lam = select(keep, lam, d)", "pass"),
        (
            "the second row of P is the first",
            "by_psi = PULL(P_1,",
            "by_psi = PULL(P_0,",
        ),
        (
            "the second number's boundary term is lost",
            "total += select_product(lam[1], old[1])",
            "total += 0.0",
        ),
        ("a bias's trace has no update", "s_0 = add(s_0, by_psi + by_u if BIASES else by_psi, V)", "pass"),
    ),
    *in_file(
        "kernels/rtrl/cell.py",
        f"{_DERIVED}[elstm] {_DERIVED}[indylstm]",
        ("the derived pullback keeps the last row", "v[:, r] += by_psi", "v[:, r] = by_psi"),
    ),
    *in_file(
        "kernels/rtrl/trace.py",
        "kernels/test_elstm_bank.py",
        ("a backward may run twice", 'if self._stage != "awaited":', 'if self._stage == "fresh":'),
        ("a forgotten backward goes unnoticed", ".intersection(self._numbers)", ".intersection([])"),
    ),
    *in_file(
        "kernels/cells/elstm/cell.py",
        f"{_STREAM}[chunked] kernels/test_cells.py",
        ("zi has a wrong sign", "value=-1, out=z", "value=1, out=z"),
        ("the Jacobian lacks the forget gate's part", "torch.addcmul(f, w_f, moved, out=a)", "a.copy_(f)"),
        ("acting, the gates are swapped", "torch.lerp(z, c, f)", "torch.lerp(c, z, f)"),
    ),
    *in_file(
        "kernels/cells/elstm/triton.py",
        "kernels/test_triton.py::test_is_at_most_twice_as_far_from_float64_as_the_reference[100-2-20-3-banked]",
        ("the gates' weights are swapped in the Jacobian", "zi * k[0] + fi * k[1]", "zi * k[1] + fi * k[0]"),
        ("fi lacks its closed half", "fi = closed * moved", "fi = moved"),
        ("w_f gathers with z's gate", "q_f * before[0])", "q_z * before[0])"),
    ),
    *in_file(
        "kernels/cells/elstm/core.py",
        "kernels/test_cells.py",
        (
            "the output gate does not see the input",
            "torch.cat([x, c], dim=-1)",
            "torch.cat([0 * x, c], dim=-1)",
        ),
        ("the forget bias is given to the other gate", "self.b_f.add_(", "self.b_z.add_("),
    ),
    *in_file(
        "kernels/cells/recurrent.py",
        "kernels/test_cells.py "
        "learner/rtrl/test_controls.py::test_immediate_credit_is_the_derivative_of_one_step",
        (
            "acting, the state lives through a reset",
            "zero_at(reset, state[0])",
            "state[0]",
        ),
        (
            "credit of one step is that of all",
            "x.flatten(0, 1)[None], before, reset.flatten()[None]",
            "x, state[0], reset",
        ),
    ),
    *in_file(
        "kernels/cells/rtu/cell.py",
        f"{_CERTIFIED}[rtu_tanh/exp_exp/exp-chunked-True] {_CERTIFIED}[lru-chunked-True] "
        f"{_CERTIFIED}[lru-reference-False]",
        ("theta's factor is left out", "by_theta = theta if", "by_theta = torch.ones_like(theta) if"),
        (
            "gamma_log stands for its exponential",
            "/ gamma if self.tied else gamma",
            "/ gamma if self.tied else psi[2]",
        ),
        ("the rotation turns the other way", "s_2.mul_(g).sub_(turned)", "s_2.mul_(g).add_(turned)"),
        (
            "lam_0 is turned the other way",
            "[lam_0[:, 1], -lam_0[:, 0]]",
            "[-lam_0[:, 1], lam_0[:, 0]]",
        ),
    ),
    *in_file(
        "kernels/trace/reference.py",
        "kernels/test_trace.py::test_torch_backends_equal_the_formula",
        (
            "the Jacobian is transposed",
            "select_product(decay[:, None, ..., None], S[:, :, None]).sum(3)\n    S =",
            "select_product(decay.transpose(1, 2)[:, None, ..., None], S[:, :, None]).sum(3)\n    S =",
        ),
        (
            "two numbers of state do not mix",
            "after.addcmul_(factor, number)",
            "after.addcmul_(factor, each[0])",
        ),
        (
            "row by row, a boundary term is left out",
            "term.addcmul_(vector, number)",
            "term.addcmul_(vector, each[0])",
        ),
        (
            "all at once, the trace does not decay",
            "            S.mul_(by[:, :, 0])\n",
            "            pass\n",
        ),
        (
            "all at once, two numbers of state do not mix",
            "S[:, :, 1:], by[:, :, :, 1])",
            "S[:, :, 1:], 0 * by[:, :, :, 1])",
        ),
        (
            "all at once, the rows of update are not those of the trace",
            "update.transpose(2, 3).flatten(2)",
            "update.flatten(2)",
        ),
    ),
    *in_file(
        "kernels/trace/triton.py",
        "kernels/test_trace.py::test_triton_is_at_most_twice_as_far_from_float64_as_torch",
        (
            "the second half of the boundary term is subtracted",
            "sum_0 += select_product(tl.load(at_lam + N,",
            "sum_0 -= select_product(tl.load(at_lam + N,",
        ),
        ("the Jacobian is symmetric", "at_a + 2 * N", "at_a + N"),
        ("one share of the batch is counted", ".sum(0) if L", "[0] if L"),
        ("steps past the end are added", "in_t = t < T", "in_t = t <= T"),
        ("inputs are as wide as the trace", "if padded > D:", "if padded < D:"),
        (
            "of a share the last column is left out",
            "share * columns + columns, B",
            "share * columns + columns - 1, B",
        ),
    ),
    *in_file(
        "kernels/trace/__init__.py",
        "kernels/test_trace.py::test_every_guard_names_its_argument",
        ("a row may be named twice", "len(set(values)) < len(values)", "len(set(values)) > len(values)"),
    ),
    *in_file(
        "kernels/cells/torch_rnn.py",
        "kernels/test_cells.py",
        (
            "a packed piece forgets without a reset",
            "(start == 0) & ~reset[0, column]",
            "(start == 0) & reset[0, column]",
        ),
        (
            "the stepped cell's memory lives through a reset",
            "[zero_at(reset_t, s) for s in layer]",
            "[zero_at(reset_t, layer[0]), *layer[1:]]",
        ),
    ),
    *in_file(
        "kernels/rtrl/chunked.py",
        f"{_CERTIFIED}[lru-chunked-True]",
        ("what came before a reset moves a fixed cell's trace", "_forget_(sums, columns, axis=1)", "pass"),
        (
            "what the state before was moves a vector's trace twice",
            "moved = h[-1] - select_product(P_0, h_0[:, None]).sum(2)",
            "moved = h[-1]",
        ),
        (
            "an input that a reset follows is cut one step late",
            "cut = torch.cat([later[1:], torch.zeros_like(later[:1])])",
            "cut = torch.cat([later[2:], torch.zeros_like(later[:2])])",
        ),
        (
            "a fixed cell's trace lives through a reset",
            "masked_fill(later[0, :, None, None, None], 0.0)",
            "clone()",
        ),
    ),
    *in_file(
        "kernels/cells/felstm/core.py",
        "kernels/rtrl/test_snap1.py",
        ("a unit's own entry counts twice", "return R - torch.diag(R.diagonal())", "return R"),
        (
            "the boundary term forgets a unit's own entry",
            "_off_diagonal(M[:, D:]) + torch.diag(own)",
            "_off_diagonal(M[:, D:])",
        ),
        (
            "the other units' states are taken as before a reset",
            "before = zero_at(reset, torch.cat([h_0[None], c[:-1, :, 0]]))",
            "before = torch.cat([h_0[None], c[:-1, :, 0]])",
        ),
    ),
]
