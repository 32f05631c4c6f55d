"""Random spaces through all of training: each trains an update, or is refused at start with the reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.fleet.fleet import InlineFleet
from actors.policy import Policy
from configs.presets import preset
from configs.schema import ConfigError, EnvConfig
from envs.make import env_spec
from envs.spec import EnvError
from learner.batcher import Batcher
from learner.learner import Learner
from learner.publish import make_publisher
from tests.envs.suites.gym.own import BYTES, Own
from tests.integration.cli import Launch, ended, read_metrics

ENV_ID = "AnySpace-v0"
_now: dict[str, Any] = {}


def _make() -> Own:
    return Own(**_now)


gymnasium.register(ENV_ID, _make, disable_env_checker=True)

SIDES = st.lists(st.sampled_from([0, 1, 3, 4, 6, 12, 20]), max_size=4).map(tuple)
KINDS = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.int8, np.uint16, np.bool_])


def _box(shape: tuple[int, ...], dtype: Any, wide: bool) -> Box:
    if dtype == np.bool_:
        return Box(0, 1, shape, dtype)
    low, high = (0, 9) if np.dtype(dtype).kind == "u" else (-9, 9)
    unbounded = wide and np.dtype(dtype).kind == "f"
    return Box(-np.inf if unbounded else low, np.inf if unbounded else high, shape, dtype)


PLAIN = st.one_of(
    st.builds(lambda n, start: Discrete(n, start=start), st.integers(1, 6), st.integers(-2, 3)),
    st.builds(MultiDiscrete, st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.builds(MultiBinary, st.integers(1, 4)),
    st.builds(_box, SIDES, KINDS, st.booleans()),
    st.builds(lambda shape: Box(shape=shape, **BYTES), SIDES),
    st.builds(lambda n: Text(n), st.integers(1, 9)),
    st.just(spaces.Sequence(Discrete(2))),
)
SPACES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(Tuple),
        st.dictionaries(st.sampled_from(["a", "a_b", "b.c", "keys", "vector", ""]), inner, max_size=3).map(
            Dict
        ),
    ),
    max_leaves=4,
)
PLAYABLE = st.sampled_from(
    [
        Discrete(3, start=-1),
        MultiDiscrete([3, 1, 4]),
        MultiBinary(3),
        Box(-2.0, 2.0, ()),
        Box(-3e38, 3e38, (2,)),
        Dict(a=Tuple([Discrete(2), MultiBinary(2)]), b=MultiDiscrete([[2], [3]])),
        Tuple([Box(0.0, 1.0, (2,)), Box(-1.0, 1.0, (1,), np.float64)]),
    ]
)
REASONS = (
    "there is nothing in it",
    "there is no choice",
    "has no fixed form",
    "it is both discrete and continuous",
    "its bounds are infinite",
    "a Box of whole numbers",
    "only Discrete, MultiDiscrete",
    "sides of the image cannot be told",
    "needs uint8 images",
    "needs an image",
    "reads vectors, but",
    "too small for its strides",
)


@settings(max_examples=60, deadline=None, database=None)
@given(
    observation=SPACES,
    action=st.one_of(PLAYABLE, PLAYABLE, SPACES),
    encoder=st.sampled_from(["auto", "auto", "mlp", "none", "deep"]),
)
def test_each_space_trains_or_is_refused_with_the_reason(observation: Any, action: Any, encoder: str) -> None:
    _now.update(observation=observation, action=action, length=3)
    base = preset("memory_rtrl")
    config = dataclasses.replace(
        base,
        env=EnvConfig(id=ENV_ID, num_envs=2),
        policy=dataclasses.replace(
            base.policy, encoder=encoder, features=4, hidden_size=4, previous_action=True
        ),
        num_streams=2,
        num_actors=1,
        batch_size=2,
        unroll_length=4,
    )
    torch.manual_seed(0)
    try:
        learner = Learner(Policy(env_spec(config.env), config.policy), config, torch.device("cpu"))
    except (EnvError, ConfigError) as error:
        assert any(reason in str(error) for reason in REASONS), error
        assert encoder != "auto" or "policy.encoder" not in str(error), "auto fits all that can be read"
        return
    publisher = make_publisher("inline")
    publisher.publish(learner.policy, 0)
    fleet, batcher = InlineFleet(config, publisher.source), Batcher(config, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in learner.policy.state_dict().items()}
    rollout = fleet.next_rollout(1.0)
    assert rollout is not None
    batcher.add(rollout, 0)
    batch = batcher.next_batch()
    assert batch is not None
    assert np.isfinite(learner.update(batch)["losses/total"])
    after = learner.policy.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    fleet.close()


USERS = """
import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

class Choices(gymnasium.Env):
    def __init__(self, size):
        self.observation_space, self.action_space = Box(-1.0, 1.0, (size,)), MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += 1
        info = {"seen": None if self.count % 2 else self.count}
        seen = np.zeros(self.observation_space.shape, np.float32)
        return seen, float(action.sum()), self.count == 7, False, info

gymnasium.register("Choices-v0", Choices)

def flat(env):
    return gymnasium.wrappers.FlattenObservation(env)
"""


def test_an_env_of_ones_own_with_several_choices_trains(tmp_path: Path, launch: Launch) -> None:
    """Inline; that Ray's workers find what is on PYTHONPATH is shown by DeepMind Lab's stand-in."""
    (tmp_path / "users_choices.py").write_text(USERS)
    run = str(tmp_path / "run")
    options = ["--env.id", "users_choices:Choices-v0", "--env.kwargs", '{"size": 9}', "--env.num-envs", "4"]
    options += ["--env.wrappers", "users_choices:flat", "--num-actors", "1", "--batch-size", "4"]
    options += ["--runtime", "inline", "--total-steps", "400"]
    options += ["--wandb.mode", "disabled", "--run-dir", run, "--policy.previous-action"]
    process = launch.start("train", "gym_rtrl", *options, PYTHONPATH=str(tmp_path))
    code, output = ended(process)
    assert code == 0, output
    assert read_metrics(tmp_path / "run")[-1]["global_step"] >= 400
