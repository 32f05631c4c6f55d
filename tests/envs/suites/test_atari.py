from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from actors.play.frames import newest_image
from configs.schema import AtariConfig, EnvConfig
from envs.make import check_env, make_vec
from envs.suites.atari import AtariVecEnv, known_ids


def build(env_id: str, num_envs: int, **fields: object) -> AtariVecEnv:
    env = make_vec(EnvConfig(id=env_id, num_envs=num_envs, **fields))  # type: ignore[arg-type]
    assert isinstance(env, AtariVecEnv)
    return env


def actions_for(env: AtariVecEnv, steps: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, env.spec.num_actions, (steps, env.num_envs))


def reference(env_id: str, stack: int = 4, **preprocessing: Any) -> gymnasium.Env:
    """One game through Gymnasium's own wrappers: the oracle."""
    base = gymnasium.make(env_id, frameskip=1, repeat_action_probability=0.0)
    one = AtariPreprocessing(base, noop_max=0, **preprocessing)
    return FrameStackObservation(one, stack, padding_type="zero")


@pytest.mark.parametrize("env_id", ["ALE/Breakout-v5", "ALE/SpaceInvaders-v5", "ALE/MsPacman-v5"])
def test_pixels_rewards_and_ends_equal_gymnasiums_bit_for_bit(env_id: str) -> None:
    slots = 2
    env = build(env_id, slots, noop_max=0, fire_reset=False)
    theirs = [reference(env_id) for _ in range(slots)]
    observation = env.reset(11)
    # Without sticky actions and no-ops a game has no randomness left, so seeds need not agree.
    for slot, other in enumerate(theirs):
        np.testing.assert_array_equal(observation[slot], other.reset(seed=slot)[0])
    ended, ends, score = np.zeros(slots, np.bool_), 0, 0.0
    for row in actions_for(env, 350):
        step = env.step(row)
        for slot, other in enumerate(theirs):
            if ended[slot]:
                expected, reward, terminated, truncated = other.reset()[0], 0.0, False, False
            else:
                expected, reward, terminated, truncated, _ = other.step(int(row[slot]))
            np.testing.assert_array_equal(step.observation[slot], expected)
            assert step.reward[slot] == reward and step.terminated[slot] == terminated
            assert step.truncated[slot] == truncated and step.game_over[slot] == terminated
            score += float(reward)
        ended = step.game_over
        ends += int(ended.sum())
    assert score > 0
    assert ends > 0 or env_id != "ALE/Breakout-v5"
    assert env.spec.frames_per_step == 4 and env.spec.observation_shape == (4, 84, 84)
    env.close()


@pytest.mark.parametrize("env_id", ["ALE/Breakout-v5", "ALE/Frogger-v5"])
def test_a_life_is_lost_where_the_emulators_counter_falls(env_id: str) -> None:
    env = build(env_id, 1, noop_max=0, fire_reset=False, life_loss_ends_episode=True)
    other = reference(env_id)
    np.testing.assert_array_equal(env.reset(0)[0], other.reset(seed=0)[0])
    over, lost, games, goes_on_with_none_left = False, 0, 0, False
    lives = other.unwrapped.ale.lives()  # type: ignore[attr-defined]
    for row in actions_for(env, 450):
        step = env.step(row)
        if over:
            expected, info = other.reset()
            assert not (step.terminated | step.truncated | step.game_over).any() and step.reward[0] == 0
        else:
            expected, reward, terminated, truncated, info = other.step(int(row[0]))
            fell = info["lives"] < lives
            assert step.game_over[0] == (terminated or truncated) and step.reward[0] == reward
            assert step.terminated[0] == (terminated or fell)
            lost += int(fell and not terminated)
            goes_on_with_none_left |= bool(fell and info["lives"] == 0 and not terminated)
        np.testing.assert_array_equal(step.observation[0], expected)
        over, lives = bool(step.game_over[0]), info["lives"]
        games += over
    assert games >= 1 and lost >= 4
    assert goes_on_with_none_left == (env_id == "ALE/Frogger-v5")


