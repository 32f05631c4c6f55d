"""The names of the metrics, and how a window of values becomes one row."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from actors.rollout import EpisodeStats
from envs.suites.dmlab.levels import DMLAB30
from learner.records.metrics import EPISODE_WINDOW, FAMILIES, METRICS, Metrics, RateMeter, spec_of

PROMISED = set(
    """
charts/episodic_return charts/episodic_length charts/episodes charts/window_return
charts/SPS charts/learning_rate charts/updates
perf/fps perf/actors perf/time_wait_ms perf/time_transfer_ms perf/time_forward_ms perf/time_backward_ms
perf/time_ranks_ms perf/time_sum_ms
perf/time_rtrl_ms perf/time_optimizer_ms perf/time_publish_ms perf/time_evaluate_ms
losses/policy losses/baseline losses/entropy losses/total losses/grad_norm
vtrace/rho_mean vtrace/rho_clip_frac vtrace/c_mean
ppo/approx_kl ppo/clip_frac ppo/explained_variance
lag/policy_version_mean lag/policy_version_max queue/rollouts queue/wait_ms
normalise/observations_clipped normalise/return_deviation
unrolls/asked unrolls/under_way unrolls/arrived unrolls/dropped unrolls/waiting
unrolls/lost_calls unrolls/lost_actors unrolls/let_go unrolls/missing
rtrl/trace_norm rtrl/boundary_grad_frac rtrl/trace_breaks rtrl/trace_clips rtrl/staleness_cos
faults/actor_restarts faults/env_errors faults/dropped_rollouts faults/checkpoint_errors faults/sink_errors
faults/eval_errors faults/nonfinite_metrics faults/publish_errors faults/skipped_publications
faults/learner_restarts faults/lost_calls faults/starved_s
eval/episodic_return eval/episodic_return_std eval/episodic_length eval/episodes
eval/games_cut eval/return_error eval/global_step
""".split()  # noqa: SIM905
)


def game(episodic_return: float, length: int = 10, level: str = "") -> EpisodeStats:
    return EpisodeStats(
        episodic_return=episodic_return, episodic_length=length, level=level, slot=0, ended_by="termination"
    )


def test_the_promised_names_and_no_others() -> None:
    assert set(METRICS) == PROMISED
    assert all(spec.unit and spec.description for spec in METRICS.values())


def test_unknown_names_are_errors() -> None:
    metrics = Metrics()
    for name in ("losses/polcy", "suite/", "levels/", "charts"):
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


def test_windows_of_several_learners_become_one() -> None:
    first, second = Metrics(), Metrics()
    for metrics, losses, restarts in ((first, (1.0, 3.0), (4.0, 5.0)), (second, (4.0,), (1.0, 2.0))):
        for loss in losses:
            metrics.add_many({"losses/total": loss, "lag/policy_version_max": loss})
        for number in restarts:
            metrics.add_many({"faults/actor_restarts": number, "charts/updates": number})
        metrics.episode(game(10 * losses[0], level=f"suite/{losses[0]}"))
    second.add("queue/wait_ms", 7.0)
    first.take_over([json.loads(json.dumps(second.hand_over()))])
    assert second.reduce() == {}, "it begins anew"
    assert first.reduce() == {
        "losses/total": 3.0,
        "lag/policy_version_max": 4.0,
        "faults/actor_restarts": 7.0,
        "charts/updates": 5.0,
        "queue/wait_ms": 7.0,
        "charts/episodes": 2.0,
        "charts/window_return": 25.0,
        "charts/episodic_return": 25.0,
        "charts/episodic_length": 10.0,
        "levels/1.0": 10.0,
        "levels/4.0": 40.0,
    }


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


LEVELS = [f"dmlab/{level}" for level in DMLAB30]


def test_levels_are_told_apart_and_the_suite_makes_its_score_of_them() -> None:
    """Returns of 10 in the first level and 1000 in all others: far below and far above a human's."""
    metrics = Metrics("dmlab30")
    for _ in range(EPISODE_WINDOW + 3):
        metrics.episode(game(-50.0, level=LEVELS[0]))
    for level in LEVELS[:-1]:
        for value in (990.0, 1010.0):
            metrics.episode(game(10.0 if level == LEVELS[0] else value, level=level))
    row = metrics.reduce()
    window = [-50.0] * (EPISODE_WINDOW - 2) + [10.0, 10.0]
    first = LEVELS[0].removeprefix("dmlab/")
    assert row[f"levels/{first}"] == pytest.approx(sum(window) / EPISODE_WINDOW)
    assert row["levels/rooms_watermaze"] == 1000.0
    # Human 54, random 4.065: the table of IMPALA's authors, as in envs/score_tables/dmlab30.csv.
    score = row["suite_training/dmlab30/rooms_watermaze"]
    assert score == pytest.approx((1000.0 - 4.065) / (54.0 - 4.065) * 100.0)
    assert not any(name.endswith("mean_capped") for name in row), "a level has not been played yet"
    metrics.episode(game(1000.0, level=LEVELS[-1]))
    row = metrics.reduce()
    scores = {name: value for name, value in row.items() if name.startswith("suite_training/dmlab30/")}
    capped, mean = scores.pop("suite_training/dmlab30/mean_capped"), scores.pop("suite_training/dmlab30/mean")
    assert len(scores) == 30 and len([name for name in row if name.startswith("levels/")]) == 30
    assert capped == pytest.approx(sum(min(value, 100.0) for value in scores.values()) / 30)
    assert mean == pytest.approx(sum(scores.values()) / 30) != capped


def test_a_single_level_has_a_score_and_no_row_of_its_own() -> None:
    metrics = Metrics("atari57")
    metrics.episode(game(30.5, level="ALE/Breakout-v5"))
    row = metrics.reduce()
    assert row["suite_training/atari57/breakout"] == pytest.approx(100.0), "a human's, less random's"
    assert not [name for name in row if name.startswith("levels/")]
    metrics.episode(game(math.inf, level="ALE/Breakout-v5"))
    assert not [name for name in metrics.reduce() if name.startswith("suite")], (
        "no score of what is not finite"
    )


def test_levels_survive_a_resume_and_are_absent_from_an_older_checkpoint() -> None:
    before, after = Metrics("dmlab30"), Metrics("dmlab30")
    for level in LEVELS:
        before.episode(game(3.0, level=level))
    state = json.loads(json.dumps(before.state_dict()))
    after.load_state_dict(state)
    after.episode(game(5.0, level=LEVELS[0]))
    row = after.reduce()
    first = LEVELS[0].removeprefix("dmlab/")
    assert row[f"levels/{first}"] == 4.0 and "suite_training/dmlab30/mean_capped" in row
    del state["levels"]
    after.load_state_dict(state)
    after.episode(game(5.0, level=LEVELS[0]))
    assert "suite_training/dmlab30/mean_capped" not in after.reduce()


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


def test_the_page_has_a_section_on_every_family() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for prefix in FAMILIES:
        assert f"- `{prefix}" in page


def test_a_broken_row_of_the_page_is_found() -> None:
    row = "| `charts/SPS` | steps/s | speed | high | - |"
    assert documented(f"text\n{row}\n") == {"charts/SPS": "steps/s"}
    for bad in (f"{row}\n{row}", "| `charts/SPS` | steps/s | speed | high |", row.replace("speed", " ")):
        with pytest.raises(ValueError, match="charts/SPS"):
            documented(bad)
