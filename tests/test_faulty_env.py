"""The faults of tests/faulty_env.py come as often as they were asked for, however many envs ask at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faulty_env import FAULT_VARIABLE, Faulty


def test_envs_at_the_same_step_share_one_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fault"
    monkeypatch.setenv(FAULT_VARIABLE, str(path))
    envs, together = [Faulty() for _ in range(8)], threading.Barrier(8)

    def is_due(env: Faulty) -> bool:
        together.wait()
        return env._due("step")

    with ThreadPoolExecutor(len(envs)) as pool:
        for _ in range(100):
            path.write_text("step 0 1")
            assert sorted(pool.map(is_due, envs)) == [False] * 7 + [True]
            assert path.read_text() == "step 0 0"
