"""`launch.py eval` and `launch.py enjoy`: whole games of a run, counted or filmed."""

from __future__ import annotations

import argparse
import dataclasses
import json
from contextlib import ExitStack
from pathlib import Path

from actors.play.evaluate import evaluate
from actors.play.film import FilmOptions, film
from actors.policy import Policy
from configs.schema import Config
from envs.make import check_env, env_spec, held_out
from learner.learner import seed_everything
from learner.records.run_dir import RunDir
from learner.records.sinks import reopen_wandb


def _parser(verb: str, description: str, episodes: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"launch.py {verb}", description=description)
    parser.add_argument("run_dir", help="directory of a run that has a checkpoint")
    parser.add_argument("--episodes", type=int, default=episodes, help="whole games")
    parser.add_argument("--sampled", action="store_true", help="sample actions instead of taking the best")
    parser.add_argument("--held-out", action="store_true", help="on the levels kept from training")
    parser.add_argument("--seed", type=int, default=1000)
    return parser


def _loaded(run_dir: RunDir, options: argparse.Namespace, trained: bool) -> tuple[Config, Policy, int]:
    """A run's config, its policy, and the agent steps that this one was trained for."""
    config = Config.from_json(run_dir.config_path.read_text())
    check_env(config.env)
    if options.held_out:
        config = dataclasses.replace(config, env=held_out(config.env))
    seed_everything(options.seed)
    policy = Policy(env_spec(config.env), config.policy)
    if not trained:
        return config, policy, 0
    state = run_dir.load_state()
    policy.load_state_dict(state["policy"])
    return config, policy, state["counters"]["global_step"]


def evaluate_run(arguments: list[str]) -> int:
    parser = _parser("eval", "Plays whole games of a run.", episodes=30)
    parser.add_argument("--random", action="store_true", help="the untrained policy, sampled: a baseline")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(arguments)
    run_dir = RunDir.open(options.run_dir, exclusive=False)
    config, policy, _ = _loaded(run_dir, options, trained=not options.random)
    greedy = not (options.sampled or options.random)
    result = evaluate(config, policy, episodes=options.episodes, greedy=greedy, seed=options.seed)
    print(result.report())
    if options.json is not None:
        written = {"preset": config.preset, "training_seed": config.seed, **result.to_json()}
        options.json.write_text(json.dumps(written, indent=2) + "\n")
    return 0


def enjoy_run(arguments: list[str]) -> int:
    parser = _parser("enjoy", "Writes a video of whole games of a run.", episodes=1)
    FilmOptions.add_arguments(parser)
    parser.add_argument("--wandb", action="store_true", help="also log the video to the run's W&B run")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        run_dir = RunDir.open(options.run_dir, exclusive=options.wandb)
        stack.callback(run_dir.release)
        config, policy, step = _loaded(run_dir, options, trained=True)
        film_options = FilmOptions.parsed(options, run_dir.path / f"step_{step:012d}.mp4")
        wandb = None
        if options.wandb:  # opened before a game is played: a missing login shows at once
            wandb = reopen_wandb(config.wandb, run_dir.path)
            stack.callback(wandb.close)
        print(film(config, policy, film_options).report())
        if wandb is not None:
            wandb.write_video(step, film_options.path)
    return 0
