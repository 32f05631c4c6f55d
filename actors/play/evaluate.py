"""Evaluation: whole games by a fixed policy, recurrent state threaded, returns raw and unclipped.

Every slot plays its own quota of games, fixed beforehand. Counting the first games to finish
instead would favour short ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.collect import Collector
from actors.inference import Inference, LocalInference
from actors.policy import Policy
from actors.rollout import EpisodeStats
from actors.weights import WeightSource
from configs.schema import Config, ConfigError, EnvConfig
from envs.make import env_spec, held_out, make_vec, num_levels, protocol
from envs.registry import suite_of
from envs.scores import level_of, normalise, suite_for
from envs.spec import VecEnv

MAX_SLOTS = 16
EVALUATION_SEED = 1_000_000
"""Added to a run's seed for its evaluations, apart from the seeds that people choose for runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Games played, and their statistics."""

    episodes: list[EpisodeStats]
    greedy: bool
    seed: int
    protocol: dict[str, object]
    """What was played, as far as it bears on a score: env, suite, its settings, actions, frames a step."""
    score_suite: str | None
    """The score table for the env's levels, where there is one (`envs/scores.py`)."""

    @property
    def returns(self) -> list[float]:
        return [episode.episodic_return for episode in self.episodes]

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def mean_length(self) -> float:
        """Agent steps of a game."""
        return float(np.mean([episode.episodic_length for episode in self.episodes]))

    @property
    def std(self) -> float:
        """Standard deviation over games, with Bessel's correction; 0 for one game."""
        return float(np.std(self.returns, ddof=1)) if len(self.returns) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        return self.std / len(self.returns) ** 0.5

    @property
    def scores(self) -> dict[str, float]:
        """Normalised scores in percent of the levels that have one, each of the mean return of its games."""
        returns: dict[str, list[float]] = defaultdict(list)
        for episode in self.episodes:
            if level := level_of(episode.level):
                returns[level].append(episode.episodic_return)
        means = {level: float(np.mean(played)) for level, played in returns.items()}
        return {} if self.score_suite is None else normalise(self.score_suite, means)

    def report(self) -> str:
        """For people: the return, the normalised scores, and the protocol under which they hold."""
        how = f"{len(self.episodes)} games, {'greedy' if self.greedy else 'sampled'}, std {self.std:.2f}"
        lines = [
            f"{self.protocol['env_id']}: return {self.mean:.2f} +- {self.standard_error:.2f} "
            f"(standard error, {how})"
        ]
        lines += [f"{self.score_suite} {level}: {score:.1f} %" for level, score in self.scores.items()]
        settings = ", ".join(f"{name} {value}" for name, value in self.protocol.items() if name != "env_id")
        return "\n".join([*lines, f"protocol: {settings}; raw returns of whole games"])

    def to_json(self) -> dict[str, object]:
        """What `eval --json` writes."""
        return {
            "episodes": len(self.episodes),
            "episodic_return_mean": self.mean,
            "episodic_return_std": self.std,
            "returns": self.returns,
            "lengths": [episode.episodic_length for episode in self.episodes],
            "greedy": self.greedy,
            "seed": self.seed,
            "protocol": self.protocol,
            "score_suite": self.score_suite,
            "scores": self.scores,
        }


def for_whole_games(env: EnvConfig, slots: int) -> EnvConfig:
    """With `slots` slots, none of which begins in the middle of an episode."""
    if "memory.random_phase" in suite_of(env.id).fields:
        env = dataclasses.replace(env, memory=dataclasses.replace(env.memory, random_phase=False))
    return dataclasses.replace(env, num_envs=slots)


def evaluate_source(config: Config, source: WeightSource) -> Evaluation:
    """As `config.eval` says, by the newest weights of `source`; the same games every time.

    On the held-out levels of the suite, where it has some. Raises as `evaluate`.
    """
    env = held_out(config.env) if config.eval.held_out else config.env
    policy = Policy(env_spec(env), config.policy)
    LocalInference(policy, source, seed=0).refresh()  # copies the weights
    options = config.eval
    return evaluate(
        dataclasses.replace(config, env=env),
        policy,
        episodes=options.episodes,
        greedy=options.greedy,
        seed=EVALUATION_SEED + config.seed,
    )


def evaluate(config: Config, policy: Policy, *, episodes: int, greedy: bool, seed: int) -> Evaluation:
    """Plays `episodes` games of `config.env` with `policy` on the CPU, as many of each of its levels.

    Raises ConfigError for a number of games below 1, or below the number of levels; EnvError where the env
    cannot be made.
    """
    levels = num_levels(config.env)
    if episodes < levels:
        raise ConfigError(f"episodes = {episodes}: needs at least {levels}, the number of levels")
    rounds = math.ceil(levels / MAX_SLOTS)
    slots = math.ceil(levels / rounds) if levels > 1 else min(episodes, max(config.env.num_envs, MAX_SLOTS))
    env_config = for_whole_games(config.env, slots)
    quota = np.full(rounds * slots, episodes // (rounds * slots))
    quota[: episodes % (rounds * slots)] += 1
    played: list[EpisodeStats] = []
    for turn, share in enumerate(quota.reshape(rounds, slots)):
        env = make_vec(env_config, actor_id=turn)
        spec = env.spec
        inference = LocalInference(policy, None, seed=seed + turn, greedy=greedy)
        played += _play(env, inference, share, seed + turn)
    return Evaluation(
        episodes=played,
        greedy=greedy,
        seed=seed,
        protocol={
            "env_id": config.env.id,
            **protocol(env_config),
            "num_actions": spec.num_actions,
            "frames_per_step": spec.frames_per_step,
        },
        score_suite=suite_for(env_config),
    )


def _play(env: VecEnv, inference: Inference, quota: NDArray[np.int64], seed: int) -> list[EpisodeStats]:
    """`quota[slot]` games of each slot; closes the env."""
    collector = Collector(env, inference, unroll_length=1, actor_id=0, incarnation=seed, env_seed=seed)
    rest, played = quota.copy(), []
    try:
        while rest.any():
            for episode in collector.collect().episodes:
                if rest[episode.slot] > 0:
                    rest[episode.slot] -= 1
                    played.append(episode)
    finally:
        collector.close()
    return played
