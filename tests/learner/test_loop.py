"""How a run ends: asked to, out of time, without rollouts, on a full disk, by an error. No update is lost."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from actors.fleet.fleet import FleetError
from actors.rollout import Rollout
from configs.ppo import PpoConfig
from configs.schema import CheckpointConfig, ConfigError
from learner.learner import LearnerError
from learner.memory import OutOfMemory, naming_sizes
from learner.prefetch import InTurn
from learner.publish import LocalPublisher, PublishError
from learner.records import checkpoint
from tests.learner.loop_runs import Run, different, tiny

STEPS = tiny().steps_per_update


def _stop(run: Run) -> None:
    run.stop.reason = "stopped by a test"


def _let_time_run_out(run: Run) -> None:
    run.stop.deadline = time.monotonic()


@pytest.mark.parametrize("end", [_stop, _let_time_run_out])
@pytest.mark.parametrize("rollout", [1, 2, 3, 4])
def test_an_end_between_any_two_rollouts_loses_nothing(
    rollout: int, end: Callable[[Run], None], tmp_path: Path
) -> None:
    """A batch is two rollouts: half of the moments are in the middle of one, which is then written down."""
    config = tiny(time_limit_s=1e6)
    whole = Run(config, tmp_path / "whole")
    whole.run(until=6)
    cut = Run(config, tmp_path / "cut", on_rollout=lambda n: end(cut) if n == rollout else None)
    reason = cut.run()
    assert reason == ("stopped by a test" if end is _stop else "time_limit_s = 1e+06 reached")
    assert cut.learner.updates == rollout // 2
    assert checkpoint.load_latest(tmp_path / "cut").step == cut.learner.global_step
    resumed = Run(config, tmp_path / "cut", resume=True)
    resumed.run(until=6)
    assert different(whole.saved(), resumed.saved()) == []


def test_every_row_says_what_became_of_all_that_was_asked_for(tmp_path: Path) -> None:
    config = tiny(total_steps=5 * STEPS, log_interval_s=1e-9)
    rows: list[Mapping[str, float]] = []
    Run(config, tmp_path, on_row=rows.append).run()
    assert len(rows) == 5
    for row in rows:
        learned = row["charts/updates"] * config.batch_size
        assert row["unrolls/asked"] == row["unrolls/arrived"] == learned + row["unrolls/waiting"]
        assert row["unrolls/dropped"] == row["unrolls/under_way"] == row["unrolls/missing"] == 0


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour at every look. Only what is said to be a time of day may follow it."""
    config = tiny(total_steps=5 * STEPS, log_interval_s=1e-9)
    straight = Run(config, tmp_path / "straight")
    straight.run()
    hours, rows = itertools.count(), list[Mapping[str, float]]()
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600.0 * next(hours))
    run = Run(config, tmp_path / "back", on_row=rows.append)
    assert run.run() == f"total_steps = {5 * STEPS} reached"
    assert next(hours) >= 5, "nobody looked at the clock, and the test shows nothing"
    assert different(straight.saved(), run.saved()) == []
    assert len(rows) == 5 and all(row["queue/wait_ms"] >= 0 < row["charts/SPS"] for row in rows)


def test_a_stop_before_the_first_rollout_and_after_the_last_update(tmp_path: Path) -> None:
    run = Run(tiny(), tmp_path / "a")
    _stop(run)
    assert run.run() == "stopped by a test"
    assert checkpoint.load_latest(tmp_path / "a").step == run.learner.updates == 0
    run = Run(tiny(total_steps=2 * STEPS), tmp_path / "b")
    assert run.run() == f"total_steps = {2 * STEPS} reached"
    assert checkpoint.load_latest(tmp_path / "b").step == 2 * STEPS


