"""Every metric by name, in one table, and the accumulator that reduces a window of them.

`METRICS` is the single source of names: adding to one that it lacks is an error. The step of every
metric is `global_step`, the agent steps done, summed over all streams.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actors.rollout import EpisodeStats
from envs.scores import level_of, score_levels

Reduction = Literal["mean", "max", "sum", "last", "total", "episodes"]

OF_GAMES = ("charts/episodes", "charts/window_return")
"""What `Metrics.episode` adds."""
EPISODE_WINDOW = 100
"""Episodes that `charts/episodic_return` and `charts/episodic_length` average over."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What one metric says."""

    unit: str
    reduction: Reduction
    """How the values added between two writes become one number. Running totals are kept by whoever counts,
    and are `last`; `total`, where each of several learners counts its own: the sum of the last ones.
    `episodes`: the mean over the last `EPISODE_WINDOW` games."""
    description: str


METRICS: dict[str, MetricSpec] = {
    "charts/episodic_return": MetricSpec(
        "reward", "episodes", "raw, undiscounted return of a game; written when a game ended in the window"
    ),
    "charts/episodic_length": MetricSpec("agent steps", "episodes", "length of a game"),
    "charts/episodes": MetricSpec("episodes", "sum", "games that ended in the window"),
    "charts/window_return": MetricSpec("reward", "mean", "raw return of the games that ended in the window"),
    "charts/SPS": MetricSpec("agent steps/s", "last", "agent steps learned from a second, over the window"),
    "charts/learning_rate": MetricSpec("1", "last", "of the optimizer"),
    "charts/updates": MetricSpec("updates", "last", "batches learned from since the run began"),
    "perf/fps": MetricSpec("frames/s", "last", "emulator frames a second: SPS times frames per agent step"),
    "perf/actors": MetricSpec("actors", "total", "how many carry the streams"),
    "perf/time_wait_ms": MetricSpec("ms/update", "mean", "the learner waits for a full batch"),
    "perf/time_transfer_ms": MetricSpec("ms/update", "mean", "a batch is assembled and copied to the device"),
    "perf/time_forward_ms": MetricSpec("ms/update", "mean", "unrolls of the policy, targets, losses"),
    "perf/time_backward_ms": MetricSpec("ms/update", "mean", "gradients, the trace update included"),
    "perf/time_rtrl_ms": MetricSpec(
        "ms/update", "mean", "traces are looked up, computed anew, bounded and measured"
    ),
    "perf/time_ranks_ms": MetricSpec("ms/update", "mean", "a learner waits for the others before a step"),
    "perf/time_sum_ms": MetricSpec("ms/update", "mean", "gradients of several learners are summed"),
    "perf/time_optimizer_ms": MetricSpec("ms/update", "mean", "gradient clipping and optimizer step"),
    "perf/time_publish_ms": MetricSpec("ms/update", "mean", "weights are handed to the actors"),
    "perf/time_evaluate_ms": MetricSpec("ms/update", "mean", "asking for evaluations; inline, playing them"),
    "losses/policy": MetricSpec("1", "mean", "policy-gradient loss, mean over valid steps"),
    "losses/baseline": MetricSpec("1", "mean", "half the squared distance to the targets, mean over steps"),
    "losses/entropy": MetricSpec("nats", "mean", "entropy of the policy, mean over valid steps"),
    "losses/total": MetricSpec("1", "mean", "policy + cost * baseline - cost * entropy: what is minimised"),
    "losses/grad_norm": MetricSpec("1", "mean", "global norm of the gradient before clipping"),
    "vtrace/rho_mean": MetricSpec("1", "mean", "importance weight pi/mu before clipping; 1 on-policy"),
    "vtrace/rho_clip_frac": MetricSpec("1", "mean", "fraction of steps whose weight was clipped by rho-bar"),
    "vtrace/c_mean": MetricSpec("1", "mean", "clipped weight c that carries corrections back in time"),
    "ppo/approx_kl": MetricSpec("nats", "mean", "how far the policy has moved from the one that acted"),
    "ppo/clip_frac": MetricSpec("1", "mean", "fraction of steps whose ratio lies outside 1 +- ppo.clip"),
    "ppo/explained_variance": MetricSpec("1", "mean", "share of the targets' variance that values explain"),
    "lag/policy_version_mean": MetricSpec("updates", "mean", "learner version minus the oldest that acted"),
    "lag/policy_version_max": MetricSpec("updates", "max", "the same, the largest of the window"),
    "queue/rollouts": MetricSpec("rollouts", "mean", "rollouts that wait for the learner"),
    "queue/wait_ms": MetricSpec("ms", "mean", "from a rollout's last step until the learner takes it"),
    "unrolls/asked": MetricSpec("unrolls", "total", "total that actors were asked for; T steps of a stream"),
    "unrolls/under_way": MetricSpec("unrolls", "total", "of these, nothing is known yet"),
    "unrolls/arrived": MetricSpec("unrolls", "total", "total that the learner was given"),
    "unrolls/dropped": MetricSpec("unrolls", "total", "of these, total that was not learned from, by rule"),
    "unrolls/waiting": MetricSpec("unrolls", "total", "of these, what waits for a batch"),
    "unrolls/lost_calls": MetricSpec("unrolls", "total", "total lost with a call, or with its answer"),
    "unrolls/lost_actors": MetricSpec("unrolls", "total", "total lost with actors that were replaced"),
    "unrolls/let_go": MetricSpec("unrolls", "total", "total given up since the actors were scaled or moved"),
    "unrolls/missing": MetricSpec("unrolls", "total", "total made before one that came, and never came"),
    "rtrl/trace_norm": MetricSpec("1", "mean", "norm of a stream's trace, root mean square over streams"),
    "rtrl/boundary_grad_frac": MetricSpec(
        "1", "mean", "norm of the core gradient's boundary term, which TBPTT lacks, over that of the whole"
    ),
    "rtrl/staleness_cos": MetricSpec(
        "1", "mean", "cosine of the core gradient from the carried trace and from one of present weights"
    ),
    "rtrl/trace_breaks": MetricSpec("streams", "total", "total of streams that lost their trace"),
    "rtrl/trace_clips": MetricSpec("streams", "total", "total of traces scaled down to rtrl.max_trace_norm"),
    "normalise/observations_clipped": MetricSpec(
        "1", "mean", "fraction of measured numbers that lay beyond 10 deviations, and were clipped to it"
    ),
    "normalise/return_deviation": MetricSpec(
        "reward", "last", "running deviation of the discounted return, which rewards are divided by"
    ),
    "faults/actor_restarts": MetricSpec("restarts", "total", "total of actors that died and were replaced"),
    "faults/learner_restarts": MetricSpec(
        "restarts", "last", "total of learners that failed and were replaced"
    ),
    "faults/env_errors": MetricSpec("errors", "total", "total of errors that environments raised"),
    "faults/lost_calls": MetricSpec(
        "calls", "total", "total of calls to live actors that were lost, and made again"
    ),
    "faults/starved_s": MetricSpec("s", "total", "total of long waits in which no actor sent anything"),
    "faults/dropped_rollouts": MetricSpec(
        "rollouts", "total", "total of rollouts that were not learned from"
    ),
    "faults/publish_errors": MetricSpec("errors", "last", "total of publications of weights that failed"),
    "faults/skipped_publications": MetricSpec(
        "publications", "last", "total of weights that newer ones overtook before they were sent"
    ),
    "faults/checkpoint_errors": MetricSpec("errors", "last", "total of failed saves"),
    "faults/sink_errors": MetricSpec("errors", "last", "total of writes of metrics that failed"),
    "faults/eval_errors": MetricSpec("errors", "last", "total of evaluations that failed"),
    "faults/nonfinite_metrics": MetricSpec("values", "last", "total of metrics left out: NaN or infinite"),
    "eval/episodic_return": MetricSpec("reward", "last", "mean raw return of an evaluation"),
    "eval/episodic_return_std": MetricSpec("reward", "last", "standard deviation over its games"),
    "eval/episodic_length": MetricSpec("agent steps", "last", "mean length of its games"),
    "eval/episodes": MetricSpec("episodes", "last", "games that it was averaged over"),
    "eval/games_cut": MetricSpec("episodes", "last", "games cut off after eval.max_episode_steps"),
    "eval/return_error": MetricSpec("reward^2", "last", "mean squared return error of the values"),
    "eval/global_step": MetricSpec("agent steps", "last", "of the weights that were evaluated"),
}

