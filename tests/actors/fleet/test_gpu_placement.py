"""What Ray lends actors that act on a GPU, by a GPU that is one in Ray's books alone."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from actors.fleet.cluster import ray_session
from actors.fleet.fleet import FleetError
from actors.policy import Policy
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config, EvalConfig, RayConfig
from envs.make import env_spec
from learner.publish import RayPublisher
from tests.integration.cli import PATIENCE_S, wait_until

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session(RayConfig(object_store_mib=100), num_cpus=4, num_gpus=1):
        yield


def _config(**changes: Any) -> Config:
    base = preset("cartpole_rtrl")
    settings: dict[str, Any] = {
        "env": dataclasses.replace(base.env, id="counting/7"),
        "num_streams": 4,
        "num_actors": 2,
        "batch_size": 4,
        "unroll_length": 5,
        "actor_device": "cuda",
        "eval": EvalConfig(interval_steps=1000),
        "ray": RayConfig(object_store_mib=100, max_consecutive_failures=1),
    }
    return laid_out(dataclasses.replace(base, **settings | changes), 4, gpus=1)


class Probe:
    def sees(self) -> tuple[list[Any], str]:
        import ray

        return list(ray.get_gpu_ids()), os.environ.get("CUDA_VISIBLE_DEVICES", "")


def test_two_actors_and_an_evaluator_share_the_gpu_and_an_actor_on_the_cpu_sees_none() -> None:
    import ray

    from actors.fleet.health import Health
    from actors.fleet.nodes import actor_nodes, free, room
    from actors.fleet.placement import Placement, resources

    config = _config()
    assert free()[1:] == (1, 4) and len(actor_nodes(1, 1)) == 1 and actor_nodes(1, 2) == []
    options = Placement(config, Health(config.ray, config.num_actors)).options()
    assert options["num_gpus"] == 0.25, "the learner has its part too"
    probe: Any = ray.remote(Probe)
    evaluator = probe.options(**resources(config, config.evaluator_threads)).remote()
    probes = [probe.options(**options).remote() for _ in range(config.num_actors)]
    for sees in ray.get([one.sees.remote() for one in (*probes, evaluator)], timeout=PATIENCE_S):
        assert sees == ([0], "0")
    wait_until(lambda: ray.available_resources()["GPU"] == 0.25)
    assert "GPUs: 1, 0.25 of them free" in room()
    on_cpu = probe.options(**resources(_config(actor_device="cpu"))).remote()
    assert ray.get(on_cpu.sees.remote(), timeout=PATIENCE_S) == ([], "")
    for one in (*probes, evaluator, on_cpu):
        ray.kill(one)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU that is missing here is there")
def test_an_actor_whose_gpu_is_none_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    from actors.fleet.ray_fleet import RayFleet

    config = _config(num_actors=1)
    publisher = RayPublisher()
    publisher.publish(Policy(env_spec(config.env), config.policy), 0)
    fleet = RayFleet(config, publisher.source)
    try:
        with pytest.raises(FleetError, match="actor_device = 'cuda' cannot be used here") as end:
            for _ in range(int(PATIENCE_S)):
                fleet.next_rollout(1.0)
        assert "UnfitNodeError" in str(end.value) and "Ray lends this actor the GPUs '0'" in str(end.value)
    finally:
        fleet.close()
        publisher.close()