@pytest.mark.parametrize(
    "options",
    [
        AtariConfig(frame_stack=1),
        AtariConfig(frame_stack=2, colour=True),
        AtariConfig(frame_stack=1, frame_skip=1, size=64),
        AtariConfig(frame_stack=3, frame_skip=5, size=100, colour=True),
    ],
)
def test_stack_skip_size_and_colour_equal_gymnasiums_bit_for_bit(options: AtariConfig) -> None:
    env = build("ALE/MsPacman-v5", 1, noop_max=0, fire_reset=False, atari=options)
    other = reference(
        "ALE/MsPacman-v5",
        options.frame_stack,
        frame_skip=options.frame_skip,
        screen_size=options.size,
        grayscale_obs=not options.colour,
    )

    def channels_first(theirs: np.ndarray) -> np.ndarray:
        """[stack, H, W(, 3)]: the colours of the oldest frame are the first channels."""
        frames = [frame.transpose(2, 0, 1) if options.colour else frame[None] for frame in theirs]
        return np.concatenate(frames)

    np.testing.assert_array_equal(env.reset(0)[0], channels_first(other.reset(seed=0)[0]))
    assert env.spec.observation_shape == env.reset(0).shape[1:]
    assert env.spec.frames_per_step == options.frame_skip
    for row in actions_for(env, 40):
        step, (expected, reward, *_) = env.step(row), other.step(int(row[0]))
        np.testing.assert_array_equal(step.observation[0], channels_first(expected))
        assert step.reward[0] == reward
    shown = newest_image(step.observation[0], env.spec.frames_stacked)
    last = np.asarray(expected)[-1]
    np.testing.assert_array_equal(shown, last if options.colour else np.repeat(last[..., None], 3, 2))


@pytest.mark.parametrize(("env_id", "waits"), [("ALE/Breakout-v5", True), ("ALE/UpNDown-v5", False)])
def test_fire_follows_a_lost_life_in_games_that_wait_for_it_and_in_no_other(env_id: str, waits: bool) -> None:
    """A policy that never presses it finishes its games, and what it chose elsewhere was played."""
    ours = build(env_id, 2, noop_max=0, life_loss_ends_episode=True)
    plain = build(env_id, 2, noop_max=0)
    fire = ours.spec.action_names.index("FIRE")
    still = ours.spec.action_names.index("NOOP")
    np.testing.assert_array_equal(ours.reset(0), plain.reset(0))
    lost, lives, games = np.zeros(2, np.bool_), 0, 0
    for _ in range(300):
        a = ours.step(np.full(2, still))
        b = plain.step(np.where(lost & waits, fire, still))
        np.testing.assert_array_equal(a.observation, b.observation)
        np.testing.assert_array_equal(a.reward, b.reward)
        np.testing.assert_array_equal(a.game_over, b.game_over)
        lost = a.terminated & ~a.game_over
        lives += int(lost.sum())
        games += int(a.game_over.sum())
    assert lives >= (8 if waits else 2) and games >= (2 if waits else 0)


def test_without_fire_reset_the_game_waits() -> None:
    env = build("ALE/Breakout-v5", 1, noop_max=0, life_loss_ends_episode=True, fire_reset=False)
    env.reset(0)
    assert not any(env.step(np.array([2])).terminated.any() for _ in range(300))


def test_a_game_may_end_with_a_life_left() -> None:
    env = build("ALE/Adventure-v5", 2, noop_max=0, life_loss_ends_episode=True)
    env.reset(0)
    ends = [step for row in actions_for(env, 400) if (step := env.step(row)).game_over.any()]
    assert len(ends) == 1
    np.testing.assert_array_equal(ends[0].terminated, ends[0].game_over)
    assert env._lives.tolist() == [1, 1]


def test_score_of_a_game_counts_what_is_earned_on_a_lost_life() -> None:
    """The step after a lost life is a real one: summed up to game_over, nothing of the score is lost."""
    scores: dict[bool, list[float]] = {}
    earned_on_lost_life = 0.0
    for life_loss in (False, True):
        env = build("ALE/BankHeist-v5", 2, noop_max=0, life_loss_ends_episode=life_loss)
        env.reset(0)
        total, finished, lost = np.zeros(2), [], np.zeros(2, np.bool_)
        for row in np.random.default_rng(0).integers(0, 18, (600, 2)):
            step = env.step(row)
            total += step.reward
            earned_on_lost_life += float(step.reward[lost].sum())
            lost = step.terminated & ~step.game_over
            finished += total[step.game_over].tolist()
            total[step.game_over] = 0.0
        scores[life_loss] = finished
        env.close()
    assert scores[True] == scores[False] and sum(scores[True]) > 0
    assert earned_on_lost_life == 10.0


def test_an_earned_life_ends_nothing() -> None:
    env = build("ALE/Breakout-v5", 2, noop_max=0, life_loss_ends_episode=True)
    env.reset(0)
    env._lives -= [1, 0]  # as if the first game had earned one with the step to come
    step = env.step(np.zeros(2, np.int64))
    assert not (step.terminated | step.truncated | step.game_over).any()


