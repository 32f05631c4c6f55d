"""Atari 2600 games by ale-py's native vector environment: `ALE/Breakout-v5` and all others of the ALE.

Preprocessing is DQN's (Mnih et al. 2015): 4 frames a step with the last two max-pooled, grey,
84 x 84, the last 4 observations stacked. Rewards are the game's own score, never clipped.

Lives are watched here and not by ale-py, whose two options would each lose something: one starts a
new game after every lost life, the other flags a lost life and the end of a game alike, and then
no number in `info` tells them apart (Adventure ends with a life left, Frogger goes on with none).
So ale-py ends whole games only, and a life is lost where `lives` fell and the game went on, which
is the rule of Gymnasium's AtariPreprocessing.
"""

from __future__ import annotations

from typing import Any

import ale_py
import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.spec import EnvSpec, VecStep, check_actions
from envs.suites.streams import distinct_seeds

FRAMES_PER_STEP = 4
SIDE = 84
"""Pixels"""
STACK = 4

gymnasium.register_envs(ale_py)
_ROMS = {
    env_id: str(registered.kwargs["game"])
    for env_id, registered in gymnasium.registry.items()
    if env_id.startswith("ALE/")
}


class AtariVecEnv:
    """E copies of one game. Observation: uint8 [4, 84, 84], oldest frame first.

    With `life_loss_ends_episode` a lost life is marked `terminated` without `game_over`. The game
    plays on: the action given on that observation counts, and so does the reward it earns.
    """

    def __init__(self, config: EnvConfig) -> None:
        self.num_envs = config.num_envs
        self._life_loss_terminates = config.life_loss_ends_episode
        self._envs = AtariVectorEnv(
            _ROMS[config.id],
            config.num_envs,
            num_threads=config.num_threads,
            max_num_frames_per_episode=config.max_episode_frames,
            repeat_action_probability=config.sticky_actions,
            full_action_space=config.full_action_space,
            autoreset_mode=AutoresetMode.NEXT_STEP,
            img_height=SIDE,
            img_width=SIDE,
            stack_num=STACK,
            frameskip=FRAMES_PER_STEP,
            noop_max=config.noop_max,
            reward_clipping=False,
            use_fire_reset=config.fire_reset,
        )
        actions = self._envs.ale.get_action_set()
        self.spec = EnvSpec(
            id=config.id,
            observation_shape=(STACK, SIDE, SIDE),
            observation_dtype="uint8",
            num_actions=len(actions),
            frames_per_step=FRAMES_PER_STEP,
            levels=(config.id,) * config.num_envs,
            action_names=tuple(action.name for action in actions),
        )
        self._lives = np.zeros(config.num_envs, np.int32)
        self._over = np.zeros(config.num_envs, np.bool_)

    def reset(self, seed: int) -> NDArray[Any]:
        observation, info = self._envs.reset(seed=distinct_seeds(seed, self.num_envs))
        self._lives = info["lives"].copy()
        self._over = np.zeros(self.num_envs, np.bool_)
        return observation

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        """Raises ValueError for a wrong shape or an action outside [0, num_actions)."""
        check_actions(self.spec, self.num_envs, actions)  # ale-py waits for ever on an unknown action
        observation, reward, terminated, truncated, info = self._envs.step(actions)
        truncated = truncated & ~terminated
        game_over = terminated | truncated
        lives = info["lives"].copy()
        if self._life_loss_terminates:
            # A new game may begin with fewer lives than the one before was cut off with.
            terminated = terminated | ((lives < self._lives) & ~game_over & ~self._over)
        self._lives, self._over = lives, game_over
        return VecStep(observation, reward.astype(np.float32), terminated, truncated, game_over)

    def close(self) -> None:
        self._envs.close()


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return tuple(_ROMS)


def make(config: EnvConfig, actor_id: int) -> AtariVecEnv:
    return AtariVecEnv(config)
