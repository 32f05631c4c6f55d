"""What a checkpoint tells of an eLSTM's memory, unit by unit: its traces, and how fast it forgets.

The traces are in the checkpoint of an inline run whose env can write down its state; elsewhere they end with
the process. How fast a unit forgets, a_t = dc_t / dc_{t-1}, depends on what it sees, so the policy is
replayed in the environment, sampled, and a_t is read off the same forward pass that training differentiates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.collect import Collector
from actors.inference import LocalInference
from actors.play.evaluate import EVALUATION_SEED
from actors.policy import Policy
from actors.rollout import Rollout, map_observation
from configs.schema import Config
from envs.make import env_spec, make_vec
from kernels.cells import ELSTM, ELSTMStack
from kernels.elstm import ops


def unit_norms(state: dict[str, Any]) -> list[NDArray[np.float64]] | None:
    """Of each layer the norm [N] of every unit's trace, root mean square over streams; None without traces.

    `state`: of `TrainLoop.state_dict`.
    """
    if state["traces"] is None:
        return None
    norms = []
    for layer in state["traces"]["layers"]:  # six tensors [streams, N, ...]
        squares = sum(tensor.double().flatten(2).square().sum(2) for tensor in map(_at_least_3d, layer))
        assert isinstance(squares, Tensor)
        norms.append(squares.mean(0).sqrt().numpy())
    return norms


def _at_least_3d(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 3 else tensor[..., None]


def decay(config: Config, state: dict[str, Any], steps: int) -> list[NDArray[np.float64]] | None:
    """Of each layer |a_t| [steps, N] of `steps` or a few more steps, all slots and episodes together; None
    for a core that is no eLSTM. The first step of an episode, whose a is 0, is left out.

    Raises EnvError where the environment cannot be made here.
    """
    policy = Policy(env_spec(config.env), config.policy)
    policy.load_state_dict(state["policy"])
    if not isinstance(policy.core, ELSTM | ELSTMStack):
        return None
    seed = EVALUATION_SEED + config.seed
    collector = Collector(
        make_vec(config.env),
        LocalInference(policy, None, seed=seed),
        unroll_length=-(-steps // config.env.num_envs),
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
    """As `decay`, of the steps of one rollout of an eLSTM policy."""
    T = rollout.action.shape[0]
    action = np.concatenate([rollout.previous_action[None], rollout.action])[:T]
    reset = torch.from_numpy(rollout.reset[:T])
    x = policy.core_input(
        map_observation(lambda part: torch.from_numpy(part[:T]), rollout.observation),
        torch.from_numpy(rollout.reward[:T]),
        reset,
        torch.from_numpy(action),
    )
    core = policy.core
    assert isinstance(core, ELSTM | ELSTMStack)
    cells = [core] if isinstance(core, ELSTM) else core.cells()
    layers = []
    for cell, c_0 in zip(cells, map(torch.from_numpy, rollout.initial_state), strict=True):
        W_z, W_f, w_z, w_f, b_z, b_f = cell.recurrent_parameters()
        stacked = (torch.stack(pair) for pair in ((W_z, W_f), (w_z, w_f), (b_z, b_f)))
        _, _, a = ops.elstm_forward(x, *stacked, c_0, reset, [], None, True, "chunked")
        layers.append(a[~reset].abs().double().numpy())
        x, _, _ = cell.unroll(x, (c_0,), reset)
    return layers
