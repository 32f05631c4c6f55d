"""How far carried traces are from those that the present weights would have built, by step size.

    python -m experiments.staleness.run --out experiments/results/staleness

RTRL is exact for weights at rest; a trace that is carried over an update was built by weights that have
moved since. This measures by how much, in the real learner on `memory_rtrl`, with a corridor of `--length`
steps. For each seed the preset is trained for `--start-steps`; its weights, optimiser, traces and streams are
then taken up at every learning rate, which is held constant. Once every stream has begun an episode there,
`--updates` updates are measured. At each the learner recomputes the traces of its batch under the present
weights from the streams' history (`learner/rtrl/history.py`), which reaches back to the start of every
episode:

    distance          |S_carried - S_fresh| / |S_fresh| of each stream; Frobenius norm over the six tensors
    gradient_cosine   between the core's gradients from carried and from fresh traces: `rtrl/staleness_cos`
    boundary_cosine   the same of the boundary term alone, the only part that a trace contributes
    boundary_weight   product of the two norms; `boundary_cosine_weighted` is the mean cosine by this weight
    boundary_share    norm of the boundary term over norm of the core's gradient: `rtrl/boundary_grad_frac`
    weight_step       |W_after - W_before| / |W_before| of the recurrent weights, of one update

The check is built in. Step size 0 always comes first, and there carried and fresh traces must agree to
rounding; where they do not, the run ends and no number is shown or written.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from actors.fleet.fleet import make_fleet
from actors.policy import Policy
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config, RtrlConfig
from envs.make import env_spec
from experiments.staleness.report import save
from experiments.tmaze import scaled_bias
from kernels.rtrl import Trace
from learner.batcher import Batch, Batcher
from learner.learner import Learner, seed_everything
from learner.objectives import OBJECTIVES
from learner.publish import LocalPublisher
from learner.rtrl.diagnostics import cosine
from learner.rtrl.rtrl import Rtrl, Step

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""After 0. The preset's own is 3e-3."""
SEEDS = (0, 1, 2, 3, 4)
LENGTH, START_STEPS, UPDATES = 20, 60_000, 100
AT_REST = 1e-5
"""The largest distance that counts as rounding: about a hundred units of float32's precision."""
NO_STEP = 1e-30
"""In place of a learning rate of 0, which the config refuses; no weight moves by it, which is checked."""


class ProbedRtrl(Rtrl):
    """The learner's RTRL side, which keeps the traces that the last update began with."""

    step: Step

    def begin(self, batch: Batch, update: int) -> Step:
        self.step = super().begin(batch, update)
        return self.step


class Run:
    """One training run in this process, without disk: what `train --runtime inline` is made of."""

    def __init__(self, config: Config, state: dict[str, Any] | None = None) -> None:
        """`state`: of another run, to go on from."""
        config = laid_out(config, 1)
        seed_everything(config.seed)
        self.learner = Learner(Policy(env_spec(config.env), config.policy), config, torch.device("cpu"))
        self.rtrl = self.learner.rtrl = ProbedRtrl(self.learner.policy, config)
        self.learner.objective = OBJECTIVES[config.objective](self.learner.policy, config, self.rtrl)
        if state is not None:
            self.learner.load_state_dict(state["learner"])
            self.learner.load_traces(state["learner"])
        self._publisher = LocalPublisher()
        self._publisher.publish(self.learner.policy, self.learner.updates)
        self._fleet = make_fleet(config, self._publisher)
        if state is not None:
            self._fleet.load_state_dict(state["fleet"])
        self._batcher = Batcher(config, self.learner.device)

    def update(self) -> tuple[Batch, dict[str, float]]:
        """One batch collected and learned from, and the learner's metrics."""
        while (batch := self._batcher.next_batch()) is None:
            rollout = self._fleet.next_rollout(timeout_s=0.0, skip=self._batcher.covered)
            assert rollout is not None, "an inline fleet always has one"
            self._batcher.add(rollout, self.learner.updates)
        metrics = self.learner.update(batch)
        self._publisher.publish(self.learner.policy, self.learner.updates)
        return batch, metrics

    def state_dict(self) -> dict[str, Any]:
        """A copy that further updates leave alone."""
        return copy.deepcopy({"learner": self.learner.state_dict(), "fleet": self._fleet.state_dict()})

    def recurrent_weights(self) -> Tensor:
        parameters = self.learner.policy.core.recurrent_parameters()
        return torch.cat([parameter.detach().flatten() for parameter in parameters])


