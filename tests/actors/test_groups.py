"""Two groups of one actor: each as it would be by itself, and one at work while the other is acted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actors.collect import Collector, check_acting, make_collector
from actors.inference import LocalInference, group_seed
from actors.policy import Policy
from actors.rollout import Rollout
from configs.presets import preset
from configs.schema import AtariConfig, Config, ConfigError, EnvConfig, PolicyConfig
from envs.make import make_vec
from envs.spec import EnvError, EnvFaultError, Sends, VecEnv, VecStep
from learner.publish import LocalPublisher

E, T = 2, 8
BREAKOUT = EnvConfig(
    id="ALE/Breakout-v5", num_envs=E, life_loss_ends_episode=True, atari=AtariConfig(size=20)
)
POLICY = PolicyConfig(encoder="auto", features=4, core="elstm", hidden_size=8)


def _collector(envs: Sequence[VecEnv], seed: int) -> Collector:
    torch.manual_seed(0)
    inference = LocalInference(Policy(envs[0].spec, POLICY), None, seed=seed)
    return Collector(envs, inference, unroll_length=T, actor_id=0, incarnation=7, env_seed=seed)


@pytest.mark.parametrize("env", [BREAKOUT, EnvConfig(id="procgen/leaper", num_envs=E)], ids=lambda e: e.id)
def test_two_groups_are_two_actors_side_by_side(env: EnvConfig) -> None:
    both = _collector([make_vec(env), make_vec(env)], 5)
    alone = [_collector([make_vec(env)], group_seed(5, number)) for number in (0, 1)]
    for _ in range(12):
        found, parts = both.collect(), [collector.collect() for collector in alone]
        for name in ("observation", "reward", "terminated", "reset", "action", "behaviour_logits"):
            expected = np.concatenate([getattr(part, name) for part in parts], axis=1)
            np.testing.assert_array_equal(getattr(found, name), expected)
        states = [part.initial_state[0] for part in parts]
        np.testing.assert_array_equal(found.initial_state[0], np.concatenate(states))
        games = [dataclasses.replace(e, slot=e.slot + E * i) for i in (0, 1) for e in parts[i].episodes]
        assert sorted(found.episodes, key=str) == sorted(games, key=str)
        assert not np.array_equal(found.action[:, :E], found.action[:, E:]) or found.action.max() == 0
    for collector in (both, *alone):
        collector.close()


class _Logged:
    """A real env that runs beside its caller, and what was asked of it when."""

    def __init__(self, env: VecEnv, name: str, log: list[str]) -> None:
        assert isinstance(env, Sends)
        self.spec, self.num_envs, self._env, self._say = env.spec, env.num_envs, env, log.append
        self._name, self._halves = name, env
        self.spoil: Callable[[VecStep], VecStep] = lambda step: step

    def reset(self, seed: int) -> NDArray[Any]:
        return self._env.reset(seed)

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        raise AssertionError("its halves are called")

    def send(self, actions: NDArray[np.int64]) -> None:
        self._say(f"send {self._name}")
        self._halves.send(actions)

    def recv(self) -> VecStep:
        self._say(f"recv {self._name}")
        return self.spoil(self._halves.recv())

    def close(self) -> None:
        self._env.close()


def _logged(log: list[str]) -> tuple[Collector, list[_Logged]]:
    envs = [_Logged(make_vec(BREAKOUT), name, log) for name in ("a", "b")]
    return _collector(envs, 1), envs


def test_one_group_is_at_work_while_the_other_is_acted_on() -> None:
    log: list[str] = []
    collector, _ = _logged(log)
    collector.collect()
    collector.close()
    turns = ["send a", "send b"] + ["recv a", "send a", "recv b", "send b"] * (T - 1) + ["recv a", "recv b"]
    assert log == turns


def test_a_fault_names_the_actors_slot_and_an_env_that_is_at_work_is_closed() -> None:
    collector, (_, second) = _logged([])

    def spoil(step: VecStep) -> VecStep:
        reward = step.reward.copy()
        reward[1] = np.nan
        return dataclasses.replace(step, reward=reward)

    collector.collect()
    second.spoil = spoil
    with pytest.raises(EnvFaultError, match=f"reward at step {T + 1} is nan in slot 3"):
        collector.collect()
    collector.close()  # of the first group a step is under way


def _config(**changes: Any) -> Config:
    base = preset("atari_breakout_rtrl_cpu")
    env = dataclasses.replace(BREAKOUT, num_envs=2 * E)
    small = {"env": env, "policy": POLICY, "runtime": "inline", "num_actors": 1, "batch_size": 2 * E}
    small["num_streams"] = 2 * E
    return dataclasses.replace(base, unroll_length=T, **small | changes)


def test_an_actor_of_two_groups_carries_as_many_streams_and_rollouts_join() -> None:
    config, publisher = _config(actor_groups=2), LocalPublisher()
    torch.manual_seed(0)
    env = make_vec(config.env)
    publisher.publish(Policy(env.spec, POLICY), 0)
    env.close()
    check_acting(config)
    collector = make_collector(config, publisher.source, 0, 3)
    rollouts: list[Rollout] = [collector.collect() for _ in range(4)]
    collector.close()
    for before, after in pairwise(rollouts):
        assert (after.num_streams, after.sequence_number) == (2 * E, before.sequence_number + 1)
        for name in ("observation", "reward", "terminated", "truncated", "reset", "game_over"):
            np.testing.assert_array_equal(
                getattr(before, name)[-1], getattr(after, name)[3 if name == "observation" else 0]
            )
        np.testing.assert_array_equal(before.action[-1], after.previous_action)


def test_groups_that_cannot_take_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match="actor_groups = 2: must be 1, or 2 where each actor has 2 slots"):
        _config(actor_groups=2, num_streams=1, env=dataclasses.replace(BREAKOUT, num_envs=1), batch_size=1)
    with pytest.raises(ConfigError, match="actor_groups = 3"):
        _config(actor_groups=3)
    cartpole = dataclasses.replace(preset("cartpole_rtrl"), actor_groups=2)
    with pytest.raises(
        EnvError, match=r"actor_groups = 2 cannot take effect: cartpole/masked steps its slots"
    ):
        check_acting(cartpole)
    check_acting(dataclasses.replace(cartpole, actor_groups=1))


def test_a_device_that_is_not_there_is_refused() -> None:
    for name in ("cuda:99", "gpu"):
        with pytest.raises(ConfigError, match=f"actor_device = '{name}' cannot be used here"):
            check_acting(_config(actor_device=name))
