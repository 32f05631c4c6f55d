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
    launch.py dashboard [--entity E] [--project P] [--url URL] [--dry-run]   a W&B workspace of every metric
    launch.py doctor [--json FILE]                    what is installed, which suites can run

The data of a training run:

    actors/  one RolloutWorker an actor              learner/  this process
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
from types import FrameType

import torch

from actors.collect import check_device
from actors.fleet.cluster import check_lasting, ray_session
from actors.fleet.fleet import FleetError, make_fleet
from actors.output import lasting_output
from actors.play.evaluate import check_evaluation
from actors.play.evaluator import make_evaluator
from actors.play.video import VideoError
from actors.policy import Policy
from actors.policy.precision import check_compute, told
from command_line import Start, asked_to_train
from configs.layout import described, laid_out, laid_out_in_cluster, machine_named
from configs.machine import available_cores, available_memory
from configs.paths import new_file_argument
from configs.schema import ConfigError
from envs.doctor import diagnose, report
from envs.make import check_env, env_spec
from envs.spec import EnvError, EnvFaultError
from learner.budget import gpu_memory, within_memory
from learner.learner import Learner, LearnerError, resolve_device, seed_everything
from learner.loop import StopFlag, TrainLoop
from learner.memory import OutOfMemory
from learner.publish import PublishError, make_publisher
from learner.records.checkpoint import CheckpointError
from learner.records.metrics_file import SinkError
from learner.records.pretrained import take_weights
from learner.records.progress import ProgressView
from learner.records.run_dir import RunDir, RunDirError, code_version
from learner.records.sinks import MultiSink, open_sinks
from learner.records.state import taking_up
from learner.records.wandb_variables import mode as wandb_mode
from learner.records.wandb_variables import named

BAD_INPUT = (ConfigError, EnvError, RunDirError)
FAILURES = (
    EnvFaultError,
    FleetError,
    PublishError,
    LearnerError,
    OutOfMemory,
    CheckpointError,
    SinkError,
    VideoError,
)


def train(arguments: list[str]) -> int:
    start = asked_to_train(arguments)
    with ExitStack() as signals, ExitStack() as records, ExitStack() as workers:  # the last ends first
        code = run(start, signals, records, workers)
        if __name__ == "__main__":
            signals.pop_all()  # the process ends next: till then a late signal stays harmless
    return code


def run(start: Start, signals: ExitStack, records: ExitStack, workers: ExitStack) -> int:
    """Builds and runs one training run. Nothing on disk changes until all input was found good: the run
    directory comes last, after the environments, the cluster and its nodes."""
    config = dataclasses.replace(start.config, wandb=named(start.config.wandb, os.environ))
    wandb_mode(config.wandb, os.environ)  # a bad WANDB_MODE is found now
    run_dir = state = None
    if start.resume:
        assert config.run_dir is not None
        run_dir = RunDir.open(config.run_dir)
        records.callback(run_dir.release)
    else:
        check_lasting(config.run_dir)
        if config.run_dir is not None:
            RunDir.check_free(config.run_dir)
    runs = Path("runs").absolute()  # an environment may change the working directory
    check_env(config.env)
    if config.eval.interval_steps:
        check_evaluation(config)
    spec = env_spec(config.env)
    device = resolve_device(config.device)
    if config.learner_threads:
        torch.set_num_threads(config.learner_threads)
    seed_everything(config.seed)
    policy = Policy(spec, config.policy)
    own_ray = not (config.ray.address or os.environ.get("RAY_ADDRESS"))
    cores, memory = available_cores(), available_memory()
    gpus = gpu_memory()
    # Beside a GPU one core is the learner's thread's.
    laid = laid_out(config, max(1, cores - (device.type == "cuda")), memory / 2**20, len(gpus))
    if own_ray:
        check_device(laid)
    laid = within_memory(laid, policy, spec, device, memory, own_ray, gpus)
    check_compute(laid.compute, policy, device, laid.acting_device)
    computed = told(laid.compute, device)
    learner = Learner(policy, laid, device)
    if run_dir is not None:
        state = run_dir.load_state()
        with taking_up(run_dir.path):
            learner.load_state_dict(state)
    else:
        take_weights(learner.policy, config.policy)

    chosen_for = "one process" if config.runtime == "inline" else machine_named(cores, len(gpus))
    if config.runtime == "ray":
        lent = 0 if laid.acting_device == "cpu" else len(gpus)
        free = workers.enter_context(ray_session(laid.ray, laid.num_cpus, config.env, lent))
        if free is not None:
            laid, chosen_for = laid_out_in_cluster(config, *free)
    layout = described(config, laid, chosen_for)
    print(layout, computed, sep="\n", flush=True)
    stop = StopFlag()
    stop_on_signals(signals, stop)  # after Ray, which sets handlers of its own
    publisher = make_publisher(config.runtime)
    workers.callback(publisher.close)
    publisher.publish(learner.policy, learner.updates)
    fleet = make_fleet(laid, publisher.source, start_step=learner.global_step)
    workers.callback(fleet.close)
    evaluator = make_evaluator(laid, publisher.source)
    if evaluator is not None:
        workers.callback(evaluator.close)

    if run_dir is None:
        run_dir = RunDir.create(config.run_dir, config.preset, config.seed, runs)
        records.callback(run_dir.release)
        records.callback(run_dir.withdraw)
    config, laid = (dataclasses.replace(one, run_dir=str(run_dir.path)) for one in (config, laid))
    version = code_version()
    sinks = open_sinks(
        config.wandb,
        run_dir.path,
        json.loads(config.to_json()) | {"code_version": version, "layout": layout},
        resume_step=learner.global_step if start.resume else None,
    )
    progress = ProgressView(config.total_steps, run_dir.path, config.preset, stop.seconds_left)
    sink = MultiSink([sinks, progress])
    exit_code = 1
    records.callback(lambda: sink.close(exit_code))
    loop = TrainLoop(
        laid,
        learner,
        fleet,
        publisher,
        sink,
        run_dir.checkpoints_path,
        frames_per_step=spec.frames_per_step,
        stop=stop,
        evaluator=evaluator,
    )
    if state is not None:
        with taking_up(run_dir.path):
            loop.resume(state)
    run_dir.save_config(config.to_json())
    run_dir.record_start(version, learner.global_step, layout)
    fleet.obey(run_dir.path)
    reason = loop.run()
    exit_code = 0
    progress.close()
    print(f"{reason}: {learner.global_step:,} steps, {learner.updates:,} updates, saved in {run_dir.path}")
    return 0


def stop_on_signals(stack: ExitStack, stop: StopFlag) -> None:
    """SIGTERM, SIGHUP and the first SIGINT ask for a clean end; the second SIGINT ends the process.

    A SIGHUP that is ignored already (nohup) stays ignored.
    """
    interrupts = 0

    def ask(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts >= 2:
            os._exit(130)
        stop.reason = stop.reason or f"stopped by {signal.Signals(number).name}"

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            stack.callback(signal.signal, number, signal.signal(number, ask))


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
