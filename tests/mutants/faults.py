"""The planted faults, a file for each room. An entry of `in_file` says

    what is wrong then, the text that stands in the file, exactly once, and what takes its place

and a group which tests should see it: seconds together, since they run once for each fault, up to the first
that fails. Where the code has changed under an entry, mend its text; an entry whose code is gone goes too.
"""

from __future__ import annotations

from tests.mutants import (
    in_actors,
    in_configs,
    in_envs,
    in_kernels,
    in_learner,
    in_objectives,
    in_records,
    in_rtrl,
    in_training,
)

MUTANTS = [
    *in_kernels.MUTANTS,
    *in_learner.MUTANTS,
    *in_objectives.MUTANTS,
    *in_rtrl.MUTANTS,
    *in_records.MUTANTS,
    *in_actors.MUTANTS,
    *in_envs.MUTANTS,
    *in_configs.MUTANTS,
    *in_training.MUTANTS,
]
