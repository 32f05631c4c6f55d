"""Growth is seen within lives and not between them; rows that are taken back are read once."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.soak.samples import Sample, Slope, disk, look, over_limits, slopes
from tests.soak.watch import Tail


def lives(per_hour: float, count: int = 4) -> list[Sample]:
    """Processes of 400 s, one after the other. Each begins at another height, half of it for 100 s."""
    found, noise = [], random.Random(0)
    for life in range(count):
        for second in range(0, 400, 2):
            size = 100.0 - 10 * life + per_hour * second / 3600 + noise.gauss(0.0, 0.01)
            values = {"rss_mib": size / 2 if second < 100 else size}
            found.append(Sample(life, "rank", 400.0 * life + second, values))
    return found


@pytest.mark.parametrize("per_hour", [0.0, 50.0, -50.0])
def test_a_slope_is_that_within_lives(per_hour: float) -> None:
    found = slopes(lives(per_hour), warm_s=100.0)["rank", "rss_mib"]
    assert found.per_hour == pytest.approx(per_hour, abs=0.2)
    assert found.lives == 4 and found.seconds == pytest.approx(4 * 298.0)
    assert found.largest == pytest.approx(100 + per_hour * (398 if per_hour > 0 else 100) / 3600, abs=0.1)


def test_lives_that_are_over_before_they_are_warm_say_nothing() -> None:
    assert slopes(lives(50.0), warm_s=399.0) == {}


def test_what_grows_above_its_limit_is_told() -> None:
    found = {("rank", "rss_mib"): Slope(61.0, 0.0, 1, 600.0), ("gcs", "threads"): Slope(1e9, 0.0, 1, 10.0)}
    limits = {("rank", "rss_mib"): 60.0, ("gcs", "threads"): 1.0, ("driver", "rss_mib"): 0.0}
    assert over_limits(found, limits, least_s=300.0) == [
        "rss_mib of rank grows by 61.0 an hour, and 60 is the limit"
    ]


def test_a_process_is_seen_with_what_it_holds(tmp_path: Path) -> None:
    files = [(tmp_path / str(number)).open("w") for number in range(50)]
    before, _ = look(os.getpid(), 0, 0.0)
    for file in files:
        file.close()
    after, named = look(os.getpid(), 0, 1.0)
    assert before[0].role == "driver" and before[0].life == after[0].life and named == set()
    assert before[0].values["descriptors"] - after[0].values["descriptors"] == 50
    assert 10 < after[0].values["rss_mib"] < 10_000 and after[0].values["threads"] >= 1


def test_shared_memory_with_a_name_is_seen() -> None:
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(create=True, size=4096)
    try:
        assert memory.buf is not None
        memory.buf[0] = 1
        assert f"/dev/shm/{memory.name}" in look(os.getpid(), 0, 0.0)[1]
    finally:
        memory.close()
        memory.unlink()


def test_the_files_of_a_folder_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "a").write_bytes(bytes(2**20))
    (tmp_path / "left_out").write_bytes(bytes(2**20))
    assert disk(tmp_path) == 2.0 and disk(tmp_path, but=["left_out"]) == 1.0


def test_rows_are_read_once_also_where_the_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)

    def line(number: int) -> str:
        return json.dumps({"wall_time": number}) + "\n"

    def new() -> list[float]:
        return [row["wall_time"] for row in tail.rows()]

    assert new() == []
    path.write_text(line(1) + line(2) + '{"wall')
    assert new() == [1, 2] and new() == []
    path.write_text(line(1) + line(2) + line(3))
    assert new() == [3]
    path.write_text(line(1) + line(4))
    assert new() == [4], "cut after the first, and as long as before but for one"
    path.write_text(line(1) + line(4) + line(5) + line(6))
    assert new() == [5, 6]
    path.write_text("")
    assert new() == []
    path.write_text(line(7))
    assert new() == [7]
