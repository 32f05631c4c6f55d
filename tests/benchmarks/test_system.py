"""`launch.py bench`: the bottleneck that a run has is named, its spread told, and it is never silent."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from benchmarks import system, verdict, watched
from benchmarks.verdict import Use, advice, bottleneck, ceiling, interval
from benchmarks.watched import Window
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config

PARTS = {"env": 100.0, "inference": 300.0, "learner": 150.0}


def _use(waited: float, **cores: float) -> Use:
    return Use(waited=waited, cores=cores, us_per_step={group: 10 * used for group, used in cores.items()})


def test_the_ceiling_is_what_the_parts_leave_each_other() -> None:
    assert ceiling(PARTS, learner_on_gpu=False) == pytest.approx(50.0)  # 1/100 + 1/300 + 1/150 = 1/50
    assert ceiling(PARTS, learner_on_gpu=True) == pytest.approx(75.0)
    assert ceiling(PARTS | {"learner": 60.0}, learner_on_gpu=True) == 60.0


def test_three_repeats_that_differ_are_reported_as_such() -> None:
    low, high = interval([0.75, 0.78, 0.90]) or (0, 0)
    assert low == 0.75 and high == 0.90
    assert interval([0.5]) is None
    narrow = interval([0.78, 0.78, 0.79, 0.78, 0.77, 0.78, 0.78]) or (0, 0)
    assert 0.77 <= narrow[0] <= 0.78 <= narrow[1] <= 0.79


def test_the_use_of_the_machine_is_summed_over_all_windows() -> None:
    windows = [
        Window(4.0, 1000, 1.0, {"learner": 2.0, "actors": 3.0, "others": 0.5}),
        Window(6.0, 1000, 2.0, {"learner": 3.0, "actors": 5.0, "Ray": 1.0, "others": 0.5}),
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
    monkeypatch.setattr(system, "WINDOW_S", 0.3)
    monkeypatch.setattr(system, "PART_S", 0.05)


def _small(name: str, **changes: object) -> Config:
    return dataclasses.replace(preset(name), total_steps=10**12, learner_threads=1, **changes)


@pytest.mark.ray
@pytest.mark.usefixtures("short")
def test_through_ray_an_env_that_takes_its_time_is_the_bottleneck(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By parts too it is, but by CPU time it is not: it sleeps."""
    base = preset("memory_rtrl")
    env = dataclasses.replace(base.env, id="tests.benchmarks.slow_env:Slow-v0", num_envs=2)
    policy = dataclasses.replace(base.policy, encoder="none", hidden_size=16)
    ray = dataclasses.replace(base.ray, object_store_mib=100)
    config = _small(
        "memory_rtrl",
        env=env,
        policy=policy,
        ray=ray,
        runtime="ray",
        num_streams=4,
        num_actors=2,
        batch_size=4,
    )
    result = system.measure(config, seconds=0.1)
    assert result["bottleneck"] == "acting" and result["learner_waited"] > 0.5
    assert set(result["cpu_seconds"]) == {"learner", "actors", "Ray", "others"}
    assert all(result["cpu_seconds"][group] > 0 for group in ("learner", "actors", "Ray"))
    assert [len(values) for values in result["all_rates"].values()] == [system.MIN_ROUNDS] * 6
    assert 0 < result["ratio"] < 1.5
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "the whole system starts, 2 actors in Ray" in line]
    assert len([line for line in said if "s  round " in line]) == system.MIN_ROUNDS


@pytest.mark.usefixtures("short")
def test_inline_a_heavy_network_is_the_bottleneck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = preset("memory_rtrl")
    heavy = _small("memory_rtrl", policy=dataclasses.replace(base.policy, hidden_size=512))
    monkeypatch.setattr(system, "preset", lambda name: heavy)
    out = tmp_path / "bench.json"
    assert system.main(["any", "--runtime", "inline", "--seconds", "0.1", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["bottleneck"] == "learning" and result["learner_waited"] < 0.5
    low, high = result["intervals"]["system"]
    assert low <= result["system_sps"] <= high and result["machine"]["cores"] >= 1
    printed = capsys.readouterr().out
    assert "bottleneck: learning. To go faster: " in printed and "CPU seconds: learner" in printed
    assert f"[{low:,.0f}, {high:,.0f}]" in printed


def test_without_scipy_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(verdict.ConfigError, match="needs the package 'scipy'"):
        system.measure(preset("memory_rtrl"), seconds=0.1)
