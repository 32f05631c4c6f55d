"""The names of the metrics, and how a window of values becomes one row."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from actors.rollout import EpisodeStats
from learner.records.metrics import METRICS, Metrics, RateMeter, spec_of

PROMISED = set(
    """
charts/episodic_return charts/episodic_length charts/episodes charts/window_return
charts/SPS charts/learning_rate charts/updates
perf/fps perf/time_wait_ms perf/time_transfer_ms perf/time_forward_ms perf/time_backward_ms
perf/time_rtrl_ms perf/time_optimizer_ms perf/time_publish_ms perf/time_evaluate_ms
losses/policy losses/baseline losses/entropy losses/total losses/grad_norm
vtrace/rho_mean vtrace/rho_clip_frac vtrace/c_mean
lag/policy_version_mean lag/policy_version_max queue/rollouts queue/wait_ms
rtrl/trace_norm rtrl/boundary_grad_frac rtrl/trace_breaks rtrl/trace_clips rtrl/staleness_cos
faults/actor_restarts faults/env_errors faults/dropped_rollouts faults/checkpoint_errors faults/sink_errors
faults/eval_errors faults/nonfinite_metrics
eval/episodic_return eval/episodic_return_std eval/episodic_length eval/episodes eval/global_step
""".split()  # noqa: SIM905
)


def game(episodic_return: float, length: int = 10) -> EpisodeStats:
    return EpisodeStats(
        episodic_return=episodic_return, episodic_length=length, level="", slot=0, ended_by="termination"
    )


def test_the_promised_names_and_no_others() -> None:
    assert set(METRICS) == PROMISED
    assert all(spec.unit and spec.description for spec in METRICS.values())


def test_unknown_names_are_errors() -> None:
    metrics = Metrics()
    for name in ("losses/polcy", "suite/", "charts"):
        with pytest.raises(KeyError, match="unknown metric"):
            metrics.add(name, 1.0)
    with pytest.raises(KeyError, match=r"filled by Metrics\.episode"):
        metrics.add("charts/episodic_return", 1.0)
    assert metrics.reduce() == {}


def test_reductions() -> None:
    metrics = Metrics()
    for value in (1.0, 5.0, 3.0):
        metrics.add_many({"losses/total": value, "lag/policy_version_max": value, "charts/SPS": value})
        metrics.add("suite/human_normalised", value)
    assert metrics.reduce() == {
        "losses/total": 3.0,
        "lag/policy_version_max": 5.0,
        "charts/SPS": 3.0,
        "suite/human_normalised": 3.0,
    }
    assert spec_of("suite/anything").reduction == "last"


def test_each_window_stands_alone_and_holds_only_what_it_has() -> None:
    metrics = Metrics()
    metrics.add("losses/total", 100.0)
    metrics.reduce()
    assert metrics.reduce() == {}
    metrics.add("losses/total", 1.0)
    assert metrics.reduce() == {"losses/total": 1.0}


def test_return_is_the_mean_of_the_last_hundred_games() -> None:
    metrics = Metrics()
    for index in range(150):
        metrics.episode(game(float(index), length=2 * index))
    assert metrics.reduce() == {
        "charts/episodes": 150.0,
        "charts/window_return": sum(range(150)) / 150,
        "charts/episodic_return": sum(range(50, 150)) / 100,
        "charts/episodic_length": 2 * sum(range(50, 150)) / 100,
    }
    metrics.episode(game(149.0 + 51.0))  # 50 leaves the window
    reduced = metrics.reduce()
    assert reduced["charts/episodes"] == 1.0
    assert reduced["charts/window_return"] == 200.0
    assert reduced["charts/episodic_return"] == sum(range(50, 150)) / 100 + 1.5


def test_state_keeps_the_games_over_a_resume() -> None:
    before = Metrics()
    for index in range(120):
        before.episode(game(float(index)))
    after = Metrics()
    after.episode(game(-1e9))
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    before.reduce()
    after.reduce()
    for metrics in (before, after):
        metrics.episode(game(7.0))
    assert after.reduce() == before.reduce()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_left_out_counted_and_told_of_once(
    bad: float, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = Metrics()
    for count in (1, 2):
        metrics.add_many({"vtrace/rho_mean": bad, "losses/total": 2.0})
        assert metrics.reduce() == {"losses/total": 2.0}
        assert metrics.nonfinite == count
    assert capsys.readouterr().out.count("metric vtrace/rho_mean is") == 1


def test_rate_meter() -> None:
    now = 100.0
    meter = RateMeter(1000, clock=lambda: now)
    now = 104.0
    assert meter.rate(3000) == 500.0
    now = 105.0
    assert meter.rate(3000) == 0.0


DOCUMENTED = re.compile(r"^\| `([a-z]+/\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$")


def documented(text: str) -> dict[str, str]:
    """Unit of each metric that has a row in the page. ValueError for a row that is broken or stands twice."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not re.match(r"\| `\w+/", line):
            continue
        row = DOCUMENTED.match(line)
        if row is None or not all(cell.strip() for cell in row.groups()):
            raise ValueError(f"not a whole row: {line}")
        if row[1] in found:
            raise ValueError(f"{row[1]} is documented twice")
        found[row[1]] = row[2]
    return found


def test_the_page_documents_every_metric_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert documented(page) == {name: spec.unit for name, spec in METRICS.items()}
    for name in METRICS:
        section = page.index(f"\n## {name.partition('/')[0]}\n")
        assert section < page.index(f"| `{name}`"), "each under its heading"


def test_a_broken_row_of_the_page_is_found() -> None:
    row = "| `charts/SPS` | steps/s | speed | high | - |"
    assert documented(f"text\n{row}\n") == {"charts/SPS": "steps/s"}
    for bad in (f"{row}\n{row}", "| `charts/SPS` | steps/s | speed | high |", row.replace("speed", " ")):
        with pytest.raises(ValueError, match="charts/SPS"):
            documented(bad)
