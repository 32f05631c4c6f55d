"""`launch.py bench`: the bottleneck that a run has is named, its spread told, and it is never silent."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from actors.fleet.fleet import FleetError
from actors.policy import Policy
from benchmarks.system import bench as system
from benchmarks.system import coupled, watched
from benchmarks.system.coupled import Coupled, Processes, endless, real_batch
from benchmarks.system.verdict import Use, advice, bottleneck
from benchmarks.system.watched import Window
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config
from envs.make import env_spec
from learner.learner import Learner
from tests.benchmarks.slow_env import STEP_S
from tests.integration.cli import PATIENCE_S

PARTS = {"env": 100.0, "inference": 300.0, "learner": 150.0}


def _use(waited: float, **cores: float) -> Use:
    return Use(waited=waited, cores=cores, us_per_step={group: 10 * used for group, used in cores.items()})


def test_the_use_of_the_machine_is_summed_over_all_windows() -> None:
    windows = [
        Window(4.0, 1000, 1.0, {"learner": 2.0, "actors": 3.0, "others": 0.5}, {}),
        Window(6.0, 1000, 2.0, {"learner": 3.0, "actors": 5.0, "Ray": 1.0, "others": 0.5}, {}),
    ]
    use = Use.of(windows)
    assert use.waited == pytest.approx(0.3)
    assert use.cores == pytest.approx({"learner": 0.5, "actors": 0.8, "others": 0.1, "Ray": 0.1})
    assert use.us_per_step == pytest.approx({"learner": 2500, "actors": 4000, "Ray": 500})


@pytest.mark.parametrize(
    ("use", "cores", "limit", "change"),
    [
        # The learner waits, and cores are idle: more actors.
        (_use(0.6, learner=0.4, actors=2.0), 4, "acting", "--num-actors 4 (now 2): 2 cores are idle"),
        # Nobody waits for rollouts: learning, though acting uses more.
        (_use(0.02, learner=1.0, actors=1.6), 4, "learning", "--learner-threads 2 (now 1), a GPU"),
        # All cores are busy, and the learner lost the race for them: what uses more is the limit.
        (_use(0.4, learner=0.6, actors=1.3), 2, "acting", "its environments cost more than its policy"),
        (_use(0.4, learner=1.3, actors=0.6), 2, "learning", "a GPU for the learner"),
        # Other programs take the cores: the run is not their limit, and no core is idle.
        (_use(0.7, learner=0.3, actors=0.2, others=1.5), 2, "acting", "more cores (--num-actors"),
    ],
)
def test_the_bottleneck_and_what_to_change(use: Use, cores: int, limit: str, change: str) -> None:
    config = laid_out(preset("atari_breakout_rtrl_bench"), 2)
    assert bottleneck(use, cores, inline=False) == limit
    assert change in advice(config, use, PARTS, cores, on_gpu=False)


def test_the_advice_fits_the_config() -> None:
    inline = preset("memory_rtrl")
    config = dataclasses.replace(inline, runtime="ray")
    assert bottleneck(_use(0.6, learner=1.0), 2, inline=True) == "acting"
    assert "--runtime ray" in advice(inline, _use(0.6, learner=1.0), PARTS, 2, on_gpu=False)
    busy = _use(0.5, learner=0.5, actors=1.5)
    thinking = advice(config, busy, PARTS | {"inference": 50.0}, 2, on_gpu=True)
    assert "a larger --env.num-envs" in thinking and "GPU" not in thinking
    assert "--batch-size" in advice(config, _use(0.0, learner=1.0), PARTS, 4, on_gpu=True)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "SETTLE_S", 0.05)
    monkeypatch.setattr(coupled, "SETTLE_S", 0.05)
    monkeypatch.setattr(system, "PART_S", 0.05)


def _small(name: str, **changes: object) -> Config:
    return dataclasses.replace(preset(name), total_steps=10**12, learner_threads=1, **changes)


def _slow(**changes: object) -> Config:
    """Two actors of two slots whose envs sleep."""
    base = preset("memory_rtrl")
    settings: dict[str, object] = {
        "env": dataclasses.replace(base.env, id="tests.benchmarks.slow_env:Slow-v0", num_envs=2),
        "policy": dataclasses.replace(base.policy, encoder="none", hidden_size=16),
        "ray": dataclasses.replace(base.ray, object_store_mib=100),
        "runtime": "ray",
        "num_streams": 4,
        "num_actors": 2,
        "batch_size": 4,
    }
    return _small("memory_rtrl", **settings | changes)


@pytest.mark.ray
@pytest.mark.usefixtures("short")
def test_through_ray_an_env_that_takes_its_time_is_the_bottleneck(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By parts too it is, but by CPU time it is not: it sleeps."""
    result = system.measure(_slow(), 3, 0.3)
    assert result["bottleneck"] == "acting"
    assert set(result["cpu_seconds"]) == {"learner", "actors", "Ray", "others"}
    assert all(result["cpu_seconds"][group] > 0 for group in ("learner", "actors", "Ray"))
    names = {name.rpartition(" ")[0] for name in result["cpu_seconds_by_process"]}
    assert {"learner", "raylet", "gcs_server"} < names
    assert sum(result["cpu_seconds_by_process"].values()) == pytest.approx(
        sum(spent for group, spent in result["cpu_seconds"].items() if group != "others")
    )
    assert [len(values) for values in result["series"].values()] == [3] * 3
    assert 0 < result["ratio"]["median"] < 1.5
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "the whole system starts, 2 actors in Ray" in line]
    pairs = [line.partition("pair ")[2].partition(":")[0] for line in said if "s  pair " in line]
    assert pairs == ["1 of 3", "2 of 3", "3 of 3"]


