"""The parts of a training run, each alone: the agent steps a second it could make if it had the machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray

from actors.inference import LocalInference
from actors.policy import Policy
from actors.policy.precision import set_encoder_dtype
from configs.machine import available_cores
from configs.schema import Config
from envs.make import make_vec
from envs.spec import VecEnv


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One part, with torch and native environments on so many threads."""

    call: Callable[[], object]
    steps: int
    """Agent steps of one call."""
    threads: int
    copies: int
    """So many of it fill the cores; it is measured once."""

    def rate(self, seconds: float) -> float:
        """Agent steps a second on all cores. The first call warms up and does not count."""
        torch.set_num_threads(self.threads)
        self.call()
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            self.call()
            calls += 1
        return self.copies * self.steps * calls / (time.perf_counter() - start)


def make_parts(
    config: Config, update: Callable[[], object], on_gpu: bool, stack: ExitStack
) -> Iterator[tuple[str, list[Part]]]:
    """Each part by name: on one thread a core, and with threads for all cores; the better one counts.

        env        the actors' vector env, random actions
        inference  `LocalInference` on E slots, on the actors' device
        learner    `update`, of a batch that is at hand

    `stack` closes their environments.
    """
    cores, slots = available_cores(), config.env.num_envs
    copies = {threads: cores // threads for threads in sorted({1, cores})}
    yield "env", [Part(_env(config, threads, stack), slots, threads, n) for threads, n in copies.items()]
    inference = _inference(config, stack)
    acting = copies if config.acting_device == "cpu" else {1: 1}
    yield "inference", [Part(inference, slots, threads, n) for threads, n in acting.items()]
    learning = {1: 1} if on_gpu else copies
    yield "learner", [Part(update, config.steps_per_update, threads, n) for threads, n in learning.items()]


def _opened(config: Config, stack: ExitStack) -> VecEnv:
    env = make_vec(config.env)
    stack.callback(env.close)
    return env


def _env(config: Config, threads: int, stack: ExitStack) -> Callable[[], object]:
    if config.env.id.startswith("ALE/"):  # steps its slots in threads of its own
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, num_threads=threads))
    env, rng = _opened(config, stack), np.random.default_rng(1)
    env.reset(seed=1)

    def actions() -> NDArray[np.generic]:
        if env.spec.continuous_actions:
            return rng.uniform(-1, 1, (env.num_envs, env.spec.num_actions)).astype(np.float32)
        return rng.integers(env.spec.num_actions, size=env.num_envs)

    return lambda: env.step(actions())


def _inference(config: Config, stack: ExitStack) -> Callable[[], object]:
    env = _opened(config, stack)
    policy = Policy(env.spec, config.policy)
    set_encoder_dtype(policy, config.compute.actor_encoder_dtype)
    inference, slots = LocalInference(policy, None, seed=1, device=config.acting_device), env.num_envs
    observation, reset = env.reset(seed=1), np.zeros(slots, np.bool_)
    reward, group = np.zeros(slots, np.float32), inference.open(slots)

    def decide() -> object:
        inference.submit(group, observation, reward, reset)
        return inference.take(group)

    return decide
