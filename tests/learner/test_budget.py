"""What a run takes of memory is counted before it is taken, told, and refused where there is less."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from actors.policy import Policy
from configs.layout import CUDA_ACTOR_MIB, laid_out
from configs.presets import preset
from configs.schema import Config, ConfigError, PolicyConfig, RtrlConfig
from envs.spec import EnvSpec
from learner.budget import CUDA_MIB, acting_bytes, batch_bytes, column_bytes, within_memory
from learner.learner import Learner
from learner.memory import trace_bytes
from tests.learner.batches import SPEC
from tests.learner.batches import config as small

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MIB, GIB = 2**20, 2**30
ATARI = EnvSpec(
    id="x", observation_shape=(4, 84, 84), observation_dtype="uint8", num_actions=4, frames_stacked=4
)


def _check(config: Config, spec: EnvSpec = ATARI, host: int = 1000 * GIB, own_ray: bool = True) -> Config:
    policy = Policy(spec, config.policy)
    return within_memory(config, policy, spec, CPU, host, own_ray)


def _asked(**changes: object) -> Config:
    """768 streams of the paper's network at N = 512."""
    base = preset("atari_breakout_rtrl")
    policy = PolicyConfig(encoder="nature", core="elstm", hidden_size=512)
    return dataclasses.replace(base, **{"num_streams": 768, "policy": policy} | changes)


def _big(**changes: object) -> Config:
    return laid_out(_asked(**changes), 16)


def test_gigabytes_are_told_before_they_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    config = _check(_big())
    column = (3 + 51) * 84 * 84  # each frame once
    assert column_bytes(config, ATARI) == pytest.approx(column, rel=0.01)
    store = config.ray.object_store_mib
    assert 1.25 * 768 * 4 * column / MIB < store < 1.3 * 768 * 4 * column / MIB  # 2 in flight, 2 in hand
    told = capsys.readouterr().out
    assert "memory of this machine: 7.2 GiB of 1,000.0 GiB: 16 actors 5.0 GiB" in told
    assert "traces of 768 streams 8" in told
    assert "object store (ray.object_store_mib) 1.4 GiB" in told


def test_the_bank_is_as_large_as_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    config = small(policy=PolicyConfig(encoder="none", core="rtu", hidden_size=300), num_streams=40)
    _check(dataclasses.replace(config, runtime="inline"), SPEC)
    rtrl = Learner(Policy(SPEC, config.policy), config, CPU).rtrl
    assert rtrl is not None
    size = sum(tensor.nbytes for layer in rtrl.bank._layers for tensor in layer)
    assert f"traces of 40 streams {size / MIB:,.1f} MiB" in capsys.readouterr().out


def test_a_batch_ahead_is_counted_where_a_thread_makes_one() -> None:
    config = _big()
    one = 32 * column_bytes(config, ATARI)
    assert batch_bytes(config, ATARI, CPU) == (one, 4 * one), "stacked beside what was joined"
    assert batch_bytes(config, SPEC, CPU) == (32 * column_bytes(config, SPEC), 0), "used where it was joined"
    assert batch_bytes(dataclasses.replace(config, prefetch="on"), ATARI, CPU) == (2 * one, 8 * one)
    assert batch_bytes(config, ATARI, GPU) == (2 * one, 10 * one)
    assert batch_bytes(dataclasses.replace(config, prefetch="off"), ATARI, GPU) == (one, 5 * one)


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"this machine has 512\.0 MiB: traces.*lower num_streams or policy\.h"
    ):
        _check(_big(), host=GIB // 2, own_ray=False)
    with pytest.raises(
        ConfigError, match=r"7\.2 GiB of memory would be taken.*: 16 actors.*lower num_actors$"
    ):
        _check(_big(), host=7 * GIB)
    history = RtrlConfig(fresh_traces=True, history_rollouts=100)
    with pytest.raises(ConfigError, match=r"lower rtrl\.history_rollouts$"):
        _check(_big(rtrl=history), host=100 * GIB)


def test_an_object_store_that_is_too_small_for_the_rollouts_under_way_is_refused() -> None:
    config = _big()
    ray = dataclasses.replace(config.ray, object_store_mib=512)
    with pytest.raises(ConfigError, match=r"ray\.object_store_mib = 512: 768 streams .* raise it to"):
        _check(dataclasses.replace(config, ray=ray))
    joined = dataclasses.replace(config, ray=ray)
    assert _check(joined, own_ray=False).ray.object_store_mib == 512, "the nodes' own affair"


def _on_gpu(host: int = 1000 * GIB, gpus: tuple[int, ...] = (80 * GIB,), **changes: object) -> Config:
    config = laid_out(_asked(**changes), 15, gpus=len(gpus))
    policy = Policy(ATARI, config.policy)
    return within_memory(config, policy, ATARI, GPU, host, True, gpus)


def test_policies_on_a_gpu_are_counted_beside_the_traces(capsys: pytest.CaptureFixture[str]) -> None:
    config = _on_gpu()
    assert (config.num_actors, config.env.num_envs) == (2, 384)
    host, gpu = capsys.readouterr().out.splitlines()
    assert f"2 actors {2 * CUDA_ACTOR_MIB / 1024:.1f} GiB" in host and "traces" not in host
    policy = Policy(ATARI, config.policy)
    inputs = 384 * 4 * 84 * 84 * (1 + 4)  # bytes, and floats of them
    weights = sum(parameter.nbytes for parameter in policy.parameters())
    each = CUDA_MIB * MIB + weights + inputs
    assert acting_bytes(config, policy, ATARI) == pytest.approx(each, rel=0.02)
    batches = 2 * 32 * column_bytes(config, ATARI)  # one in use, one ready
    assert f"batches {batches / MIB:.1f} MiB" in host
    taken = 2 * each + 768 * trace_bytes(policy) + (1 + 4) * batches
    assert f"memory of cuda:0: {taken / GIB:.1f} GiB of 80.0 GiB" in gpu
    assert f"batches on the device {(1 + 4) * batches / MIB:.1f} MiB" in gpu
    assert "policies of 2 actors" in gpu and "traces of 768 streams" in gpu


def test_a_gpu_that_is_too_small_for_both_is_refused_and_one_each_is_enough() -> None:
    with pytest.raises(ConfigError, match=r"cuda:0 has 2\.5 GiB: policies of 2 actors.*lower num_actors"):
        _on_gpu(gpus=(5 * GIB // 2,))
    _on_gpu(gpus=(5 * GIB // 2,), actor_device="cpu")
    with pytest.raises(ConfigError, match=r"this machine has 2\.0 GiB: 2 actors 2\.9 GiB"):
        _on_gpu(host=2 * GIB, num_streams=48)
