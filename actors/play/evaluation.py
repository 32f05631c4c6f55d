"""What an evaluation found, and the terms under which it holds: for people, for files, for metrics."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from actors.play.games import IDLE_STEPS
from actors.rollout import EpisodeStats
from envs.scores import score_levels


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Games played, and their statistics."""

    episodes: list[EpisodeStats]
    greedy: bool
    seed: int
    levels: str
    """`held out` from training, or `as configured`."""
    protocol: dict[str, object]
    """What was played, as far as it bears on a score: env, suite, its settings, actions, frames a step."""
    score_suite: str | None
    """The score table for the env's levels, where there is one (`envs/scores.py`)."""
    max_episode_steps: int
    cut: int = 0
    """Games cut off after `max_episode_steps`; they count as they stood."""
    unplayed: int = 0
    """Games that did not begin since one before them was cut off."""
    idle: int = 0
    """Games that went on for `IDLE_STEPS` or longer without any reward."""
    return_error: float | None = None
    """Mean squared return error of the values (actors/play/prediction.py), in squared reward; None where the
    learner clips rewards, or no return is known to its end."""

    @property
    def returns(self) -> list[float]:
        return [episode.episodic_return for episode in self.episodes]

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def mean_length(self) -> float:
        """Agent steps of a game."""
        return float(np.mean([episode.episodic_length for episode in self.episodes]))

    @property
    def std(self) -> float:
        """Standard deviation over games, with Bessel's correction; 0 for one game."""
        return float(np.std(self.returns, ddof=1)) if len(self.returns) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        return self.std / len(self.returns) ** 0.5

    @property
    def level_returns(self) -> dict[str, float]:
        """Mean raw return of the games of each level."""
        returns: dict[str, list[float]] = defaultdict(list)
        for episode in self.episodes:
            returns[episode.level].append(episode.episodic_return)
        return {level: float(np.mean(played)) for level, played in sorted(returns.items())}

    @property
    def scores(self) -> dict[str, float]:
        """Normalised scores in percent of the levels that have one, each of the mean return of its games."""
        return score_levels(self.score_suite, self.level_returns)[0]

    @property
    def aggregates(self) -> dict[str, float]:
        """What the suite makes of the scores, in percent; empty unless all of its levels were played."""
        return score_levels(self.score_suite, self.level_returns)[1]

    def report(self) -> str:
        """For people: the return, the levels, the normalised scores, and the terms under which they hold."""
        how = f"{len(self.episodes)} games, {'greedy' if self.greedy else 'sampled'}, std {self.std:.2f}"
        lines = [
            f"{self.protocol['env_id']}: return {self.mean:.2f} +- {self.standard_error:.2f} "
            f"(standard error, {how})"
        ]
        if len(self.level_returns) > 1:
            lines[0] += ": a mean over levels, whose scales may differ"
            lines += [f"{level}: return {value:.2f}" for level, value in self.level_returns.items()]
        lines += [f"{self.score_suite} {level}: {score:.1f} %" for level, score in self.scores.items()]
        lines += [f"{self.score_suite} {name}: {value:.1f} %" for name, value in self.aggregates.items()]
        if self.return_error is not None:
            lines.append(f"values: mean squared return error {self.return_error:.4g}")
        settings = ", ".join(f"{name} {value}" for name, value in self.protocol.items() if name != "env_id")
        lines.append(
            f"protocol: levels {self.levels}, seed {self.seed}, {settings}; raw returns of whole games"
        )
        return "\n".join([*lines, *self.warnings()])

    def warnings(self) -> list[str]:
        """What makes the numbers other than they seem."""
        lines = []
        if self.cut:
            more = f", and {self.unplayed} more did not begin" if self.unplayed else ""
            lines.append(
                f"{self.cut} games were cut off after {self.max_episode_steps:,} steps, "
                f"counted as they stood{more}"
            )
        if self.idle:
            lines.append(
                f"{self.idle} games went on for {IDLE_STEPS:,} steps or longer without any reward: "
                "the policy may stand still there; `launch.py enjoy` shows it"
            )
        return lines

    def to_json(self) -> dict[str, object]:
        """What `eval --json` writes."""
        return {
            "episodes": len(self.episodes),
            "episodic_return_mean": self.mean,
            "episodic_return_std": self.std,
            "returns": self.returns,
            "lengths": [episode.episodic_length for episode in self.episodes],
            "greedy": self.greedy,
            "seed": self.seed,
            "levels": self.levels,
            "protocol": self.protocol,
            "level_returns": self.level_returns,
            "score_suite": self.score_suite,
            "scores": self.scores,
            "aggregates": self.aggregates,
            "max_episode_steps": self.max_episode_steps,
            "games_cut": self.cut,
            "games_unplayed": self.unplayed,
            "games_idle": self.idle,
            "return_error": self.return_error,
        }
