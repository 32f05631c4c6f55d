"""The tasks of arXiv 2409.01449: what they show, and that a perfect memory earns what it should."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from configs.presets import preset
from envs.make import make_vec
from envs.suites.gym.actions import decode_actions
from envs.suites.streams import distinct_seeds
from tests.envs.suites.gym.test_gym_suites import SLOTS, build, follow, raws

BODIES = {  # (positions, velocities) without the root's place, which no task shows
    "Ant": (13, 14),
    "HalfCheetah": (8, 9),
    "Hopper": (5, 6),
    "Walker2d": (8, 9),
    "Swimmer": (3, 5),
    "InvertedPendulum": (2, 2),
    "InvertedDoublePendulum": (5, 3),
    "Humanoid": (22, 23),
    "HumanoidStandup": (22, 23),
}


@pytest.mark.parametrize("body", BODIES)
def test_mujoco_shows_one_half_of_the_state(body: str) -> None:
    pytest.importorskip("mujoco")
    positions, velocities = BODIES[body]
    halves = {"P": slice(0, positions), "V": slice(positions, positions + velocities)}
    for shown, half in halves.items():
        env = build(f"mujoco/{body}-{shown}")
        assert env.spec.continuous_actions and env.spec.observation_shape == (half.stop - half.start,)
        raw = raws(f"{body}-v5")
        scaled = decode_actions(body, raw[0].action_space).decode
        follow(env, raw, lambda seen, half=half: seen[half].astype(np.float32), scaled, 15)
        body_itself: Any = raw[0].unwrapped
        state = (body_itself.data.qpos, body_itself.data.qvel)["PV".index(shown)]
        if body == "InvertedDoublePendulum" and shown == "P":
            place, angles = state[:1], state[1:]
            state = np.concatenate([place, np.sin(angles), np.cos(angles)])
        if shown == "V" and body in ("Hopper", "Walker2d", "InvertedDoublePendulum"):
            state = np.clip(state, -10.0, 10.0)  # as Gymnasium's bodies show them
        own = body_itself._get_obs()[half]
        np.testing.assert_array_equal(own, state[-len(own) :])  # what the name says, whatever was skipped


def hot(row: NDArray[Any], *sizes: int) -> list[int]:
    """The numbers that stand in `row` one-hot, one after the other."""
    ends = np.cumsum(sizes)[:-1]
    return [int(part.argmax()) for part in np.split(row[: sum(sizes)], ends)]


class Autoencode:
    """Observation: watch or play, suit. The cards come back from the last to the first."""

    def __init__(self) -> None:
        self.cards: list[int] = []
        self.all_seen = False

    def act(self, row: NDArray[Any]) -> int:
        watching, suit = hot(row, 2, 4)
        if not self.all_seen:  # the last card is shown with the first question
            self.cards.append(suit)
            self.all_seen = not watching
        return 0 if watching else self.cards.pop()


class CountRecall:
    """Observation: the card's colour, the colour that is asked for."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()

    def act(self, row: NDArray[Any]) -> int:
        card, asked = hot(row, 2, 2)
        self.seen[card] += 1
        return self.seen[asked]


class RepeatFirst:
    """Observation: suit, whether it is the first."""

    first: int

    def act(self, row: NDArray[Any]) -> int:
        suit, first = hot(row, 4, 2)
        if first:
            self.first = suit
        return self.first


@pytest.mark.parametrize("memory", [Autoencode, CountRecall, RepeatFirst])
def test_a_perfect_memory_earns_all_of_popgym(memory: type[Any]) -> None:
    """The tasks themselves; the ports to JAX that the paper used show no card in Autoencode's watch phase,
    and cannot answer 2 or more in CountRecall."""
    env = build(f"popgym/{memory.__name__}Easy")
    rows, oracles, earned = env.reset(5), [memory() for _ in range(SLOTS)], np.zeros(SLOTS)
    over = np.zeros(SLOTS, np.bool_)
    while not over.all():
        step = env.step(np.array([oracle.act(row) for oracle, row in zip(oracles, rows, strict=True)]))
        earned += step.reward * ~over
        rows, over = step.observation, over | step.game_over
    np.testing.assert_allclose(earned, 1.0, atol=1e-5)


