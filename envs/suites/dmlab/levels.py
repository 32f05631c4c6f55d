"""Levels of DeepMind Lab by short name, the sets of tasks made of them, and their held-out counterparts.

Sources: the level scripts of google-deepmind/lab; DMLab-30 as in IMPALA (arXiv 1802.01561, table B.1);
the memory suite of Fortunato et al. (arXiv 1910.13406).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

PREFIX = "dmlab/"

DMLAB30 = (
    "rooms_collect_good_objects_train",
    "rooms_exploit_deferred_effects_train",
    "rooms_select_nonmatching_object",
    "rooms_watermaze",
    "rooms_keys_doors_puzzle",
    "language_select_described_object",
    "language_select_located_object",
    "language_execute_random_task",
    "language_answer_quantitative_question",
    "lasertag_one_opponent_small",
    "lasertag_three_opponents_small",
    "lasertag_one_opponent_large",
    "lasertag_three_opponents_large",
    "natlab_fixed_large_map",
    "natlab_varying_map_regrowth",
    "natlab_varying_map_randomized",
    "skymaze_irreversible_path_hard",
    "skymaze_irreversible_path_varied",
    "psychlab_arbitrary_visuomotor_mapping",
    "psychlab_continuous_recognition",
    "psychlab_sequential_comparison",
    "psychlab_visual_search",
    "explore_object_locations_small",
    "explore_object_locations_large",
    "explore_obstructed_goals_small",
    "explore_obstructed_goals_large",
    "explore_goal_locations_small",
    "explore_goal_locations_large",
    "explore_object_rewards_few",
    "explore_object_rewards_many",
)
"""The thirty levels to train on."""

MEMORY_SUITE = (
    "arbitrary_visuomotor_mapping_train",
    "change_detection_train",
    "continuous_recognition_train",
    "what_then_where_train",
    "explore_goal_locations_train_small",
    "explore_goal_locations_train_large",
)
"""The memory suite's levels to train on."""

_PSYCHLAB_TASKS = MEMORY_SUITE[:4]
_MEMORY_SUITE_HELD_OUT = (
    *(task.replace("_train", "_holdout_interpolate") for task in _PSYCHLAB_TASKS),
    *(task.replace("_train", "_holdout_extrapolate") for task in _PSYCHLAB_TASKS[:3]),
    "explore_goal_locations_holdout_small",
    "explore_goal_locations_holdout_large",
    "explore_goal_locations_interpolate",
    "explore_goal_locations_extrapolate",
    "explore_goal_locations_holdout_interpolate",
    "explore_goal_locations_holdout_extrapolate",
)

BASE = (
    *(f"nav_maze_static_0{i}" for i in (1, 2, 3)),
    *(f"nav_maze_random_goal_0{i}" for i in (1, 2, 3)),
    "seekavoid_arena_01",
    "stairway_to_melon",
    "lt_chasm",
    "lt_hallway_slope",
    "lt_horseshoe_color",
    "lt_space_bounce_hard",
)

TEST_ONLY = {
    "rooms_collect_good_objects_train": "rooms_collect_good_objects_test",
    "rooms_exploit_deferred_effects_train": "rooms_exploit_deferred_effects_test",
}
"""The two levels of DMLab-30 that the engine runs for evaluation only, by the levels that they evaluate."""

HELD_OUT = {
    **TEST_ONLY,
    **{task: task.replace("_train", "_holdout_interpolate") for task in _PSYCHLAB_TASKS},
    "explore_goal_locations_train_small": "explore_goal_locations_holdout_small",
    "explore_goal_locations_train_large": "explore_goal_locations_holdout_large",
    "dmlab30": "dmlab30_test",
    "memory_suite": "memory_suite_holdout",
}
"""A level, or a set of levels, to the one that evaluates it."""

TASK_SETS = {
    "dmlab30": DMLAB30,
    "dmlab30_test": tuple(TEST_ONLY.get(level, level) for level in DMLAB30),
    "memory_suite": MEMORY_SUITE,
    "memory_suite_holdout": tuple(HELD_OUT[level] for level in MEMORY_SUITE),
}
"""Ids of several levels, which the actors share."""

_PATHS = {
    **{level: f"contributed/dmlab30/{level}" for level in (*DMLAB30, *TEST_ONLY.values())},
    **{
        level: f"contributed/psychlab/memory_suite_01/{level}"
        for level in (*MEMORY_SUITE, *_MEMORY_SUITE_HELD_OUT)
    },
    **{level: level for level in BASE},
}

_NEED_IMAGES = ("arbitrary_visuomotor_mapping", "continuous_recognition", "what_then_where")


def levels_of(env_id: str) -> tuple[str, ...]:
    """Short names or paths of the levels that `env_id` plays: those of its set, or the one that it names."""
    name = env_id.removeprefix(PREFIX)
    return TASK_SETS.get(name, (name,))


def path_of(level: str) -> str:
    """The engine's name of a level: the path of its script. A path is its own."""
    return _PATHS.get(level, level)


def needs_images(level: str) -> bool:
    """Whether the level shows images that do not come with the engine (`env.dmlab.dataset_path`).

    Photographs by Brady, Konkle, Alvarez and Oliva (2008) as 0001.png and so on; what_then_where: MNIST's
    files, which for the whole memory suite lie in the same folder.
    """
    return level.rpartition("/")[2].removeprefix("psychlab_").startswith(_NEED_IMAGES)


class LevelIds(Collection[str]):
    """All ids that have a short name. It also contains any id of a full path (`dmlab/demos/extra_entities`):
    only the engine knows which of those exist."""

    def __init__(self) -> None:
        self._ids = tuple(PREFIX + name for name in (*_PATHS, *TASK_SETS))

    def __contains__(self, env_id: object) -> bool:
        return env_id in self._ids or (
            isinstance(env_id, str) and env_id.startswith(PREFIX) and "/" in env_id.removeprefix(PREFIX)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
