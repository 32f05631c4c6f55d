"""Atari 2600 games by ale-py's native vector environment: `ALE/Breakout-v5` and all others of the ALE.

Preprocessing is DQN's (Mnih et al. 2015) unless `env.atari` says otherwise: 4 frames a step with the
last two max-pooled, grey, 84 x 84, the last 4 observations stacked. Rewards are the game's own score,
never clipped.

Lives are watched here and not by ale-py, whose two options would each lose something: one starts a
new game after every lost life, the other flags a lost life and the end of a game alike, and then
no number in `info` tells them apart (Adventure ends with a life left, Frogger goes on with none).
So ale-py ends whole games only, and a life is lost where `lives` fell and the game went on, which
is the rule of Gymnasium's AtariPreprocessing.

Some games stand still after a lost life until FIRE is pressed, and a greedy policy that never does waits
there for half an hour. The preprocessing of OpenAI Baselines presses it. Here the observation of a lost life
is a dummy that carries no loss, so that FIRE takes the place of its action without an error off-policy.
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

WAIT_FOR_FIRE = frozenset({"breakout", "donkey_kong"})
"""Games in which, from a lost life on, 500 steps without FIRE earn nothing and lose nothing, and one FIRE at
once sets them going again: of all 104, by three random courses each from the same state. Gopher, Name This
Game and Video Pinball take a FIRE too, but not before an animation is over: there the policy presses it."""

gymnasium.register_envs(ale_py)
_ROMS = {
    env_id: str(registered.kwargs["game"])
    for env_id, registered in gymnasium.registry.items()
    if env_id.startswith("ALE/")
}


class AtariVecEnv:
    """E copies of one game. Observation: uint8 [C, side, side], oldest frame first; C is 4, or as
    `env.atari` says 1 or 3 (colour) channels for each frame of the stack.

    With `life_loss_ends_episode` a lost life is marked `terminated` without `game_over`. The game
    plays on: the action given on that observation counts (with `fire_reset` it is FIRE in the games of
    `WAIT_FOR_FIRE`), and so does the reward it earns.
    """

    def __init__(self, config: EnvConfig) -> None:
        options, game = config.atari, _ROMS[config.id]
        self.num_envs = config.num_envs
        self._life_loss_terminates = config.life_loss_ends_episode
        self._envs = AtariVectorEnv(
            game,
            config.num_envs,
            num_threads=config.threads,
            max_num_frames_per_episode=config.max_episode_frames,
            repeat_action_probability=config.sticky_actions,
            full_action_space=config.full_action_space,
            autoreset_mode=AutoresetMode.NEXT_STEP,
            img_height=options.size,
            img_width=options.size,
            grayscale=not options.colour,
            stack_num=options.frame_stack,
            frameskip=options.frame_skip,
            noop_max=config.noop_max,
            reward_clipping=False,
            use_fire_reset=config.fire_reset,
        )
        actions = [action.name for action in self._envs.ale.get_action_set()]
        self._fire = actions.index("FIRE") if config.fire_reset and game in WAIT_FOR_FIRE else None
        self._colour = options.colour
        self.spec = EnvSpec(
            id=config.id,
            observation_shape=(
                options.frame_stack * (3 if options.colour else 1),
                options.size,
                options.size,
            ),
            observation_dtype="uint8",
            num_actions=len(actions),
            frames_per_step=options.frame_skip,
            frames_stacked=options.frame_stack,
            levels=(config.id,) * config.num_envs,
            action_names=tuple(actions),
        )
        self._lives = np.zeros(config.num_envs, np.int32)
        self._over = np.zeros(config.num_envs, np.bool_)
        self._lost = np.zeros(config.num_envs, np.bool_)
        """A life, at the observation that was returned last."""

    def reset(self, seed: int) -> NDArray[Any]:
        observation, info = self._envs.reset(seed=distinct_seeds(seed, self.num_envs))
        self._lives = info["lives"].copy()
        self._over = np.zeros(self.num_envs, np.bool_)
        self._lost = np.zeros(self.num_envs, np.bool_)
        return self._channels_first(observation)

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        self.send(actions)
        return self.recv()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Raises ValueError for a wrong shape or an action outside [0, num_actions)."""
        check_actions(self.spec, self.num_envs, actions)  # ale-py waits for ever on an unknown action
        if self._fire is not None:
            actions = np.where(self._lost, self._fire, actions)
        self._envs.send(actions)

    def recv(self) -> VecStep:
        observation, reward, terminated, truncated, info = self._envs.recv()
        truncated = truncated & ~terminated
        game_over = terminated | truncated
        lives = info["lives"].copy()
        if self._life_loss_terminates:
            # A new game may begin with fewer lives than the one before was cut off with.
            self._lost = (lives < self._lives) & ~game_over & ~self._over
            terminated = terminated | self._lost
        self._lives, self._over = lives, game_over
        return VecStep(
            self._channels_first(observation), reward.astype(np.float32), terminated, truncated, game_over
        )

    def _channels_first(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Grey: as it comes, [E, stack, side, side]. In colour [E, stack, side, side, 3] becomes
        [E, stack * 3, side, side]."""
        if not self._colour:
            return observation
        first = np.moveaxis(observation, -1, 2)
        return np.ascontiguousarray(first).reshape(len(first), -1, *first.shape[-2:])

    def close(self) -> None:
        self._envs.close()


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return tuple(_ROMS)


def make(config: EnvConfig, first_stream: int) -> AtariVecEnv:
    return AtariVecEnv(config)
