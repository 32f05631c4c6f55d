"""When an evaluation is asked for, and what is logged of it: with an evaluator that plays when told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from learner.records.evaluations import Evaluations
from learner.records.metrics import Metrics

STEPS_PER_UPDATE = 10
RETURNS = {"ALE/Pong-v5": 14.6, "ALE/Boxing-v5": 6.1}
"""A human's, and half of one's."""


@dataclass
class _Learner:
    global_step: int = 0

    @property
    def updates(self) -> int:
        """Fewer than the steps tell: a resumed run may have had other batches before."""
        return self.global_step // STEPS_PER_UPDATE + 1000


@dataclass
class _OfSeveral:
    """Of which one has no batch at every third update."""

    updates: int = 1000
    global_step: int = 0

    def update(self) -> None:
        self.updates += 1
        self.global_step += STEPS_PER_UPDATE if self.updates % 3 else STEPS_PER_UPDATE // 2


@dataclass
class _Evaluation:
    episodes: list[int] = field(default_factory=lambda: [1, 2, 3])
    mean: float = 2.0
    std: float = 0.5
    mean_length: float = 40.0
    cut: int = 1
    return_error: float | None = 0.25
    score_suite: str | None = "atari57"
    level_returns: dict[str, float] = field(default_factory=lambda: dict(RETURNS))

    def warnings(self) -> list[str]:
        return ["1 game was cut off"]


@dataclass
class _Finished:
    version: int
    evaluation: _Evaluation = field(default_factory=_Evaluation)


class _Evaluator:
    """Plays one evaluation at a time: `busy` until `play`, or at once; by weights `late` updates old."""

    def __init__(self, learner: _Learner | _OfSeveral, *, at_once: bool = True, late: int = 0) -> None:
        self.asked: list[int] = []
        self.errors = 0
        self.fails = False
        self._learner, self._at_once, self._late = learner, at_once, late
        self.versions: deque[int] = deque()
        """Of the weights of what was asked for and is not played."""
        self._done: deque[_Finished] = deque()

    def request(self, global_step: int, stopped: Callable[[], bool]) -> bool:
        if self.versions:
            return False
        self.asked.append(global_step)
        self.versions.append(self._learner.updates - self._late)
        if self._at_once:
            self.play()
        return True

    def play(self) -> None:
        version = self.versions.popleft()
        if self.fails:
            self.errors += 1
        else:
            self._done.append(_Finished(version))

    def finished(self, timeout_s: float = 0.0) -> _Finished | None:
        return self._done.popleft() if self._done else None


def _evaluations(
    evaluator: _Evaluator,
    learner: _Learner | _OfSeveral,
    metrics: Metrics | None = None,
    stopped: bool = False,
) -> Evaluations:
    metrics = metrics or Metrics()
    return Evaluations(evaluator, 100, STEPS_PER_UPDATE, learner, metrics, lambda: stopped)


def _poll(evaluations: Evaluations, learner: _Learner, *steps: int) -> None:
    for learner.global_step in steps:
        evaluations.poll()


def test_one_is_asked_for_where_a_multiple_of_the_interval_is_passed() -> None:
    evaluator = _Evaluator(learner := _Learner())
    _poll(_evaluations(evaluator, learner), learner, *range(30, 400, 30))
    assert evaluator.asked == [120, 210, 300]


def test_a_resumed_run_does_not_evaluate_again_what_it_had() -> None:
    evaluator = _Evaluator(learner := _Learner(250))
    _poll(_evaluations(evaluator, learner), learner, 260, 290, 310)
    assert evaluator.asked == [310]


def test_one_that_is_due_while_another_is_played_is_asked_for_afterwards() -> None:
    evaluator = _Evaluator(learner := _Learner(), at_once=False)
    evaluations = _evaluations(evaluator, learner)
    _poll(evaluations, learner, 100, 200, 230)
    assert evaluator.asked == [100]
    evaluator.play()
    _poll(evaluations, learner, 260)
    assert evaluator.asked == [100, 260]


def test_what_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    metrics, learner = Metrics(), _Learner()
    evaluator = _Evaluator(learner, at_once=False, late=3)
    evaluations = _evaluations(evaluator, learner, metrics)
    _poll(evaluations, learner, 100)
    evaluator.play()
    _poll(evaluations, learner, 180)
    logged = metrics.reduce()
    scores = {name: logged.pop(name) for name in list(logged) if name.startswith("suite/")}
    assert {name: logged[name] for name in logged if not name.startswith("faults/")} == {
        "eval/episodic_return": 2.0,
        "eval/episodic_return_std": 0.5,
        "eval/episodic_length": 40.0,
        "eval/episodes": 3.0,
        "eval/games_cut": 1.0,
        "eval/return_error": 0.25,
        "eval/global_step": 70.0,  # three updates before it was asked for
        "eval_levels/pong": 14.6,
        "eval_levels/boxing": 6.1,
    }
    assert scores == {
        "suite/atari57/pong": pytest.approx(100.0),
        "suite/atari57/boxing": pytest.approx(50.0),
    }
    assert "evaluation: 1 game was cut off" in capsys.readouterr().out


def test_weights_have_their_step_also_where_updates_had_fewer() -> None:
    metrics, learner = Metrics(), _OfSeveral()
    evaluator = _Evaluator(learner, at_once=False, late=2)
    evaluations = _evaluations(evaluator, learner, metrics)
    steps, found, expected = {1000: 0}, list[float](), list[float]()
    for _ in range(205):
        learner.update()
        steps[learner.updates] = learner.global_step
        evaluations.poll()
        logged = metrics.reduce()
        found += [logged["eval/global_step"]] if "eval/global_step" in logged else []
        if learner.updates % 20 == 0 and evaluator.versions:  # by when the next one is due
            expected.append(steps[evaluator.versions[0]])
            evaluator.play()
    assert found == expected and len(found) > 5


def test_the_last_weights_are_evaluated_once_at_the_end() -> None:
    metrics, learner = Metrics(), _Learner()
    evaluator = _Evaluator(learner)
    evaluations = _evaluations(evaluator, learner, metrics)
    _poll(evaluations, learner, 100)
    learner.global_step = 150
    evaluations.finish()
    assert evaluator.asked == [100, 150] and metrics.reduce()["eval/global_step"] == 150.0
    evaluations.finish()
    assert evaluator.asked == [100, 150]


def test_the_end_comes_also_where_the_last_weights_were_not_published() -> None:
    """Through Ray a publication may fail: older ones play, once."""
    evaluator = _Evaluator(learner := _Learner(150), late=2)
    _evaluations(evaluator, learner).finish()
    assert evaluator.asked == [150]


def test_a_last_evaluation_that_fails_or_is_not_wanted_does_not_hold_the_run_up() -> None:
    metrics, learner = Metrics(), _Learner(150)
    evaluator = _Evaluator(learner)
    evaluator.fails = True
    _evaluations(evaluator, learner, metrics).finish()
    assert evaluator.asked == [150] and metrics.reduce()["faults/eval_errors"] == 1.0
    _evaluations(evaluator, learner, metrics, stopped=True).finish()
    assert evaluator.asked == [150]
