"""One learner on a GPU: batches, the bank in place, publishing, checkpoints to and fro, acting."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from actors.inference import LocalInference
from actors.policy import Policy
from benchmarks.learner_step_case import Rollouts, Size, config, make_learner
from learner.batcher import Batch
from learner.learner import Learner
from learner.prefetch import Prefetcher
from learner.publish import LocalPublisher

pytestmark = pytest.mark.gpu
SIZE = Size(6, 4, 24, "shallow", frame=64)
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CLOSE = {"rtol": 2e-3, "atol": 2e-4}  # convolutions and products in another order, and perhaps by tf32


def after(device: torch.device, updates: int) -> tuple[Learner, Rollouts]:
    learner, rollouts = make_learner(SIZE, "rtrl", device), Rollouts(SIZE, device)
    for _ in range(updates):
        learner.update(rollouts.next_batch())
    return learner, rollouts


def bank(learner: Learner) -> list[Tensor]:
    assert learner.rtrl is not None
    return learner.rtrl.bank.state_dict()["layers"][0]


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in learner.policy.state_dict().items()}


def test_a_batch_arrives_as_it_is_on_the_cpu():
    here, there = Rollouts(SIZE, CPU).next_batch(), Rollouts(SIZE, GPU).next_batch()
    for name in ("observation", "reward", "reset", "action", "terminated"):
        assert getattr(there, name).device == GPU
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name)), name


def test_updates_move_the_weights_as_on_the_cpu_and_the_bank_stays_where_it_is():
    plain, _ = after(CPU, 2)
    ours, rollouts = after(GPU, 1)
    places = [tensor.data_ptr() for tensor in bank(ours)]
    ours.update(rollouts.next_batch())
    assert places == [tensor.data_ptr() for tensor in bank(ours)]
    assert all(tensor.device == GPU and tensor.any() for tensor in bank(ours))
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(
            weights(ours)[name], tensor, **CLOSE, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_what_is_published_is_the_weights():
    learner, _ = after(GPU, 1)
    publisher = LocalPublisher()
    publisher.publish(learner.policy, 1)
    snapshot = publisher.source.fetch(0)
    assert snapshot is not None and snapshot.version == 1
    for name, tensor in weights(learner).items():
        assert np.array_equal(snapshot.arrays[name], tensor.numpy())


@pytest.mark.parametrize(("saved_on", "loaded_on"), [(GPU, GPU), (CPU, GPU), (GPU, CPU)])
def test_a_checkpoint_goes_on_there_and_elsewhere(saved_on, loaded_on):
    first, rollouts = after(saved_on, 2)
    state = copy.deepcopy(first.state_dict())
    resumed = make_learner(SIZE, "rtrl", loaded_on, seed=9)
    resumed.load_state_dict(state)
    resumed.load_traces(state)
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(bank(first), bank(resumed), strict=True))
    others = Rollouts(SIZE, loaded_on)
    for _ in range(2):
        others.next_batch()
    told, again = first.update(rollouts.next_batch()), resumed.update(others.next_batch())
    assert again.get("rtrl/trace_breaks", 0.0) == told.get("rtrl/trace_breaks", 0.0)
    assert resumed.updates == first.updates == 3
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(resumed)[name], tensor, **CLOSE)


def test_acting_on_the_gpu_decides_as_on_the_cpu():
    spec, settings = SIZE.spec(), config(SIZE, "rtrl")
    torch.manual_seed(3)
    policy = Policy(spec, settings.policy)
    pair = [
        LocalInference(copy.deepcopy(policy), None, seed=1, greedy=True, device=device)
        for device in (CPU, GPU)
    ]
    groups = [inference.open(5) for inference in pair]
    rng = np.random.default_rng(0)
    for t in range(12):  # past the warm-up: the recorded step too
        observation = rng.integers(256, size=(5, *spec.observation_shape)).astype(np.uint8)
        reward, reset = rng.standard_normal(5).astype(np.float32), rng.random(5) < 0.2
        decided = []
        for inference, group in zip(pair, groups, strict=True):
            inference.submit(group, observation, reward, reset)
            decided.append(inference.take(group))
        plain, ours = decided
        np.testing.assert_allclose(ours.logits, plain.logits, **CLOSE, err_msg=f"step {t}")
        np.testing.assert_allclose(ours.value, plain.value, **CLOSE)
        clear = np.ptp(np.sort(plain.logits)[:, -2:], axis=1) > 1e-2  # not so near that rounding decides
        assert np.array_equal(ours.action[clear], plain.action[clear])


class Shades(Rollouts):
    """Pictures of one shade: the number of the batch that they belong to."""

    def next_rollout(self, timeout_s=0.0, skip=()):
        rollout = super().next_rollout()
        observation = np.full_like(rollout.observation, rollout.sequence_number % 251)
        return dataclasses.replace(rollout, observation=observation)


def prefetched() -> Prefetcher:
    return Prefetcher(config(SIZE, "rtrl"), Shades(SIZE, CPU), GPU, lambda: 0)


def taken(feed: Prefetcher) -> Batch:
    while (batch := feed.take()) is None:
        feed.wait()
    return batch


def test_a_batch_made_ahead_lies_over_none_that_the_gpu_still_reads():
    """Each is read behind a long wait of the GPU, while others are made."""
    feed, shades = prefetched(), []
    for _ in range(8):
        batch = taken(feed)
        torch.cuda._sleep(50_000_000)  # cycles, of this stream alone
        shades.append(torch.stack([batch.observation.min(), batch.observation.max()]))
    feed.close()
    assert torch.stack(shades).tolist() == [[number, number] for number in range(8)]


def test_taking_a_batch_and_launching_its_update_never_wait_for_the_gpu():
    learner, feed = make_learner(SIZE, "rtrl", GPU), prefetched()
    for _ in range(3):
        learner.update(taken(feed))
    while not feed.rollouts:
        feed.wait()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            learner.launch(taken(feed))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    learner.read()
    feed.close()
    assert [str(w.message) for w in caught if "synchronizing" in str(w.message)] == []


@pytest.mark.parametrize("T", [4, 40])
def test_launching_an_update_never_waits_for_the_gpu(T):
    size = SIZE._replace(T=T)
    learner, rollouts = make_learner(size, "rtrl", GPU), Rollouts(size, GPU)
    for _ in range(2):  # the first measures, and both compile
        learner.update(rollouts.next_batch())
    batch = rollouts.next_batch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            learner.launch(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    learner.read()
    assert [str(w.message) for w in caught if "synchronizing" in str(w.message)] == []
