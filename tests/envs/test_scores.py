"""Normalised scores: whole tables, published figures from published returns, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from configs.schema import EnvConfig, ProcgenConfig
from envs.scores import (
    AGGREGATES,
    SCORE_SUITES,
    aggregate,
    level_of,
    normalise,
    score_matrix,
    score_table,
    suite_for,
)
from envs.suites.atari import _ROMS
from envs.suites.dmlab.levels import TASK_SETS
from tests.envs.suites.impala_returns import ATARI57, DMLAB30


@pytest.mark.parametrize(
    ("suite", "levels"), [("atari57", 57), ("dmlab30", 30), ("procgen-easy", 16), ("procgen-hard", 16)]
)
def test_tables_are_whole_and_every_row_has_its_source(suite: str, levels: int) -> None:
    table = score_table(suite)
    assert len(table) == levels and suite in SCORE_SUITES
    for level, (low, high, source) in table.items():
        assert high > low and ("arXiv" in source), level
    lows = normalise(suite, {level: row.low for level, row in table.items()})
    highs = normalise(suite, {level: row.high for level, row in table.items()})
    assert set(lows.values()) == {0.0} and set(highs.values()) == {100.0}
    assert set(aggregate(suite, highs).values()) == {100.0}


def test_every_atari_game_of_the_table_is_one_of_the_ale() -> None:
    games = {level_of(env_id): rom for env_id, rom in _ROMS.items() if level_of(env_id) is not None}
    assert set(games) == set(score_table("atari57"))
    assert all(level == rom for level, rom in games.items())


def test_levels_of_dmlab30_are_those_that_are_played() -> None:
    assert set(TASK_SETS["dmlab30_test"]) == set(score_table("dmlab30"))
    trained = dict.fromkeys(TASK_SETS["dmlab30"], 1.0)
    assert set(normalise("dmlab30", trained)) == set(score_table("dmlab30"))


@pytest.mark.parametrize(
    ("env_id", "level", "suite"),
    [
        ("ALE/MsPacman-v5", "ms_pacman", "atari57"),
        ("ALE/UpNDown-v5", "up_n_down", "atari57"),
        ("ALE/Tetris-v5", None, "atari57"),
        ("dmlab/rooms_watermaze", "rooms_watermaze", "dmlab30"),
        ("dmlab/contributed/dmlab30/rooms_watermaze", "rooms_watermaze", "dmlab30"),
        ("dmlab/rooms_collect_good_objects_train", "rooms_collect_good_objects_train", "dmlab30"),
        ("dmlab/seekavoid_arena_01", None, "dmlab30"),
        ("procgen/chaser", "chaser", "procgen-hard"),
        ("CartPole-v1", None, None),
        ("memory/tmaze", None, None),
    ],
)
def test_level_and_suite_of_an_env(env_id: str, level: str | None, suite: str | None) -> None:
    assert level_of(env_id) == level
    assert suite_for(EnvConfig(id=env_id)) == suite


def test_procgen_is_scored_by_its_difficulty() -> None:
    modes = ("easy", "hard", "extreme", "memory", "exploration")
    envs = [EnvConfig(id="procgen/heist", procgen=ProcgenConfig(distribution_mode=mode)) for mode in modes]
    assert [suite_for(env) for env in envs] == ["procgen-easy", "procgen-hard", None, None, None]


# IMPALA's Table 4. The means hold with a random agent that scores 0 in video_pinball: score_tables/README.md.
@pytest.mark.parametrize(
    ("agent", "median", "mean"),
    [("multi-task", 59.7, 176.9), ("shallow", 93.2, 466.4), ("deep", 191.8, 957.6)],
)
def test_published_returns_give_the_published_medians(agent: str, median: float, mean: float) -> None:
    scores = normalise("atari57", ATARI57[agent])
    found = aggregate("atari57", scores)
    assert found["median"] == pytest.approx(median, abs=0.05)
    assert found["iqm"] == pytest.approx(stats.trim_mean(list(scores.values()), 0.25))
    low, high, _ = score_table("atari57")["video_pinball"]
    pinball = 100 * ATARI57[agent]["video_pinball"] / high
    corrected = found["mean"] + (pinball - scores["video_pinball"]) / 57
    assert low == 16256.9 and corrected == pytest.approx(mean, abs=0.4)


# IMPALA's Table B.1, whose last line is this mean.
@pytest.mark.parametrize(("agent", "capped"), [("experts", 44.5), ("multi-task", 49.4)])
def test_published_returns_give_the_published_mean_capped_score(agent: str, capped: float) -> None:
    found = aggregate("dmlab30", normalise("dmlab30", DMLAB30[agent]))
    assert found["mean_capped"] == pytest.approx(capped, abs=0.06) and found["mean"] > found["mean_capped"]


def test_a_level_is_capped_after_its_mean_over_episodes() -> None:
    low, high, _ = score_table("dmlab30")["rooms_watermaze"]
    returns = np.array(
        [low, low + 1.6 * (high - low)]
    )  # 0 % and 160 %: 80 % together, 50 % if each were capped
    human = {level: row.high for level, row in score_table("dmlab30").items()}
    scores = normalise("dmlab30", human | {"rooms_watermaze": float(returns.mean())})
    assert scores["rooms_watermaze"] == pytest.approx(80.0)
    assert aggregate("dmlab30", scores)["mean_capped"] == pytest.approx((29 * 100 + 80) / 30)
    double = normalise("dmlab30", human | {"rooms_watermaze": float(low + 2 * (high - low))})
    assert double["rooms_watermaze"] == pytest.approx(200.0), "the score itself is not capped"
    assert aggregate("dmlab30", double)["mean_capped"] == pytest.approx(100.0)
    assert aggregate("dmlab30", double)["mean"] == pytest.approx((29 * 100 + 200) / 30)


def test_a_training_variant_is_scored_as_its_test_variant() -> None:
    low, high, _ = score_table("dmlab30")["rooms_collect_good_objects_test"]
    trained = {"rooms_collect_good_objects_train": (low + high) / 2}
    assert normalise("dmlab30", trained) == {"rooms_collect_good_objects_test": pytest.approx(50.0)}
    with pytest.raises(ValueError, match="in its training and its test variant"):
        normalise("dmlab30", trained | {"rooms_collect_good_objects_test": 1.0})


@pytest.mark.parametrize("suite", SCORE_SUITES)
def test_a_missing_level_is_an_error(suite: str) -> None:
    scores = dict.fromkeys(score_table(suite), 50.0)
    dropped, _ = scores.popitem()
    with pytest.raises(ValueError, match=rf"1 of \d\d levels are missing.*{dropped}"):
        aggregate(suite, scores)
    with pytest.raises(ValueError, match=r"missing|no scores"):
        aggregate(suite, {})


def test_a_partial_aggregate_is_asked_for_and_never_of_dmlab30() -> None:
    assert aggregate("atari57", {"pong": 10.0, "breakout": 30.0, "qbert": 50.0}, partial=True) == {
        "median": 30.0,
        "mean": 30.0,
        "iqm": 30.0,
    }
    assert aggregate("procgen-hard", {"chaser": 10.0}, partial=True) == {"mean": 10.0, "iqm": 10.0}
    with pytest.raises(ValueError, match="no scores"):
        aggregate("atari57", {}, partial=True)
    with pytest.raises(ValueError, match="all 30 levels"):
        aggregate("dmlab30", {"rooms_watermaze": 10.0}, partial=True)
    with pytest.raises(ValueError, match="missing in a run"):
        score_matrix("atari57", [{"pong": 1.0, "qbert": 1.0}, {"pong": 1.0}], partial=True)


def test_unknown_names_and_returns_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="atari57, dmlab30"):
        normalise("atari100k", {"pong": 1.0})
    with pytest.raises(ValueError, match="'mspacman'; did you mean ms_pacman"):
        normalise("atari57", {"mspacman": 1.0})
    with pytest.raises(ValueError, match="no level 'rooms_collect_good_objects_train'"):
        aggregate("procgen-easy", {"rooms_collect_good_objects_train": 1.0}, partial=False)
    with pytest.raises(ValueError, match="no level 'tetris'"):
        aggregate("atari57", dict.fromkeys(score_table("atari57"), 1.0) | {"tetris": 1.0})
    with pytest.raises(ValueError, match="mean return of pong is nan"):
        normalise("atari57", {"pong": float("nan")})


def test_easy_and_hard_procgen_differ() -> None:
    assert normalise("procgen-easy", {"chaser": 6.75}) == {"chaser": 50.0}
    assert normalise("procgen-hard", {"chaser": 7.35}) == {"chaser": 50.0}


def test_the_median_over_several_runs_is_that_of_the_levels_means() -> None:
    runs = [{"pong": 0.0, "qbert": 10.0, "breakout": 100.0}, {"pong": 100.0, "qbert": 20.0, "breakout": 0.0}]
    matrix = score_matrix("atari57", runs, partial=True)
    assert AGGREGATES["atari57"]["median"](matrix) == 50.0  # of 50, 15 and 50; of all six scores it is 15
