"""The kernels' benchmark: it refuses to time what is wrong, and its counts and files hold together."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import kernels_report
from benchmarks.kernels import measure, medians, merge
from benchmarks.kernels_cases import CPU_WAYS, check, count
from benchmarks.kernels_report import save
from kernels.rtrl import chunked

CEILING = {"copy_GB_s": 10.0, "matrix_GFLOP_s": 100.0}


def test_every_way_is_right():
    errors = check(CPU_WAYS, T=6, N=8, device="cpu")
    assert set(errors) == {way.name for way in CPU_WAYS} and 0 < max(errors.values()) < 1e-5


@pytest.mark.parametrize("broken", ["RTRL, torch, gathered", "RTRL, torch, in place"])
def test_no_speed_is_reported_for_a_wrong_gradient(monkeypatch, capsys, broken):
    right = chunked._reverse_scan

    def wrong(*arguments):
        arrived, q, v = right(*arguments)
        arrived[:, -1] *= 1.001  # P_0
        return arrived, q, v

    monkeypatch.setattr(chunked, "_reverse_scan", wrong)
    ways = [way for way in CPU_WAYS if way.name == broken]
    with pytest.raises(SystemExit, match=f"WRONG at T = 6, N = 8: {broken} is off by"):
        measure(ways, (6, 2, 8), "cpu", 0.0, CEILING, 0)
    assert "ms" not in capsys.readouterr().out


def test_counts_follow_the_derivation():
    flops = {way.name: count(way, 100, 32, 512)[0] for way in CPU_WAYS}
    moved = {way.name: count(way, 100, 32, 512)[1] for way in CPU_WAYS}
    product, trace = 2 * 100 * 32 * 2 * 512 * 257, 2 * 32 * 512 * 257
    assert flops["TBPTT, torch"] == 3 * product
    assert flops["RTRL, torch, in place"] == 4 * product + 4 * trace
    assert moved["RTRL, torch, gathered"] - moved["RTRL, torch, in place"] == 4 * trace
    assert moved["RTRL, step by step, one pass"] == 4 * 4 * 100 * trace


def test_medians_take_turns():
    calls = []
    times = medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, "cpu", budget_s=0.0)
    assert calls[:6] == ["a", "b"] * 3 and set(times) == {"a", "b"}


@pytest.mark.parametrize("threads", [1, 2])
def test_cpu_time_is_taken_of_one_thread_only(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (times,) = medians({"a": lambda: None}, "cpu", budget_s=0.0).values()
    finally:
        torch.set_num_threads(before)
    assert times["ms"] >= 0 and (times["cpu_ms"] is None) == (threads == 2)


def test_repeats_are_merged_by_their_medians():
    run = {"way": "a", "T": 5, "ms": 3.0, "cpu_ms": None, "bandwidth_fraction": 0.1, "error": 1e-7}
    merged = merge([run, run | {"ms": 1.0}, run | {"ms": 2.0, "bandwidth_fraction": 0.3}])
    assert merged["ms"] == 2.0 and merged["ms_runs"] == [3.0, 1.0, 2.0] and merged["cpu_ms"] is None
    assert merged["bandwidth_fraction"] == 0.1 and merged["T"] == 5 and merged["error"] == 1e-7


def test_results_are_saved_as_data_table_and_plot(tmp_path):
    results = [{"precision": "ieee", **row} for row in measure(CPU_WAYS, (2, 2, 4), "cpu", 0.0, CEILING, 0)]
    save(tmp_path, "kernels-cpu", results, {"ieee": CEILING}, {"ieee": {"trace op, T = 1": 0.5}}, threads=1)
    data = json.loads((tmp_path / "kernels-cpu.json").read_text())
    assert len(data["results"]) == len(CPU_WAYS) and data["machine"]["torch_threads"] == 1
    table = (tmp_path / "kernels-cpu.md").read_text().splitlines()
    assert {line.count("|") for line in table if line.startswith("|")} == {15}
    assert sum(line.startswith("| ieee |") for line in table) == len(CPU_WAYS)
    assert (tmp_path / "kernels-cpu.png").read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_there_is_no_plot_and_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kernels_report.importlib.util, "find_spec", lambda name: None)
    results = [
        {"precision": "ieee", **row} for row in measure(CPU_WAYS[:1], (2, 2, 4), "cpu", 0.0, CEILING, 0)
    ]
    save(tmp_path, "kernels-cpu", results, {"ieee": CEILING}, {"ieee": {}}, threads=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels-cpu.json", "kernels-cpu.md"]
    assert capsys.readouterr().out == "no kernels-cpu.png: matplotlib is not installed\n"
