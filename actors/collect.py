"""Stepping envs with a policy, cut into rollouts: the streams of one actor, in one group of slots or in two.

    group 0   policy | env ------------> | policy | env ...
    group 1          | policy | env ------------> | policy ...

With two the envs of one run while the other is acted on (`Config.actor_groups`). The last observation of a
rollout is kept and is the first of the next one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from actors.group import Group, Sheet
from actors.inference import Inference, LocalInference, group_seed
from actors.policy import Policy
from actors.policy.precision import check_bfloat16, set_encoder_dtype, set_tf32
from actors.rollout import Rollout
from actors.weights import WeightSource
from configs.layout import streams_of
from configs.schema import Config, ConfigError
from envs.guard import close_env
from envs.make import make_vec
from envs.spec import EnvError, Resumable, Sends, VecEnv


class Collector:
    """The E streams of one actor life, in one or more groups, each of the slots of one env.

    `env_seed` seeds the slots; `incarnation` names this life. Raises EnvFaultError when an env's own code
    fails, or returns what its spec does not say: nothing of that rollout leaves.
    """

    def __init__(
        self,
        envs: Sequence[VecEnv],
        inference: Inference,
        *,
        unroll_length: int,
        actor_id: int,
        first_stream: int = 0,
        incarnation: int,
        env_seed: int,
    ) -> None:
        self._envs = envs
        self._inference = inference
        self._unroll_length = unroll_length
        self._actor_id, self._first_stream = actor_id, first_stream
        self._incarnation = incarnation
        self._sequence_number = 0
        *starts, self._slots = accumulate((env.num_envs for env in envs), initial=0)
        self._groups = [
            Group(env, inference, first=first, seed=group_seed(env_seed, number))
            for number, (env, first) in enumerate(zip(envs, starts, strict=True))
        ]

    def collect(self) -> Rollout:
        """The next T steps."""
        T = self._unroll_length
        self._inference.refresh()
        sheet = Sheet(self._envs[0].spec, T, self._slots)
        for group in self._groups:
            group.begin(sheet)
        for t in range(T):
            for group in self._groups:
                if t > 0:
                    group.arrive(sheet.episodes)
                group.decide(t, sheet)
        for group in self._groups:
            group.arrive(sheet.episodes)
            group.write(T, sheet)
        rollout = Rollout(
            observation=sheet.observation,
            reward=sheet.arrivals["reward"],
            terminated=sheet.arrivals["terminated"],
            truncated=sheet.arrivals["truncated"],
            reset=sheet.arrivals["reset"],
            game_over=sheet.arrivals.get("game_over"),
            action=sheet.decisions["action"],
            behaviour_logits=sheet.decisions["behaviour_logits"],
            previous_action=np.concatenate(sheet.previous_action),
            initial_state=tuple(np.concatenate(parts) for parts in zip(*sheet.state, strict=True)),
            actor_id=self._actor_id,
            first_stream=self._first_stream,
            incarnation=self._incarnation,
            sequence_number=self._sequence_number,
            policy_version_min=min(sheet.versions),
            policy_version_max=max(sheet.versions),
            episodes=sheet.episodes,
        )
        rollout.validate()
        self._sequence_number += 1
        return rollout

    def close(self) -> None:
        close_all(self._envs)

    # --- resuming, for envs that can write down their state ------------------------------------

    @property
    def resumable(self) -> bool:
        """Whether `state_dict` can write the streams down."""
        return all(isinstance(env, Resumable) for env in self._envs)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Everything that decides the next rollout, the policy's weights aside."""
        state = {"identity": np.array([self._incarnation, self._sequence_number], np.int64)}
        for number, group in enumerate(self._groups):
            state |= {_prefix(number) + name: array for name, array in group.state_dict().items()}
        return {name: np.array(array) for name, array in state.items()}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        for number, group in enumerate(self._groups):
            its = _prefix(number)
            group.load_state_dict({name[len(its) :]: a for name, a in state.items() if name.startswith(its)})
        self._incarnation, self._sequence_number = (int(value) for value in state["identity"])


def _prefix(number: int) -> str:
    """Of the names of a group's state; the first has none, as where there is only one."""
    return f"group {number}/" if number else ""


def close_all(envs: Sequence[VecEnv]) -> None:
    for env in envs:
        close_env(env.spec.id, env)


def check_device(config: Config) -> None:
    """Raises ConfigError for a device that is not there, or cannot compute as it is told to."""
    if config.acting_device != "cpu":
        try:
            torch.zeros(1, device=config.acting_device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"actor_device = {config.actor_device!r} cannot be used here ({error}); use 'cpu'"
            ) from error
    check_bfloat16("actor_encoder_dtype", config.compute, config.acting_device)


def check_acting(config: Config) -> None:
    """Raises EnvError for two groups of an env that would step each of them in the actor's own thread; inline
    as `check_device`."""
    if config.runtime == "inline":  # Ray's actors look for themselves: they may be on other machines
        check_device(config)
    if config.actor_groups > 1:
        env = make_vec(dataclasses.replace(config.env, num_envs=1))
        close_env(env.spec.id, env)
        if not isinstance(env, Sends):
            raise EnvError(
                f"actor_groups = {config.actor_groups} cannot take effect: {config.env.id} steps its slots "
                "in the actor's own thread, so none would run while others are acted on; leave it at 1"
            )


def make_collector(
    config: Config, source: WeightSource, actor_id: int, incarnation: int, *, first_stream: int = 0
) -> Collector:
    """The streams of one actor life. All its randomness comes from `incarnation`. Sets TF32 for this process.
    `first_stream`: the number in the run of what is stream 0 here, where `config` is of a part of one.

    Raises EnvError and EnvFaultError; the envs are closed by then.
    """
    streams, groups = streams_of(config, actor_id), config.actor_groups
    starts = [streams.start + len(streams) * number // groups for number in range(groups + 1)]
    set_tf32(config.compute, config.acting_device)
    envs: list[VecEnv] = []
    try:
        for start, stop in pairwise(starts):
            slots = dataclasses.replace(config.env, num_envs=stop - start)
            envs.append(make_vec(slots, first_stream=first_stream + start))
        policy = Policy(envs[0].spec, config.policy)
        set_encoder_dtype(policy, config.compute.actor_encoder_dtype)
        return Collector(
            envs,
            LocalInference(policy, source, seed=incarnation, device=config.acting_device),
            unroll_length=config.unroll_length,
            actor_id=actor_id,
            first_stream=streams.start,
            incarnation=incarnation,
            env_seed=incarnation,
        )
    except BaseException:
        close_all(envs)
        raise
