"""Two groups of one actor's engines, in processes of the stand-in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from actors.collect import Collector
from actors.inference import LocalInference, group_seed
from actors.policy import Policy
from configs.schema import DmlabConfig, EnvConfig, PolicyConfig
from envs.make import make_vec
from envs.spec import Sends, VecEnv
from tests.envs.suites.dmlab.playing import ROOM

E = 2


def _env() -> VecEnv:
    config = EnvConfig(id=ROOM, num_envs=E, dmlab=DmlabConfig(reset_ahead=False))
    env = make_vec(config)
    assert isinstance(env, Sends)
    return env


def _collector(envs: list[VecEnv], seed: int) -> Collector:
    torch.manual_seed(0)
    policy = Policy(envs[0].spec, PolicyConfig(encoder="auto", features=4, core="elstm", hidden_size=8))
    inference = LocalInference(policy, None, seed=seed)
    return Collector(envs, inference, unroll_length=5, actor_id=0, incarnation=7, env_seed=seed)


def test_two_groups_of_engines_play_as_each_would_alone(log: Path) -> None:
    both = _collector([_env(), _env()], 5)
    alone = [_collector([_env()], group_seed(5, number)) for number in (0, 1)]
    for _ in range(3):
        found, parts = both.collect(), [collector.collect() for collector in alone]
        for name in ("observation", "reward", "terminated", "reset", "action"):
            expected = np.concatenate([getattr(part, name) for part in parts], axis=1)
            np.testing.assert_array_equal(getattr(found, name), expected)
    for collector in (both, *alone):
        collector.close()
