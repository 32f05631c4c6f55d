"""The table of experiments/memory_suites.py: what counts as more than a policy without memory can have."""

from __future__ import annotations

from typing import Any

from configs.presets import preset
from experiments.memory_suites import MEMORYLESS, table


def result(seed: int, greedy: float, std: float, arm: str = "rtrl") -> dict[str, Any]:
    return {
        **{"task": "minigrid_memory_s7", "arm": arm, "seed": seed, "seconds": 60.0 + seed},
        **{"greedy": greedy, "greedy_std": std, "sampled": 0.5, "sampled_std": 0.1},
    }


def test_a_return_counts_only_beyond_four_standard_errors_of_the_bound() -> None:
    # 200 games: four standard errors are 0.28 standard deviations; the bound is 0.90.
    rows = table([result(1, 0.97, 0.2), result(2, 0.97, 0.3), result(3, 0.89, 0.0)]).splitlines()
    assert len(rows) == 3
    assert rows[2] == (
        "| minigrid_memory_s7 | 0.90 | rtrl | 1, 2, 3 | 0.97, 0.97, 0.89 | 0.50, 0.50, 0.50 | 1 of 3 | 62 |"
    )


def test_every_task_is_a_preset() -> None:
    assert [preset(f"{task}_feedforward").policy.core for task in MEMORYLESS] == ["none"] * len(MEMORYLESS)
