"""`launch.py dashboard`: a saved W&B workspace that lays out every metric of a run.

    launch.py dashboard [--entity E] [--project P]   creates one, and prints its address
    launch.py dashboard --url URL                    brings an earlier one up to date, its filters kept
    launch.py dashboard --dry-run                    prints the layout as JSON; needs no network and no W&B

The layout is the table LAYOUT. What W&B measures of the machine by itself (GPU, memory, network) stands in
its own System tab.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from configs.schema import ConfigError, WandbConfig
from learner.records.metrics_file import SinkError
from learner.records.wandb_variables import DEFAULT_PROJECT, named

NAME = "Evertrace"
STEP_METRIC = "global_step"

LAYOUT: dict[str, dict[str, tuple[str, ...]]] = {
    "Learning": {
        "Return, last 100 games": ("charts/episodic_return",),
        "Return, games of the window": ("charts/window_return",),
        "Return, evaluated": ("eval/episodic_return",),
        "Return, evaluated, standard deviation": ("eval/episodic_return_std",),
        "Length of a game": ("charts/episodic_length", "eval/episodic_length"),
        "Games": ("charts/episodes", "eval/episodes"),
        "Games cut, evaluated": ("eval/games_cut",),
        "Squared error of the values, evaluated": ("eval/return_error",),
        "Evaluated weights, agent steps": ("eval/global_step",),
        "Entropy": ("losses/entropy",),
        "Policy loss": ("losses/policy",),
        "Baseline loss": ("losses/baseline",),
        "Total loss": ("losses/total",),
        "Gradient norm, before clipping": ("losses/grad_norm",),
        "Learning rate": ("charts/learning_rate",),
        "Updates": ("charts/updates",),
    },
    "Throughput": {
        "Agent steps a second": ("charts/SPS",),
        "Emulator frames a second": ("perf/fps",),
    },
    "Normalisation": {
        "Share of clipped observations": ("normalise/observations_clipped",),
        "Deviation of the discounted return": ("normalise/return_deviation",),
    },
    "Policy lag": {
        "Versions behind": ("lag/policy_version_mean", "lag/policy_version_max"),
        "Importance weights": ("vtrace/rho_mean", "vtrace/c_mean"),
        "Share of clipped weights": ("vtrace/rho_clip_frac",),
        "Rollouts that wait": ("queue/rollouts",),
        "Age of a rollout": ("queue/wait_ms",),
    },
    "PPO": {
        "Distance from the policy that acted, KL": ("ppo/approx_kl",),
        "Share of clipped ratios": ("ppo/clip_frac",),
        "Variance that the values explain": ("ppo/explained_variance",),
    },
    "Traces": {
        "Norm": ("rtrl/trace_norm",),
        "Boundary share of the gradient": ("rtrl/boundary_grad_frac",),
        "Staleness, cosine": ("rtrl/staleness_cos",),
        "Breaks": ("rtrl/trace_breaks",),
        "Clips": ("rtrl/trace_clips",),
    },
    "Faults": {
        "Actors": ("faults/actor_restarts", "faults/env_errors"),
        "Learner": ("faults/learner_restarts",),
        "Calls lost on the way": ("faults/lost_calls",),
        "Seconds starved": ("faults/starved_s",),
        "Unrolls, asked for and arrived": ("unrolls/asked", "unrolls/arrived"),
        "Unrolls that are somewhere": ("unrolls/under_way", "unrolls/waiting"),
        "Unrolls that were lost": (
            "unrolls/lost_calls",
            "unrolls/lost_actors",
            "unrolls/let_go",
            "unrolls/dropped",
            "unrolls/missing",
        ),
        "Dropped rollouts": ("faults/dropped_rollouts",),
        "Publications": ("faults/publish_errors", "faults/skipped_publications"),
        "Checkpoints, sinks, evaluations": (
            "faults/checkpoint_errors",
            "faults/sink_errors",
            "faults/eval_errors",
        ),
        "Metrics left out": ("faults/nonfinite_metrics",),
    },
    "System": {
        "Actors that carry the streams": ("perf/actors",),
        "Time of an update": (
            "perf/time_wait_ms",
            "perf/time_transfer_ms",
            "perf/time_forward_ms",
            "perf/time_backward_ms",
            "perf/time_ranks_ms",
            "perf/time_sum_ms",
            "perf/time_rtrl_ms",
            "perf/time_optimizer_ms",
            "perf/time_publish_ms",
            "perf/time_evaluate_ms",
        ),
    },
}
"""Section -> title of a panel -> its metrics, which share an axis."""

_EVALUATION = ("--eval.interval-steps", "1000")
_RTRL = ("--credit", "rtrl")
_PPO = ("--objective", "ppo")
_RANKS = ("--runtime", "ray", "--num-learners", "2")
CONDITIONAL: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("rtrl/trace_norm", "rtrl/boundary_grad_frac", "rtrl/trace_breaks"), _RTRL),
    "perf/time_rtrl_ms": _RTRL,
    **dict.fromkeys(("perf/time_ranks_ms", "perf/time_sum_ms"), _RANKS),
    "normalise/observations_clipped": ("--policy.normalise-observations",),
    "normalise/return_deviation": ("--normalise-rewards",),
    **dict.fromkeys(("ppo/approx_kl", "ppo/clip_frac", "ppo/explained_variance"), _PPO),
    "rtrl/staleness_cos": (*_RTRL, "--rtrl.staleness-interval", "50"),
    "rtrl/trace_clips": (*_RTRL, "--rtrl.max-trace-norm", "100.0"),
    **dict.fromkeys(
        ("eval/episodic_return", "eval/episodic_return_std", "eval/episodic_length"), _EVALUATION
    ),
    **dict.fromkeys(("eval/episodes", "eval/games_cut", "eval/global_step"), _EVALUATION),
    "eval/return_error": (*_EVALUATION, "--reward-clipping", "none"),
    **dict.fromkeys(("perf/time_evaluate_ms", "faults/eval_errors"), _EVALUATION),
}
"""Metrics that not every run logs, and words of `launch.py train` that make them appear; `eval/return_error`
not where rewards are normalised."""


def build(entity: str, project: str) -> Any:
    """The workspace, as the object of `wandb_workspaces`; nothing is sent.

    Raises SinkError if that package is missing.
    """
    workspaces, _ = _packages()
    settings = workspaces.WorkspaceSettings(x_axis=STEP_METRIC)
    return workspaces.Workspace(
        entity=entity, project=project, name=NAME, sections=_sections(), settings=settings
    )


def _sections() -> list[Any]:
    workspaces, reports = _packages()
    return [
        workspaces.Section(
            name=section,
            panels=[reports.LinePlot(title=title, x=STEP_METRIC, y=list(y)) for title, y in panels.items()],
            is_open=True,
        )
        for section, panels in LAYOUT.items()
    ]


def save(entity: str | None, project: str | None, url: str | None) -> str:
    """Creates a workspace, or replaces the sections of the one at `url`. Returns its address.

    Raises ConfigError for an address that is none, SinkError where W&B is not installed, refuses, or is not
    reached.
    """
    workspaces, _ = _packages()
    import wandb

    try:
        if url is None:
            entity = entity or wandb.Api().default_entity
            if entity is None:
                raise ConfigError("--entity: this login has no default entity; name a user or a team")
            workspace = build(entity, project or named(WandbConfig(), os.environ).project or DEFAULT_PROJECT)
        else:
            workspace = _opened(workspaces, url)
            workspace.sections = _sections()
        return workspace.save().url
    except wandb.Error as error:
        raise SinkError(
            f"W&B did not save the workspace: {error}\nLog in with `wandb login` (or set WANDB_API_KEY), and "
            "check the network, --entity and --project"
        ) from error


def _opened(workspaces: Any, url: str) -> Any:
    try:
        return workspaces.Workspace.from_url(url)
    except ValueError as error:  # of the address itself, or: no such project, no such view
        raise ConfigError(f"--url {url} is no saved workspace: {error}") from error


def _packages() -> tuple[Any, Any]:
    try:
        from wandb_workspaces import workspaces
        from wandb_workspaces.reports import v2
    except ImportError as error:
        raise SinkError(
            "dashboard needs the package wandb_workspaces, which is not installed: "
            "pip install -c constraints.txt wandb wandb-workspaces"
        ) from error
    return workspaces, v2


def main(arguments: list[str]) -> int:
    """Raises ConfigError or SinkError, as `save`."""
    parser = argparse.ArgumentParser(
        prog="launch.py dashboard", description="A W&B workspace of every metric."
    )
    parser.add_argument("--entity", help="user or team (default: the login's)")
    parser.add_argument("--project", help=f"default: WANDB_PROJECT, else {DEFAULT_PROJECT}")
    parser.add_argument("--url", help="bring this saved workspace up to date instead of creating one")
    parser.add_argument("--dry-run", action="store_true", help="print the layout, and send nothing")
    options = parser.parse_args(arguments)
    if options.url is not None and (options.entity or options.project):
        raise ConfigError("--url says the entity and the project: leave --entity and --project out")
    if options.dry_run:
        layout = {"name": NAME, "step_metric": STEP_METRIC, "sections": LAYOUT, "only_with": CONDITIONAL}
        print(json.dumps(layout, indent=2))
        return 0
    print(f"saved: {save(options.entity, options.project, options.url)}")
    return 0