class _Starving:
    """A fleet that lives in other processes: from some rollout on nothing comes, whatever is waited."""

    def __init__(self, run: Run, rollouts: int, then: Callable[[Run], None]) -> None:
        self._run, self._left, self._then = run, rollouts, then
        self.counters = run.fleet.counters

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        self._left -= 1
        if self._left >= 0:
            return self._run.fleet.next_rollout(timeout_s, skip)
        assert self._left > -10, "it was asked to end, and asks for more"
        if self._left == -5:
            self._then(self._run)
        return None

    def unrolls(self) -> dict[str, int]:
        return self._run.fleet.unrolls()

    def state_dict(self) -> None:
        return None


@pytest.mark.parametrize("end", [_stop, _let_time_run_out])
@pytest.mark.parametrize("rollouts", [0, 3])
def test_a_run_without_rollouts_waits_and_still_ends(
    rollouts: int, end: Callable[[Run], None], tmp_path: Path
) -> None:
    run = Run(tiny(time_limit_s=1e6), tmp_path)
    starving: Any = _Starving(run, rollouts, end)
    run.loop._rows._source = run.loop._state._streams = starving
    run.loop._feed = InTurn(run.loop.config, starving, run.learner.device, lambda: run.learner.updates)
    run.run()
    assert checkpoint.load_latest(tmp_path).step == rollouts // 2 * STEPS


def test_a_full_disk_that_recovers_is_told_of_and_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, aside = tmp_path / "checkpoints", tmp_path / "aside"

    def disk(row: Any) -> None:
        if row["charts/updates"] == 2:  # from now on no checkpoint can be written
            folder.rename(aside)
            folder.touch()
        elif row["charts/updates"] == 4:
            folder.unlink()
            aside.rename(folder)

    config = tiny()
    config = tiny(checkpoint=type(config.checkpoint)(interval_s=1e-9))
    run = Run(config, folder, on_row=disk)
    run.run(until=6)
    errors = [int(row["faults/checkpoint_errors"]) for row in run.sink.rows]
    assert errors[0] == 0 and errors[-1] == 2
    assert "checkpoint not written, next try in" in capsys.readouterr().out
    assert checkpoint.load_latest(folder).step == 6 * STEPS == run.learner.global_step


def test_checkpoints_are_written_so_many_steps_apart(tmp_path: Path) -> None:
    every = CheckpointConfig(interval_s=1e-9, interval_steps=2 * STEPS, keep_last=100)
    Run(tiny(checkpoint=every), tmp_path).run(until=5)
    assert sorted(checkpoint.steps(tmp_path)) == [updates * STEPS for updates in (0, 2, 4, 5)]


def test_a_disk_that_is_full_at_the_end_fails_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"

    def disk(row: Any) -> None:
        if row["charts/updates"] == 2:
            folder.rename(tmp_path / "aside")
            folder.touch()

    with pytest.raises(checkpoint.CheckpointError, match="cannot save checkpoint"):
        Run(tiny(), folder, on_row=disk).run(until=3)


# --- errors ------------------------------------------------------------------------------------


class _Refusing(LocalPublisher):
    """The third publication fails, the first one being that before the start."""

    def publish(self, policy: nn.Module, version: int) -> None:
        if version == 2:
            raise PublishError("the board is gone")
        super().publish(policy, version)


def _raise(error: Exception) -> None:
    raise error


def _out_of_memory_in(run: Run, module: nn.Module, when: str) -> None:
    """From the third update on, a real one fails there as torch does without room on a GPU."""
    error = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    def plant(*_: Any) -> None:
        if run.learner.updates == 2:
            raise error

    if when == "forward":
        module.register_forward_hook(plant)
    else:
        module.register_full_backward_hook(plant)