def test_a_new_game_with_fewer_lives_is_no_lost_life() -> None:
    env = build("ALE/Breakout-v5", 1, noop_max=0, max_episode_frames=40, life_loss_ends_episode=True)
    env.reset(0)
    for _ in range(10):
        step = env.step(np.zeros(1, np.int64))
    assert step.truncated.all() and step.game_over.all()
    env._lives += 2  # as if the game that was cut off had earned two more
    step = env.step(np.zeros(1, np.int64))
    assert not step.terminated.any()


def test_the_frame_cap_truncates_and_does_not_terminate() -> None:
    env = build("ALE/Pong-v5", 3, max_episode_frames=80, noop_max=0)
    env.reset(0)
    for count, row in enumerate(actions_for(env, 63), start=1):
        step = env.step(row)
        # 80 frames are 20 steps; the 21st is the dummy that starts the next game.
        assert step.truncated.all() == (count % 21 == 20)
        assert not step.terminated.any()
        np.testing.assert_array_equal(step.game_over, step.truncated)


def test_rewards_are_not_clipped() -> None:
    env = build("ALE/MsPacman-v5", 2, noop_max=0)
    env.reset(0)
    assert max(float(env.step(row).reward.max()) for row in actions_for(env, 100)) >= 10


def test_next_step_autoreset_ignores_the_dummy_action() -> None:
    one = build("ALE/Pong-v5", 2, max_episode_frames=60, noop_max=5, sticky_actions=0.25)
    other = build("ALE/Pong-v5", 2, max_episode_frames=60, noop_max=5, sticky_actions=0.25)
    one.reset(4)
    other.reset(4)
    ended, ends = np.zeros(2, np.bool_), 0
    for row in actions_for(one, 70):
        a, b = one.step(row), other.step(np.where(ended, 5 - row, row))
        np.testing.assert_array_equal(a.observation, b.observation)
        assert not a.reward[ended].any() and not a.game_over[ended].any()
        ended = a.game_over
        ends += int(ended.sum())
    assert ends >= 4


def test_seeds_decide_the_games_and_slots_differ() -> None:
    env = build("ALE/Breakout-v5", 6, sticky_actions=0.25, noop_max=0)
    rows = np.repeat(actions_for(env, 60)[:, :1], 6, axis=1)

    def played(seed: int) -> np.ndarray:
        env.reset(seed)
        return np.stack([env.step(row).observation for row in rows])

    first, again, other = played(1), played(1), played(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # All slots start alike and were given the same actions: only sticky actions tell them apart.
    assert len({first[:, slot].tobytes() for slot in range(6)}) == 6
    more = build("ALE/Breakout-v5", 6, sticky_actions=0.25, noop_max=0, num_threads=2)
    more.reset(1)
    np.testing.assert_array_equal(first, np.stack([more.step(row).observation for row in rows]))


def test_observations_are_fresh_arrays() -> None:
    env = build("ALE/Pong-v5", 2)
    kept = [env.reset(0)]
    before = kept[0].copy()
    kept += [env.step(row).observation for row in actions_for(env, 8)]
    np.testing.assert_array_equal(kept[0], before)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :])


def test_options_reach_the_emulator() -> None:
    assert build("ALE/Pong-v5", 1).spec.num_actions == 6
    assert build("ALE/Pong-v5", 1, full_action_space=True).spec.num_actions == 18
    fired = build("ALE/Breakout-v5", 1, noop_max=0, fire_reset=True)
    waits = build("ALE/Breakout-v5", 1, noop_max=0, fire_reset=False)
    assert not np.array_equal(fired.reset(0), waits.reset(0))
    starts = build("ALE/SpaceInvaders-v5", 4, noop_max=30).reset(0)
    assert len({start.tobytes() for start in starts}) > 1
    starts = build("ALE/SpaceInvaders-v5", 4, noop_max=0).reset(0)
    assert len({start.tobytes() for start in starts}) == 1


def test_bad_actions_are_refused() -> None:
    env = build("ALE/Pong-v5", 2)
    env.reset(0)
    with pytest.raises(ValueError, match="expected 0 to 5"):
        env.step(np.array([0, 6]))
    with pytest.raises(ValueError, match=r"shape \[3\], expected \[2\]"):
        env.step(np.zeros(3, np.int64))


def test_all_games_of_the_ale_are_known_and_their_roms_are_there() -> None:
    from ale_py import roms

    ids = known_ids(EnvConfig(id="ALE/Pong-v5"))
    assert len(ids) == 104
    games = {gymnasium.registry[env_id].kwargs["game"] for env_id in ids}
    assert len(games) == 104
    for game in games:
        path = roms.get_rom_path(game)
        assert path is not None and path.is_file(), game
    for env_id in ids:
        check_env(EnvConfig(id=env_id))
