"""A video of a policy at play: watched (watch.py), drawn (frames.py), written (video.py).

Here and not among the learner's modules: it is acting that is filmed, and no training code is needed for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from actors.play.evaluate import for_whole_games
from actors.play.frames import Screen
from actors.play.video import VideoFile, check_video
from actors.play.watch import watch
from actors.policy import Policy
from configs.paths import path_argument
from configs.schema import Config, ConfigError
from envs.make import make_drawn, make_vec


@dataclass(frozen=True, slots=True)
class Film:
    """What a video shows."""

    path: Path
    returns: list[float]
    """Of each game, raw; of the last one so far, if it was cut."""
    steps: int
    """Agent steps, of all games."""
    frames: int
    cut: bool
    """`max_steps` came before the last game's end."""

    def report(self) -> str:
        returns = ", ".join(f"{value:g}" for value in self.returns)
        text = f"{self.path}: {self.frames} frames, {self.steps} steps, return {returns}"
        return text + (f"; cut off by --max-steps {self.steps}" if self.cut else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmOptions:
    """What to film. Raises ConfigError for numbers below 1 and for a path that cannot be written."""

    path: Path
    """Its ending is the format: .mp4 or .gif. An older file is replaced."""
    episodes: int
    max_steps: int
    """Agent steps, of all games: the end of the film, in the middle of a game if need be."""
    fps: int
    """Agent steps a second."""
    greedy: bool
    seed: int
    """Of the env and of sampled actions: the same seed gives the same file."""
    observation: bool
    """Draw what the policy observes also where the env could draw itself."""

    def __post_init__(self) -> None:
        for name in ("episodes", "max_steps", "fps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: needs at least 1")
        check_video(self.path)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Those that only a film has."""
        add = parser.add_argument
        add("--out", type=path_argument, help="a .mp4 or .gif file (default: RUN_DIR/step_N.mp4)")
        add("--max-steps", type=int, default=5000, help="agent steps at most (default: %(default)s)")
        add("--fps", type=int, default=15, help="agent steps a second (default: %(default)s, Atari's own)")
        add("--observation", action="store_true", help="draw what the policy sees, not the env's own picture")

    @classmethod
    def parsed(
        cls, arguments: argparse.Namespace, default_path: Path, *, greedy: bool, seed: int
    ) -> FilmOptions:
        return cls(
            path=arguments.out or default_path,
            episodes=arguments.episodes,
            max_steps=arguments.max_steps,
            fps=arguments.fps,
            greedy=greedy,
            seed=seed,
            observation=arguments.observation,
        )


def film(
    config: Config,
    policy: Policy,
    options: FilmOptions,
    show: Callable[[int, int, str], None] = lambda done, steps, text: None,
) -> Film:
    """Plays games of `config.env` on the CPU and writes the video of them.

    `show` is called after every frame: steps so far, twice, and a line for people. Raises EnvError and
    VideoError; after an error the path is as it was.
    """
    games: dict[int, float] = {}
    steps, ended = 0, False
    with VideoFile(options.path, options.fps) as video:
        env_config = for_whole_games(config.env, 1)
        env = make_vec(env_config) if options.observation else make_drawn(env_config)
        screen = Screen(env.spec)
        moments = watch(
            env,
            policy,
            episodes=options.episodes,
            max_steps=options.max_steps,
            greedy=options.greedy,
            seed=options.seed,
        )
        with closing(moments):
            for moment in moments:
                video.write(screen.frame(moment))
                games[moment.game] = moment.episodic_return
                ended = moment.ended is not None
                steps += not ended
                text = f"game {moment.game} of {options.episodes}, {steps:,} of at most {options.max_steps:,}"
                show(steps, steps, f"{text} steps")
    cut = not ended or len(games) < options.episodes
    return Film(options.path, list(games.values()), steps, video.frames, cut)
