"""The mean squared return error of values: against sums by hand, and against what the task makes knowable."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actors.inference import Decision, LocalInference
from actors.play.evaluate import evaluate
from actors.play.games import Games
from actors.play.prediction import NEGLIGIBLE, ReturnError
from actors.policy import Policy
from configs.presets import preset
from configs.schema import Config, EnvConfig, EvalConfig, MemoryConfig
from envs.make import env_spec, make_vec
from envs.suites.memory.trace_conditioning import TraceConditioning
from envs.suites.streams import distinct_seeds

GAMMA = 0.9
TIMING = MemoryConfig(pause_min=20, pause_max=30, distractors=0, episode_steps=1500)
SLOTS = 160


def by_hand(values: list[float], rewards: list[float], gamma: float, keep: int) -> list[float]:
    """Squared errors of the first `keep` values, by the sum that defines the return."""
    return [
        (values[t] - sum(gamma**k * rewards[t + k] for k in range(len(rewards) - t))) ** 2
        for t in range(keep)
    ]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_errors_are_those_of_the_sum_that_defines_the_return(gamma: float, scale: float) -> None:
    random = np.random.default_rng(0)
    error, squares = ReturnError(2, gamma, scale), []
    for terminated, length in ((True, 7), (False, 200), (True, 1), (False, 3)):
        values, rewards = random.normal(size=(2, length)).tolist()
        for value, reward in zip(values, rewards, strict=True):
            error.add([1, 0], [value * scale, 0.0], [reward, 1.0])
        error.end(1, terminated)
        known = sum(terminated or gamma ** (length - t) <= NEGLIGIBLE for t in range(length))
        squares += by_hand(values, rewards, gamma, known)
    assert error.steps == len(squares)
    assert error.mean == pytest.approx(np.mean(squares), rel=1e-12)


class Foretelling:
    """An oracle in the policy's place: the best prediction of the env itself, or a constant."""

    def __init__(self, env: TraceConditioning, constant: float | None) -> None:
        self._env, self._constant, self._nothing = env, constant, np.zeros(SLOTS, np.int64)

    def open(self, slots: int) -> int:
        return 0

    def refresh(self) -> None:
        pass

    def submit(self, group: int, observation: Any, reward: Any, reset: Any) -> None:
        pass

    def keep(self, group: int, slots: NDArray[np.bool_]) -> None:
        pass

    def state(self, group: int) -> tuple[NDArray[np.float32], ...]:
        return ()

    def previous_action(self, group: int) -> NDArray[Any]:
        return self._nothing

    def state_dict(self, group: int) -> dict[str, NDArray[Any]]:
        return {}

    def load_state_dict(self, group: int, state: dict[str, NDArray[Any]]) -> None:
        pass

    def take(self, group: int) -> Decision:
        value = np.full(SLOTS, self._constant or 0.0)
        if self._constant is None:
            value = self._env.best_prediction(GAMMA)
        logits = np.zeros((SLOTS, 1), np.float32)
        return Decision(self._nothing, self._nothing, logits, value.astype(np.float32), 0)


def error_of(constant: float | None) -> tuple[float, TraceConditioning]:
    env = make_vec(EnvConfig(id="memory/trace_conditioning", num_envs=SLOTS, memory=TIMING))
    assert isinstance(env, TraceConditioning)
    error = ReturnError(SLOTS, GAMMA, 1.0)
    games = Games([env], Foretelling(env, constant), [1] * SLOTS, seed=0, max_steps=10**6, error=error)
    while not games.done:
        games.step()
    assert error.steps == SLOTS * (1500 - 87) and error.mean is not None  # 0.9^88 <= 1e-4 < 0.9^87
    return error.mean, env


def test_the_best_prediction_reaches_the_optimal_error_and_a_constant_the_variance() -> None:
    best, env = error_of(None)
    assert best == pytest.approx(env.optimal_msre(GAMMA), rel=0.03)
    # E (c - G)^2 = c^2 - 2 c E G + E G^2: two points give its minimum, which is the variance of G.
    at_0, at_1 = (error_of(c)[0] for c in (0.0, 1.0))
    mean = (1.0 + at_0 - at_1) / 2
    # Outcomes are 2 of 35 steps on average: of every reward comes 1 / (1 - gamma) in all returns together.
    assert mean == pytest.approx(2 / (10 + 25) / (1 - GAMMA), rel=0.02)
    variance = at_0 - mean**2
    assert error_of(mean)[0] == pytest.approx(variance, rel=1e-5)
    assert best < env.memoryless_msre(GAMMA) < variance


def small(**changes: Any) -> Config:
    base = preset("memory_rtrl")
    memory = MemoryConfig(episode_steps=200)
    env = EnvConfig(id="memory/trace_conditioning", memory=memory)
    evaluation = EvalConfig(episodes=4)
    config = dataclasses.replace(base, env=env, num_streams=3, batch_size=3, discounting=0.9, eval=evaluation)
    return dataclasses.replace(config, **changes)


def test_an_evaluation_measures_the_policys_own_values() -> None:
    config = small(reward_scale=0.5)
    torch.manual_seed(0)
    policy = Policy(env_spec(config.env), config.policy)
    result = evaluate(config, policy, seed=7)
    assert len(result.episodes) == 4 and f"return error {result.return_error:.4g}" in result.report()
    assert result.to_json()["return_error"] == result.return_error
    # The same games, stepped here: four slots of one env.
    env = make_vec(dataclasses.replace(config.env, num_envs=4))
    seen, inference = env.reset(int(distinct_seeds(7, 1)[0])), LocalInference(policy, None, seed=0)
    group, nothing = inference.open(4), np.zeros(4, np.int64)
    reward, values, rewards = np.zeros(4, np.float32), [], []
    for t in range(200):
        inference.submit(group, seen, reward, np.full(4, t == 0))
        decision, step = inference.take(group), env.step(nothing)
        seen, reward = step.observation, step.reward
        values.append(decision.value / 0.5)
        rewards.append(reward)
    assert step.truncated.all()
    columns = zip(np.stack(values).T.tolist(), np.stack(rewards).T.tolist(), strict=True)
    squares = [square for v, r in columns for square in by_hand(v, r, 0.9, 200 - 87)]
    assert result.return_error == pytest.approx(np.mean(squares), rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{"reward_clipping": "abs_one"}, {"discounting": 1.0}, {"normalise_rewards": True}], ids=str
)
def test_where_the_return_is_another_or_unknown_there_is_no_error(changes: dict[str, Any]) -> None:
    config = small(**changes)
    result = evaluate(config, Policy(env_spec(config.env), config.policy), seed=7)
    assert result.return_error is None and "return error" not in result.report()
