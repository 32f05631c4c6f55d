"""N + N updates through a checkpoint equal 2N updates, bit for bit, inline on a CPU: whatever the options."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.identity import MAY_BE_TUNED
from configs.ppo import PpoConfig
from configs.schema import Config
from learner.records import checkpoint
from tests.learner.loop_runs import Run, different, tiny

N = 3

CHANGES: dict[str, list[Any]] = {
    "env.num_envs": [2],
    "policy.encoder": ["none"],
    "policy.features": [16],
    "policy.core": ["lstm", "gru", "felstm", "none"],
    "policy.hidden_size": [8],
    "policy.forget_bias": [2.0],
    "policy.rotation.activation": ["tanh"],
    "policy.rotation.r_min": [0.9],
    "policy.rotation.r_max": [0.9],
    "policy.rotation.max_phase": [1.0],
    "policy.rotation.radius": ["exp"],
    "policy.rotation.angle": ["direct"],
    "policy.rotation.projection": [True],
    "policy.num_layers": [2],
    "policy.freeze_core": [True],
    "policy.freeze_encoder": [True],
    "policy.bypass": [True],
    "policy.previous_action": [True],
    "policy.previous_reward": [False],
    "policy.normalise_observations": [True],
    "normalise_rewards": [True],
    "rtrl.boundary": [False],
    "rtrl.fresh_traces": [True],
    "rtrl.staleness_interval": [2],
    "rtrl.history_rollouts": [2],
    "rtrl.max_trace_norm": [0.1],
    "eval.interval_steps": [56],
    "seed": [7],
    "total_steps": [500],
    "num_streams": [9],
    "num_actors": [2, 5],
    "unroll_length": [3],
    "batch_size": [4, 12, 5, 7],
    "publish_interval": [2, 4],
    "max_policy_lag": [3],
    "credit": ["tbptt", "immediate", "snap1"],
    "objective": ["ppo"],
    "ppo.clip": [0.1],
    "ppo.value_clip": [0.2],
    "ppo.epochs": [2],
    "ppo.minibatches": [2],
    "ppo.chunk_length": [1],
    "ppo.targets": ["vtrace"],
    "ppo.normalise_advantages": [False],
    "ppo.fresh_gradient": [True],
    "ppo.fresh_targets": [True],
    "discounting": [0.5],
    "baseline_cost": [0.1],
    "entropy_cost": [0.1],
    "reward_clipping": ["abs_one", "soft_asymmetric"],
    "reward_scale": [1.0],
    "clip_rho_threshold": [None, 0.5],
    "clip_pg_rho_threshold": [None],
    "clip_c_threshold": [None],
    "lambda_": [1.0],
    "optimizer": ["rmsprop"],
    "learning_rate": [1e-2],
    "encoder_lr_scale": [0.1],
    "alpha": [0.9],
    "epsilon": [1e-3],
    "momentum": [0.9],
    "grad_norm_clipping": [0.1],
    "diagnostics_interval": [1, 2],
    "log_interval_steps": [56],
}
"""Values that are not those of `tiny()`: each makes another course of the run, which must go on exactly."""

WITH: dict[str, dict[str, Any]] = {
    "env.num_envs": {"num_streams": 6, "batch_size": 4},
    "rtrl.history_rollouts": {"rtrl.fresh_traces": True},
    "policy.core": {"credit": "tbptt"},
    **{
        f"policy.rotation.{name}": {"policy.core": "rtu"}
        for name in ("activation", "r_min", "r_max", "max_phase", "radius", "angle")
    },
    "policy.rotation.projection": {"policy.core": "linear_rtu"},
    **{
        f"ppo.{field.name}": {"objective": "ppo", "ppo.chunk_length": 1}
        for field in dataclasses.fields(PpoConfig)
    },
    "policy.freeze_core": {"credit": "tbptt"},
    "max_policy_lag": {"publish_interval": 4},
    "alpha": {"optimizer": "rmsprop"},
    "momentum": {"optimizer": "rmsprop"},
}
"""What an option needs beside it to take effect."""

NO_MATTER = {
    "the same course, told or kept otherwise": (
        *("preset", "run_dir", "wandb.", "checkpoint.", "log_interval_s", "eval."),
    ),
    "Ray's streams live in other processes: a resumed run begins new ones, and says so": (
        "runtime",
        "ray.",
        "prefetch",
        "num_learners",
    ),
    "wall time ends the run sooner, and no more": ("time_limit_s",),
    "another device or number of threads adds up in another order": (
        "device",
        "actor_device",
        "learner_threads",
    ),
    "no state beside weights, which are float32 whatever computes on them": ("compute.",),
    "of no env whose state can be written down are there two groups": ("actor_groups",),
    "the start of a new run": ("policy.load",),
    "continuous actions: what cartpole has not, and no state beside weights": ("policy.gaussian.",),
    "which env: whether its state can be written down is its own answer (Resumable), told at the resume": (
        "env.",
    ),
}
"""Options that are not walked, by reason: names, or beginnings of names."""


def _options(config: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _options(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _with(config: Any, **changes: Any) -> Any:
    """Names with dots reach into a branch; all at once, since some options are good together only."""
    top = {name: value for name, value in changes.items() if "." not in name}
    for branch in {name.partition(".")[0] for name in changes if "." in name}:
        inner = {n.partition(".")[2]: v for n, v in changes.items() if n.startswith(f"{branch}.")}
        top[branch] = _with(getattr(config, branch), **inner)
    return dataclasses.replace(config, **top)


def test_every_option_is_walked_or_said_not_to_matter() -> None:
    skipped = tuple(name for names in NO_MATTER.values() for name in names)
    unsaid = [name for name in _options(tiny()) if name not in CHANGES and not name.startswith(skipped)]
    assert not unsaid, f"say above whether these can change how a resumed run goes on: {unsaid}"


def _exact(config: Config, folder: Path, first: int, last: int) -> None:
    whole = Run(config, folder / "whole")
    whole.run(until=last)
    half = Run(config, folder / "halves")
    half.run(until=first)
    before = half.saved()
    resumed = Run(config, folder / "halves", resume=True)
    resumed.run(until=last)
    assert different(whole.saved(), resumed.saved()) == []
    assert different(whole.saved(), before), "nothing moved in between"
    assert any(name.startswith("streams/") for name in before)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in CHANGES for value in CHANGES[name]])
def test_resumed_equals_uninterrupted_to_the_bit_with(name: str, value: Any, tmp_path: Path) -> None:
    config = tiny()
    changes = WITH.get(name, {}) | {name: value}
    if value == "snap1":
        changes["policy.core"] = "felstm"
    config = _with(config, **changes)
    assert config != tiny()
    _exact(config, tmp_path, N, 2 * N)


@pytest.mark.parametrize("credit", ["tbptt", "immediate", "snap1"])
def test_ppo_resumes_exactly_by_every_other_credit_too(credit: str, tmp_path: Path) -> None:
    changes = {"policy.core": "felstm"} if credit == "snap1" else {}
    config = _with(tiny(), **{"objective": "ppo", "credit": credit, "ppo.chunk_length": 1}, **changes)
    _exact(config, tmp_path, N, 2 * N)


@pytest.mark.parametrize("arm", ["rtrl", "lstm"])
def test_resumed_equals_uninterrupted_on_integer_observations(arm: str, tmp_path: Path) -> None:
    _exact(tiny(f"cartpole_{arm}", "counting/5"), tmp_path, N, 2 * N)


def test_the_last_games_go_on_too(tmp_path: Path) -> None:
    """The window of `charts/episodic_return` is no tensor."""
    config = tiny(unroll_length=30)
    whole = Run(config, tmp_path / "whole")
    whole.run(until=2 * N)
    Run(config, tmp_path / "halves").run(until=N)
    resumed = Run(config, tmp_path / "halves", resume=True)
    resumed.run(until=2 * N)
    returns = [
        [row["charts/episodic_return"] for row in run.sink.rows if "charts/episodic_return" in row]
        for run in (whole, resumed)
    ]
    assert returns[1] and returns[0][-len(returns[1]) :] == returns[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_actors", 4), ("num_streams", 9), ("rtrl.fresh_traces", True), ("env.id", "counting/7")],
)
def test_streams_of_other_settings_begin_anew_and_that_is_told(
    name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(env_id="counting/5")
    Run(config, tmp_path).run(until=N)
    other = _with(config, **{name: value})
    resumed = Run(other, tmp_path, resume=True)
    said = capsys.readouterr().out
    assert f"new episodes begin, with traces of zero: {name} changed" in said
    resumed.run(until=2 * N)
    assert checkpoint.load_latest(tmp_path).step == 2 * N * other.steps_per_update


@pytest.mark.parametrize("name", sorted(MAY_BE_TUNED))
def test_what_a_population_changes_costs_no_stream(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = WITH.get(name, {})
    config = _with(tiny(), **base)
    Run(config, tmp_path).run(until=N)
    other = _with(tiny(), **base, **{name: CHANGES[name][0]})
    assert other != config
    resumed = Run(other, tmp_path, resume=True)
    assert "every stream goes on where it was" in capsys.readouterr().out
    resumed.run(until=2 * N)
    assert resumed.learner.updates == 2 * N


def test_streams_of_the_version_before_begin_anew_and_that_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept a list of five settings, and neither history nor the weights that were held."""
    run = Run(tiny(), tmp_path)
    full = run.loop._state.state_dict

    def lean(*, streams: bool = True) -> dict[str, Any]:
        state = full(streams=streams)
        state["streams_of"] = ["inline", "cartpole/masked", 3, 4, "rtrl"]
        return {name: value for name, value in state.items() if name not in ("history", "held")}

    monkeypatch.setattr(run.loop._state, "state_dict", lean)
    run.run(until=N)
    resumed = Run(tiny(), tmp_path, resume=True)
    assert "is of a version that did not save all" in capsys.readouterr().out
    resumed.run(until=2 * N)
