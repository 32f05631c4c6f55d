"""Evaluation: whole games by a fixed policy, recurrent state threaded, returns raw and unclipped.

One protocol for all: what `config.eval` says (sampled actions, held-out levels where the suite has some, so
many games), with a seed of its own, apart from training's. `launch.py eval` plays by it the very games that
an evaluation beside the training plays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.inference import LocalInference
from actors.play.evaluation import Evaluation
from actors.play.games import Games
from actors.play.prediction import ReturnError
from actors.policy import Policy
from actors.policy.precision import set_tf32
from actors.rollout import EpisodeStats
from actors.weights import WeightSource
from configs.schema import Config, ConfigError, EnvConfig
from envs.make import check_env, env_spec, held_out, make_vec, num_levels, protocol
from envs.registry import suite_of
from envs.scores import suite_for
from envs.spec import VecEnv

MAX_SLOTS = 16
EVALUATION_SEED = 1_000_000
"""Added to a run's seed for its evaluations, apart from the seeds that people choose for runs."""


def evaluated_env(config: Config) -> EnvConfig:
    """The env that evaluations of `config` play: with `eval.held_out` the levels that the suite keeps from
    training, where it has some."""
    return held_out(config.env) if config.eval.held_out else config.env


def level_choice(config: Config) -> str:
    """Of `evaluated_env`, for people."""
    return "as configured" if evaluated_env(config) == config.env else "held out"


def evaluation_seed(config: Config) -> int:
    return EVALUATION_SEED + config.seed


def check_evaluation(config: Config) -> None:
    """Raises EnvError as `check_env` of the env that is played, ConfigError for fewer games than levels."""
    env = evaluated_env(config)
    check_env(env)
    levels = num_levels(env)
    if config.eval.episodes < levels:
        raise ConfigError(
            f"eval.episodes = {config.eval.episodes}: needs at least {levels}, the number of levels of "
            f"{env.id}"
        )


def for_whole_games(env: EnvConfig, slots: int) -> EnvConfig:
    """With `slots` slots, none of which begins in the middle of an episode."""
    if "memory.random_phase" in suite_of(env.id).fields:
        env = dataclasses.replace(env, memory=dataclasses.replace(env.memory, random_phase=False))
    return dataclasses.replace(env, num_envs=slots)


class Playing:
    """An evaluation under way: `config.eval.episodes` games of `evaluated_env`, as many of each level.

    Raises as `check_evaluation`; EnvError where the env cannot be made.
    """

    def __init__(self, config: Config, policy: Policy, *, seed: int, version: int = 0) -> None:
        """`version`: of the policy's weights, for whoever asks afterwards."""
        check_evaluation(config)
        self.version = version
        self._config, self._policy, self._seed = config, policy, seed
        self._env = evaluated_env(config)
        self._protocol: dict[str, object] = {}
        self._errors: list[ReturnError] = []
        self._rounds = self._plan()
        self._before: list[Games] = []
        self._games = next(self._rounds)

    def _plan(self) -> Iterator[Games]:
        """Rounds of at most `MAX_SLOTS` levels each; of one level a single one."""
        levels, episodes = num_levels(self._env), self._config.eval.episodes
        rounds = math.ceil(levels / MAX_SLOTS)
        slots = math.ceil(levels / rounds) if levels > 1 else min(episodes, MAX_SLOTS)
        quota = np.full(rounds * slots, episodes // (rounds * slots))
        quota[: episodes % (rounds * slots)] += 1
        # Slots that are stepped one after the other anyway are envs of their own, which can be left.
        together = levels > 1 or self._env.threads > 1 or suite_of(self._env.id).steps_together
        each = for_whole_games(self._env, slots if together else 1)
        for turn, share in enumerate(quota.reshape(rounds, slots)):
            envs = _make(each, turn * slots, 1 if together else slots)
            spec = envs[0].spec
            self._protocol = {
                "env_id": self._env.id,
                **protocol(each),
                "num_actions": spec.num_actions,
                "frames_per_step": spec.frames_per_step,
            }
            options = self._config.eval
            if self._config.reward_clipping == "none" and not self._config.normalise_rewards:
                # else the values are of other rewards than these
                scale = self._config.reward_scale
                self._errors.append(ReturnError(len(share), self._config.discounting, scale))
            yield Games(
                envs,
                LocalInference(
                    self._policy,
                    None,
                    seed=self._seed + turn,
                    greedy=options.greedy,
                    device=self._config.acting_device,
                ),
                share.tolist(),
                seed=self._seed + turn,
                max_steps=options.max_episode_steps,
                error=self._errors[-1] if self._errors else None,
            )

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        """What is played with, by name."""
        return {name: tensor.cpu().numpy() for name, tensor in self._policy.state_dict().items()}

    @property
    def _all(self) -> list[Games]:
        return [*self._before, self._games]

    @property
    def played(self) -> int:
        return sum(len(games.played) for games in self._all)

    @property
    def steps(self) -> int:
        """Agent steps so far, of all slots."""
        return sum(games.steps for games in self._all)

    @property
    def progress(self) -> str:
        return f"{self.played} of {self._config.eval.episodes} games, {self.steps:,} steps"

    @property
    def _return_error(self) -> float | None:
        steps = sum(error.steps for error in self._errors)
        return sum(error.total for error in self._errors) / steps if steps else None

    def step(self) -> bool:
        """One step of every slot that owes a game; False when all games are played."""
        if self._games.done:
            following = next(self._rounds, None)
            if following is None:
                return False
            self._before.append(self._games)
            self._games = following
        self._games.step()
        return True

    def result(self) -> Evaluation:
        """Of the games played so far: `step` returned False, and all are."""
        episodes: list[EpisodeStats] = [episode for games in self._all for episode in games.played]
        return Evaluation(
            episodes=episodes,
            greedy=self._config.eval.greedy,
            seed=self._seed,
            levels=level_choice(self._config),
            protocol=self._protocol,
            score_suite=suite_for(self._env),
            max_episode_steps=self._config.eval.max_episode_steps,
            cut=sum(games.cut for games in self._all),
            unplayed=sum(games.unplayed for games in self._all),
            idle=sum(games.idle for games in self._all),
            return_error=self._return_error,
        )

    def close(self) -> None:
        self._games.close()


def _make(config: EnvConfig, first_stream: int, count: int) -> list[VecEnv]:
    envs: list[VecEnv] = []
    try:
        for _ in range(count):
            envs.append(make_vec(config, first_stream=first_stream))
    except BaseException:
        for env in envs:
            env.close()
        raise
    return envs


def play_newest(config: Config, source: WeightSource) -> Playing:
    """An evaluation by the newest weights of `source`, which are copied; the same games every time."""
    set_tf32(config.compute, config.acting_device)
    policy = Policy(env_spec(evaluated_env(config)), config.policy)
    weights = LocalInference(policy, source, seed=0)
    weights.refresh()
    return Playing(config, policy, seed=evaluation_seed(config), version=weights.version)


def evaluate(
    config: Config, policy: Policy, *, seed: int, watch: Callable[[Playing], None] = lambda playing: None
) -> Evaluation:
    """Plays a whole evaluation; `watch` is called after every step of it. Raises as `Playing`."""
    playing = Playing(config, policy, seed=seed)
    try:
        while playing.step():
            watch(playing)
    finally:
        playing.close()
    return playing.result()