def test_autoencode_shows_the_sequence_while_it_is_watched() -> None:
    env = build("popgym/AutoencodeEasy", 1)
    raw: Any = raws("popgym-AutoencodeEasy-v0")[0]
    raw.reset(seed=int(distinct_seeds(8, 1)[0]))
    deck = raw.unwrapped.deck
    seen = [env.reset(8), *(env.step(np.zeros(1, np.int64)).observation for _ in range(51))]
    raw_steps = [raw.step(0) for _ in range(51)]
    assert len(raw_steps) == 51 and len(deck["system"]) == 52
    dealt = [int(deck.suits_idx[card]) for card in deck["system"]]
    assert [hot(row[0], 2, 4)[1] for row in seen] == dealt and len(set(dealt)) == 4
    assert [hot(row[0], 2, 4)[0] for row in seen] == [1] * 51 + [0]


# --- Reacher -------------------------------------------------------------------------------------


def reacher(seed: int, goal: tuple[float, float], steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the task shows of `steps` steps after its first observation, and what Gymnasium's body does, where
    the goal was moved behind the task's back."""
    mujoco: Any = importlib.import_module("mujoco")
    from envs.suites.mujoco import GoalAtFirst

    raw: Any = gymnasium.make("Reacher-v5", disable_env_checker=True, max_episode_steps=steps)
    env, body = GoalAtFirst(raw), raw.unwrapped
    env.reset(seed=seed)
    position = body.data.qpos.copy()
    position[2:] = goal
    body.set_state(position, body.data.qvel.copy())
    shown, whole = [], []
    random = np.random.default_rng(0)
    for _ in range(steps):
        shown.append(env.step(random.uniform(-1, 1, 2))[0])
        mujoco.mj_forward(body.model, body.data)  # the fingertip's place is else that of the step before
        whole.append(body._get_obs())
    env.close()
    return np.stack(shown), np.stack(whole)


def test_reacher_shows_the_goal_at_first_and_nothing_of_it_later() -> None:
    pytest.importorskip("mujoco")
    goal = np.array([0.1, 0.05])
    (here, whole), (there, other) = reacher(3, (0.1, 0.05), 60), reacher(3, (-0.15, 0.1), 60)
    np.testing.assert_array_equal(here, there)  # blind: nothing depends on the goal
    assert np.abs(whole[:, 8:] - other[:, 8:]).min() > 0.04
    assert not here[:, 4:6].any()
    np.testing.assert_array_equal(np.delete(here, (4, 5), 1), np.delete(whole[:, :8], (4, 5), 1))
    # Oracle: whoever keeps the goal has all that is hidden, since the arms are 10 and 11 cm long.
    angle = np.arctan2(here[:, 2:4], here[:, :2])
    ends = [0.1 * f(angle[:, 0]) + 0.11 * f(angle.sum(1)) for f in (np.cos, np.sin)]
    np.testing.assert_allclose(np.stack(ends, 1) - goal, whole[:, 8:], atol=1e-6)


def test_reacher_runs_for_100_steps_and_shows_every_new_goal() -> None:
    pytest.importorskip("mujoco")
    env = make_vec(preset("mujoco_reacher_g_rtrl").env)
    rows, slots = [env.reset(0)], env.num_envs
    steps = [env.step(np.zeros((slots, 2), np.float32)) for _ in range(203)]
    rows += [step.observation for step in steps]
    goals = np.stack(rows)[:, :, 4:6]
    shown: NDArray[np.bool_] = np.any(goals, axis=-1)
    assert [t for t in range(204) if shown[t].all()] == [0, 101, 202] and shown.sum() == 3 * slots
    assert len({tuple(goal) for t in (0, 101, 202) for goal in goals[t].tolist()}) == 3 * slots
    assert all(step.truncated.all() == (t in (99, 200)) for t, step in enumerate(steps))
    env.close()
