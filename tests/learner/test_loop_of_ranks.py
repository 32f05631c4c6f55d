"""The training loop over two ranks in two processes, joined by gloo, is the loop of one with all their
streams: weights, moments, checkpoints, rows of metrics. They end together, fail together, and what they save
another number of them goes on with."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

from actors.fleet.fleet import FleetError, InlineFleet
from actors.policy import Policy
from actors.rollout import map_observation
from configs.layout import laid_out
from configs.learners import Part, part_of
from configs.schema import Config, RayConfig
from envs.make import env_spec
from learner.batcher import Batch
from learner.learner import Learner, LearnerError, seed_everything
from learner.loop import StopFlag, TrainLoop
from learner.objectives.objective import Loss
from learner.publish import LocalPublisher
from learner.ranks import Agreed, Alone, Joined, RankLostError, RanksDifferError
from learner.records import checkpoint
from learner.records.state import join_state
from tests.integration.cli import PATIENCE_S
from tests.learner.loop_runs import Rows, Source, tiny

UPDATES, STEPS = 8, 7 * 12
Do = Callable[["Life", int], None]


def _config(learners: int, **changes: Any) -> Config:
    """Of 12 streams that 6 actors carry, whoever learns from them."""
    ray = RayConfig(stall_report_s=1e6)
    sizes = {
        "batch_size": 12,
        "num_actors": 6,
        "total_steps": UPDATES * STEPS,
        "log_interval_steps": 4 * STEPS,
    }
    settings = {"runtime": "ray", "prefetch": "off", "ray": ray, "num_learners": learners} | sizes
    return laid_out(tiny(env_id="counting/5", **settings | changes), 6)


class _InDouble(LocalPublisher):
    """Actors act in float32 on weights that are learned in float64."""

    def publish(self, policy: nn.Module, version: int) -> None:
        super().publish(copy.deepcopy(policy).float(), version)


def _double(batch: Batch) -> Batch:
    fields = ("observation", "reward", "behaviour_logits", "initial_state")
    return dataclasses.replace(
        batch,
        **{
            name: map_observation(
                lambda part: part.double() if part.is_floating_point() else part, getattr(batch, name)
            )
            for name in fields[:-1]
        },
        initial_state=tuple(part.double() for part in batch.initial_state),
    )


class Life:
    """Of one rank, as training/learning.py makes it, but that its actors are in its own process."""

    def __init__(self, config: Config, folder: Path, ranks: Alone | Joined) -> None:
        torch.set_num_threads(1)
        seed_everything(config.seed)
        part, mine = Part(ranks.number, ranks.of), part_of(config)
        policy = Policy(env_spec(config.env), config.policy).double()
        self.learner, self.stop = Learner(policy, mine, torch.device("cpu"), ranks), StopFlag()
        state: Any = None
        if checkpoint.newest(folder) is not None:
            loaded = checkpoint.load_latest(folder)
            meta: Any = loaded.meta
            state = join_state(meta["state"], loaded.tensors)
            self.learner.load_state_dict(state)
        publisher = _InDouble()
        publisher.publish(self.learner.policy, self.learner.updates)
        step = self.learner.global_step
        self.fleet = InlineFleet(mine, publisher.source, start_step=step, part=part)
        self.sink = Rows(lambda row: None)
        self.on_rollout: Callable[[int], None] = lambda count: None
        source: Any = Source(self.fleet, lambda count: self.on_rollout(count), True)
        options: Any = {"frames_per_step": 1, "stop": self.stop}
        self.loop = TrainLoop(config, self.learner, source, publisher, self.sink, folder, **options)
        take = self.loop._feed.take
        self.loop._feed.take = lambda: None if (batch := take()) is None else _double(batch)
        if state is not None:
            self.loop.resume(state)

    def told(self) -> dict[str, Any]:
        bank = [] if self.learner.rtrl is None else self.learner.rtrl.bank._layers
        return {
            "counters": [self.learner.updates, self.learner.global_step],
            "weights": {n: t.numpy().copy() for n, t in self.learner.policy.state_dict().items()},
            "traces": [tensor.numpy().copy() for layer in bank for tensor in layer],
            "rows": self.sink.rows,
        }


def nothing(life: Life, number: int) -> None: ...


def _rank(number: int, config: Config, folder: Path, store: str, do: Do, pipe: Connection) -> None:
    ranks = Joined(number, config.num_learners)
    ranks.join(FileStore(store, config.num_learners), torch.device("cpu"), 1e6)
    life = Life(config, folder, ranks)
    do(life, number)
    try:
        pipe.send((life.loop.run(), life.told()))
    except (FleetError, LearnerError, RankLostError, RanksDifferError) as error:
        pipe.send((error, life.told()))
        os._exit(1)  # as a rank that has failed is ended, which the others see


def run(config: Config, folder: Path, do: Do = nothing) -> list[tuple[Any, dict[str, Any]]]:
    """How each rank ended, and where it stood; nothing of one that was killed."""
    if config.num_learners == 1:
        life = Life(config, folder, Alone())
        do(life, 0)
        return [(life.loop.run(), life.told())]
    context = multiprocessing.get_context("spawn")
    store = str(folder.with_name(f"store{len(list(folder.parent.iterdir()))}"))
    pipes, ranks = [], []
    for number in range(config.num_learners):
        mine, its = context.Pipe(duplex=False)
        ranks.append(context.Process(target=_rank, args=(number, config, folder, store, do, its)))
        ranks[-1].start()
        its.close()
        pipes.append(mine)
    found: list[Any] = [None] * len(pipes)
    while None in found:  # as they come: what is sent is larger than what a pipe holds
        ready = wait([pipe for pipe, its in zip(pipes, found, strict=True) if its is None], PATIENCE_S)
        assert ready, "it hangs"
        for number in [pipes.index(pipe) for pipe in ready]:
            try:
                found[number] = pipes[number].recv()
            except EOFError:
                found[number] = (None, {})
    for rank in ranks:
        rank.join(PATIENCE_S)
    return found


SAME = ("losses/grad_norm", "charts/episodes", "charts/window_return", "charts/updates", "perf/actors")
TOTALS = ("unrolls/asked", "unrolls/arrived", "rtrl/trace_breaks", "charts/episodic_return")


def test_two_ranks_are_one_learner_of_all_their_streams(tmp_path: Path) -> None:
    ((_, alone),) = run(_config(1), tmp_path / "one")
    (reason, first), (_, second) = run(_config(2), tmp_path / "two")
    assert reason == f"total_steps = {UPDATES * STEPS} reached"
    for rank in (first, second):
        assert rank["counters"] == alone["counters"] == [UPDATES, UPDATES * STEPS]
        for name, weight in alone["weights"].items():
            np.testing.assert_allclose(rank["weights"][name], weight, rtol=1e-11, atol=1e-13, err_msg=name)
    for trace, *halves in zip(alone["traces"], first["traces"], second["traces"], strict=True):
        np.testing.assert_allclose(np.concatenate(halves), trace, rtol=1e-10, atol=1e-13)
        assert np.abs(trace).max() > 1e-3
    assert len(alone["rows"]) == len(first["rows"]) == 2 and second["rows"] == []
    for mine, theirs in zip(first["rows"], alone["rows"], strict=True):
        for name in (*SAME, *TOTALS):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-10), name
    saved = [checkpoint.load_latest(tmp_path / name) for name in ("one", "two")]
    assert saved[0].step == saved[1].step and saved[0].tensors.keys() == saved[1].tensors.keys()
    for name, tensor in saved[0].tensors.items():
        torch.testing.assert_close(saved[1].tensors[name], tensor, rtol=1e-10, atol=1e-12)


def _stop_the_second(life: Life, number: int) -> None:
    def ask(count: int) -> None:
        if number == 1 and count == 10:
            life.stop.reason = "enough"

    life.on_rollout = ask


def _break_the_second(life: Life, number: int) -> None:
    def fail(count: int) -> None:
        if number == 1 and count == 10:
            raise FleetError("its actors are gone")

    life.on_rollout = fail


def _kill_the_second_in_a_sum(life: Life, number: int) -> None:
    add_up = life.learner.ranks.add_up

    def die(tensors: Any) -> None:
        if number == 1 and life.learner.updates == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        add_up(tensors)

    life.learner.ranks.add_up = die


def _spoil_the_second(life: Life, number: int) -> None:
    launch = life.learner.launch

    def spoil(batch: Batch, steps: int | None = None) -> None:
        if number == 1 and life.learner.updates == 3:
            batch = dataclasses.replace(batch, reward=torch.full_like(batch.reward, float("nan")))
        launch(batch, steps)

    life.learner.launch = spoil


def test_where_one_ends_all_end_with_one_checkpoint(tmp_path: Path) -> None:
    (first, second) = run(_config(2), tmp_path / "run", _stop_the_second)
    assert first[0] == "another learner was asked to stop" and second[0] == "enough"
    assert first[1]["counters"] == second[1]["counters"] == [3, 3 * STEPS]
    assert checkpoint.load_latest(tmp_path / "run").step == 3 * STEPS


@pytest.mark.parametrize("do", [_break_the_second, _kill_the_second_in_a_sum])
def test_where_one_fails_the_first_saves_and_says_that_another_is_lost(do: Do, tmp_path: Path) -> None:
    (first, second) = run(_config(2), tmp_path / "run", do)
    assert isinstance(first[0], RankLostError)
    assert second[0] is None or isinstance(second[0], FleetError)
    assert checkpoint.load_latest(tmp_path / "run").step == 3 * STEPS


def _spoil_the_loss_of_the_second(life: Life, number: int) -> None:
    """Its gradient is finite."""
    losses = life.learner.objective.losses

    def spoil(batch: Batch, update: int, watch: Any) -> Iterator[Loss]:
        for loss in losses(batch, update, watch):
            bad = number == 1 and update == 3
            yield dataclasses.replace(loss, total=loss.total + float("inf")) if bad else loss

    life.learner.objective.losses = spoil


@pytest.mark.parametrize("do", [_spoil_the_second, _spoil_the_loss_of_the_second])
def test_a_step_that_is_not_finite_on_one_is_dropped_on_all(do: Do, tmp_path: Path) -> None:
    (first, second) = run(_config(2), tmp_path / "run", do)
    for error, told in (first, second):
        assert isinstance(error, LearnerError) and "update 3" in str(error)
        assert told["counters"] == [3, 3 * STEPS]
    for name, weight in first[1]["weights"].items():
        assert np.array_equal(second[1]["weights"][name], weight) and np.isfinite(weight).all()
    assert checkpoint.load_latest(tmp_path / "run").step == 3 * STEPS


def _move_the_second(life: Life, number: int) -> None:
    launch = life.learner.launch

    def move(batch: Batch, steps: int | None = None) -> None:
        launch(batch, steps)
        if number == 1 and life.learner.updates == 3:
            with torch.no_grad():
                next(life.learner.policy.parameters()).view(-1)[0] += 1e-9

    life.learner.launch = move


def test_ranks_whose_weights_differ_do_not_go_on_and_save_nothing(tmp_path: Path) -> None:
    """It is seen at the next row of metrics."""
    (first, second) = run(_config(2), tmp_path / "run", _move_the_second)
    assert isinstance(first[0], RanksDifferError) and "after update 4" in str(first[0])
    assert isinstance(second[0], RankLostError)
    assert checkpoint.load_latest(tmp_path / "run").step == 0


def _starve(life: Life, number: int) -> None:
    """From its fourth batch on the second one gets nothing. An update takes both 6 ms of what is counted."""
    update = life.loop._update

    def counted(agreed: Agreed) -> None:
        update(agreed)
        life.loop.spent.add("evaluate", 6.0)

    life.loop._update = counted
    if number == 0:
        return
    take, taken = life.loop._feed.take, [0]

    def nothing_more() -> Batch | None:
        if taken[0] == 3:
            life.loop._fed = -1e9  # as if it had been long
            life.loop._feed.wait = lambda: None
            return None
        batch = take()
        taken[0] += batch is not None
        return batch

    life.loop._feed.take = nothing_more


def test_one_that_starves_for_long_is_not_waited_for(tmp_path: Path) -> None:
    """The others take their steps with the batches that there are; it takes them too."""
    (first, second) = run(_config(2), tmp_path / "run", _starve)
    assert first[1]["counters"] == second[1]["counters"]
    assert first[1]["counters"][1] >= UPDATES * STEPS, "it ends by the steps that were learned from"
    assert first[1]["counters"][0] > UPDATES, "which is more updates, of fewer columns"
    assert [row["perf/time_evaluate_ms"] for row in first[1]["rows"]] == pytest.approx([6.0] * 2)
    for name, weight in first[1]["weights"].items():
        np.testing.assert_array_equal(second[1]["weights"][name], weight, err_msg=name)


@pytest.mark.parametrize("learners", [1, 3])
def test_a_run_of_two_goes_on_as_one_and_as_three(
    learners: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Through Ray no stream outlives its learner, whose rows start from zero then, as many as there are."""
    folder = tmp_path / "run"
    run(_config(2), folder)
    before = checkpoint.load_latest(folder).tensors
    longer = {"total_steps": 2 * UPDATES * STEPS}
    found = run(_config(learners, **longer), folder)
    assert capfd.readouterr().out.count("new episodes begin, with traces of zero") == 1, "one says it"
    for _, told in found:
        assert told["counters"] == [2 * UPDATES, 2 * UPDATES * STEPS]
        assert told["traces"][0].shape[0] == 12 // learners
    after = checkpoint.load_latest(folder)
    assert after.step == 2 * UPDATES * STEPS and after.tensors.keys() == before.keys()
    assert any(not torch.equal(after.tensors[name], tensor) for name, tensor in before.items())
