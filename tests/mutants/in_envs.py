"""Faults in `envs/`. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

_ATARI = "envs/suites/test_atari.py"

MUTANTS = [
    *in_file(
        "envs/suites/atari.py",
        f"{_ATARI}::test_an_earned_life_ends_nothing "
        f"{_ATARI}::test_a_new_game_with_fewer_lives_is_no_lost_life "
        f"{_ATARI}::test_options_reach_the_emulator "
        f"{_ATARI}::test_the_frame_cap_truncates_and_does_not_terminate "
        f"{_ATARI}::test_rewards_are_not_clipped "
        f"{_ATARI}::test_seeds_decide_the_games_and_slots_differ "
        f"{_ATARI}::test_fire_follows_a_lost_life_in_games_that_wait_for_it_and_in_no_other "
        f"{_ATARI}::test_a_life_is_lost_where_the_emulators_counter_falls[ALE/Breakout-v5]",
        ("a gained life ends an episode", "lives < self._lives", "lives != self._lives"),
        ("a new game with fewer lives ends an episode", " & ~game_over & ~self._over", " & ~game_over"),
        ("a lost life ends the game", "truncated, game_over\n", "truncated, terminated | truncated\n"),
        ("nobody presses FIRE after a lost life", "np.where(self._lost, self._fire, actions)", "actions"),
        ("rewards are clipped", "reward_clipping=False", "reward_clipping=True"),
        (
            "sticky actions are ignored",
            "repeat_action_probability=config.sticky_actions",
            "repeat_action_probability=0.0",
        ),
        (
            "the cap on frames is ignored",
            "max_num_frames_per_episode=config.max_episode_frames",
            "max_num_frames_per_episode=108_000",
        ),
        ("no-ops are ignored", "noop_max=config.noop_max", "noop_max=0"),
    ),
    *in_file(
        "envs/scores.py",
        "envs/test_scores.py",
        ("a score of 0 is a return of 0", "(value - low) / (high - low)", "value / (high - low)"),
        ("the cap is 1 %", "_CAP = 100.0", "_CAP = 1.0"),
        ("the cap is of the mean", "_mean(np.minimum(scores, _CAP))", "np.minimum(_mean(scores), _CAP)"),
        ("a third is cut off either end", "shape[-1] // 4", "shape[-1] // 3"),
        (
            "the median is of all runs' scores",
            "np.median(scores.mean(-2), axis=-1)",
            "np.median(scores, axis=(-2, -1))",
        ),
        ("a level may be given twice", "if level in scores:", "if False:"),
        (
            "a hard game is scored as an easy one",
            "procgen-{config.procgen.distribution_mode}",
            "procgen-easy",
        ),
    ),
    *in_file(
        "envs/suites/streams.py",
        "envs/suites/test_memory.py envs/suites/test_cartpole.py envs/test_vec_contract.py",
        ("numbers are drawn in pairs", "self.state += _GAMMA", "self.state += np.uint64(0)"),
        ("a selected stream stands still", "self.state[slots] = z", "pass"),
        ("the highest integer is left out", "(high - low)).astype", "(high - low - 1)).astype"),
    ),
    *in_file(
        "envs/suites/memory/array_env.py",
        "envs/suites/test_counting.py envs/suites/test_cartpole.py "
        "envs/test_vec_contract.py::test_resume_is_exact envs/test_vec_contract.py::test_next_step_autoreset",
        ("the dummy step earns a reward", "            reward[fresh] = 0.0\n", ""),
        ("both flags are up", "        truncated &= ~terminated\n", ""),
        ("the state lacks its randomness", ', "random": (self._random, "state")}', "}"),
    ),
    *in_file(
        "envs/suites/memory/tmaze.py",
        "envs/suites/test_memory.py",
        ("a wrong choice costs nothing", "self._cue, 1.0, -1.0)", "self._cue, 1.0, 0.0)"),
        (
            "the quiet zone has noise",
            "noisy = ~start & (time <= quiet_from)",
            "noisy = ~start & (time <= self._length)",
        ),
        (
            "the corridor is never as long as it may be",
            "integers(low, high + 1, slots)",
            "integers(low, max(high, low + 1), slots)",
        ),
    ),
    *in_file(
        "envs/suites/memory/endless_tmaze.py",
        "envs/suites/test_far_credit.py",
        ("the next corridor has the cue of the last", "self._start(np.flatnonzero(self._chosen))", "pass"),
        (
            "an episode ends after all",
            "return reward, never, never.copy()",
            "return reward, self._chosen, never",
        ),
    ),
    *in_file(
        "envs/suites/memory/act_now.py",
        "envs/suites/test_far_credit.py",
        ("a later action counts", "np.where(self._time == 0, actions", "np.where(self._time <= 1, actions"),
        ("the reward comes a step early", "self._time >= self._length\n", "self._time >= self._length - 1\n"),
    ),
    *in_file(
        "envs/suites/memory/chain.py",
        "envs/suites/test_far_credit.py",
        ("the bit stays on the screen", "np.where(self._time == 0, 2", "np.where(self._time <= 1, 2"),
        ("a wrong choice costs nothing", "self._bit, 1.0, -1.0)", "self._bit, 1.0, 0.0)"),
    ),
    *in_file(
        "envs/suites/minigrid_view.py",
        "envs/suites/test_minigrid.py",
        ("light goes to one side only", "for i in reversed(range(1, size)):", "for i in reversed(range(0)):"),
        ("the view is a mirror's", "_FORWARD[(direction + 1) % 4]", "_FORWARD[(direction - 1) % 4]"),
        ("what is carried is not seen", "bytes(env.carrying.encode()) if env.carrying else _EMPTY", "_EMPTY"),
        (
            "a view of an environment's own is replaced",
            "is getattr(MiniGridEnv, name)",
            "is not None",
        ),
    ),
    *in_file(
        "envs/suites/cartpole.py",
        "envs/suites/test_cartpole.py",
        ("the pole has no moment of inertia", "4.0 / 3.0 - POLE_MASS", "1.0 - POLE_MASS"),
        ("the angle is not watched", "| (np.abs(self._physics[:, 2]) > MAX_ANGLE)", ""),
        ("the masked cart shows a velocity", "slice(0, None, 2)", "slice(0, 2)"),
    ),
]
