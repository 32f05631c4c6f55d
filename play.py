"""`launch.py eval` and `launch.py enjoy`: whole games of a run, counted or filmed.

Both play by the run's own protocol (`config.eval`), on its env, with its newest checkpoint, unless told
otherwise: options of the verb come first, then any `--env.*` or `--eval.*` of the config, as in training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from contextlib import ExitStack

import tyro

from actors.play.evaluate import Playing, evaluate, evaluated_env, evaluation_seed
from actors.play.film import FilmOptions, film
from actors.play.progress import GamesBar
from actors.policy import Policy
from configs.paths import new_file_argument, path_argument
from configs.schema import Config, ConfigError
from envs.make import check_env, env_spec
from learner.learner import seed_everything
from learner.records.run_dir import RunDir
from learner.records.sinks import reopen_wandb


def _parser(verb: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"launch.py {verb}",
        description=description,
        epilog="Any --env.* or --eval.* of the run's config can be set too, for example "
        "--env.memory.length-max 40.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run_dir", type=path_argument, help="directory of a run that has a checkpoint")
    add("--checkpoint", default="newest", help="newest, best, a number of steps, or a path (default: newest)")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--sampled", action="store_true", help="sample actions (default: eval.greedy)")
    actions.add_argument("--greedy", action="store_true", help="take the most probable action")
    levels = parser.add_mutually_exclusive_group()
    levels.add_argument("--held-out", action="store_true", help="levels kept from training, if there are any")
    levels.add_argument("--training-levels", action="store_true", help="the levels that it was trained on")
    add("--seed", type=int, help="of games and sampled actions (default: of the run's own evaluations)")
    return parser


def _parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The verb's own options, and the rest, which is of the config."""
    options, rest = parser.parse_known_args(arguments)
    for word in rest:
        if word.startswith("-") and not word.startswith(("--env.", "--eval.")) and not _is_number(word):
            parser.error(f"unrecognized argument {word}: of the config, --env.* and --eval.* can be set here")
    return options, rest


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _config(run_dir: RunDir, options: argparse.Namespace, overrides: list[str], verb: str) -> Config:
    """The run's config as these games are played by it. Raises ConfigError, EnvError."""
    trained = RunDir.saved_config(run_dir.path)
    config = tyro.cli(Config, default=trained, args=overrides, prog=f"launch.py {verb}")
    terms = config.eval
    if options.sampled or options.greedy:
        terms = dataclasses.replace(terms, greedy=options.greedy)
    if options.held_out or options.training_levels:
        terms = dataclasses.replace(terms, held_out=options.held_out)
    config = dataclasses.replace(config, eval=terms)
    check_env(config.env)
    check_env(evaluated_env(config))
    return config


def _policy(run_dir: RunDir, config: Config, trained: bool, which: str) -> tuple[Policy, int]:
    """The policy of a checkpoint, and the agent steps that it was trained for; or an untrained one."""
    policy = Policy(env_spec(evaluated_env(config)), config.policy)
    if not trained:
        return policy, 0
    state = run_dir.load_state(which)
    weights, expected = state["policy"], policy.state_dict()
    different = [
        name
        for name in sorted(weights.keys() | expected.keys())
        if name not in weights or name not in expected or weights[name].shape != expected[name].shape
    ]
    if different:
        raise ConfigError(
            f"the policy of checkpoint {which} does not fit {evaluated_env(config).id} as it is set here: "
            f"{different[0]} differs. Observations and actions must have the shapes of the training"
        )
    policy.load_state_dict(weights)
    return policy, state["counters"]["global_step"]


def evaluate_run(arguments: list[str]) -> int:
    parser = _parser("eval", "Plays whole games of a run.")
    parser.add_argument("--episodes", type=int, help="whole games (default: eval.episodes of the run)")
    parser.add_argument("--random", action="store_true", help="the untrained policy, sampled: a baseline")
    parser.add_argument("--json", type=new_file_argument, help="also write the result to this file")
    options, overrides = _parsed(parser, arguments)
    if options.random and options.greedy:
        parser.error("--random is sampled: leave --greedy out")
    run_dir = RunDir.open(options.run_dir, exclusive=False)
    config = _config(run_dir, options, overrides, "eval")
    terms = dataclasses.replace(config.eval, greedy=config.eval.greedy and not options.random)
    if options.episodes is not None:
        terms = dataclasses.replace(terms, episodes=options.episodes)
    config = dataclasses.replace(config, eval=terms)
    seed = evaluation_seed(config) if options.seed is None else options.seed
    seed_everything(seed)
    policy, step = _policy(run_dir, config, not options.random, options.checkpoint)
    with GamesBar(terms.episodes) as bar:

        def watch(playing: Playing) -> None:
            bar.show(playing.played, playing.steps, playing.progress)

        result = evaluate(config, policy, seed=seed, watch=watch)
    weights = "an untrained policy" if options.random else f"the weights of step {step:,}"
    print(f"{result.report()}\nby {weights} of {run_dir.path}")
    if options.json is not None:
        about = {"preset": config.preset, "training_seed": config.seed, "global_step": step}
        options.json.write_text(json.dumps(about | result.to_json(), indent=2) + "\n")
    return 0


def enjoy_run(arguments: list[str]) -> int:
    parser = _parser("enjoy", "Writes a video of whole games of a run.")
    parser.add_argument("--episodes", type=int, default=1, help="whole games (default: %(default)s)")
    FilmOptions.add_arguments(parser)
    parser.add_argument("--wandb", action="store_true", help="also log the video to the run's W&B run")
    options, overrides = _parsed(parser, arguments)
    with ExitStack() as stack:
        run_dir = RunDir.open(options.run_dir, exclusive=options.wandb)
        stack.callback(run_dir.release)
        config = _config(run_dir, options, overrides, "enjoy")
        seed = evaluation_seed(config) if options.seed is None else options.seed
        seed_everything(seed)
        policy, step = _policy(run_dir, config, True, options.checkpoint)
        film_options = FilmOptions.parsed(
            options, run_dir.path / f"step_{step:012d}.mp4", greedy=config.eval.greedy, seed=seed
        )
        wandb = None
        if options.wandb:  # opened before a game is played: a missing login shows at once
            wandb = reopen_wandb(config.wandb, run_dir.path)
            stack.callback(wandb.close)
        with GamesBar(film_options.max_steps) as bar:
            shot = film(
                dataclasses.replace(config, env=evaluated_env(config)), policy, film_options, bar.show
            )
        print(shot.report())
        if wandb is not None:
            wandb.write_video(step, film_options.path)
    return 0