def settings(length: int, seed: int) -> Config:
    """`memory_rtrl`, its corridor `length` steps long and the forget bias to match (as in tmaze_delay)."""
    base = preset("memory_rtrl")
    task = dataclasses.replace(base.env.memory, length_min=length, length_max=length, quiet=length // 2)
    return dataclasses.replace(
        base,
        seed=seed,
        env=dataclasses.replace(base.env, memory=task),
        policy=dataclasses.replace(base.policy, forget_bias=scaled_bias(length)),
    )


def train(config: Config, start_steps: int) -> tuple[dict[str, Any], float | None]:
    """The state after `start_steps` agent steps, and the mean return of the last 200 games."""
    run, returns = Run(config), []
    while run.learner.global_step < start_steps:
        batch, _ = run.update()
        returns += [episode.episodic_return for episode in batch.episodes]
    return run.state_dict(), fmean(returns[-200:]) if returns else None


def distances(carried: Trace, fresh: Trace) -> Tensor:
    """|carried - fresh| / |fresh| of each stream, [B]; float64."""

    def norm(tensors: list[Tensor]) -> Tensor:
        return torch.stack([t.double().flatten(1).square().sum(1) for t in tensors]).sum(0).sqrt()

    return norm([a - b for a, b in zip(carried, fresh, strict=True)]) / norm(list(fresh))


def _squares(tensors: list[Tensor]) -> float:
    return sum(float(tensor.square().sum()) for tensor in tensors)


def advance_ages(ages: Tensor, reset: Tensor) -> Tensor:
    """Steps that each stream has consumed of its episode, [B], after those of `reset` [T, B] too."""
    T = reset.shape[0]
    since_last_reset = reset.flip(0).int().argmax(0) + 1
    return torch.where(reset.any(0), since_last_reset, ages + T)


def measure(base: Config, start: dict[str, Any], learning_rate: float, updates: int) -> dict[str, Any]:
    """Means over `updates` updates at a constant learning rate, from the state of `train`. Plain JSON.
    `distance_by_updates`: by the number of updates since the one that learned from the episode's first step.

    Raises SystemExit where a learning rate of 0 shows any staleness beyond rounding.
    """
    episode_rollouts = math.ceil((base.env.memory.length_max + 3) / base.unroll_length)
    config = dataclasses.replace(
        base,
        learning_rate=learning_rate or NO_STEP,
        total_steps=10**15,  # the rate falls to 0 over these: it stays where it is
        diagnostics_interval=1,
        rtrl=RtrlConfig(staleness_interval=1, history_rollouts=episode_rollouts + 1),
    )
    run, T = (
        Run(config, copy.deepcopy(start)),
        config.unroll_length,
    )  # Adam keeps the tensors that it is given
    ages, begun = torch.zeros(config.batch_size, dtype=torch.long), torch.zeros(config.batch_size).bool()
    rows: list[dict[str, float]] = []
    by_updates: dict[int, list[float]] = {}
    before = run.recurrent_weights()
    while len(rows) < updates:
        batch, metrics = run.update()
        after = run.recurrent_weights()
        step = run.rtrl.step
        assert step.carried is not None and step.fresh is not None and step.state[0].grad is not None
        live = ~batch.reset[0]  # the trace of an episode that is over is cleared before it is used
        if begun.all() and live.any():
            distance = distances(step.carried[0], step.fresh[0])
            (core,), lam_0 = run.learner.policy.core.cells(), step.state[0].grad.double()
            carried, fresh = (
                core.boundary_term(s[0].map(torch.Tensor.double), lam_0) for s in (step.carried, step.fresh)
            )
            rows.append(
                {
                    "distance": float(distance[live].mean()),
                    "distance_max": float(distance[live].max()),
                    "gradient_cosine": metrics["rtrl/staleness_cos"],
                    "boundary_cosine": float(cosine(carried, fresh)),
                    "boundary_weight": math.sqrt(_squares(carried) * _squares(fresh)),
                    "boundary_share": metrics["rtrl/boundary_grad_frac"],
                    "weight_step": float((after - before).norm() / before.norm()),
                }
            )
            for age, value in zip(ages[live].tolist(), distance[live].tolist(), strict=True):
                by_updates.setdefault(-(-age // T), []).append(value)
        ages, begun, before = advance_ages(ages, batch.reset[:T]), begun | batch.reset[:T].any(0), after
    result: dict[str, Any] = {name: fmean(row[name] for row in rows) for name in rows[0]}
    total = sum(row["boundary_weight"] for row in rows)
    assert total > 0.0, "every trace is of an episode that has begun"
    result["boundary_cosine_weighted"] = (
        sum(row["boundary_weight"] * row["boundary_cosine"] for row in rows) / total
    )
    result["distance_max"] = max(row["distance_max"] for row in rows)
    for name in ("gradient_cosine", "boundary_cosine"):
        result[f"{name}_min"] = min(row[name] for row in rows)
    result["distance_by_updates"] = {str(n): fmean(by_updates[n]) for n in sorted(by_updates)}
    if learning_rate == 0.0:
        _require_rest(result)
    return {"seed": base.seed, "learning_rate": learning_rate, "updates": updates, **result}


def _require_rest(result: dict[str, Any]) -> None:
    """The built-in check, on the result of a learning rate of 0."""
    if result["weight_step"] != 0.0:
        raise SystemExit("WRONG at step size 0: the weights moved")
    found = {"distance_max": result["distance_max"]}
    found |= {f"1 - {name}": 1.0 - result[name] for name in ("gradient_cosine_min", "boundary_cosine_min")}
    for name, value in found.items():
        if not value <= AT_REST:
            raise SystemExit(
                f"WRONG at step size 0: {name} is {value:.1e}, above the {AT_REST:.0e} of rounding; carried "
                "and recomputed traces are not those of the same weights"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--learning-rates", type=float, nargs="+", default=list(LEARNING_RATES))
    parser.add_argument("--length", type=int, default=LENGTH, help="corridor steps between cue and choice")
    parser.add_argument("--start-steps", type=int, default=START_STEPS, help="agent steps of training before")
    parser.add_argument("--updates", type=int, default=UPDATES, help="measured, of each seed and rate")
    options = parser.parse_args()
    for name, least in (("length", 2), ("start_steps", 0), ("updates", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: at least {least}")
    if min(options.learning_rates) <= 0.0:
        parser.error(f"--learning-rates {min(options.learning_rates):g}: positive; 0 is measured in any case")
    torch.set_num_threads(1)
    results, returns = [], {}
    for seed in dict.fromkeys(options.seeds):
        config = settings(options.length, seed)
        start, returns[seed] = train(config, options.start_steps)
        for learning_rate in (0.0, *sorted(set(options.learning_rates))):
            row = measure(config, start, learning_rate, options.updates)
            results.append(row)
            shown = (f"{n} {row[n]:.3g}" for n in ("distance", "gradient_cosine", "boundary_cosine"))
            print(f"seed {seed}, learning rate {learning_rate:g}: {', '.join(shown)}", flush=True)
    save(options.out, results, length=options.length, start_steps=options.start_steps, returns=returns)


if __name__ == "__main__":
    main()
