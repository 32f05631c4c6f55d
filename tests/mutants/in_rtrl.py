"""Faults in `learner/rtrl/`. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

MUTANTS = [
    *in_file(
        "learner/rtrl/trace_bank.py",
        "learner/rtrl/test_trace_bank.py learner/rtrl/test_fresh_traces.py learner/rtrl/test_controls.py",
        (
            "a gap goes unnoticed",
            "expected != (piece.incarnation, piece.sequence_number)",
            "expected is None or expected[0] != piece.incarnation",
        ),
        (
            "a new life goes unnoticed",
            "expected != (piece.incarnation, piece.sequence_number)",
            "expected is None or expected[1] != piece.sequence_number",
        ),
        (
            "columns share a row",
            "indices += piece.streams",
            "indices += [piece.first_stream] * piece.num_streams",
        ),
        ("a stream's first rollout is a break", "or piece.sequence_number > 0", "or True"),
        ("a broken stream keeps its trace", "fresh.append(stream)", "pass"),
        ("fresh traces are zeros", "mine.index_copy_(0, rows, new)", "mine.index_copy_(0, rows, 0 * new)"),
        ("traces below the bound are scaled up to it", ".clamp(max=1.0)", ""),
        ("the bound is of each tensor", "for row in rows]).sum(0)", "for row in rows]).amax(0)"),
        ("a saved bank begins anew", "fill(tensor, value)", "pass"),
    ),
    *in_file(
        "learner/rtrl/rtrl.py",
        "learner/rtrl/test_boundary_metrics.py learner/rtrl/test_fresh_traces.py "
        "learner/rtrl/test_controls.py",
        ("the control keeps its boundary term", "if not options.boundary:", "if False:"),
        (
            "the history is empty",
            "            self._history.append(batch)\n",
            "",
        ),
        ("clips of the last update alone are told", "self.clips = self.clips + step", "self.clips = step"),
        (
            "staleness compares a gradient with itself",
            "cosine(gradients(parameters), exact)",
            "cosine(exact, exact)",
        ),
        (
            "the share is of the advanced trace",
            "carried = traces.gather()",
            "carried = [layer.bank for layer in traces.layers]",
        ),
    ),
    *in_file(
        "learner/rtrl/history.py",
        "learner/rtrl/test_controls.py learner/rtrl/test_fresh_traces.py",
        ("an earlier life is remembered", "past.clear()", "pass"),
        (
            "the history begins in its last rollout's state",
            "stream[0].initial_state",
            "stream[-1].initial_state",
        ),
        (
            "columns get each other's traces",
            "rows = torch.tensor(list(group)",
            "rows = torch.tensor(list(group)[::-1]",
        ),
        ("twice as much is kept", "maxlen=self._rollouts", "maxlen=2 * self._rollouts"),
        (
            "episodes run into each other",
            "policy.core.unroll(x, state, reset, policy",
            "policy.core.unroll(x, state, 0 * reset == 1, policy",
        ),
    ),
    *in_file(
        "learner/rtrl/diagnostics.py",
        "learner/rtrl/test_boundary_metrics.py",
        ("boundary_grad_frac is ten times too large", "_norm(boundary) /", "10 * _norm(boundary) /"),
        ("trace_norm is a sum over streams", "/ math.sqrt(lam_0[0].shape[0])", "/ 1.0"),
        (
            "a norm is a square",
            "return torch.linalg.vector_norm(torch.stack(norms))",
            "return torch.stack(norms).square().sum()",
        ),
        ("a cosine is not normalised", "dot / norms, 1.0", "dot, 1.0"),
    ),
]
