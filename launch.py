"""Evertrace from the command line: parse, build, run, close.

    launch.py train PRESET [--field value ...]        a new run
    launch.py train --resume RUN_DIR [--field ...]    go on with one; the command line wins
    launch.py train PRESET --run-dir DIR --auto-resume [...]   begin in DIR, or go on with this run there
    launch.py eval RUN_DIR [--episodes N] [--greedy] [--checkpoint C] [--json FILE] [--env.field value ...]
    launch.py enjoy RUN_DIR [--out FILE] [--episodes N] [--checkpoint C] [--env.field value ...]   a video
    launch.py experiment NAME [--seeds S ...]         all arms of a comparison, to a table and a figure
    launch.py sweep SPACE.yaml [--out DIR]            many trials on a cluster: ASHA, PBT, Optuna (Ray Tune)
    launch.py bench [VERB] [PRESET] [--json FILE] [...]   the bottleneck here; six verbs: --help
    launch.py plot RUN_DIR ... [--out DIR] [--metric NAME] [--by FIELD ...]   curves, throughput, lag, traces
    launch.py scale RUN_DIR --num-actors N            changes a run that trains; `auto` follows the cluster
    launch.py status RUN_DIR [--watch]                where a run stands
    launch.py dashboard [--entity E] [--project P] [--url URL] [--dry-run]   a W&B workspace of every metric
    launch.py doctor [--json FILE]                    what is installed, which suites can run

The data of a training run:

    actors/  one RolloutWorker an actor              learner/  this process, or ranks in Ray (training/)
    +-------------------------------+                +---------------------------------------+
    | envs -> x_t, r_t, done_t      |    Rollout     | Batcher -> Batch -> Learner.update    |
    |   ^                           | -------------> |   TraceBank: a row of traces a stream |
    |   +-- action -- Policy.step   |  object store  |   V-trace, gradient, RMSprop          |
    |       (recurrent state only)  | <------------- | Publisher: weights by version         |
    +-------------------------------+  WeightSource  | Metrics -> sinks; checkpoints         |
                                                     +---------------------------------------+

Exit codes: 0 done, 1 a run that failed, 2 a bad command line or config.
SIGTERM, SIGHUP or the first Ctrl-C: a checkpoint, then a clean end. The second Ctrl-C: at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch

from actors.collect import check_device
from actors.fleet.cluster import check_lasting, ray_session
from actors.fleet.fleet import FleetError
from actors.inference import DivergedError
from actors.output import lasting_output
from actors.play.evaluate import check_evaluation
from actors.play.video import VideoError
from actors.policy import Policy
from actors.policy.precision import check_compute, told
from command_line import Start, asked_to_train
from configs.layout import described, laid_out, laid_out_in_cluster, machine_named
from configs.learners import Part
from configs.machine import available_cores, available_memory
from configs.paths import new_file_argument
from configs.schema import Config, ConfigError
from envs.doctor import diagnose, report
from envs.make import check_env, env_spec
from envs.spec import EnvError, EnvFaultError
from learner.budget import gpu_memory, within_memory
from learner.learner import LearnerError, resolve_device
from learner.loop import StopFlag
from learner.memory import OutOfMemory
from learner.publish import PublishError
from learner.records.checkpoint import CheckpointError
from learner.records.metrics_file import SinkError
from learner.records.run_dir import RunDir, RunDirError
from learner.records.wandb_variables import mode as wandb_mode
from learner.records.wandb_variables import named
from training.learning import Ending, LearnerFailedError, Learning
from training.records import Records
from training.signals import on_stop

BAD_INPUT = (ConfigError, EnvError, RunDirError)
NO_ACTION = (EnvFaultError, FleetError, DivergedError)
FINAL = (*BAD_INPUT, *NO_ACTION, LearnerError, CheckpointError, SinkError, VideoError)
"""Starting anew would not mend them."""
FAILURES = (*FINAL, PublishError, OutOfMemory, LearnerFailedError)


def train(arguments: list[str]) -> int:
    start = asked_to_train(arguments)
    with ExitStack() as signals, ExitStack() as held, ExitStack() as workers:  # the last ends first
        code = run(start, signals, held, workers)
        if __name__ == "__main__":
            signals.pop_all()  # the process ends next: till then a late signal stays harmless
    return code


def run(start: Start, signals: ExitStack, held: ExitStack, workers: ExitStack) -> int:
    """Builds and runs one training run. Nothing on disk changes until all input was found good: the records
    begin last, after the environments, the cluster and its nodes, and a learner that is ready."""
    stop = StopFlag()

    def ask(name: str) -> None:
        stop.reason = stop.reason or f"stopped by {name}"

    on_stop(signals, ask)
    config = dataclasses.replace(start.config, wandb=named(start.config.wandb, os.environ))
    wandb_mode(config.wandb, os.environ)  # a bad WANDB_MODE is found now
    run_dir = None
    if start.resume:
        assert config.run_dir is not None
        run_dir = RunDir.open(config.run_dir)
        held.callback(run_dir.release)
    else:
        check_lasting(config.run_dir)
        if config.run_dir is not None:
            RunDir.check_free(config.run_dir)
    runs = Path("runs").absolute()  # an environment may change the working directory
    check_env(config.env)
    if config.eval.interval_steps:
        check_evaluation(config)
    spec = env_spec(config.env)
    device = resolve_device(config.device, Part(0, config.num_learners))
    own_ray = not config.ray.joined
    cores, memory = available_cores(), available_memory()
    gpus = gpu_memory()
    # Beside a GPU one core is the learner's thread's.
    free_cores = cores - config.num_learners * (device.type == "cuda")
    laid = laid_out(config, max(1, free_cores), memory / 2**20, len(gpus))
    if own_ray:
        check_device(laid)
    policy = Policy(spec, config.policy)
    laid = within_memory(laid, policy, spec, device, memory, own_ray, gpus)
    check_compute(laid.compute, policy, device, laid.acting_device)
    computed = told(laid.compute, device)

    chosen_for = "one process" if config.runtime == "inline" else machine_named(cores, len(gpus))
    if config.runtime == "ray":
        lent = 0 if laid.acting_device == "cpu" else len(gpus)
        free = workers.enter_context(ray_session(laid.ray, laid.num_cpus, config.env, lent))
        if free is not None:
            laid, chosen_for = laid_out_in_cluster(config, *free)
    layout = described(config, laid, chosen_for)
    print(layout, computed, sep="\n", flush=True)
    records = Records(config, layout, run_dir, runs, stop.seconds_left)
    held.callback(records.close)
    if config.runtime == "inline":
        ending = train_inline(laid, records, stop, workers)
    else:
        from training.gang import Gang  # the inline runtime works without Ray installed

        ending = Gang(laid, records, stop, FINAL, start.resume).run()
    records.end_well()
    assert records.run_dir is not None
    where = f"{ending.global_step:,} steps, {ending.updates:,} updates, saved in {records.run_dir.path}"
    print(f"{ending.reason}: {where}")
    return 0


def train_inline(laid: Config, records: Records, stop: StopFlag, workers: ExitStack) -> Ending:
    """Acts and learns in this process."""
    learning = Learning(laid, None if records.run_dir is None else records.run_dir.path, workers)
    path = records.begin(learning.learner.global_step)
    return learning.run(path / "checkpoints", records, stop)


def later(module: str, function: str = "main") -> Callable[[list[str]], int]:
    """A verb whose module is imported when it is asked for: no other verb needs what it imports."""
    return lambda arguments: getattr(importlib.import_module(module), function)(arguments)


def doctor(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="launch.py doctor", description="What is installed, which suites run."
    )
    parser.add_argument("--json", type=new_file_argument, help="also write the result to this file")
    options = parser.parse_args(arguments)
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    result = diagnose() | {"gpus": gpus}
    print(f"{report(result)}\n\nGPUs: {', '.join(gpus) or 'none, the learner runs on the CPU'}")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


VERBS = {
    "train": train,
    "eval": later("play", "evaluate_run"),
    "enjoy": later("play", "enjoy_run"),
    "experiment": later("experiments.runner"),
    "bench": later("benchmarks.bench"),
    "plot": later("experiments.curves.curves"),
    "scale": later("learner.records.scale"),
    "sweep": later("sweeps.sweep"),
    "dashboard": later("learner.records.dashboard"),
    "status": later("training.status"),
    "doctor": doctor,
}

LASTING = ("train", "experiment", "sweep")
"""Verbs that run for days, and go on where nothing can be printed any more."""


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print((__doc__ or "").split("The data of")[0].rstrip())
        return 0 if arguments else 2
    with lasting_output() if arguments[0] in LASTING else nullcontext():
        return run_verb(arguments)


def run_verb(arguments: list[str]) -> int:
    verb = VERBS.get(arguments[0])
    if verb is None:
        print(f"launch.py: unknown verb {arguments[0]!r}; choose one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    # torch takes the CPU affinity into account, not the quota of a container.
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    try:
        return verb(arguments[1:])
    except KeyboardInterrupt:  # before a run's own handlers are set
        print(f"launch.py {arguments[0]}: interrupted", file=sys.stderr)
        return 130
    except BAD_INPUT as error:
        print(f"launch.py {arguments[0]}: {error}", file=sys.stderr)
        return 2
    except FAILURES as error:
        print(f"launch.py {arguments[0]} failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # The result stands: no signal may turn it into another one while the interpreter takes itself down.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
