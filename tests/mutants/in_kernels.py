"""Faults in `kernels/`. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

_STREAM = "kernels/test_elstm.py::test_rtrl_chunk_by_chunk_is_backpropagation_through_the_whole_stream"

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
        "kernels/elstm/reference.py",
        f"{_STREAM}[reference]",
        ("w_z's trace does not decay", "w_z=select_product(a, trace.w_z) + zi", "w_z=trace.w_z + zi"),
        ("W_f's trace has the input gate", "trace.W_f) + fi[:, :, None]", "trace.W_f) + zi[:, :, None]"),
        ("the Jacobian lacks the forget gate's part", "(f + zi * w_z + fi * w_f)", "(f + zi * w_z)"),
        (
            "a trace lives through a reset",
            ".masked_fill(at[t], 0)\n            states",
            "\n            states",
        ),
    ),
    *in_file(
        "kernels/elstm/chunked.py",
        f"{_STREAM}[chunked] kernels/test_elstm_bank.py::test_equals_the_gathered_trace",
        (
            "the state lives through a reset",
            "            c_prev = c_prev.masked_fill(at[t], 0)",
            "            pass",
        ),
        ("zi has a wrong sign", "value=-1, out=z", "value=1, out=z"),
        ("the trace lives through a reset", "a[t].masked_fill_(at[t], 0)", "pass"),
        ("the adjoint does not decay", "lam.mul_(a[t])", "pass"),
        ("the suffix product stands still", "P.mul_(a[t])", "pass"),
        (
            "the boundary term of gathered matrices is subtracted",
            "        grad_W += torch.stack(",
            "        grad_W -= torch.stack(",
        ),
        (
            "the boundary term of banked vectors is lost",
            "gradient += select_product(lam[:, None], vectors)",
            "pass",
        ),
        ("vectors of the bank stay as they were", "s.index_copy_(0, rows, advanced)", "pass"),
        ("banked vectors forget their past", "added += select_product(P[:, None], vectors)", "pass"),
        (
            "a bias's trace is counted with the state",
            "added[:, 2:].add_(p[t])",
            "added[:, 2:].addcmul_(p[t], previous[t][:, None])",
        ),
    ),
    *in_file(
        "kernels/elstm/triton.py",
        "kernels/test_triton.py::test_is_at_most_twice_as_far_from_float64_as_the_reference[100-2-20-3-banked]",
        (
            "the gates' weights are swapped in the Jacobian",
            "f + zi * w_z + fi * w_f",
            "f + zi * w_f + fi * w_z",
        ),
        ("fi lacks its closed half", "fi = closed * moved", "fi = moved"),
        ("a state of a neighbouring stream is read", "(row - B) * N + n", "(row - 1) * N + n"),
        ("b_f's trace is b_z's", "q_b_f += p_f", "q_b_f += p_z"),
        (
            "w_f's boundary term has w_z's trace",
            "g_w_f += select_product(lam, old_w_f)",
            "g_w_f += select_product(lam, old_w_z)",
        ),
        ("the trace lives through a reset", "tl.where(keep, jacobian, 0.0)", "jacobian"),
    ),
    *in_file(
        "kernels/trace/reference.py",
        "kernels/test_trace.py::test_torch_backends_equal_the_formula "
        "kernels/test_trace.py::test_a_recurrent_trace_unit_gets_the_gradient_of_full_backpropagation",
        (
            "the Jacobian is transposed",
            "decay[..., None], S[:, None]).sum(2)",
            "decay.transpose(1, 2)[..., None], S[:, None]).sum(2)",
        ),
        ("two numbers of state do not mix", "before[1 - i])", "before[i])"),
        (
            "row by row, a boundary term is left out",
            "lam_0[b, i, :, None], before[i])",
            "lam_0[b, 0, :, None], before[0])",
        ),
        (
            "all at once, the trace does not decay",
            "            S.mul_(decay[:, 0, 0, :, None])\n",
            "            pass\n",
        ),
    ),
    *in_file(
        "kernels/trace/triton.py",
        "kernels/test_trace.py::test_triton_is_at_most_twice_as_far_from_float64_as_torch",
        (
            "the second half of the boundary term is subtracted",
            "sum_b += select_product(lam_im",
            "sum_b -= select_product(lam_im",
        ),
        ("the Jacobian is symmetric", "(4 * N) + 2 * N + n", "(4 * N) + N + n"),
        ("one share of the batch is counted", "return partial.sum(0)", "return partial[0]"),
        ("steps past the end are added", "in_t = t < T", "in_t = t <= T"),
    ),
    *in_file(
        "kernels/trace/__init__.py",
        "kernels/test_trace.py::test_every_guard_names_its_argument",
        ("a row may be named twice", "len(set(values)) < len(values)", "len(set(values)) > len(values)"),
    ),
    *in_file(
        "kernels/elstm/bank.py",
        "kernels/test_elstm_bank.py",
        ("a backward may run twice", 'if self._stage != "awaited":', 'if self._stage == "fresh":'),
        ("a forgotten backward goes unnoticed", ".intersection(self._numbers)", ".intersection([])"),
    ),
    *in_file(
        "kernels/cells/elstm.py",
        "kernels/test_cells.py "
        "learner/rtrl/test_controls.py::test_immediate_credit_is_the_derivative_of_one_step",
        ("acting, the state lives through a reset", "c = zero_at(reset, state[0])", "c = state[0]"),
        (
            "credit of one step is that of all",
            "c, _ = elstm(flat_x, *self._weights(), before, flat_reset)",
            "c, _ = elstm(x, *self._weights(), state[0], reset)\n        c = c.flatten(0, 1)[None]",
        ),
        (
            "the output gate does not see the input",
            "torch.cat([x, c], dim=-1)",
            "torch.cat([0 * x, c], dim=-1)",
        ),
        (
            "the forget bias is given to the other gate",
            "self.b_f.add_(forget_bias)",
            "self.b_z.add_(forget_bias)",
        ),
    ),
    *in_file(
        "kernels/cells/lstm.py",
        "kernels/test_cells.py",
        (
            "a packed piece forgets without a reset",
            "(start == 0) & ~reset[0, column]",
            "(start == 0) & reset[0, column]",
        ),
        (
            "the stepped cell's memory lives through a reset",
            "zero_at(reset_t, c)), *weights",
            "c), *weights",
        ),
    ),
]
