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

pytestmark = pytest.mark.xdist_group("compile_ahead")  # they share what takes long
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
    assert names[80] == names[90] and len(names[80]) == 67


def test_nothing_spills(builds):
    assert [build for build in builds if build["stack"] or build["local"]] == []


def test_two_programs_of_the_trace_kernel_fit_one_multiprocessor(builds):
    for label in ("tf32", "ieee"):
        threads = 32 * choose_tile(1, label).warps
        ours = [b for b in builds if b["kernel"] == f"trace, d = 1, {label}"]
        assert len(ours) == 2 and all(2 * threads * build["registers"] <= 65536 for build in ours)


def test_the_trace_kernel_uses_the_matrix_units(builds):
    for build in builds:
        if build["kernel"] in (
            "trace, d = 1, tf32",
            "trace, d = 2, tf32",
            "trace, d = 1, bfloat16",
            "trace, d = 2, tf32, odd N",
        ):
            assert build["matrix"] == {80: "mma", 90: "wgmma"}[build["sm"]], build
        if "one step" in build["kernel"]:
            assert build["matrix"] == "none"


def test_the_scans_fetch_ahead(builds):
    scans = [b for b in builds if b["kernel"].split(",")[0] in ("forward", "reverse", "vtrace")]
    assert len(scans) == 98 and all(build["prefetches"] for build in scans)


def test_clipping_swallows_no_nan(builds):
    # The interpreter's minimum hands NaN on in any case, so only the machine code can tell.
    assert {build["plain_minima"] for build in builds if build["kernel"] == "vtrace"} == {0}