FAMILIES: dict[str, MetricSpec] = {
    "levels/": MetricSpec("reward", "last", "mean raw return of a level's last games"),
    "eval_levels/": MetricSpec("reward", "last", "mean raw return of a level in an evaluation"),
    "suite/": MetricSpec("percent", "last", "an evaluation's normalised score, of a level or of the suite"),
    "suite_training/": MetricSpec("percent", "last", "the same of the last games of training"),
}
"""Metrics whose names go on with the name of a level, or of a suite and its level or aggregate."""


def spec_of(name: str) -> MetricSpec:
    """The spec of a metric, also of a member of a family. Raises KeyError for an unknown name."""
    for prefix, spec in FAMILIES.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return spec
    if name not in METRICS:
        raise KeyError(
            f"unknown metric {name!r}: add it to METRICS in learner/records/metrics.py, or to a family: "
            f"{', '.join(FAMILIES)}"
        )
    return METRICS[name]


def level_metrics(
    returns: Mapping[str, float], suite: str | None, levels: str, scores: str
) -> dict[str, float]:
    """Of the mean return by env id: `LEVELS/NAME` of each where there are several, and `SCORES/SUITE/...` of
    what has a score."""
    by_level, aggregates = score_levels(suite, returns)
    named = {level_of(env_id) or env_id.rpartition("/")[2]: value for env_id, value in returns.items()}
    found = {f"{levels}/{name}": value for name, value in named.items()} if len(returns) > 1 else {}
    return found | {f"{scores}/{suite}/{name}": score for name, score in (by_level | aggregates).items()}


