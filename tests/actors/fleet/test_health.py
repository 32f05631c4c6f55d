"""The rules that decide what becomes of failures, on a clock of the test's own."""

from __future__ import annotations

import json

import pytest

from actors.fleet.health import AVOID_S, HOUR_S, LONGEST_DELAY_S, NODE_FAILURES, Health
from configs.presets import preset
from configs.schema import Config, ConfigError, RayConfig

NODES = ("good", "bad")


def test_restarts_of_one_actor_wait_ever_longer_within_an_hour() -> None:
    health = Health(RayConfig(), 2)
    delays = []
    for second in range(14):
        delays.append(health.failed(0, "good", float(second)))
        health.delivered(0, "good")  # one rollout is no cure
    assert delays[:6] == [0, 1, 2, 4, 8, 16] and delays[-1] == LONGEST_DELAY_S == max(delays)
    assert health.failed(1, "good", 20.0) == 0, "another actor's failures are its own"
    assert health.failed(0, "good", 20.0 + HOUR_S) == 0


@pytest.mark.parametrize("delivers", [False, True])
def test_one_actor_that_always_fails_never_ends_a_run_that_goes_on(delivers: bool) -> None:
    health = Health(RayConfig(), 2)
    now = 0.0
    for _ in range(300):
        now += health.failed(0, "good", now)
        health.delivered(1, "good")
        if delivers:
            health.delivered(0, "good")
        assert health.verdict(now) is None
    assert now > 20 * HOUR_S


def test_a_run_whose_actors_all_fail_from_the_start_ends_within_seconds() -> None:
    health = Health(RayConfig(), 4)
    delays = 0.0
    for attempt in range(5):
        assert health.verdict(delays) is None, attempt
        delays += max(health.failed(actor_id, "good", delays) for actor_id in range(4))
    assert "every actor failed 5 times in a row" in str(health.verdict(delays))
    assert delays < 20


def test_a_fleet_that_fails_too_often_ends_though_rollouts_come() -> None:
    health = Health(RayConfig(max_failures_per_actor_hour=3.0), 2)
    for minute in range(7):
        assert health.verdict(60.0 * minute) is None
        health.failed(minute % 2, "good", 60.0 * minute)
        health.delivered(minute % 2, "good")
    assert "failed 7 times within an hour, more than ray.max_failures_per_actor_hour = 3" in str(
        health.verdict(420.0)
    )
    assert health.verdict(HOUR_S + 1.0) is None, "the first failure is an hour old"


def test_a_node_where_actors_keep_failing_is_avoided_for_a_while() -> None:
    health = Health(RayConfig(), 4)
    for attempt in range(NODE_FAILURES):
        assert not health.avoided(NODES, 10.0)
        health.failed(attempt, "bad", 10.0)
    assert health.avoided(NODES, 10.0) == {"bad"}
    assert health.avoided(NODES, 10.0 + AVOID_S) == frozenset()
    health.failed(0, "bad", 700.0)
    assert health.avoided(NODES, 700.0) == {"bad"}, "it had one chance"
    health.delivered(0, "bad")
    health.failed(0, "bad", 700.0 + AVOID_S)
    assert not health.avoided(NODES, 700.0 + AVOID_S), "what works is forgiven"


def test_rollouts_from_a_node_speak_for_it() -> None:
    health = Health(RayConfig(), 4)
    for _ in range(20):
        health.failed(0, "bad", 0.0)
        health.delivered(1, "bad")
    assert not health.avoided(NODES, 0.0)


def test_a_node_that_cannot_run_actors_is_avoided_at_once_and_for_good() -> None:
    health = Health(RayConfig(), 4)
    health.failed(0, "bad", 0.0, unfit=True)
    assert health.avoided(NODES, 0.0) == {"bad"} == health.avoided(NODES, 1e9)


def test_where_every_node_would_be_avoided_none_is() -> None:
    health = Health(RayConfig(), 4)
    for node in NODES:
        for _ in range(NODE_FAILURES):
            health.failed(0, node, 0.0)
    assert health.avoided(NODES, 0.0) == frozenset()
    assert health.avoided((*NODES, "new"), 0.0) == set(NODES)


def test_a_limit_of_no_failures_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ray.max_failures_per_actor_hour = 0"):
        RayConfig(max_failures_per_actor_hour=0.0)


def test_a_config_of_the_version_before_loads() -> None:
    saved = json.loads(preset("cartpole_rtrl").to_json())
    del saved["ray"]["max_failures_per_actor_hour"]
    assert Config.from_json(json.dumps(saved)) == preset("cartpole_rtrl")
