"""A sweep in the terms of Ray Tune: where values come from, who is stopped, who goes on from whom."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import SearchAlgorithm, Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator

from sweeps.lives import TRIALS, TrialFolder, begun, out_of
from sweeps.progress import Progress
from sweeps.space import Space
from sweeps.trial import Plan, Trial


class Rungs(ASHAScheduler):
    """Knows after a resume what the trials that had ended reported: Tune saves nothing of a scheduler."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        if trial.status != trial.TERMINATED:
            return  # it reports again
        told = TrialFolder(out_of(trial) / TRIALS / trial.trial_id).points(1, str(self._metric))
        for step, value in told:
            self.on_trial_result(tune_controller, trial, {"global_step": step, str(self._metric): value})


class Population(PopulationBasedTraining):
    """Members that all have a place keep it: Tune's own make room whenever one of them waits, and one that
    goes on from another's weights waits for a moment. Making room costs a start of training each time."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        live = [one for one in tune_controller.get_trials() if not one.is_finished()]
        room, needed = ray.cluster_resources(), Counter[str]()
        for one in live:
            needed.update(one.placement_group_factory.required_resources)
        fits = all(room.get(name, 0.0) >= amount for name, amount in needed.items())
        return TrialScheduler.CONTINUE if decision == TrialScheduler.PAUSE and fits else decision


def make_tuner(space: Space, out: Path) -> tune.Tuner:
    """The sweep in OUT/tune, begun or gone on with where it was left."""
    folder = out / "tune"
    resources = {"cpu": space.resources.cpus, "gpu": space.resources.gpus}
    trainable = tune.with_resources(tune.with_parameters(Trial, plan=Plan(space, out)), resources)
    if begun(out):
        return tune.Tuner.restore(str(folder), trainable, resume_unfinished=True, resume_errored=True)
    random.seed(space.search.seed)  # which PBT draws from
    return tune.Tuner(
        trainable,
        param_space={name: _domain(kind) for name, kind in space.space.items()},
        tune_config=tune.TuneConfig(
            metric=space.metric,
            mode=space.mode,
            num_samples=space.samples,
            search_alg=_search(space),
            scheduler=_scheduler(space),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(out),
            failure_config=tune.FailureConfig(max_failures=space.max_failures),
            # A trial has its own in its run directory. Tune's are those that PBT asks for, and stay: a member
            # that waits for its place may take one when its owner has made others.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, num_to_keep=None),
            callbacks=[Progress(space)],
            verbose=0,
        ),
    )


def _domain(kind: Mapping[str, list[Any]]) -> Any:
    match kind:
        case {"choice": values}:
            return tune.choice(values)
        case {"grid": values}:
            return tune.grid_search(values)
        case {"uniform": [low, high]}:
            return tune.uniform(low, high)
        case {"loguniform": [low, high]}:
            return tune.loguniform(low, high)
        case {"int": [low, high]}:
            return tune.randint(low, high + 1)
    raise AssertionError(f"{kind} was checked when it was read")


def _search(space: Space) -> SearchAlgorithm | Searcher:
    if space.search.name == "optuna":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)

        return OptunaSearch(metric=space.metric, mode=space.mode, seed=space.search.seed)
    return BasicVariantGenerator(random_state=space.search.seed)


def _scheduler(space: Space) -> TrialScheduler:
    options = space.scheduler
    if options.name == "asha":
        return Rungs(
            time_attr="global_step",
            max_t=space.first().total_steps,
            grace_period=options.grace_steps or space.interval_steps,
            reduction_factor=options.reduction_factor,
        )
    if options.name == "pbt":
        bounds = {name: space.bounds(name) for name in space.mutated}
        return Population(
            time_attr="global_step",
            perturbation_interval=space.interval_steps,
            hyperparam_mutations={name: _mutation(space.space[name]) for name in space.mutated},
            quantile_fraction=options.quantile,
            resample_probability=options.resample,
            custom_explore_fn=functools.partial(within, bounds),
            log_config=False,
        )
    return FIFOScheduler()


def _mutation(kind: Mapping[str, list[Any]]) -> Any:
    """What PBT draws from anew, or moves within: a list is moved along by one."""
    ((name, values),) = kind.items()
    return list(values) if name in ("choice", "grid") else _domain(kind)


def within(bounds: Mapping[str, tuple[float, float] | None], values: dict[str, Any]) -> dict[str, Any]:
    """`values`, those of ranges brought back to their ends: a factor may have led out."""
    clipped = {
        name: min(max(values[name], ends[0]), ends[1]) for name, ends in bounds.items() if ends is not None
    }
    return values | clipped
