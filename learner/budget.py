"""What a run will take of memory, counted and told before any of it is taken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from actors.policy import Policy
from actors.rollout import map_observation, observation_parts
from configs.layout import ACTOR_MIB, CUDA_ACTOR_MIB
from configs.schema import Config, ConfigError
from envs.spec import EnvSpec
from learner.memory import trace_bytes
from learner.prefetch import prefetches

LEAST_STORE_MIB = 256
"""Of an object store: weights and Ray's own objects lie there too."""


CUDA_MIB = 1024
"""Of a GPU, what a process that acts on it takes besides: context, libraries' workspaces, activations. An
estimate."""


@dataclass(frozen=True, slots=True)
class Share:
    """One of the things that take memory."""

    what: str
    size: int
    remedy: str
    on_device: bool = False
    """On the learner's device, which may be the host."""


def gpu_memory() -> list[int]:
    """Bytes of each GPU that this process sees."""
    return [
        torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())
    ]


def column_bytes(config: Config, spec: EnvSpec) -> int:
    """Of one stream's rollout on the wire, where frames that are stacked travel once."""
    steps, stack = config.unroll_length + 1, spec.frames_stacked
    shapes = map_observation(
        lambda shape, dtype: math.prod(shape) * np.dtype(dtype).itemsize,
        spec.observation_shape,
        spec.observation_dtype,
    )
    seen = sum(size for _, size in observation_parts(shapes))
    return seen * (steps + stack - 1) // stack + 16 * steps


def batch_bytes(config: Config, spec: EnvSpec, device: torch.device) -> tuple[int, int]:
    """Of all `Buffers`: in host memory, and on the device besides. A thread has one batch ready beside the
    one in use."""
    batches = (1 + prefetches(config, device)) * config.batch_size * column_bytes(config, spec)
    stacked = spec.frames_stacked if spec.frames_stacked > 1 else 0
    return batches, batches * (stacked + (device.type == "cuda"))


def acting_bytes(config: Config, policy: Policy, spec: EnvSpec) -> int:
    """Of one actor on a GPU: CUDA's own, the weights, and what a step of all its slots reads, as it comes and
    as float32."""
    weights = sum(tensor.nbytes for tensor in policy.state_dict().values())
    seen = column_bytes(config, spec) * spec.frames_stacked // (config.unroll_length + 1)
    return CUDA_MIB * 2**20 + weights + 5 * config.env.num_envs * seen


def within_memory(
    config: Config,
    policy: Policy,
    spec: EnvSpec,
    device: torch.device,
    host: int,
    own_ray: bool,
    gpus: Sequence[int] = (),
) -> Config:
    """`config` with `ray.object_store_mib` set, after a look at what the run will take.

    `config`: as laid out. `host`: bytes of this machine; `gpus`: of each of its GPUs. `own_ray`: the actors,
    if any, are on this machine. Of several GPUs the learner's is counted as if it had its part of the actors.

    Raises ConfigError where the host or the GPU is smaller than that.
    """
    column, streams = column_bytes(config, spec), config.num_streams
    on_gpu, inline = config.acting_device != "cpu", config.runtime == "inline"
    shares: list[Share] = []
    if config.runtime == "ray" and own_ray:
        # Asked for or ready: rollouts_in_flight. In the learner's hand: less than two more (Batcher.covered).
        held = streams * column * (config.ray.rollouts_in_flight + 2)
        least = max(LEAST_STORE_MIB, math.ceil(1.25 * held / 2**20))
        store = config.ray.object_store_mib or least
        if store * 2**20 < held:
            raise ConfigError(
                f"ray.object_store_mib = {store}: {streams} streams (num_streams) have rollouts of "
                f"{_size(held)} under way; raise it to {least} or set 0, or lower ray.rollouts_in_flight, "
                "unroll_length or num_streams"
            )
        config = dataclasses.replace(config, ray=dataclasses.replace(config.ray, object_store_mib=store))
        remedy = "ray.rollouts_in_flight, unroll_length or num_streams"
        shares.append(Share("object store (ray.object_store_mib)", store * 2**20, remedy))
        count, each = config.num_actors, CUDA_ACTOR_MIB if on_gpu else ACTOR_MIB
        shares.append(Share(f"{count} actors", count * each * 2**20, "num_actors"))
    joined, on_device = batch_bytes(config, spec, device)
    shares += [
        Share("batches", joined, "batch_size or unroll_length"),
        Share("batches on the device", on_device, "batch_size or unroll_length", True),
    ]
    if config.carries_traces:
        row = trace_bytes(policy)
        shares.append(
            Share(f"traces of {streams} streams", row * streams, "num_streams or policy.hidden_size", True)
        )
        if config.rtrl.fresh_traces or config.rtrl.staleness_interval:
            past = column * spec.frames_stacked * streams * config.rtrl.history_rollouts
            shares.append(Share("rollouts to recompute traces from", past, "rtrl.history_rollouts", True))
    acting = []
    if on_gpu and gpus and (own_ray or inline):
        count = -(-config.num_actors // len(gpus))
        what = f"policies of {count} actors" if count > 1 else "the actor's policy"
        acting = [Share(what, count * acting_bytes(config, policy, spec), "num_actors or num_streams")]
    learning = [share for share in shares if share.on_device and device.type == "cuda"]
    _tell([share for share in shares if share not in learning], "this machine", host)
    if gpus and (acting or learning):
        index, learners = device.index or 0, config.num_learners
        learning = [dataclasses.replace(share, size=share.size // learners) for share in learning]
        where = f"cuda:{index}" if learners == 1 else f"each of cuda:0 to cuda:{learners - 1}"
        _tell(acting + learning, where, min(gpus[index : index + learners]))
    return config


def _tell(shares: list[Share], where: str, limit: int) -> None:
    mine = sorted(shares, key=lambda share: -share.size)
    total = sum(share.size for share in mine)
    parts = ", ".join(f"{share.what} {_size(share.size)}" for share in mine)
    if total > limit:
        raise ConfigError(
            f"{_size(total)} of memory would be taken, and {where} has {_size(limit)}: {parts}; lower "
            f"{mine[0].remedy}"
        )
    print(f"memory of {where}: {_size(total)} of {_size(limit)}: {parts}", flush=True)


def _size(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
