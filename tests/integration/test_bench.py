"""Every verb of `launch.py bench` through the real command line, small: it runs, tells, and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench import VERBS, main
from configs.schema import ConfigError
from tests.integration.cli import Launch

pytestmark = pytest.mark.usefixtures("nothing_left")
SHORT = ("--pairs", "2", "--seconds", "0.2")


def ran(launch: Launch, out: Path, *words: str) -> tuple[dict[str, Any], str]:
    """The result that a verb wrote, and all that it printed."""
    code, printed = launch("bench", *words, "--json", str(out), timeout_s=600.0)
    assert code == 0, printed
    return json.loads(out.read_text()), printed


def test_a_preset_alone_is_the_system(launch: Launch, tmp_path: Path) -> None:
    """Inline; tests/benchmarks/test_system.py measures one through Ray."""
    words = ("memory_rtrl", "--runtime", "inline", *SHORT)
    result, printed = ran(launch, tmp_path / "out.json", *words)
    assert result["config"]["preset"] == "memory_rtrl" and len(result["series"]["ratio"]) == 2
    assert result["ratio"]["median"] > 0 and "of the ceiling" in printed and "bottleneck: " in printed


@pytest.mark.ray
@pytest.mark.slow
def test_ingest(launch: Launch, tmp_path: Path) -> None:
    """By actors that offer little, so that it is seen that they keep to it."""
    words = ("ingest", "--actors", "2", "--slots", "2", "--unroll-length", "5", "--batch-size", "3", *SHORT)
    result, printed = ran(launch, tmp_path / "out.json", *words, "--rate", "0.0001")
    assert result["rollout"]["bytes"] == 6 * 2 * 84 * 84 and result["offered_GB/s"] == 0.0001
    series = result["series"]
    assert min(series["ingest"]) > 0 and max(series["ingest"]) < min(series["copy"]) / 100
    assert min(series["prefetched"]) > 0 and len(series["copy"]) == 2
    assert set(result["shares_of_time"]) == {"ingest", "prefetched"}
    assert "2 simulated actors start" in printed and "bound by " in printed and "pair 2 of 2" in printed


@pytest.mark.ray
@pytest.mark.slow
def test_scale(launch: Launch, tmp_path: Path) -> None:
    words = ("scale", "--actors", "2", "1", "--kib", "8", *SHORT)
    result, printed = ran(launch, tmp_path / "out.json", *words)
    assert list(result["actors"]) == ["1", "2"] and isinstance(result["flat"], bool)
    assert all(row["cpu_us"] > 0 for rows in result["rounds"].values() for row in rows)
    assert "from 1 to 2 actors the learner's thread pays" in printed and "round 2 of 2" in printed


@pytest.mark.slow
def test_acting(launch: Launch, tmp_path: Path) -> None:
    words = ("acting", "atari_breakout_rtrl_bench", "--layouts", "1x2", "1x2x2x2", *SHORT)
    result, printed = ran(launch, tmp_path / "out.json", *words)
    assert set(result["layouts"]) == {"1x2", "1x2x2x2"}
    assert all(row["sps"]["median"] > 0 for row in result["layouts"].values())
    assert "round 2 of 2, 1x2x2x2: " in printed
    code, printed = launch("bench", "acting", "memory_rtrl", "--layouts", "1x2x1x2")
    assert code == 2 and "steps its slots in the actor's own thread" in printed


def test_learner(launch: Launch, tmp_path: Path) -> None:
    sizes = ("--T", "4", "--B", "2", "--N", "8", "--encoder", "shallow", "--rounds", "2", "--threads", "1")
    result, printed = ran(launch, tmp_path / "out.json", "learner", "--quick", *sizes)
    assert len(result["step"]["rounds"]) == 2 and "RTRL / TBPTT, ms: " in printed


def test_help_lists_the_verbs_and_what_is_none_is_refused_with_them(launch: Launch) -> None:
    code, printed = launch("bench", "--help")
    assert code == 0 and all(f"bench {verb} " in printed.replace("[system]", "system") for verb in VERBS)
    code, printed = launch("bench", "speed")
    assert code == 2
    verbs = "system, runs, learner, options, ingest, scale, acting"
    assert f"'speed' is neither a benchmark ({verbs}) nor a preset" in printed


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("scale", "--pairs", "0"), "--pairs = 0: must be positive"),
        (("scale", "--actors", "0", "2"), "--actors = .*: needs at least 1"),
        (("ingest", "--seconds", "-1"), "--seconds = -1.0: must be positive"),
        (("ingest", "--rate", "-1"), "--rate = -1.0: cannot be negative"),
        (("ingest", "--learner-ms", "-1"), "--learner-ms = -1.0: cannot be negative"),
        (("system", "--runtime", "inline", "--prefetch", "on"), "prefetch = 'on': inline acting"),
        (("acting", "--layouts", "4"), "--layouts = '4': needs ACTORSxSLOTS"),
        (("acting", "none"), "unknown preset 'none'"),
    ],
)
def test_numbers_that_cannot_be_are_refused(words: tuple[str, ...], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        main(list(words))
