"""What a checkpoint tells of a core's memory, unit by unit: its traces, and how fast it forgets.

The traces are in the checkpoint of an inline run whose env can write down its state; elsewhere they end with
the process. How fast a unit forgets depends on what it sees, so the policy is replayed in the environment,
sampled, and the state's Jacobian A_t = dh_t / dh_{t-1} is read off the forward pass that training
differentiates: |A_t| of a unit of one number, the spectral radius of its 2 x 2 block of a unit of two."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.collect import Collector
from actors.frame_stack import observations
from actors.inference import LocalInference
from actors.play.evaluate import EVALUATION_SEED
from actors.policy import Policy
from actors.rollout import Rollout, map_observation
from configs.schema import Config
from envs.make import env_spec, make_vec
from kernels.cells import CellCore
from kernels.elstm import ELSTMTrace
from kernels.rtrl import chunked


def unit_norms(state: dict[str, Any]) -> list[NDArray[np.float64]] | None:
    """Of each layer the norm [N] of every unit's trace, root mean square over streams; None without traces.

    `state`: of `TrainLoop.state_dict`.
    """
    if state["traces"] is None:
        return None
    norms = []
    for layer in state["traces"]["layers"]:
        matrices, vectors = (
            ELSTMTrace(*layer).packed() if len(layer) == 6 else layer
        )  # six: an older checkpoint
        squares = matrices.double().square().sum((1, 2, 4)) + vectors.double().square().sum((1, 2))
        norms.append(squares.mean(0).sqrt().numpy())
    return norms


def decay(config: Config, state: dict[str, Any], steps: int) -> list[NDArray[np.float64]] | None:
    """Of each layer |A_t| [steps, N] of `steps` or a few more steps, all slots and episodes together; None
    for a core without RTRL. The first step of an episode, whose A is 0, is left out.

    Raises EnvError where the environment cannot be made here.
    """
    policy = Policy(env_spec(config.env), config.policy)
    policy.load_state_dict(state["policy"])
    if not policy.core.supports_rtrl:
        return None
    seed = EVALUATION_SEED + config.seed
    env = make_vec(config.env)
    collector = Collector(
        [env],
        LocalInference(policy, None, seed=seed),
        unroll_length=-(-steps // env.num_envs),
        actor_id=0,
        incarnation=seed,
        env_seed=seed,
    )
    try:
        return decay_of(policy, collector.collect())
    finally:
        collector.close()


@torch.no_grad()
def decay_of(policy: Policy, rollout: Rollout) -> list[NDArray[np.float64]]:
    """As `decay`, of the steps of one rollout."""
    T = rollout.action.shape[0]
    action = np.concatenate([rollout.previous_action[None], rollout.action])[:T]
    reset = torch.from_numpy(rollout.reset[:T])
    x = policy.core_input(
        map_observation(lambda part: part[:T], observations(rollout)),
        torch.from_numpy(rollout.reward[:T]),
        reset,
        torch.from_numpy(action),
    )
    layers = []
    for core, h_0 in zip(policy.core.cells(), map(torch.from_numpy, rollout.initial_state), strict=True):
        jacobian = state_jacobian(core, x, h_0, reset)[~reset].movedim(-1, 1).double()
        size = (
            jacobian.abs()[..., 0, 0] if core.cell.d == 1 else torch.linalg.eigvals(jacobian).abs().amax(-1)
        )
        layers.append(size.numpy())
        x, _, _ = core.unroll(x, (h_0,), reset)
    return layers


def state_jacobian(core: CellCore, x: Tensor, h_0: Tensor, reset: Tensor) -> Tensor:
    """A_t of every step and unit, [T, B, d, d, N], before a reset is taken."""
    cell, parameters = core.cell, core.recurrent_parameters()
    K = len(cell.gates)
    W, psi = torch.stack(list(parameters[:K])), torch.stack(list(parameters[K:]))
    start = h_0.unflatten(1, (cell.d, core.num_units))
    h, u, extra = chunked.forward(cell, x, W, psi, start, reset, derivatives=True)
    before = torch.cat([start[None], h[:-1]]).masked_fill(reset[:, :, None, None], 0.0)
    u, before, h, extra = (part.flatten(0, 1) for part in (u, before, h, extra))
    rows = torch.eye(cell.d)[None, :, :, None].expand(len(u), -1, -1, core.num_units).clone()
    q, v = rows.new_empty(len(rows), cell.d, K, core.num_units), rows.new_zeros(len(rows), cell.d, *psi.shape)
    cell.pull(rows, u, before, h, extra, cell.constants(psi).unbind(0), q, v)
    return rows.unflatten(0, reset.shape)
