"""metrics.jsonl: whole rows only, whatever the disk does, and resumed without seams."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from learner.records.metrics_file import JsonlSink, SinkError


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_jsonl_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    path, before = tmp_path / "metrics.jsonl", time.time()
    sink = JsonlSink(path)
    sink.write(100, {"losses/total": 1.5, "charts/updates": 3})
    (row,) = rows(path)
    assert before - 0.001 <= row.pop("wall_time") <= time.time() + 0.001  # it is rounded
    assert row == {"global_step": 100, "losses/total": 1.5, "charts/updates": 3}
    sink.write(200, {})
    assert [row["global_step"] for row in rows(path)] == [100, 200]
    sink.close()
    sink.close()
    assert sink.errors == 0


def test_new_run_refuses_a_file_with_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.touch()
    sink = JsonlSink(path)
    sink.write(100, {})
    sink.close()
    with pytest.raises(SinkError, match="already has rows"):
        JsonlSink(path)


def test_resume_cuts_later_rows_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path)
    for step in (100, 200, 300, 400):
        sink.write(step, {"losses/total": float(step)})
    sink.close()
    sink = JsonlSink(path, resume_step=250)
    sink.write(260, {"losses/total": 0.0})
    assert [row["global_step"] for row in rows(path)] == [100, 200, 260]
    sink.close()
    JsonlSink(path, resume_step=260).close()
    assert [row["global_step"] for row in rows(path)] == [100, 200, 260], "a row of that very step stays"
    JsonlSink(path, resume_step=0).close()
    assert path.read_bytes() == b""


def test_resume_without_a_file(tmp_path: Path) -> None:
    JsonlSink(tmp_path / "metrics.jsonl", resume_step=100).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_resume_mends_a_last_row_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path)
    for step in (100, 200):
        sink.write(step, {"losses/total": float(step)})
    sink.close()
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        sink = JsonlSink(path, resume_step=200)
        sink.write(150, {})
        sink.close()
        assert [row["global_step"] for row in rows(path)] == [100, 150], length
    path.write_bytes(whole + bytes(100))  # blocks that a power cut left unwritten read as zeros
    JsonlSink(path, resume_step=200).close()
    assert path.read_bytes() == whole


def test_resume_refuses_a_file_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    text = '{"global_step": 1}\n{"global_st\n{"global_step": 3}\n'
    path.write_text(text)
    with pytest.raises(SinkError, match="line 2 is damaged"):
        JsonlSink(path, resume_step=10)
    assert path.read_text() == text


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Writes past `size` bytes of a file fail with EFBIG, as they fail with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_loses_no_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path)
    sink.write(0, {})
    size = path.stat().st_size
    with files_limited_to(size + 10):
        for step in (100, 200, 300):
            sink.write(step, {"losses/total": float(step)})
        assert path.stat().st_size == size + 10, "the disk took a part of the row"
    assert sink.errors == 3
    assert [record.message for record in caplog.records if "rows wait in memory" in record.message] == [
        f"{path} cannot be written ([Errno 27] File too large): rows wait in memory until it can"
    ]
    sink.write(400, {})
    assert [row["global_step"] for row in rows(path)] == [0, 100, 200, 300, 400]
    sink.close()


def test_rows_that_never_could_be_written_are_an_error_at_the_end(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    with files_limited_to(0):
        sink.write(100, {})
        with pytest.raises(SinkError, match="the last rows could not be written"):
            sink.close()
