"""Faults in `learner/records/`. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

MUTANTS = [
    *in_file(
        "learner/records/evaluations.py",
        "learner/records/test_evaluations.py::test_weights_have_their_step_also_where_updates_had_fewer",
        ("updates have all their steps (ranks)", "            self._short.append(", "            str("),
        ("what was short is forgotten too soon (ranks)", "if one[0] > finished.version]", "if False]"),
    ),
    *in_file(
        "learner/records/metrics.py",
        "learner/records/test_metrics.py",
        ("the first learner's totals are all (ranks)", 'if spec.reduction == "last" else', "if True else"),
        ("games of the others are not told (ranks)", 'for game in window["games"]', "for game in []"),
    ),
    *in_file(
        "learner/records/metrics.py",
        "learner/records/test_metrics.py",
        ("a maximum is a minimum", "return max(values)", "return min(values)"),
        ("the first value is the last", "return values[-1]", "return values[0]"),
        ("a mean is a sum", "return sum(values) / len(values)", "return sum(values)"),
        ("windows run into each other", "        self._window.clear()\n", ""),
        ("episode lengths are returns", "float(finished.episodic_length)", "float(finished.episodic_return)"),
        ("a rate is since the start", "self._total, self._time = total, now", "pass"),
    ),
    *in_file(
        "learner/records/evaluations.py",
        "learner/records/test_evaluations.py",
        (
            "an evaluation is asked for at every update",
            "self._last = step // self._interval\n        self._take",
            "self._take",
        ),
        (
            "the run ends without its last evaluation",
            "while self._done != self._now.updates and",
            "while self._done < 0 and",
        ),
        (
            "std is the mean",
            '"eval/episodic_return_std": result.std',
            '"eval/episodic_return_std": result.mean',
        ),
    ),
    *in_file(
        "learner/records/checkpoint.py",
        "learner/records/test_checkpoint.py::test_round_trip "
        "learner/records/test_checkpoint.py::test_keeps_the_last_k "
        "learner/records/test_checkpoint.py::test_flipped_bits_are_refused "
        "learner/records/test_checkpoint.py::test_a_save_drops_the_abandoned_future "
        "learner/records/test_checkpoint.py::test_saving_a_step_again_replaces_it "
        "learner/records/test_checkpoint.py::test_unknown_format_is_refused_by_name_and_not_passed_over "
        "learner/records/test_checkpoint.py::test_what_cannot_be_read_is_not_passed_over "
        "learner/records/test_checkpoint.py::test_death_before_each_call_to_the_disk",
        ("one checkpoint too many is kept", "kept > keep_last", "kept > keep_last + 1"),
        ("an abandoned future is kept", "later or kept", "kept"),
        ("the oldest is taken for the newest", "sorted(found, reverse=True)", "sorted(found)"),
        (
            "damaged tensors are read",
            'hashlib.sha256(data).hexdigest() != content["tensors_sha256"]',
            "False",
        ),
        ("damaged counters are read", "    if not intact:", "    if False:"),
        (
            "what cannot be read is taken for damaged",
            "if not isinstance(error, DamagedCheckpointError):",
            "if False:",
        ),
        ("another format is read", "if type(version) is int and version != FORMAT_VERSION", "if False"),
        (
            "a checkpoint is removed before its successor stands",
            "            os.rename(final, replaced)",
            "            shutil.rmtree(final)",
        ),
    ),
    *in_file(
        "learner/records/state.py",
        "learner/records/test_state.py",
        ("a tuple comes back as a list", "return tuple(_join(", "return list(_join("),
        ("an array comes back as a tensor", 'tensors[value] if kind == "tensor"', "tensors[value] if True"),
        ("another shape is spread over what is there", "if tensor.shape != saved.shape:", "if False:"),
    ),
    *in_file(
        "learner/records/run_dir.py",
        "experiments/test_runner.py::test_a_run_that_still_trains_is_not_begun_anew",
        (
            "a run that trains is removed",
            "lock = _acquire(Path(path))",
            'lock = FileLock(Path(path) / ".other")',
        ),
    ),
]
