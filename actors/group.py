"""A group of env slots that are stepped together, and the rollout that is written while they are.

    arrived x_t --submit--> policy --take--> action --send--> env --recv--> arrived x_{t+1}
         '------------ written down meanwhile ------------'

Next-step autoreset: after an observation that ended an episode the env ignores the action and returns the
first observation of the next one, so `reset[t+1] = terminated[t] | truncated[t]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.frame_stack import oldest_first
from actors.inference import ArrayState, Inference
from actors.rollout import EpisodeStats, map_observation, observation_parts
from envs.guard import env_code
from envs.spec import EnvSpec, Observation, Resumable, Sends, VecEnv, VecStep, check_observation, check_step


class Sheet:
    """What becomes a rollout of E columns: the arrays of its fields, written step by step."""

    def __init__(self, spec: EnvSpec, T: int, E: int) -> None:
        self._older = spec.frames_stacked - 1
        shape, dtype = spec.observation_shape, spec.observation_dtype
        if self._older:
            channels, *size = shape
            shape = (channels // spec.frames_stacked, *size)
        self.observation = map_observation(
            lambda shape, dtype: np.empty((self._older + T + 1, E, *shape), dtype), shape, dtype
        )
        self.arrivals: dict[str, NDArray[Any]] = {"reward": np.empty((T + 1, E), np.float32)}
        for name in ("terminated", "truncated", "reset", *(("game_over",) if self._older else ())):
            self.arrivals[name] = np.empty((T + 1, E), np.bool_)
        self._steps, self._columns = T, E
        self.decisions: dict[str, NDArray[Any]] = {}
        self.previous_action: list[NDArray[Any]] = []
        self.state: list[ArrayState] = []
        """Of each group, before x_0."""
        self.versions: set[int] = set()
        self.episodes: list[EpisodeStats] = []

    def see(self, t: int, columns: slice, observation: Observation) -> None:
        if not self._older:
            for (_, kept), (_, part) in zip(
                observation_parts(self.observation), observation_parts(observation), strict=True
            ):
                kept[t, columns] = part
            return
        frames = oldest_first(observation, self._older + 1)
        if t == 0:
            self.observation[: self._older, columns] = frames[:-1]
        self.observation[self._older + t, columns] = frames[-1]

    def decide(self, t: int, columns: slice, decided: Mapping[str, NDArray[Any]]) -> None:
        for name, array in decided.items():
            if name not in self.decisions:
                shape = (self._steps, self._columns, *array.shape[1:])
                self.decisions[name] = np.empty(shape, array.dtype)
            self.decisions[name][t, columns] = array


class _Halves(Protocol):
    def send(self, actions: NDArray[Any]) -> None: ...

    def recv(self) -> VecStep: ...


class _Whole:
    """The halves of an env that has only the whole step: all of it is in the second."""

    def __init__(self, env: VecEnv) -> None:
        self._env = env

    def send(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def recv(self) -> VecStep:
        return self._env.step(self._actions)


class Group:
    """The slots of one vector env: columns `first` and following of the actor's rollouts.

    Raises EnvFaultError when the env's own code fails, or returns a wrong shape or type or a number that is
    not finite, as soon as it arrives.
    """

    def __init__(self, env: VecEnv, inference: Inference, *, first: int, seed: int) -> None:
        self.env = env
        self._halves: _Halves = env if isinstance(env, Sends) else _Whole(env)
        self._inference = inference
        self._number = inference.open(env.num_envs)
        self._first, slots = first, env.num_envs
        self._columns = slice(first, first + slots)
        self._levels = env.spec.levels or (env.spec.id,) * slots
        self._steps = 0
        with env_code(env.spec.id, "reset()"):
            self._observation: Observation = env.reset(seed=seed)
        check_observation(env.spec, slots, self._observation, self._steps, first)
        self._reward = np.zeros(slots, np.float32)
        self._terminated = np.zeros(slots, np.bool_)
        self._truncated = np.zeros(slots, np.bool_)
        self._reset = np.ones(slots, np.bool_)
        self._game_over = np.zeros(slots, np.bool_)
        self._return = np.zeros(slots, np.float64)
        self._length = np.zeros(slots, np.int64)

    def begin(self, sheet: Sheet) -> None:
        """Before the first step of a rollout."""
        sheet.previous_action.append(self._inference.previous_action(self._number))
        sheet.state.append(self._inference.state(self._number))

    def decide(self, t: int, sheet: Sheet) -> None:
        """An action on what has arrived, and the env is off with it."""
        self._inference.submit(self._number, self._observation, self._reward, self._reset)
        self.write(t, sheet)
        decision = self._inference.take(self._number)
        sheet.decide(t, self._columns, {"action": decision.action, "behaviour_logits": decision.logits})
        sheet.versions.add(decision.version)
        with env_code(self.env.spec.id, "step()", often=True):
            self._halves.send(decision.env_action)

    def write(self, t: int, sheet: Sheet) -> None:
        """What has arrived."""
        sheet.see(t, self._columns, self._observation)
        for name, array in sheet.arrivals.items():
            array[t, self._columns] = getattr(self, f"_{name}")

    def arrive(self, episodes: list[EpisodeStats]) -> None:
        """The end of the env's step, and the books of the games: raw returns, over lost lives too."""
        spec = self.env.spec
        with env_code(spec.id, "step()", often=True):
            step = self._halves.recv()
        self._steps += 1
        check_step(spec, self.env.num_envs, step, self._steps, self._first)
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
                    slot=self._first + int(slot),
                    ended_by="truncation" if step.truncated[slot] else "termination",
                )
            )
        self._return[step.game_over] = 0.0
        self._length[step.game_over] = 0
        self._observation, self._reward = step.observation, step.reward
        self._terminated, self._truncated = step.terminated, step.truncated
        self._game_over = step.game_over

    # --- resuming, for envs that can write down their state ------------------------------------

    @property
    def _kept(self) -> tuple[str, ...]:
        names = ("reward", "terminated", "truncated", "reset", "return", "length")
        return (*names, "game_over") if self.env.spec.frames_stacked > 1 else names

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Everything that decides the group's next rollout, the policy's weights aside."""
        if not isinstance(self.env, Resumable):
            raise ValueError(f"{self.env.spec.id} cannot write down its state")
        with env_code(self.env.spec.id, "state_dict()"):
            state = {f"env/{name}": array for name, array in self.env.state_dict().items()}
        state |= {name: getattr(self, f"_{name}") for name in self._kept}
        state |= dict(observation_parts(self._observation))
        return state | self._inference.state_dict(self._number)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        if not isinstance(self.env, Resumable):
            raise ValueError(f"{self.env.spec.id} cannot take up a written state")
        with env_code(self.env.spec.id, "load_state_dict()"):
            self.env.load_state_dict({n[4:]: a for n, a in state.items() if n.startswith("env/")})
        for name in self._kept:
            setattr(self, f"_{name}", _another(name, getattr(self, f"_{name}"), state))
        labels = iter([label for label, _ in observation_parts(self._observation)])
        self._observation = map_observation(
            lambda part: _another(next(labels), part, state), self._observation
        )
        self._inference.load_state_dict(self._number, dict(state))


def _another(name: str, mine: NDArray[Any], state: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """A copy of the saved array, which is to take the place of `mine`. Raises ValueError for another kind."""
    saved = state[name]
    if (saved.shape, saved.dtype) != (mine.shape, mine.dtype):
        raise ValueError(
            f"{name} is {saved.dtype}{list(saved.shape)}, and {mine.dtype}{list(mine.shape)} in this run"
        )
    return np.array(saved)