class Metrics:
    """Accumulates values between two calls of `reduce`."""

    def __init__(self, suite: str | None = None) -> None:
        """`suite`: of the score table for the env's levels (`envs.scores.suite_for`)."""
        self._suite = suite
        self._window: dict[str, list[float]] = {}
        self._returns: deque[float] = deque(maxlen=EPISODE_WINDOW)
        self._lengths: deque[float] = deque(maxlen=EPISODE_WINDOW)
        self._levels: dict[str, deque[float]] = {}
        self.nonfinite = 0
        """Metrics left out of their rows so far, NaN or infinite."""
        self._told: set[str] = set()
        self._games: list[EpisodeStats] = []
        """That ended in the window."""

    def add(self, name: str, value: float) -> None:
        """One value; what NaN or infinity makes of its row, see `reduce`.

        Raises KeyError for an unknown name, and for those that `episode` fills.
        """
        if spec_of(name).reduction == "episodes":
            raise KeyError(f"metric {name!r} is filled by Metrics.episode")
        self._window.setdefault(name, []).append(float(value))

    def add_many(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.add(name, value)

    def episode(self, finished: EpisodeStats) -> None:
        """A game that ended, of whatever actor."""
        self._games.append(finished)
        self._returns.append(finished.episodic_return)
        self._lengths.append(float(finished.episodic_length))
        level = self._levels.setdefault(finished.level, deque(maxlen=EPISODE_WINDOW))
        level.append(finished.episodic_return)
        self.add("charts/episodes", 1.0)
        self.add("charts/window_return", finished.episodic_return)

    def reduce(self) -> dict[str, float]:
        """One number for each metric that has data in the window; begins a new window.

        All are finite. A metric that came out NaN or infinite is left out of its row, counted, and told of
        once: it says something about the run, but only a loss or a gradient that is not finite ends one.
        """
        reduced = {name: _reduce(spec_of(name), values) for name, values in self._window.items()}
        if "charts/episodes" in self._window:
            reduced["charts/episodic_return"] = sum(self._returns) / len(self._returns)
            reduced["charts/episodic_length"] = sum(self._lengths) / len(self._lengths)
            means = {level: sum(returns) / len(returns) for level, returns in self._levels.items()}
            reduced |= level_metrics(means, self._suite, "levels", "suite_training")
        self._clear()
        for name in [name for name, value in reduced.items() if not math.isfinite(value)]:
            value = reduced.pop(name)
            self.nonfinite += 1
            if name not in self._told:
                self._told.add(name)
                print(f"metric {name} is {value}: left out where it is so, training goes on", flush=True)
        return reduced

    def _clear(self) -> None:
        self._window.clear()
        self._games.clear()

    # --- of several learners, of which one writes ----------------------------------------------

    def hand_over(self) -> dict[str, Any]:
        """The window, as plain JSON, for the one that writes; a new one begins."""
        values = {name: _reduce(spec_of(name), values) for name, values in self._window.items()}
        games = [dataclasses.asdict(game) for game in self._games]
        self._clear()
        return {"values": {n: v for n, v in values.items() if n not in OF_GAMES}, "games": games}

    def take_over(self, windows: Sequence[Mapping[str, Any]]) -> None:
        """What others have handed over becomes part of this window. A mean is then over the learners."""
        for game in (game for window in windows for game in window["games"]):
            self.episode(EpisodeStats(**game))
        for name in {name for window in windows for name in window["values"]}:
            spec, own = spec_of(name), self._window.get(name)
            numbers = [] if own is None else [_reduce(spec, own)]
            numbers += [window["values"][name] for window in windows if name in window["values"]]
            joined = numbers[:1] if spec.reduction == "last" else numbers
            self._window[name] = [sum(joined)] if spec.reduction == "total" else joined

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON: the last games, without which the return would jump where a run is resumed."""
        return {
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "levels": {level: list(returns) for level, returns in self._levels.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._returns, self._lengths = _window(state["returns"]), _window(state["lengths"])
        levels = state.get("levels", {})  # absent from checkpoints of an earlier version
        self._levels = {level: _window(returns) for level, returns in levels.items()}


def _window(numbers: Sequence[float]) -> deque[float]:
    if not all(type(number) in (int, float) for number in numbers):
        raise ValueError(f"{numbers} are no returns or lengths of games")
    return deque(numbers, maxlen=EPISODE_WINDOW)


def _reduce(spec: MetricSpec, values: list[float]) -> float:
    if spec.reduction == "mean":
        return sum(values) / len(values)
    if spec.reduction == "max":
        return max(values)
    if spec.reduction == "sum":
        return sum(values)
    assert spec.reduction in ("last", "total"), spec.reduction
    return values[-1]


class RateMeter:
    """Turns a running total into a rate, such as agent steps into SPS."""

    def __init__(self, total: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._total, self._clock, self._time = total, clock, clock()

    def rate(self, total: float) -> float:
        """Units a second since the last call (or since the start)."""
        now = self._clock()
        value = (total - self._total) / max(now - self._time, 1e-9)
        self._total, self._time = total, now
        return value