def _broken(kind: str, folder: Path) -> tuple[Run, type[Exception], str]:
    if kind == "FleetError":
        run = Run(tiny(), folder, on_rollout=lambda n: _raise(FleetError("gone")) if n == 6 else None)
        return run, FleetError, "gone"
    if kind == "PublishError":
        return Run(tiny(), folder, publisher=_Refusing()), PublishError, "the board is gone"
    run = Run(tiny(), folder)
    if kind == "not finite":
        original = run.fleet.next_rollout

        def spoil(timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
            rollout = original(timeout_s, skip)
            if run.learner.updates == 2 and rollout is not None:
                rollout.observation.fill(float("nan"))
            return rollout

        run.fleet.next_rollout = spoil
        return run, LearnerError, "loss nan"
    _out_of_memory_in(run, run.learner.policy.core.get_submodule("output_gate"), kind)
    return run, OutOfMemory, "CUDA out of memory. Tried to allocate 2.00 GiB"


@pytest.mark.parametrize("kind", ["FleetError", "PublishError", "not finite", "forward", "backward"])
def test_an_error_that_leaves_the_weights_intact_saves_first(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, error, words = _broken(kind, tmp_path)
    with pytest.raises(error, match=words):
        run.run()
    assert run.learner.updates == 2
    assert checkpoint.load_latest(tmp_path).step == 2 * STEPS
    assert "then the run ended by an error" in capsys.readouterr().out
    weights = {f"policy/{name}": t for name, t in run.learner.policy.state_dict().items()}
    assert different(weights, {n: t for n, t in run.saved().items() if n.startswith("policy/")}) == []
    resumed = Run(tiny(), tmp_path, resume=True)
    assert "new episodes begin, with traces of zero: the streams were not saved" in capsys.readouterr().out
    resumed.run(until=4)
    assert resumed.learner.updates == 4


def test_out_of_memory_names_the_sizes_and_what_to_lower(tmp_path: Path) -> None:
    run, _, _ = _broken("forward", tmp_path)
    with pytest.raises(OutOfMemory) as caught:
        run.run()
    text = str(caught.value)
    assert "7 steps (unroll_length) x 8 columns (batch_size)" in text
    assert "lower batch_size, then unroll_length" in text
    assert "traces of 12 streams (num_streams)" in text
    assert "policy.hidden_size" in text and "GPU 0 has" in text


@pytest.mark.parametrize(("core", "numbers"), [("elstm", 2 * 80 + 4), ("rtu", 2 * 2 * 80 + 2 * 2)])
def test_out_of_memory_counts_the_traces_of_ppos_sub_chunks(core: str, numbers: int, tmp_path: Path) -> None:
    """A trace holds K d D' + V d numbers of 4 bytes a unit; D = 65 is padded to 80."""
    base = tiny(unroll_length=6, objective="ppo")
    policy = dataclasses.replace(base.policy, core=core, hidden_size=1000)
    config = dataclasses.replace(base, policy=policy, ppo=PpoConfig(chunk_length=2))
    learner = Run(config, tmp_path).learner
    with pytest.raises(OutOfMemory) as caught, naming_sizes(config, learner.policy, learner.device):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
    text, mib = str(caught.value), 4 * 1000 * numbers / 2**20
    assert f"traces of 12 streams (num_streams), {mib:,.1f} MiB each: {12 * mib:,.1f} MiB" in text
    assert "and 24 more, one for each sub-chunk of a batch" in text
    assert f"{24 * mib:,.1f} MiB; raise ppo.chunk_length" in text


def test_weights_that_are_half_moved_are_not_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tiny(), tmp_path)
    step = run.learner.optimizer.step

    def fail(learning_rate: float, sound: torch.Tensor) -> None:
        step(learning_rate, sound)
        if run.learner.updates == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(run.learner.optimizer, "step", fail)
    with pytest.raises(OutOfMemory):
        run.run()
    assert checkpoint.load_latest(tmp_path).step == 0, "only the one from before the first update"
    assert "no checkpoint of update 2: its weights are half moved" in capsys.readouterr().out


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    run = Run(tiny(), tmp_path)

    def spoil(row: Any) -> None:
        with torch.no_grad():
            next(run.learner.policy.parameters()).fill_(float("inf"))

    run.sink._then = spoil
    with pytest.raises((LearnerError, FleetError)):
        run.run()
    assert checkpoint.load_latest(tmp_path).step == 0


def test_an_error_before_the_first_update_leaves_the_checkpoint_as_it_is(tmp_path: Path) -> None:
    """A checkpoint with its streams is worth more than one of the same weights without."""
    Run(tiny(), tmp_path).run(until=2)
    before = checkpoint.load_latest(tmp_path)
    again = Run(tiny(), tmp_path, resume=True, on_rollout=lambda n: _raise(FleetError("gone")))
    with pytest.raises(FleetError):
        again.run()
    after = checkpoint.load_latest(tmp_path)
    assert after.step == before.step and different(after.tensors, before.tensors) == []


def test_a_lag_that_drops_every_rollout_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_policy_lag = 2.*lower publish_interval"):
        tiny(max_policy_lag=2, publish_interval=4)
    tiny(max_policy_lag=3, publish_interval=4)


def test_a_lag_that_just_holds_lets_the_run_go_on(tmp_path: Path) -> None:
    run = Run(tiny(max_policy_lag=3, publish_interval=4), tmp_path)
    run.run(until=9)
    assert run.sink.rows[-1]["faults/dropped_rollouts"] == 0


# --- what is read one update late --------------------------------------------------------------


def _spoiled(folder: Path, update: int, **changes: Any) -> Run:
    """A run whose batch for that update (from 0) is not finite, and whose rows are written seldom."""
    run = Run(tiny(log_interval_s=1e6, **changes), folder)
    launch = run.learner.launch

    def spoil(batch: Any, steps: int | None = None) -> None:
        if run.learner.updates == update:
            batch = dataclasses.replace(batch, reward=torch.full_like(batch.reward, float("nan")))
        launch(batch, steps)

    run.learner.launch = spoil
    return run


def test_what_is_not_finite_is_raised_one_update_later_and_the_updates_before_are_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Run(tiny(), tmp_path / "good")
    good.run(until=2)
    published: list[int] = []
    run = _spoiled(tmp_path / "bad", 2)
    publish = run.loop._publisher.publish
    run.loop._publisher.publish = lambda policy, version: (
        published.append(version),
        publish(policy, version),
    )[1]
    with pytest.raises(LearnerError, match=rf"update 2 at step {2 * STEPS}: loss nan"):
        run.run()
    assert published == [1, 2, 3], "the update after it was launched before it was read"
    assert run.learner.updates == 2
    loaded = checkpoint.load_latest(tmp_path / "bad")
    assert loaded.step == 2 * STEPS and "traces" not in {name.split("/")[0] for name in loaded.tensors}
    names = [name for name in good.saved() if name.startswith(("policy/", "optimizer/"))]
    assert names and [name for name in different(good.saved(), loaded.tensors) if name in names] == []


@pytest.mark.parametrize("save", ["interval", "end", "error"])
def test_no_checkpoint_is_written_of_an_update_that_was_not_read(
    save: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a save is for, it reads first: no poisoned trace is saved, nor a count of what was dropped."""
    changes: dict[str, Any] = {"total_steps": 3 * STEPS}
    if save == "interval":
        changes = {"checkpoint": type(tiny().checkpoint)(interval_s=1e-9)}
    elif save == "error":
        changes = {}
    run = _spoiled(tmp_path, 2, **changes)
    if save == "error":
        original = run.fleet.next_rollout
        run.fleet.next_rollout = lambda timeout_s, skip=(): (
            _raise(FleetError("gone")) if run.learner.updates == 3 else original(timeout_s, skip)
        )
    with pytest.raises(FleetError if save == "error" else LearnerError):
        run.run()
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded.step == 2 * STEPS == run.learner.global_step
    assert all(
        not tensor.is_floating_point() or tensor.isfinite().all() for tensor in loaded.tensors.values()
    )
    if save == "error":
        assert f"and before that: update 2 at step {2 * STEPS}: loss nan" in capsys.readouterr().out
