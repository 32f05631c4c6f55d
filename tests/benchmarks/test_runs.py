"""`launch.py bench runs`, on real runs of two seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fleet import runs
from configs.error import ConfigError


def test_arms_take_turns_and_ratios_are_of_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other commit is this one: what is started there is found by its folder."""
    monkeypatch.setattr(runs, "SETTLE_S", 0.2)
    order: list[str] = []
    measured = runs.rate

    def seen(arm: runs.Arm, seconds: float) -> float:
        order.append(arm.name)
        return measured(arm, seconds)

    monkeypatch.setattr(runs, "rate", seen)
    path = tmp_path / "runs.json"
    words = ["--preset", "memory_{}", "--against", str(runs.HERE), "--pairs", "2", "--seconds", "2"]
    assert runs.main([*words, "--json", str(path)]) == 0
    assert order == ["rtrl", "tbptt", "before", "before", "tbptt", "rtrl"]
    result = json.loads(path.read_text())
    series = result["series"]
    assert all(rate > 100 for rates in series.values() for rate in rates)
    ratios = sorted(ours / other for ours, other in zip(series["rtrl"], series["tbptt"], strict=True))
    assert result["rtrl / tbptt"]["median"] == pytest.approx(sum(ratios) / 2)
    assert result["rtrl / tbptt"]["low"] >= ratios[0] and result["rtrl / tbptt"]["high"] <= ratios[1]
    assert "rtrl / before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "memory_rtrl"], "needs {}"),
        (["--against", "tests"], "is no checkout"),
        (["--seconds", "inf"], "positive, and finite"),
        (["--preset", "memory_{}_{}", "--seconds", "2"], "memory_rtrl_rtrl"),
        (["--preset", "memory_{}x", "--seconds", "2"], "memory_rtrlx"),
        (["--preset", "memory_{}", "--seconds", "2"], "more --seconds"),
    ],
)
def test_what_cannot_be_measured_is_said(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        runs.main([*words, "--pairs", "1"])
