"""Stepping a vector env with a policy, cut into rollouts.

    env.step(action) -> (x_t, r_t, terminated_t, truncated_t)
         ^                     |
         |              inference.step  -> action, logits, next recurrent state
         +---------------------+

Next-step autoreset: after an observation that ended an episode the env ignores the action and
returns the first observation of the next one, so `reset[t+1] = terminated[t] | truncated[t]`.
The last observation of a rollout is kept and is the first of the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.frame_stack import oldest_first
from actors.inference import Inference, LocalInference
from actors.policy import Policy
from actors.rollout import EpisodeStats, Rollout, map_observation, observation_parts
from actors.weights import WeightSource
from configs.schema import Config
from envs.guard import close_env, env_code
from envs.make import make_vec
from envs.spec import EnvSpec, Observation, Resumable, VecEnv, check_observation, check_step


def _keep(t: int, kept: NDArray[Any], seen: NDArray[Any]) -> None:
    kept[t] = seen


class _Seen:
    """The observations of one rollout as the wire carries them."""

    def __init__(self, spec: EnvSpec, T: int, first: Observation) -> None:
        self._frames = spec.frames_stacked
        if self._frames == 1:
            self.kept = map_observation(lambda part: np.empty((T + 1, *part.shape), part.dtype), first)
            return
        older = oldest_first(first, self._frames)[:-1]
        self.kept = np.empty((len(older) + T + 1, *older.shape[1:]), first.dtype)
        self.kept[: len(older)] = older

    def keep(self, t: int, observation: Observation) -> None:
        if self._frames == 1:
            map_observation(partial(_keep, t), self.kept, observation)
        else:
            self.kept[self._frames - 1 + t] = oldest_first(observation, self._frames)[-1]


class Collector:
    """The E streams of one actor life.

    `env_seed` seeds the slots; `incarnation` names this life. Raises EnvFaultError when the env's own code
    fails, or returns a wrong shape or type or a number that is not finite, as soon as it arrives: nothing of
    that rollout leaves.
    """

    def __init__(
        self,
        env: VecEnv,
        inference: Inference,
        *,
        unroll_length: int,
        actor_id: int,
        incarnation: int,
        env_seed: int,
    ) -> None:
        self._env = env
        self._inference = inference
        self._unroll_length = unroll_length
        self._actor_id = actor_id
        self._incarnation = incarnation
        self._sequence_number = 0
        slots = env.num_envs
        self._levels = env.spec.levels or (env.spec.id,) * slots
        self._steps = 0
        with env_code(env.spec.id, "reset()"):
            self._observation: Observation = env.reset(seed=env_seed)
        check_observation(env.spec, slots, self._observation, self._steps)
        self._reward = np.zeros(slots, np.float32)
        self._terminated = np.zeros(slots, np.bool_)
        self._truncated = np.zeros(slots, np.bool_)
        self._reset = np.ones(slots, np.bool_)
        self._game_over = np.zeros(slots, np.bool_)
        self._previous_action = inference.initial_action(slots)
        self._state = inference.initial_state(slots)
        self._return = np.zeros(slots, np.float64)
        self._length = np.zeros(slots, np.int64)

    def collect(self, heartbeat: Callable[[], None] = lambda: None) -> Rollout:
        """The next T steps. `heartbeat` is called once a step, for liveness checks."""
        T, E = self._unroll_length, self._env.num_envs
        spec = self._env.spec
        self._inference.refresh()
        seen = _Seen(spec, T, self._observation)
        arrivals = {
            "reward": np.empty((T + 1, E), np.float32),
            "terminated": np.empty((T + 1, E), np.bool_),
            "truncated": np.empty((T + 1, E), np.bool_),
            "reset": np.empty((T + 1, E), np.bool_),
        }
        if spec.frames_stacked > 1:
            arrivals["game_over"] = np.empty((T + 1, E), np.bool_)
        action: list[NDArray[Any]] = []
        logits: list[NDArray[np.float32]] = []
        previous_action = self._previous_action.copy()
        initial_state = tuple(array.copy() for array in self._state)
        versions: list[int] = []
        episodes: list[EpisodeStats] = []
        for t in range(T + 1):
            seen.keep(t, self._observation)
            for name, array in arrivals.items():
                array[t] = getattr(self, f"_{name}")
            if t == T:
                break
            decision = self._inference.step(
                self._observation, self._reward, self._reset, self._state, self._previous_action
            )
            action.append(decision.action)
            logits.append(decision.logits)
            versions.append(decision.version)
            self._state, self._previous_action = decision.state, decision.action
            self._advance(decision.env_action, episodes)
            heartbeat()
        rollout = Rollout(
            observation=seen.kept,
            **arrivals,
            action=np.stack(action),
            behaviour_logits=np.stack(logits),
            previous_action=previous_action,
            initial_state=initial_state,
            actor_id=self._actor_id,
            incarnation=self._incarnation,
            sequence_number=self._sequence_number,
            policy_version_min=min(versions),
            policy_version_max=max(versions),
            episodes=episodes,
        )
        rollout.validate()
        self._sequence_number += 1
        return rollout

    def _advance(self, action: NDArray[Any], episodes: list[EpisodeStats]) -> None:
        """One env step, and the books of the games: raw returns, over lost lives too."""
        spec = self._env.spec
        with env_code(spec.id, "step()", often=True):
            step = self._env.step(action)
        self._steps += 1
        check_step(spec, self._env.num_envs, step, self._steps)
        self._reset = self._terminated | self._truncated
        self._return += step.reward
        # The step that only starts a new game is no decision, so it does not count.
        self._length += ~(self._reset & (self._length == 0))
        for slot in np.flatnonzero(step.game_over):
            episodes.append(
                EpisodeStats(
                    episodic_return=float(self._return[slot]),
                    episodic_length=int(self._length[slot]),
                    level=self._levels[slot],
                    slot=int(slot),
                    ended_by="truncation" if step.truncated[slot] else "termination",
                )
            )
        self._return[step.game_over] = 0.0
        self._length[step.game_over] = 0
        self._observation, self._reward = step.observation, step.reward
        self._terminated, self._truncated = step.terminated, step.truncated
        self._game_over = step.game_over

    def close(self) -> None:
        close_env(self._env.spec.id, self._env)

    # --- resuming, for envs that can write down their state ------------------------------------

    _ARRAYS = ("reward", "terminated", "truncated", "reset", "previous_action")
    _BOOKS = ("return", "length")

    @property
    def _kept(self) -> tuple[str, ...]:
        stacked = ("game_over",) if self._env.spec.frames_stacked > 1 else ()
        return self._ARRAYS + self._BOOKS + stacked

    @property
    def resumable(self) -> bool:
        return isinstance(self._env, Resumable)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Everything that decides the next rollout, the policy's weights aside."""
        if not isinstance(self._env, Resumable):
            raise ValueError(f"{self._env.spec.id} cannot write down its state")
        with env_code(self._env.spec.id, "state_dict()"):
            state = {f"env/{name}": array for name, array in self._env.state_dict().items()}
        state |= {name: getattr(self, f"_{name}") for name in self._kept}
        state |= dict(observation_parts(self._observation))
        state |= {f"state/{i}": array for i, array in enumerate(self._state)}
        identity = np.array([self._incarnation, self._sequence_number], np.int64)
        state |= {"identity": identity, "randomness": self._inference.randomness}
        return {name: np.array(array) for name, array in state.items()}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        if not isinstance(self._env, Resumable):
            raise ValueError(f"{self._env.spec.id} cannot take up a written state")
        with env_code(self._env.spec.id, "load_state_dict()"):
            self._env.load_state_dict({n[4:]: a for n, a in state.items() if n.startswith("env/")})
        for name in self._kept:
            setattr(self, f"_{name}", np.array(state[name]))
        labels = iter([label for label, _ in observation_parts(self._observation)])
        self._observation = map_observation(lambda _: np.array(state[next(labels)]), self._observation)
        self._state = tuple(np.array(state[f"state/{i}"]) for i in range(len(self._state)))
        self._inference.randomness = state["randomness"]
        self._incarnation, self._sequence_number = (int(value) for value in state["identity"])


def make_collector(config: Config, source: WeightSource, actor_id: int, incarnation: int) -> Collector:
    """The streams of one actor life. All its randomness comes from `incarnation` and `actor_id`.

    Raises EnvError and EnvFaultError; the env is closed by then.
    """
    env = make_vec(config.env, actor_id=actor_id)
    try:
        inference = LocalInference(Policy(env.spec, config.policy), source, seed=incarnation)
        return Collector(
            env,
            inference,
            unroll_length=config.unroll_length,
            actor_id=actor_id,
            incarnation=incarnation,
            env_seed=incarnation,
        )
    except BaseException:
        close_env(env.spec.id, env)
        raise
