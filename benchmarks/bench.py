"""`launch.py bench`: how fast this machine is at what a run does, and what to change.

    bench [system] [PRESET]   the whole system against the ceiling of its acting and learning; the bottleneck
    bench runs                whole training runs in turn: exact RTRL, TBPTT and another commit
    bench learner             a learner step by exact RTRL against TBPTT
    bench options             the same under each setting of compute.*: bfloat16, TF32, torch.compile
    bench ingest              GB/s of rollouts through one learner's data path, against a copy of memory
    bench scale               what the learner's thread pays for a rollout, by the number of actors
    bench acting [PRESET]     agent steps/s by slots of an actor, threads and groups

Each has `--help` and `--json FILE`, and says on the way what it does. Measurements take turns; what is told
are medians, with 95 % bootstrap intervals.
"""

from __future__ import annotations

import importlib

from configs.presets import preset
from configs.schema import ConfigError

VERBS = {
    "system": "benchmarks.system.bench",
    "runs": "benchmarks.fleet.runs",
    "learner": "benchmarks.learner_step",
    "options": "benchmarks.options",
    "ingest": "benchmarks.fleet.ingest",
    "scale": "benchmarks.fleet.scale",
    "acting": "benchmarks.fleet.acting",
}


def main(arguments: list[str]) -> int:
    """Raises ConfigError for what is neither a verb nor a preset."""
    if arguments[:1] in (["-h"], ["--help"]):
        print((__doc__ or "").rstrip())
        return 0
    verb, rest = "system", arguments
    if arguments and arguments[0] in VERBS:
        verb, *rest = arguments
    elif arguments and not arguments[0].startswith("-"):
        try:
            preset(arguments[0])
        except ConfigError as error:
            raise ConfigError(
                f"{arguments[0]!r} is neither a benchmark ({', '.join(VERBS)}) nor a preset: {error}"
            ) from error
    return importlib.import_module(VERBS[verb]).main(rest)
