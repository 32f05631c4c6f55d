"""N + N updates through a checkpoint equal 2N updates, bit for bit, inline on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.fleet.fleet import InlineFleet
from actors.policy import Policy
from configs.presets import preset
from configs.schema import Config
from envs.make import env_spec
from learner.learner import Learner, seed_everything
from learner.loop import StopFlag, TrainLoop
from learner.publish import LocalPublisher
from learner.records import checkpoint
from learner.records.state import join_state

N = 6


class _StopAt:
    errors = 0

    def __init__(self, stop: StopFlag, update: int) -> None:
        self._stop, self._update = stop, update

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        if metrics["charts/updates"] >= self._update:
            self._stop.reason = "far enough"

    def close(self, exit_code: int = 0) -> None: ...


def _config(preset_name: str, env_id: str) -> Config:
    base = preset(preset_name)
    return dataclasses.replace(
        base,
        runtime="inline",
        env=dataclasses.replace(base.env, id=env_id, num_envs=4),
        batch_size=8,
        unroll_length=7,
        total_steps=10_000,
        log_interval_s=1e-9,
        num_actors=3,
    )


def _run(config: Config, folder: Path, until: int, *, resume: bool) -> dict[str, torch.Tensor]:
    """Trains to that update in a process state of its own making; the tensors of the last checkpoint."""
    seed_everything(config.seed)
    publisher, stop = LocalPublisher(), StopFlag()
    learner = Learner(Policy(env_spec(config.env), config.policy), config, torch.device("cpu"))
    state: dict[str, Any] | None = None
    if resume:
        loaded = checkpoint.load_latest(folder)
        meta: Any = loaded.meta
        state = join_state(meta["state"], loaded.tensors)
        learner.load_state_dict(state)
    publisher.publish(learner.policy, learner.updates)
    fleet = InlineFleet(config, publisher.source, start_step=learner.global_step)
    options = {"frames_per_step": 1, "stop": stop}
    loop = TrainLoop(config, learner, fleet, publisher, _StopAt(stop, until), folder, **options)
    if state is not None:
        loop.resume(state)
    loop.run()
    fleet.close()
    assert learner.updates == until
    return checkpoint.load_latest(folder).tensors


@pytest.mark.parametrize("env_id", ["cartpole/masked", "counting/5"])
@pytest.mark.parametrize("arm", ["rtrl", "lstm"])
def test_resumed_equals_uninterrupted_to_the_bit(arm: str, env_id: str, tmp_path: Path) -> None:
    config = _config(f"cartpole_{arm}", env_id)
    whole = _run(config, tmp_path / "whole", 2 * N, resume=False)
    half = _run(config, tmp_path / "halves", N, resume=False)
    resumed = _run(config, tmp_path / "halves", 2 * N, resume=True)
    assert whole.keys() == resumed.keys()
    different = [name for name in whole if not torch.equal(whole[name], resumed[name])]
    assert not different
    assert any(not torch.equal(whole[name], half[name]) for name in whole), "nothing moved in between"
    groups = {name.split("/")[0] for name in whole}
    assert {"policy", "optimizer", "streams"} <= groups
    assert ("traces" in groups) == (arm == "rtrl")


def test_other_actors_start_new_streams_instead(tmp_path: Path) -> None:
    config = _config("cartpole_rtrl", "cartpole/masked")
    _run(config, tmp_path, N, resume=False)
    more = dataclasses.replace(config, num_actors=4)
    assert _run(more, tmp_path, 2 * N, resume=True)
