"""Which layout of actors is chosen, what may be asked for, and what of it is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import with_fields
from configs.layout import (
    ACTOR_MIB,
    described,
    laid_out,
    laid_out_in_cluster,
    machine_named,
    streams_of,
    with_order,
)
from configs.learners import part_of
from configs.orders import Order
from configs.presets import preset
from configs.schema import Config, ConfigError, EnvConfig, EvalConfig, RayConfig

PAPER = preset("atari_breakout_rtrl")


def layout(config: Config, cpus: int = 14) -> tuple[int, int, int]:
    laid = laid_out(config, cpus)
    assert laid_out(laid, 1) == laid, "what is chosen stays"
    return laid.num_streams, laid.num_actors, laid.env.num_envs


@pytest.mark.parametrize(
    ("cpus", "chosen"), [(1, (48, 1, 48)), (2, (48, 2, 24)), (14, (48, 14, 4)), (64, (48, 48, 1))]
)
def test_there_is_an_actor_for_each_cpu(cpus: int, chosen: tuple[int, int, int]) -> None:
    assert layout(PAPER, cpus) == chosen


def test_threads_memory_and_groups_count() -> None:
    env = dataclasses.replace(PAPER.env, num_threads=4)
    assert layout(dataclasses.replace(PAPER, env=env)) == (48, 3, 16)
    assert layout(dataclasses.replace(PAPER, actor_groups=2), 64) == (48, 24, 2)
    assert laid_out(PAPER, 64, memory_mib=20 * ACTOR_MIB).num_actors == 10
    assert laid_out(PAPER, 0, memory_mib=1.0).num_actors == 1
    assert layout(preset("memory_rtrl")) == (16, 1, 16), "inline, a single one"


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64))
def test_every_stream_has_one_carrier(streams: int, actors: int, cpus: int) -> None:
    for number in {0, min(actors, streams)}:
        config = Config(
            env=EnvConfig(id="any"), num_streams=streams, num_actors=number, batch_size=min(32, streams)
        )
        laid = laid_out(config, cpus)
        shares = [streams_of(laid, actor_id) for actor_id in range(laid.num_actors)]
        assert [stream for share in shares for stream in share] == list(range(streams))
        assert {len(share) for share in shares} <= {laid.env.num_envs, laid.env.num_envs - 1}
        assert max(map(len, shares)) == laid.env.num_envs and min(map(len, shares)) >= 1


def asked(name: str, *words: str) -> tuple[int, int, int]:
    return layout(with_fields(preset(name), list(words), "train"))


def test_what_scripts_ask_for() -> None:
    assert asked("atari_breakout_rtrl", "--num-actors", "30") == (48, 30, 2)
    assert asked("atari_breakout_rtrl", "--env.num-envs", "16") == (48, 3, 16)
    assert asked("atari_breakout_rtrl", "--num-actors=2", "--env.num_envs=16") == (32, 2, 16)
    assert asked("atari_breakout_rtrl", "--num-streams", "96", "--num_actors", "2") == (96, 2, 48)
    assert asked("memory_rtrl", "--env.num-envs", "32") == (32, 1, 32)
    assert asked("cartpole_rtrl", "--runtime", "inline", "--env.num-envs", "40") == (40, 1, 40)
    assert asked("cartpole_rtrl", "--num-actors", "1", "--num-actors", "2") == (32, 2, 16), "the last counts"


def test_one_that_is_asked_for_takes_the_place_of_the_one_that_was_saved() -> None:
    env = dataclasses.replace(PAPER.env, num_envs=16)
    saved = dataclasses.replace(PAPER, env=env, num_actors=3)
    assert layout(with_fields(saved, [], "train")) == (48, 3, 16)
    assert layout(with_fields(saved, ["--num-actors", "6"], "train")) == (48, 6, 8)
    assert layout(with_fields(saved, ["--env.num-envs", "24"], "train")) == (48, 2, 24)
    assert layout(with_fields(saved, ["--num-actors", "0"], "train")) == (48, 14, 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_actors": 49}, "num_actors = 49: there are num_streams = 48"),
        ({"num_actors": 3, "num_envs": 8}, "env.num_envs = 8: num_actors = 3 of so many slots"),
        ({"num_envs": 20}, "env.num_envs = 20: actors of so many slots do not make num_streams = 48"),
        ({"num_envs": 1, "actor_groups": 2}, "actor_groups = 2: must be 1, or 2 where"),
        ({"num_actors": 25, "actor_groups": 2}, "actor_groups = 2: must be 1, or 2 where"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, int], words: str) -> None:
    env = dataclasses.replace(PAPER.env, num_envs=changes.pop("num_envs", 0))
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(PAPER, env=env, **changes)


def test_a_config_of_before_has_the_streams_that_its_actors_had() -> None:
    old = json.loads(PAPER.to_json())
    del old["num_streams"]
    assert layout(
        Config.from_json(json.dumps(old | {"num_actors": 40, "env": old["env"] | {"num_envs": 2}}))
    ) == (
        80,
        40,
        2,
    )
    del old["num_actors"], old["env"]["num_envs"]
    assert Config.from_json(json.dumps(old)).num_streams == 48


def test_the_layout_is_told_in_a_line() -> None:
    assert described(PAPER, laid_out(PAPER, 14), "14 cores") == (
        "48 streams: 14 actors of 3 to 4 env slots, chosen for 14 cores (--num-actors sets another number)"
    )
    own = dataclasses.replace(PAPER, num_actors=48, env=dataclasses.replace(PAPER.env, num_threads=2))
    assert described(own, laid_out(own, 14), "") == "48 streams: 48 actors of 1 env slot on 2 threads"


def on_gpu(config: Config, cpus: int = 15, gpus: int = 1, **changes: object) -> Config:
    laid = laid_out(dataclasses.replace(config, **changes), cpus, gpus=gpus)
    assert laid_out(laid, 1, gpus=gpus) == laid, "what is chosen stays"
    return laid


def test_beside_a_gpu_a_few_actors_have_all_cpus_and_act_on_it() -> None:
    laid = on_gpu(PAPER)
    assert (laid.num_actors, laid.env.num_envs, laid.env.num_threads) == (2, 24, 7)
    assert laid.acting_device == "cuda" and laid.num_cpus == 14
    assert laid.ray.actor_gpus == 0.3333, "two actors, and the learner on the same GPU"
    assert on_gpu(PAPER, device="cpu", actor_device="cuda").ray.actor_gpus == 0.5
    assert on_gpu(PAPER, device="cpu").acting_device == "cpu"
    evaluated = on_gpu(PAPER, eval=EvalConfig(interval_steps=1000))
    assert evaluated.ray.actor_gpus == 0.25 and evaluated.num_cpus == 15
    small = on_gpu(PAPER, cpus=3)
    assert (small.num_actors, small.env.num_threads, small.ray.actor_gpus) == (1, 3, 0.5)
    two = on_gpu(PAPER, cpus=31, gpus=2)
    assert (two.num_actors, two.env.num_threads, two.ray.actor_gpus) == (4, 7, 0.5)
    few = on_gpu(PAPER, num_streams=3, batch_size=3, cpus=64)
    assert (few.num_actors, few.env.num_envs, few.env.num_threads) == (2, 2, 2), "no thread without a slot"


def test_all_of_it_can_be_set_and_envs_in_the_actors_thread_stay_on_cpus() -> None:
    laid = on_gpu(PAPER, num_actors=3, ray=RayConfig(actor_gpus=0.1))
    assert (laid.env.num_envs, laid.env.num_threads, laid.ray.actor_gpus) == (16, 5, 0.1)
    threads = on_gpu(PAPER, env=dataclasses.replace(PAPER.env, num_threads=5))
    assert (threads.num_actors, threads.env.num_threads, threads.acting_device) == (3, 5, "cuda")
    on_cpus = on_gpu(PAPER, actor_device="cpu")
    assert layout(on_cpus) == (48, 15, 4) and on_cpus.ray.actor_gpus == 0 and on_cpus.env.threads == 1
    cartpole = on_gpu(dataclasses.replace(preset("cartpole_rtrl"), num_actors=0))
    assert cartpole.acting_device == "cpu" and cartpole.num_actors == 15
    lab = on_gpu(preset("dmlab_rooms_watermaze_rtrl"))
    assert lab.acting_device == "cuda" and lab.num_actors == 15 and lab.ray.actor_gpus == 0.0625
    inline = on_gpu(PAPER, runtime="inline")
    assert (inline.num_actors, inline.env.num_threads, inline.ray.actor_gpus) == (1, 15, 0)


@given(st.integers(1, 8), st.integers(1, 40), st.booleans(), st.booleans())
def test_the_shares_of_gpus_have_room_on_them(gpus: int, actors: int, evaluator: bool, learner: bool) -> None:
    config = dataclasses.replace(
        PAPER,
        num_actors=actors,
        actor_device="cuda",
        device="auto" if learner else "cpu",
        eval=EvalConfig(interval_steps=int(evaluator)),
    )
    share = laid_out(config, 64, gpus=gpus).ray.actor_gpus
    each = int(1 / share + 1e-9)  # Ray lends parts of one GPU, never of two
    assert each * gpus >= actors + evaluator + (learner and gpus == 1)


def test_a_cluster_uses_its_gpus_where_its_cpus_are() -> None:
    config = dataclasses.replace(PAPER, eval=EvalConfig(interval_steps=1000))
    laid, words = laid_out_in_cluster(config, 32, 2, 32)
    assert (laid.acting_device, laid.num_actors, laid.env.num_threads) == ("cuda", 4, 7)
    assert words == "32 free CPUs and 2 GPUs of the cluster"
    laid, words = laid_out_in_cluster(config, 100, 1, 16)
    assert (laid.acting_device, laid.num_actors) == ("cpu", 48), "84 CPUs would stand idle"
    laid, _ = laid_out_in_cluster(dataclasses.replace(config, actor_device="cuda"), 100, 1, 16)
    assert (laid.acting_device, laid.num_actors, laid.env.num_threads) == ("cuda", 2, 7)
    with pytest.raises(ConfigError, match="actor_device = 'cuda': no node of the cluster has a GPU"):
        laid_out_in_cluster(dataclasses.replace(config, actor_device="cuda"), 32, 0, 0)
    with pytest.raises(ConfigError, match="actor_device = 'cuda:1': through Ray 'auto', 'cpu' or 'cuda'"):
        dataclasses.replace(PAPER, actor_device="cuda:1")


def test_the_layout_on_a_gpu_is_told_in_a_line() -> None:
    assert described(PAPER, on_gpu(PAPER), machine_named(16, 1)) == (
        "48 streams: 2 actors of 24 env slots on 7 threads, acting on cuda (0.3333 of a GPU each), "
        "chosen for 16 cores and 1 GPU (--num-actors sets another number)"
    )


def test_learners_share_a_run_equally() -> None:
    config = dataclasses.replace(PAPER, num_learners=4)
    assert layout(config) == (48, 12, 4), "of 14 CPUs as many as each has equally many of"
    assert layout(config, 1) == (48, 4, 12)
    part = part_of(laid_out(config, 14))
    assert (part.num_learners, part.num_streams, part.num_actors, part.batch_size) == (1, 12, 3, 8)
    assert part.env == laid_out(config, 14).env
    assert "4 learners, each with 3 of them, 12 streams and 8 columns" in described(
        config, laid_out(config, 14), "14 cores"
    )
    assert part_of(laid_out(PAPER, 14)) == laid_out(PAPER, 14)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_learners": 0}, "num_learners = 0: needs at least 1"),
        ({"runtime": "inline"}, r"num_learners = 4: inline .* set runtime = 'ray'"),
        ({"num_streams": 50}, r"num_streams = 50: num_learners = 4 .* such as 52"),
        ({"batch_size": 30}, r"batch_size = 30: num_learners = 4 .* such as 32"),
        ({"num_actors": 6}, r"num_actors = 6: num_learners = 4 .* such as 8"),
        ({"env": dataclasses.replace(PAPER.env, num_envs=16)}, r"env.num_envs = 16: .* 12 streams of each"),
        ({"device": "cuda:1"}, r"device = 'cuda:1': num_learners = 4 have a GPU each"),
        ({"objective": "ppo"}, r"objective = 'ppo': .* set 'vtrace'"),
    ],
)
def test_what_learners_cannot_share_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(PAPER, **{"num_learners": 4} | changes)


def test_an_order_for_actors_that_learners_cannot_share_is_refused() -> None:
    config = dataclasses.replace(PAPER, num_learners=4)
    assert with_order(config, Order(8)).num_actors == 8
    with pytest.raises(ConfigError, match="num_actors = 9: num_learners = 4"):
        with_order(config, Order(9))


def test_each_learner_is_beside_actors_on_its_gpu() -> None:
    one, two = (dataclasses.replace(PAPER, actor_device="cuda", num_learners=n) for n in (1, 2))
    assert laid_out(one, 16, gpus=1).ray.actor_gpus == 0.3333, "two actors and the learner"
    assert laid_out(two, 16, gpus=2).ray.actor_gpus == 0.3333, "two GPUs with four actors and two learners"
    assert laid_out(two, 16, gpus=4).ray.actor_gpus == 0.5