@pytest.mark.usefixtures("short")
def test_inline_a_heavy_network_is_the_bottleneck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = preset("memory_rtrl")
    heavy = _small("memory_rtrl", policy=dataclasses.replace(base.policy, hidden_size=256))
    monkeypatch.setattr(system, "preset", lambda name: heavy)
    out = tmp_path / "bench.json"
    words = ["any", "--runtime", "inline", "--pairs", "3", "--seconds", "0.3", "--json", str(out)]
    assert system.main(words) == 0
    result = json.loads(out.read_text())
    assert result["bottleneck"] == "learning" and result["learner_waited"] < 0.5
    system_sps = result["system"]
    assert system_sps["low"] <= system_sps["median"] <= system_sps["high"]
    assert result["machine"]["cores"] >= 1
    printed = capsys.readouterr().out
    assert "bottleneck: learning. To go faster: " in printed and "CPU seconds: learner" in printed
    assert f"[{system_sps['low']:,.0f}, {system_sps['high']:,.0f}]" in printed


def _coupled(config: Config, stack: ExitStack) -> tuple[Coupled, Learner]:
    learner = Learner(Policy(env_spec(config.env), config.policy), config, torch.device("cpu"))
    return Coupled(config, learner, real_batch(config, learner.device), stack), learner


def test_the_ceiling_keeps_acting_and_learning_at_one_pace_and_rests() -> None:
    """Its envs sleep 5 ms a step: more steps than that allows would be steps that nobody acted."""
    config = _slow()
    with ExitStack() as stack:
        ceiling, learner = _coupled(config, stack)
        start, ahead = time.perf_counter(), config.num_streams * config.ray.rollouts_in_flight
        ceiling.window(0.5)
        learned = learner.global_step - ahead * config.unroll_length
        assert learner.updates > 0 and learned <= config.num_streams * (time.perf_counter() - start) / STEP_S
        ceiling.rest()
        assert isinstance(ceiling._actors, Processes) and not any(ceiling._actors._owed.values())
        watched.wait_until_still()
        before = watched.cpu_seconds()
        children = [process.pid for process in psutil.Process().children() if process.pid in before]
        assert len(children) >= config.num_actors
    assert not any(map(psutil.pid_exists, _of_ours(children))), "they end with the measurement"


def _of_ours(pids: list[int]) -> list[int]:
    """Without the tracker of resources, which Python keeps to its end."""
    found = []
    for pid in filter(psutil.pid_exists, pids):
        if "resource_tracker" not in " ".join(psutil.Process(pid).cmdline()):
            found.append(pid)
    return found


def test_the_ceilings_actors_rest_wherever_a_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between two rollouts that were done at once: the second one's actor has been asked too."""
    monkeypatch.setattr(coupled, "PATIENCE_S", PATIENCE_S)
    config = dataclasses.replace(preset("cartpole_rtrl"), num_streams=8, batch_size=8, num_actors=2)
    with ExitStack() as stack:
        actors = Processes(laid_out(config, 2), stack)
        for line in actors._owed:
            line.send(True)
            actors._owed[line] = 1
        assert all(line.poll(PATIENCE_S) for line in actors._owed)
        next(actors.columns())
        actors.finish()


def test_an_actor_of_the_ceiling_that_dies_ends_the_measurement() -> None:
    with ExitStack() as stack:
        earlier = set(psutil.Process().children())
        ceiling, _ = _coupled(_slow(), stack)
        for process in set(psutil.Process().children()) - earlier:
            if "spawn_main" in " ".join(process.cmdline()):
                process.kill()
                break
        with pytest.raises(FleetError, match="an actor that the ceiling is measured by has ended"):
            while True:
                ceiling.window(0.1)


def test_the_ceilings_learner_carries_its_traces() -> None:
    config = _slow(runtime="inline")
    learner = Learner(Policy(env_spec(config.env), config.policy), config, torch.device("cpu"))
    update: Any = endless(learner, real_batch(config, learner.device))
    assert update() == {}, "nothing to read before the second"
    breaks = [update()["rtrl/trace_breaks"] for _ in range(3)]  # a count since the start
    assert breaks == breaks[:1] * 3
