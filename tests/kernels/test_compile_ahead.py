"""The kernels' machine code for sm_80 and sm_90, built without a GPU: no spills, matrix units used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernels.trace.triton import choose_tile

HERE = Path(__file__).resolve()


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {
        "PYTHONPATH": str(HERE.parents[2]),
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
    }
    command = [sys.executable, str(HERE.with_name("compile_ahead.py")), "80", "90"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_every_kernel_compiles_for_both_architectures(builds):
    names = {80: set(), 90: set()}
    for build in builds:
        names[build["sm"]].add(build["kernel"])
    assert names[80] == names[90] and len(names[80]) == 73


def test_nothing_spills(builds):
    assert [build for build in builds if build["stack"] or build["local"]] == []


def test_two_programs_of_the_trace_kernel_fit_one_multiprocessor(builds):
    for label, architectures in (("tf32", {80, 90}), ("ieee", {80, 90}), ("tf32x3", {90})):
        threads = 32 * choose_tile(1, 1, label).warps
        ours = [b for b in builds if b["kernel"] == f"trace, d = 1, {label}"]
        fit = {build["sm"] for build in ours if 2 * threads * build["registers"] <= 65536}
        assert fit >= architectures, label


def test_the_trace_is_read_and_written_16_bytes_at_a_time(builds):
    """Where its rows are padded to 16 numbers, which `Trace.zeros` sees to, whatever N is."""
    for state in (1, 2):
        for label, precision, size, turns in (
            ("tf32", "tf32", 4, 1),
            ("tf32x3", "tf32x3", 4, 1),
            ("ieee", "ieee", 4, 1),
            ("bfloat16", "tf32", 2, 1),
            ("two turns", "tf32", 4, 2),
            ("advance alone", "tf32", 4, 0),
            ("tf32, odd N", "tf32", 4, 1),
        ):
            tile = choose_tile(state, turns, precision)
            numbers = tile.n * tile.d // (32 * tile.warps)  # of a tile, a thread
            trace, sums = state * numbers * size // 16, turns * numbers * 4 // 16
            ours = [b for b in builds if b["kernel"] == f"trace, d = {state}, {label}"]
            assert len(ours) == 2
            for build in ours:
                assert (build["wide_loads"], build["wide_stores"]) == (trace, trace + sums), build
                assert build["single_stores"] == 0, build


def test_the_trace_kernel_uses_the_matrix_units(builds):
    for build in builds:
        label = build["kernel"].partition(", ")[2].partition(", ")[2]
        if label in ("tf32", "tf32x3", "bfloat16", "tf32, odd N"):
            assert build["matrix"] == {80: "mma", 90: "wgmma"}[build["sm"]], build
        if label in ("ieee", "one step"):
            assert build["matrix"] == "none"


def test_the_scans_wait_for_no_load_in_their_loop(builds):
    scans = [b for b in builds if b["kernel"].split(",")[0] in ("forward", "reverse", "vtrace")]
    assert len(scans) == 98 and {build["waits"] for build in scans} == {0}


def test_clipping_swallows_no_nan(builds):
    # The interpreter's minimum hands NaN on in any case, so only the machine code can tell.
    assert {build["plain_minima"] for build in builds if build["kernel"] == "vtrace"} == {0}
