"""Trace norms and decays by unit, against sums and derivatives taken another way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import launch
from actors.collect import Collector
from actors.inference import LocalInference
from actors.policy import Policy
from configs.presets import preset
from envs.make import env_spec, make_vec
from experiments.curves.trace_health import decay, decay_of, unit_norms
from learner.records.checkpoint import load_latest
from learner.records.state import join_state


@pytest.mark.parametrize("num_layers", [1, 2])
def test_decay_is_the_derivative_of_each_state_by_the_one_before(num_layers: int) -> None:
    config = preset("memory_rtrl")
    config = dataclasses.replace(
        config,
        env=dataclasses.replace(config.env, num_envs=3),
        num_streams=3,
        batch_size=3,
        policy=dataclasses.replace(config.policy, hidden_size=4, num_layers=num_layers, previous_action=True),
    )
    policy = Policy(env_spec(config.env), config.policy)
    T = 30  # longer than an episode: a reset lies inside
    collector = Collector(
        [make_vec(config.env)],
        LocalInference(policy, None, seed=0),
        unroll_length=T,
        actor_id=0,
        incarnation=0,
        env_seed=0,
    )
    collector.collect()
    rollout = collector.collect()
    layers = decay_of(policy, rollout)
    assert len(layers) == num_layers

    core, reset = policy.core, torch.from_numpy(rollout.reset)
    assert reset[1:T].any()
    state = tuple(map(torch.from_numpy, rollout.initial_state))
    expected: list[list[np.ndarray]] = [[] for _ in layers]
    action = np.concatenate([rollout.previous_action[None], rollout.action])
    for t in range(T):
        with torch.no_grad():
            x = policy.core_input(
                torch.from_numpy(rollout.observation[t]),
                torch.from_numpy(rollout.reward[t]),
                reset[t],
                torch.from_numpy(action[t]),
            )
        following = []
        for layer, cell in enumerate(core.cells()):
            c = state[layer].clone().requires_grad_()
            h, (c_next,) = cell.step(x, (c,), reset[t])
            (diagonal,) = torch.autograd.grad(c_next.sum(), c)  # a unit's state is no other unit's business
            expected[layer].append(diagonal[~reset[t]].abs().numpy())
            x = h.detach()
            following.append(c_next.detach())
        state = tuple(following)
    for found, steps in zip(layers, expected, strict=True):
        np.testing.assert_allclose(found, np.concatenate(steps), rtol=1e-5, atol=1e-6)


def test_norms_and_decays_of_a_checkpoint(tmp_path: Path) -> None:
    run = ["--run-dir", str(tmp_path), "--wandb.mode", "disabled"]
    assert launch.main(["train", "memory_rtrl", "--total-steps", "400", *run]) == 0
    loaded = load_latest(tmp_path / "checkpoints")
    assert isinstance(loaded.meta["state"], dict)
    state = join_state(loaded.meta["state"], loaded.tensors)
    norms = unit_norms(state)
    assert norms is not None
    (layer,) = state["traces"]["layers"]
    matrices, vectors = layer
    streams, units = vectors.shape[0], vectors.shape[3]
    by_hand = np.zeros(units)
    for unit in range(units):
        for part in (matrices[:, :, :, unit], vectors[:, :, :, unit]):
            by_hand[unit] += float(part.double().square().sum()) / streams
    np.testing.assert_allclose(norms[0], np.sqrt(by_hand), rtol=1e-6)
    assert (norms[0] > 0).all()

    config = preset("memory_rtrl")
    replayed = decay(config, state, 50)
    assert replayed is not None
    assert (
        replayed[0].shape[1] == units and 32 <= len(replayed[0]) <= 64
    )  # 4 steps of 16 slots, less the resets
    assert unit_norms(state | {"traces": None}) is None
    lstm = preset("memory_lstm")
    weights = Policy(env_spec(lstm.env), lstm.policy).state_dict()
    assert decay(lstm, {"policy": weights}, 50) is None
